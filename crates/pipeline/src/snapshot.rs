//! What a worker knows of the configuration: built aside, checked, then published whole.

use std::net::Ipv4Addr;

use config::{Config, Hairpinning, IcmpRefusals, MssClamp, Ping, UnsolicitedSyn, WanMode};
use firewall::{Action, AddressPolicy, Bogons, LinkPolicy, Zone, ZonePolicy};
use forwarding::{NextHop, Route, Routes};
use ipnet::Ipv4Net;
use packet::{DropReason, Endpoint, Internal, LinkId, MacAddr, Protocol};

use crate::mss::HEADERS_LEN;
use crate::rules::{PolicyState, RulesInForce};

/// Facts about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// Name in the configuration and in the zone.
    pub name: String,
    /// MAC address that we send from.
    pub mac: MacAddr,
    /// Largest IP packet.
    pub mtu: u16,
    /// The router's own address on the link, which ICMP errors come from.
    pub address: Option<Ipv4Addr>,
}

/// The WAN's address and routes: from the lease, or from a static configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanAddress {
    /// Address with its prefix.
    pub address: Ipv4Net,
    /// Routes by gateway, the default route included.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
}

impl WanAddress {
    /// A static WAN's.
    #[must_use]
    pub fn of_static(config: &Config) -> Option<Self> {
        match config.wan.mode {
            WanMode::Static { address, gateway } => {
                Some(Self { address, routes: vec![(Ipv4Net::default(), gateway)] })
            }
            WanMode::Dhcp(_) => None,
        }
    }

    fn gateways(&self) -> Vec<Ipv4Addr> {
        self.routes.iter().map(|(_, gateway)| *gateway).collect()
    }
}

/// The forwards of a configuration whose hosts the configuration itself knows.
#[must_use]
pub fn configured_forwards(config: &Config) -> Vec<nat::Forward> {
    let forwards = config.forwards.iter().enumerate();
    let known = forwards
        .filter_map(|(id, forward)| Some((id, forward, config.host_address(&forward.to.host)?)));
    known.flat_map(|(id, forward, host)| forwards_to(config, forward, host, id as u32)).collect()
}

/// A forward as the translation wants it, once for each protocol; `host` is where its name leads now.
#[must_use]
pub fn forwards_to(
    config: &Config,
    forward: &config::Forward,
    host: Ipv4Addr,
    id: u32,
) -> Vec<nat::Forward> {
    let of = |protocol| nat::Forward {
        protocol,
        address: forward.address,
        external: forward.port.clone(),
        to: Internal(Endpoint::new(host, forward.to.port)),
        id,
        sources: (!forward.from.is_empty()).then(|| config.addresses(&forward.from)),
        hairpin: match forward.hairpin {
            Hairpinning::On => nat::Hairpin::Allowed,
            Hairpinning::Off => nat::Hairpin::Refused,
        },
    };
    protocols(forward.protocol).map(of).collect()
}

fn protocols(protocol: config::ForwardProtocol) -> impl Iterator<Item = Protocol> {
    let tcp = protocol.has_tcp().then_some(Protocol::Tcp);
    tcp.into_iter().chain(protocol.has_udp().then_some(Protocol::Udp))
}

/// What changes while a configuration stays the same.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Counts up with every snapshot; flows remember theirs.
    pub generation: u32,
    /// Name, MAC and MTU of each link by [`LinkId`]; addresses are filled in by [`Snapshot::build`].
    pub links: Vec<LinkFacts>,
    /// `None` until the WAN has an address: then no route leads out and nothing is translated.
    pub wan: Option<WanAddress>,
    /// Forwards of the configuration and of the day, their names resolved.
    pub forwards: Vec<nat::Forward>,
    /// What rules counted, and the time for those with a schedule.
    pub policy: PolicyState,
}

