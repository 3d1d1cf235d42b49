//! From the operator's words to those of the machines.

use std::net::Ipv4Addr;
use std::str::FromStr;

use config::{Config, Rebinding, WanMode};
use dhcp::client::{ClientConfig, ClientId};
use dhcp::server::{Reservation, ServerConfig};
use dns::{ForwarderConfig, Name, RebindingFilter};
use ipnet::Ipv4Net;
use packet::{Endpoint, LinkId, MacAddr};

/// RFC 4361 §6.1: client identifier of type 255, then IAID and DUID.
const CLIENT_ID_DUID: u8 = 255;

/// DUID-LL over Ethernet (RFC 8415 §11.4): type 3, hardware type 1.
const DUID_LL_ETHERNET: [u8; 4] = [0, 3, 0, 1];

/// What the stack runs by: the configuration, and the facts of the links.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The router's own station on each link, by [`LinkId`].
    pub macs: Vec<MacAddr>,
    /// Addresses with their prefixes, of the LANs in order.
    pub lans: Vec<Ipv4Net>,
    /// The WAN's DHCP client; `None` for a static WAN.
    pub client: Option<ClientConfig>,
    /// External addresses beside the WAN link's own; those in its subnet are answered for.
    pub further: Vec<Ipv4Addr>,
    /// A static WAN's address.
    pub static_wan: Option<Ipv4Net>,
    /// The DHCP servers with their links.
    pub servers: Vec<(LinkId, ServerConfig)>,
    /// The forwarder; upstream servers may be empty until a lease names some.
    pub dns: ForwarderConfig,
    /// Names that the configuration gives.
    pub hosts: Vec<(String, Ipv4Addr)>,
}

/// A configuration that passed its own checks but not those of a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A domain name is not one.
    #[error("`{name}` is no domain name; use letters, digits, hyphens and dots")]
    Name {
        /// As configured.
        name: String,
    },
}

impl Settings {
    /// Translates a configuration; `macs` are the stations of the links by [`LinkId`].
    ///
    /// # Errors
    /// If a name can't be one.
    pub fn new(config: &Config, macs: Vec<MacAddr>) -> Result<Self, SettingsError> {
        let (client, static_wan) = match &config.wan.mode {
            WanMode::Dhcp(wan) => (Some(client(wan, macs[LinkId::WAN.index()])), None),
            WanMode::Static { address, .. } => (None, Some(*address)),
        };
        let servers = config.lans.iter().enumerate().filter_map(|(index, lan)| {
            let id = LinkId(index as u8 + 1);
            Some((id, server(lan, lan.dhcp.as_ref()?, macs[id.index()], &config.dns.domain)))
        });
        let hosts = config.dns.hosts.iter().map(|host| (host.name.clone(), host.address));
        Ok(Self {
            client,
            static_wan,
            further: config.further_addresses(),
            servers: servers.collect(),
            dns: forwarder(config)?,
            hosts: hosts.collect(),
            lans: config.lans.iter().map(|lan| lan.address).collect(),
            macs,
        })
    }
}

impl Settings {
    /// All addresses that the router answers ARP for on the WAN link, where its own is `own`: that
    /// first, then the further ones of its subnet (RFC 3022 §6.2) but for those of `gateways`.
    pub(crate) fn wan_addresses(&self, own: Ipv4Net, gateways: &[Ipv4Addr]) -> Vec<Ipv4Net> {
        let near = self.further.iter().filter(|address| {
            own.contains(*address) && config::is_further(own, gateways, **address)
        });
        let near = near.filter_map(|address| Ipv4Net::new(*address, own.prefix_len()).ok());
        std::iter::once(own).chain(near).collect()
    }
}

fn client(wan: &config::WanDhcp, mac: MacAddr) -> ClientConfig {
    let client_id = match &wan.client_id {
        config::ClientId::None => ClientId::None,
        config::ClientId::Mac => ClientId::Mac,
        config::ClientId::Duid => {
            let iaid = &mac.0[2..];
            let id = [&[CLIENT_ID_DUID], iaid, &DUID_LL_ETHERNET, &mac.0].concat();
            ClientId::Opaque(id)
        }
        config::ClientId::Text(text) => ClientId::Opaque(text.clone().into_bytes()),
        config::ClientId::Bytes(bytes) => ClientId::Opaque(bytes.clone()),
    };
    ClientConfig {
        hostname: wan.hostname.clone(),
        client_id,
        reject_prefixes: wan.reject.clone(),
        ..ClientConfig::new(mac)
    }
}

fn server(
    lan: &config::Lan,
    dhcp: &config::LanDhcp,
    mac: MacAddr,
    local_domain: &str,
) -> ServerConfig {
    let reservations = dhcp.reservations.iter().map(|reservation| Reservation {
        mac: reservation.mac,
        address: reservation.address,
        name: Some(reservation.name.clone()),
    });
    ServerConfig {
        pools: vec![(dhcp.pool.first, dhcp.pool.last)],
        lease: dhcp.lease,
        reservations: reservations.collect(),
        dns: dhcp.dns.clone(),
        domain: Some(dhcp.domain.clone().unwrap_or_else(|| local_domain.to_owned())),
        ntp: dhcp.ntp.clone(),
        mtu: dhcp.mtu,
        ..ServerConfig::new(lan.name.clone(), mac, lan.address.addr(), lan.subnet())
    }
}

fn forwarder(config: &Config) -> Result<ForwarderConfig, SettingsError> {
    let name = |text: &str| {
        Name::from_str(text).map_err(|_| SettingsError::Name { name: text.to_owned() })
    };
    let upstreams =
        config.dns.upstream.iter().map(|server| Endpoint::new(*server.ip(), server.port()));
    let rebinding = match &config.dns.rebinding {
        Rebinding::Pass => RebindingFilter::Off,
        Rebinding::Filter { allow } => {
            let allow = allow.iter().map(|domain| name(domain)).collect::<Result<_, _>>()?;
            RebindingFilter::On { allow }
        }
    };
    Ok(ForwarderConfig {
        local_networks: config.lans.iter().map(config::Lan::subnet).collect(),
        cache_entries: config.dns.cache_entries_max,
        rebinding,
        ..ForwarderConfig::new(upstreams.collect(), name(&config.dns.domain)?)
    })
}
