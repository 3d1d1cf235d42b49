//! The messages a client sends (RFC 2131 §4.4.1, Table 5).

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode};
use packet::MacAddr;

use super::{Client, ClientId, Offer};
use crate::frame::{Addressing, CLIENT_PORT, FRAME_MAX, SERVER_PORT};
use crate::lease::Lease;
use crate::message::{self, Op};
use crate::outbox::Output;
use crate::time::Now;

impl Client {
    pub(super) fn send_discover(&mut self, now: Now) {
        self.update_secs(now);
        let mut message = self.asking(MessageType::Discover);
        if let Some(old) = &self.remembered {
            let hint = DhcpOption::RequestedIpAddress(old.settings.address);
            message.opts_mut().insert(hint);
        }
        self.broadcast(&message);
    }

    /// For an offer: server and address named, `ciaddr` zero, `secs` as in DISCOVER (DC3).
    pub(super) fn send_request(&mut self, offer: Offer) {
        let mut message = self.asking(MessageType::Request);
        message.opts_mut().insert(DhcpOption::ServerIdentifier(offer.server));
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.address));
        self.broadcast(&message);
    }

    /// INIT-REBOOT: address named, no server (DC9).
    pub(super) fn send_verify(&mut self, address: Ipv4Addr, now: Now) {
        self.update_secs(now);
        let mut message = self.asking(MessageType::Request);
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
        self.broadcast(&message);
    }

    /// RENEWING: `ciaddr` instead of options, to the server alone (DC6).
    pub(super) fn send_renew(&mut self, lease: &Lease) {
        let mut message = self.asking(MessageType::Request);
        message.set_ciaddr(lease.address()).set_flags(Flags::default());
        self.unicast(&message, lease);
    }

    /// REBINDING: the same to everybody (DC7).
    pub(super) fn send_rebind(&mut self, lease: &Lease) {
        let mut message = self.asking(MessageType::Request);
        message.set_ciaddr(lease.address()).set_flags(Flags::default());
        self.send(&message, lease.address(), Ipv4Addr::BROADCAST, MacAddr::BROADCAST);
    }

    pub(super) fn send_release(&mut self, lease: &Lease) {
        let mut message = self.base(MessageType::Release);
        message.set_ciaddr(lease.address());
        message.opts_mut().insert(DhcpOption::ServerIdentifier(lease.server));
        self.unicast(&message, lease);
    }

    pub(super) fn send_decline(&mut self, lease: &Lease) {
        let mut message = self.base(MessageType::Decline);
        message.opts_mut().insert(DhcpOption::ServerIdentifier(lease.server));
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(lease.address()));
        self.broadcast(&message);
    }

    /// Option 61 as configured.
    pub(super) fn client_id(&self) -> Option<Vec<u8>> {
        match &self.config.client_id {
            ClientId::None => None,
            ClientId::Mac => Some([&[HTYPE_ETHERNET], &self.config.mac.0[..]].concat()),
            ClientId::Opaque(bytes) => Some(bytes.clone()),
        }
    }

    fn update_secs(&mut self, now: Now) {
        let elapsed = now.instant.saturating_since(self.transaction.started_at).as_secs();
        self.transaction.secs = u16::try_from(elapsed).unwrap_or(u16::MAX);
    }

    fn base(&self, kind: MessageType) -> Message {
        let mut message = message::start(Op::Request, kind, self.transaction.xid, self.config.mac);
        if let Some(id) = self.client_id() {
            message.opts_mut().insert(DhcpOption::ClientIdentifier(id));
        }
        message
    }

    /// A message that wants a lease: the same identity and wishes each time (DC3).
    fn asking(&self, kind: MessageType) -> Message {
        let mut message = self.base(kind);
        message.set_secs(self.transaction.secs);
        if self.transaction.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        let options = message.opts_mut();
        options.insert(DhcpOption::ParameterRequestList(PARAMETERS.to_vec()));
        options.insert(DhcpOption::MaxMessageSize(MESSAGE_SIZE_ACCEPTED));
        if let Some(hostname) = &self.config.hostname {
            options.insert(DhcpOption::Hostname(hostname.clone()));
        }
        message::add_raw(&mut message, &self.config.options);
        message
    }

    fn broadcast(&mut self, message: &Message) {
        let (src, dst) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        self.send(message, src, dst, MacAddr::BROADCAST);
    }

    fn unicast(&mut self, message: &Message, lease: &Lease) {
        self.send(message, lease.address(), lease.server, lease.server_mac);
    }

    fn send(&mut self, message: &Message, src: Ipv4Addr, dst: Ipv4Addr, dst_mac: MacAddr) {
        let Some(payload) = message::encode(message) else {
            tracing::error!(max = FRAME_MAX, "DHCP request too long: fewer options are needed");
            return;
        };
        let addressing = Addressing {
            src_mac: self.config.mac,
            dst_mac,
            src,
            dst,
            src_port: CLIENT_PORT,
            dst_port: SERVER_PORT,
        };
        self.out.transmit(Output::Datagram { addressing, payload });
    }
}

/// What we ask for; classless routes before routers, as RFC 3442 demands.
const PARAMETERS: [OptionCode; 11] = [
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::StaticRoutingTable,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::InterfaceMtu,
    OptionCode::NtpServers,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];
/// Option 57: an Ethernet's worth of IP datagram.
const MESSAGE_SIZE_ACCEPTED: u16 = 1500;
const HTYPE_ETHERNET: u8 = 1;