/// Everything that decisions depend on, immutable.
#[derive(Debug)]
pub struct Snapshot {
    /// See [`Runtime::generation`].
    pub generation: u32,
    /// Longest-prefix routes.
    pub routes: Routes,
    /// Translation policy.
    pub nat: nat::Policy,
    /// Which source may arrive where.
    pub sources: AddressPolicy,
    /// Which zone may open flows to which.
    pub zones: ZonePolicy,
    /// Exceptions from that.
    pub rules: RulesInForce,
    /// What the WAN neither carries nor is asked to carry.
    pub bogons: Bogons,
    /// Whether the WAN address answers ping.
    pub wan_ping: bool,
    /// Whether hosts inside reach each other by external endpoints.
    pub hairpinning: Hairpinning,
    /// Whether hosts inside are told that a flow is refused.
    pub icmp_refusals: IcmpRefusals,
    /// What becomes of SYNs from outside that nobody asked for.
    pub unsolicited_syn: UnsolicitedSyn,
    /// Whether the WAN's address comes by DHCP.
    pub wan_dhcp: bool,
    links: Vec<LinkFacts>,
    local: Vec<Ipv4Addr>,
    dhcp_servers: Vec<bool>,
    mss_clamp: MssClamp,
}

impl Snapshot {
    /// Builds a snapshot.
    ///
    /// # Errors
    /// If the forwards contradict each other; the running snapshot is to stay.
    pub fn build(config: &Config, runtime: &Runtime) -> Result<Self, nat::ForwardError> {
        let external = runtime.wan.as_ref().map(|wan| wan.address);
        let mut links = runtime.links.clone();
        links[LinkId::WAN.index()].address = external.map(|own| own.addr());
        for (link, lan) in links.iter_mut().skip(1).zip(&config.lans) {
            link.address = Some(lan.address.addr());
        }
        let local = links.iter().filter_map(|link| link.address).collect();
        Ok(Self {
            generation: runtime.generation,
            routes: routes(config, runtime),
            nat: policy(config, runtime, external)?,
            sources: sources(config, runtime),
            zones: zones(config),
            rules: RulesInForce::build(config, &runtime.policy),
            bogons: bogons(config, runtime),
            hairpinning: config.nat.hairpinning,
            icmp_refusals: config.nat.icmp_refusals,
            unsolicited_syn: config.nat.unsolicited_syn,
            wan_ping: config.wan.ping == Ping::Answer,
            wan_dhcp: matches!(config.wan.mode, WanMode::Dhcp(_)),
            links,
            local,
            dhcp_servers: std::iter::once(false)
                .chain(config.lans.iter().map(|lan| lan.dhcp.is_some()))
                .collect(),
            mss_clamp: config.nat.mss_clamp,
        })
    }

    /// Facts about a link; `None` for [`LinkId::LOCAL`].
    #[must_use]
    #[inline]
    pub fn link(&self, link: LinkId) -> Option<&LinkFacts> {
        self.links.get(link.index())
    }

    /// All links by [`LinkId`].
    #[must_use]
    pub fn links(&self) -> &[LinkFacts] {
        &self.links
    }

    /// Whether an address is one of the router's own.
    #[must_use]
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        self.local.contains(&address) || self.nat.is_external(address)
    }

    /// Whether an address is the router's own on a LAN.
    #[must_use]
    pub fn is_of_lan(&self, address: Ipv4Addr) -> bool {
        self.links.iter().skip(1).any(|link| link.address == Some(address))
    }

    /// Whether the router serves DHCP on a link.
    #[must_use]
    pub fn serves_dhcp(&self, link: LinkId) -> bool {
        self.dhcp_servers.get(link.index()).copied().unwrap_or(false)
    }

    /// Why there is no route: usually because the WAN is down.
    #[must_use]
    pub fn no_route(&self) -> DropReason {
        if self.nat.external.is_none() { DropReason::WanDown } else { DropReason::NoRoute }
    }

    /// Largest MSS that a SYN between two links may promise; `None` where it is not clamped.
    #[must_use]
    #[inline]
    pub fn mss_max(&self, ingress: LinkId, egress: LinkId) -> Option<u16> {
        match self.mss_clamp {
            MssClamp::Off => None,
            MssClamp::Value(mss) => Some(mss),
            MssClamp::Auto => {
                let mtu = |link| self.link(link).map_or(u16::MAX, |link| link.mtu);
                Some(mtu(ingress).min(mtu(egress)).saturating_sub(HEADERS_LEN))
            }
        }
    }
}

