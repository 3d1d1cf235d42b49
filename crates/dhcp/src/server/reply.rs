//! The messages a server sends (RFC 2131 §4.3.1, Table 3) and to whom (§4.1).

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption};
use packet::MacAddr;

use super::config::ServerConfig;
use super::names::FQDN_ENCODED;
use crate::frame::{Addressing, CLIENT_PORT, SERVER_PORT};
use crate::message::{self, Op, Received};
use crate::outbox::Output;

/// A lease as an OFFER or ACK states it.
pub(super) struct Grant<'a> {
    pub address: Ipv4Addr,
    pub duration: Duration,
    pub name: Option<&'a str>,
}

/// Builds an OFFER or ACK for a lease.
pub(super) fn grant(
    config: &ServerConfig,
    kind: MessageType,
    request: &Received,
    src_mac: MacAddr,
    grant: &Grant<'_>,
) -> Option<Output> {
    let mut reply = start(config, kind, request);
    reply.set_yiaddr(grant.address);
    // The client puts the address it holds here, and only an ACK repeats it.
    if kind == MessageType::Ack {
        reply.set_ciaddr(request.ciaddr);
    }
    let secs = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    let options = reply.opts_mut();
    options.insert(DhcpOption::AddressLeaseTime(secs(grant.duration)));
    options.insert(DhcpOption::Renewal(secs(grant.duration / 2)));
    options.insert(DhcpOption::Rebinding(secs(grant.duration / 8 * 7)));
    add_settings(config, &mut reply, request, grant.name);
    finish(config, &reply, destination(request, src_mac, grant.address))
}

/// Builds the answer to INFORM: settings, but no address and no lease time (DS13).
pub(super) fn inform(
    config: &ServerConfig,
    request: &Received,
    src_mac: MacAddr,
) -> Option<Output> {
    let mut reply = start(config, MessageType::Ack, request);
    reply.set_ciaddr(request.ciaddr);
    add_settings(config, &mut reply, request, None);
    finish(config, &reply, (request.ciaddr, src_mac))
}

/// Builds a NAK, which everybody on the link hears, for the client's own address is in doubt (DS9).
pub(super) fn nak(config: &ServerConfig, request: &Received, why: &str) -> Option<Output> {
    let mut reply = start(config, MessageType::Nak, request);
    reply.opts_mut().insert(DhcpOption::Message(why.to_owned()));
    finish(config, &reply, (Ipv4Addr::BROADCAST, MacAddr::BROADCAST))
}

/// To `ciaddr` by the way the request came, else as the broadcast bit says, else to the address being
/// given, which its owner can't yet be asked for (DS10).
fn destination(request: &Received, src_mac: MacAddr, yiaddr: Ipv4Addr) -> (Ipv4Addr, MacAddr) {
    if !request.ciaddr.is_unspecified() {
        (request.ciaddr, src_mac)
    } else if request.broadcast {
        (Ipv4Addr::BROADCAST, MacAddr::BROADCAST)
    } else {
        (yiaddr, request.chaddr)
    }
}

fn start(config: &ServerConfig, kind: MessageType, request: &Received) -> Message {
    let mut reply = message::start(Op::Reply, kind, request.xid, request.chaddr);
    if request.broadcast {
        reply.set_flags(Flags::default().set_broadcast());
    }
    reply.opts_mut().insert(DhcpOption::ServerIdentifier(config.address));
    // RFC 6842 §3, DS5.
    if let Some(id) = request.options.bytes(OptionCode::ClientIdentifier) {
        reply.opts_mut().insert(DhcpOption::ClientIdentifier(id.to_vec()));
    }
    reply
}

fn add_settings(
    config: &ServerConfig,
    reply: &mut Message,
    request: &Received,
    name: Option<&str>,
) {
    let own = || vec![config.address];
    let dns = if config.dns.is_empty() { own() } else { config.dns.clone() };
    let options = reply.opts_mut();
    options.insert(DhcpOption::SubnetMask(config.subnet.netmask()));
    options.insert(DhcpOption::Router(own()));
    options.insert(DhcpOption::DomainNameServer(dns));
    let asked = &request.options;
    if asked.requests(OptionCode::BroadcastAddr) {
        options.insert(DhcpOption::BroadcastAddr(config.subnet.broadcast()));
    }
    if let Some(domain) = &config.domain
        && asked.requests(OptionCode::DomainName)
    {
        options.insert(DhcpOption::DomainName(domain.clone()));
    }
    if !config.ntp.is_empty() && asked.requests(OptionCode::NtpServers) {
        options.insert(DhcpOption::NtpServers(config.ntp.clone()));
    }
    if let Some(mtu) = config.mtu
        && asked.requests(OptionCode::InterfaceMtu)
    {
        options.insert(DhcpOption::InterfaceMtu(mtu));
    }
    if let Some(name) = name {
        if asked.requests(OptionCode::Hostname) {
            options.insert(DhcpOption::Hostname(name.to_owned()));
        }
        if let Some(fqdn) = fqdn_reply(config, request, name) {
            options.insert(fqdn);
        }
    }
    message::add_raw(reply, &config.options);
}

/// Option 81 in answer to option 81: the server keeps the forward record, under this name (RFC 4702 §4).
fn fqdn_reply(config: &ServerConfig, request: &Received, name: &str) -> Option<DhcpOption> {
    let &flags = request.options.bytes(OptionCode::ClientFQDN)?.first()?;
    let overridden = if flags & FQDN_SERVER_UPDATES == 0 { FQDN_OVERRIDDEN } else { 0 };
    let encoded = flags & FQDN_ENCODED;
    let mut data = vec![FQDN_SERVER_UPDATES | overridden | encoded, 255, 255];
    let domain = config.domain.as_deref().unwrap_or_default();
    let labels = std::iter::once(name).chain(domain.split('.').filter(|label| !label.is_empty()));
    if encoded == 0 {
        data.extend_from_slice(labels.collect::<Vec<_>>().join(".").as_bytes());
    } else {
        for label in labels {
            data.push(u8::try_from(label.len()).ok()?);
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
    }
    Some(DhcpOption::Unknown(UnknownOption::new(OptionCode::ClientFQDN, data)))
}

fn finish(config: &ServerConfig, reply: &Message, to: (Ipv4Addr, MacAddr)) -> Option<Output> {
    let Some(payload) = message::encode(reply) else {
        tracing::error!(lan = config.lan, "DHCP reply too long: fewer options are needed");
        return None;
    };
    let addressing = Addressing {
        src_mac: config.mac,
        dst_mac: to.1,
        src: config.address,
        dst: to.0,
        src_port: SERVER_PORT,
        dst_port: CLIENT_PORT,
    };
    Some(Output::Datagram { addressing, payload })
}

/// The S bit of option 81: the server updates the forward record.
const FQDN_SERVER_UPDATES: u8 = 0x01;
/// The O bit: it does so against the client's wish.
const FQDN_OVERRIDDEN: u8 = 0x02;