/// The link of the `index`th LAN.
#[must_use]
pub fn lan_id(index: usize) -> LinkId {
    LinkId(index as u8 + 1)
}

fn routes(config: &Config, runtime: &Runtime) -> Routes {
    let on_link = |prefix, egress| Route { prefix, egress, via: NextHop::OnLink };
    let lans = config.lans.iter().enumerate().map(|(i, lan)| on_link(lan.subnet(), lan_id(i)));
    let wan = runtime.wan.iter().flat_map(|wan| {
        let by_gateway = wan.routes.iter().map(|(prefix, gateway)| Route {
            prefix: *prefix,
            egress: LinkId::WAN,
            via: NextHop::Gateway(*gateway),
        });
        std::iter::once(on_link(wan.address.trunc(), LinkId::WAN)).chain(by_gateway)
    });
    // LANs first: where a lease claims one of our subnets, the LAN keeps it (RFC 4787 REQ-7).
    Routes::build(lans.chain(wan))
}

fn sources(config: &Config, runtime: &Runtime) -> AddressPolicy {
    let lan = |(index, lan): (usize, &config::Lan)| LinkPolicy {
        link: lan_id(index),
        role: firewall::Role::Lan,
        addresses: vec![lan.address],
    };
    let wan = LinkPolicy {
        link: LinkId::WAN,
        role: firewall::Role::Wan,
        addresses: runtime.wan.iter().map(|wan| wan.address).collect(),
    };
    AddressPolicy::build(std::iter::once(wan).chain(config.lans.iter().enumerate().map(lan)))
}

fn zones(config: &Config) -> ZonePolicy {
    let mut zones = ZonePolicy::new(config.lans.len() as u8);
    for (from, lan) in config.lans.iter().enumerate() {
        for name in &lan.reach {
            if let Some(to) = config.lans.iter().position(|other| other.name == *name) {
                zones.set(Zone::Lan(lan_id(from)), Zone::Lan(lan_id(to)), Action::Allow);
            }
        }
    }
    zones
}

fn bogons(config: &Config, runtime: &Runtime) -> Bogons {
    if config.wan.bogons == config::Bogons::Pass {
        return Bogons::none();
    }
    let own = runtime.wan.iter().flat_map(|wan| {
        let routes = wan.routes.iter().flat_map(|(to, gateway)| [*to, Ipv4Net::from(*gateway)]);
        let further = config.further_addresses().into_iter().map(Ipv4Net::from);
        std::iter::once(wan.address).chain(routes).chain(further)
    });
    // What hosts reach untranslated answers them and sends errors. An exemption of everything says nothing about
    // where the WAN is, and is let pass only outwards.
    let exempt = config.nat.exemptions.iter().map(|one| one.destination);
    let exempt = exempt.filter(|net| net.prefix_len() > 0);
    let passed: Vec<Ipv4Net> = config.wan.bogons_allow.iter().copied().chain(exempt).collect();
    Bogons::without(&own.collect::<Vec<_>>(), &passed)
}

fn policy(
    config: &Config,
    runtime: &Runtime,
    external: Option<Ipv4Net>,
) -> Result<nat::Policy, nat::ForwardError> {
    let own = external.map(|own| own.addr());
    // The router's own address has no number in a forward.
    let forwards = runtime.forwards.iter().cloned();
    let forwards = forwards.map(|forward| nat::Forward {
        address: forward.address.filter(|address| own != Some(*address)),
        ..forward
    });
    let (timeouts, quotas) = (&config.nat.timeouts, &config.nat.mappings_per_host_max_of);
    Ok(nat::Policy {
        generation: runtime.generation,
        external: own,
        pool: runtime.wan.as_ref().map_or_else(nat::Pool::default, |wan| pool(config, wan)),
        statics: runtime
            .wan
            .as_ref()
            .map_or_else(nat::Statics::default, |wan| statics(config, wan)),
        exemptions: config.nat.exemptions.iter().flat_map(exemptions).collect(),
        // The WAN has no filtering of its own; the entry keeps the table indexed by link.
        filtering: std::iter::once(nat::Filtering::AddressAndPortDependent)
            .chain(config.lans.iter().map(|lan| filtering(lan.filtering)))
            .collect(),
        host_filterings: nat::HostFilterings::new(
            config.nat.hosts.iter().filter_map(|one| {
                Some((config.host_address(&one.host)?, filtering(one.filtering)))
            }),
        ),
        forwards: nat::Forwards::new(forwards.collect())?,
        timeouts: nat::Timeouts {
            udp: timeouts.udp,
            udp_dns: timeouts.udp_dns,
            tcp_established: timeouts.tcp_established,
            tcp_opening: timeouts.tcp_opening,
            tcp_closing: timeouts.tcp_closing,
            icmp: timeouts.icmp,
            other: timeouts.other,
            port_rest: timeouts.port_rest,
        },
        reserved: config.reserved_ports().iter().fold(
            nat::ReservedPorts::none(),
            |reserved, taken| {
                protocols(taken.protocol).fold(reserved, |reserved, protocol| {
                    reserved.with(protocol, taken.port..=taken.port)
                })
            },
        ),
        dmz: dmz(config),
        mappings_per_host_max: config.nat.mappings_per_host_max as u32,
        mappings_per_host_max_of: nat::ProtocolQuotas {
            tcp: quotas.tcp.unwrap_or(u32::MAX),
            udp: quotas.udp.unwrap_or(u32::MAX),
            icmp: quotas.icmp.unwrap_or(u32::MAX),
        },
        ports_at_rest_max: config.nat.ports_at_rest_max,
        sessions_per_host_max: config.nat.sessions_per_host_max,
        new_sessions: nat::Rate {
            per_second: config.nat.new_flows_per_host,
            burst: config.nat.new_flows_burst,
        },
    })
}

fn filtering(filtering: config::Filtering) -> nat::Filtering {
    match filtering {
        config::Filtering::EndpointIndependent => nat::Filtering::EndpointIndependent,
        config::Filtering::AddressDependent => nat::Filtering::AddressDependent,
        config::Filtering::AddressAndPortDependent => nat::Filtering::AddressAndPortDependent,
    }
}

fn pool(config: &Config, wan: &WanAddress) -> nat::Pool {
    let pooling = match config.nat.pooling {
        config::Pooling::Paired => nat::Pooling::Paired,
        config::Pooling::Any => nat::Pooling::Any,
    };
    nat::Pool::new(config.pool_addresses(wan.address, &wan.gateways()), pooling)
}

fn statics(config: &Config, wan: &WanAddress) -> nat::Statics {
    let gateways = wan.gateways();
    let statics = config.static_addresses(wan.address, &gateways).filter_map(|one| {
        Some(nat::Static {
            external: one.external,
            internal: config.host_address(&one.internal)?,
            inbound: if one.inbound { nat::Inbound::Allowed } else { nat::Inbound::Refused },
        })
    });
    nat::Statics::new(statics.collect()).expect("the configuration names each address once")
}

/// One for each protocol that is named.
fn exemptions(one: &config::Exemption) -> Vec<nat::Exemption> {
    let of = |protocol| nat::Exemption {
        destination: one.destination,
        source: one.source,
        protocol,
        ports: one.ports.clone(),
    };
    match one.protocol {
        None => vec![of(None)],
        Some(named) => {
            let tcp = named.has_tcp().then_some(Protocol::Tcp);
            let udp = named.has_udp().then_some(Protocol::Udp);
            tcp.into_iter().chain(udp).map(|protocol| of(Some(protocol))).collect()
        }
    }
}

/// Echo requests go to the host only where the router leaves them.
fn dmz(config: &Config) -> Option<nat::Dmz> {
    let host = config.host_address(config.nat.dmz_host.as_ref()?)?;
    let echo = match config.wan.ping {
        Ping::Answer => nat::DmzEcho::Router,
        Ping::Silent => nat::DmzEcho::Host,
    };
    Some(nat::Dmz { host, echo })
}
