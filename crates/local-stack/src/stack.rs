//! The machines, joined.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use dhcp::client::{Client, ClientEvent};
use dhcp::server::{BindingState, Host, Server, ServerEvent, StoredBinding};
use dhcp::{Lease, Now, StoredLease};
use dns::{Disposition, Forwarder, UpstreamOrigin, UpstreamRequest};
use forwarding::{ArpMachine, LinkConfig, Neighbours, Resolution, WaitingFrame};
use ipnet::Ipv4Net;
use packet::header::ethernet;
use packet::{
    Arp, Endpoint, Instant, LinkId, MacAddr, Offload, Parsed, PuntReason, SMALL_FRAME_MAX, parse,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tracing::warn;

use crate::host::{self, DNS_PORT, Input};
use crate::settings::Settings;
use crate::unreachable::Unreachables;

/// How long others may remember a lease's name. A host that moves is found again within a minute.
const HOST_TTL: Duration = Duration::from_secs(60);

/// Something to make durable before the next frame leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRecord {
    /// Of the WAN's client.
    Wan(dhcp::client::StoreRecord),
    /// Of the server on a link.
    Lan(LinkId, dhcp::server::StoreRecord),
}

/// What to do with the bytes that `poll_transmit` wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A whole frame for a link.
    Frame {
        /// The link.
        egress: LinkId,
        /// Bytes written.
        len: usize,
    },
    /// An IP packet of the router itself, behind an Ethernet header to be filled in.
    Packet {
        /// Bytes written.
        len: usize,
    },
    /// A frame that waited for a neighbour: the worker is to take it as if it arrived now.
    Again {
        /// The link that it arrived on.
        ingress: LinkId,
        /// Bytes written.
        len: usize,
    },
}

/// What others should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackEvent {
    /// Something happened to the WAN's lease.
    Wan(ClientEvent),
    /// Something happened to a lease on a link.
    Lan(LinkId, ServerEvent),
    /// Something happened to a neighbour.
    Neighbour(forwarding::Event),
}

/// The router's own stack.
pub struct LocalStack {
    settings: Settings,
    arp: ArpMachine,
    client: Option<Client>,
    servers: Vec<(LinkId, Server)>,
    dns: Forwarder,
    host: host::Host,
    again: VecDeque<WaitingFrame>,
    unreachables: Unreachables,
    events: VecDeque<StackEvent>,
    lease_dns: Vec<Endpoint>,
    /// The WAN link's own address and its gateways, while it has them by lease.
    leased: Option<(Ipv4Net, Vec<Ipv4Addr>)>,
}

impl LocalStack {
    /// Makes the stack with what was stored of the WAN lease and of each server's leases.
    #[must_use]
    pub fn new(
        settings: Settings,
        stored_wan: Option<StoredLease>,
        mut stored_lan: impl FnMut(LinkId) -> Vec<StoredBinding>,
        mut rng: StdRng,
        now: Now,
    ) -> Self {
        let links = link_configs(&settings);
        let servers = settings
            .servers
            .iter()
            .map(|(link, config)| (*link, Server::new(config.clone(), stored_lan(*link), now)));
        let source = settings.lans.first().map_or(Ipv4Addr::UNSPECIFIED, Ipv4Net::addr);
        let client = settings
            .client
            .clone()
            .map(|config| Client::new(config, stored_wan, StdRng::from_rng(&mut rng)));
        let mut stack = Self {
            arp: ArpMachine::new(links, now.instant),
            client,
            servers: servers.collect(),
            host: host::Host::new(source, StdRng::from_rng(&mut rng), now.instant),
            dns: Forwarder::new(settings.dns.clone(), rng),
            again: VecDeque::new(),
            unreachables: Unreachables::default(),
            events: VecDeque::new(),
            lease_dns: Vec::new(),
            leased: None,
            settings,
        };
        stack.name_hosts();
        if let Some(client) = &mut stack.client {
            client.handle_link_up(now);
        }
        stack.settle(now);
        stack
    }

    /// The neighbour table, for the workers.
    #[must_use]
    pub fn neighbours(&self) -> Arc<Neighbours> {
        self.arp.neighbours()
    }

    /// The ARP machine, to look at.
    #[must_use]
    pub fn arp(&self) -> &ArpMachine {
        &self.arp
    }

    /// The WAN's DHCP client, to look at.
    #[must_use]
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// The DHCP servers with their links, to look at.
    #[must_use]
    pub fn servers(&self) -> &[(LinkId, Server)] {
        &self.servers
    }

    /// The DNS forwarder, to look at.
    #[must_use]
    pub fn dns(&self) -> &Forwarder {
        &self.dns
    }

    /// Empties the DNS cache.
    pub fn flush_dns(&mut self) -> usize {
        self.dns.flush(&dns::Name::root())
    }

    /// Takes a frame that a worker punted. `wanted` comes with [`PuntReason::NeighbourMissing`].
    pub fn handle_punt(
        &mut self,
        reason: PuntReason,
        ingress: LinkId,
        wanted: Option<(LinkId, Ipv4Addr)>,
        frame: &[u8],
        now: Now,
    ) {
        match reason {
            PuntReason::Arp => self.handle_arp(frame, ingress, now),
            PuntReason::DhcpClient => {
                if let Some(client) = &mut self.client {
                    client.handle_frame(frame, now);
                }
            }
            PuntReason::DhcpServer => {
                if let Some(server) = self.server_on(ingress) {
                    server.handle_frame(frame, now);
                }
            }
            PuntReason::Local => {
                if let Ok(Parsed::Ipv4(datagram)) = parse(frame, Offload::NONE) {
                    let packet = &frame[usize::from(datagram.l3)..datagram.end as usize];
                    self.host.handle_packet(packet);
                }
            }
            PuntReason::NeighbourMissing => {
                if let Some((egress, next_hop)) = wanted {
                    let frame = frame.to_vec();
                    let waiting = WaitingFrame { ingress, offload: Offload::NONE, frame };
                    self.arp.handle_unresolved(egress, next_hop, waiting, now.instant);
                }
            }
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.arp.handle_timeout(now.instant);
        if let Some(client) = &mut self.client {
            client.handle_timeout(now);
        }
        for (_, server) in &mut self.servers {
            server.handle_timeout(now);
        }
        self.dns.handle_timeout(now.instant);
        self.settle(now);
    }

    /// When something will be due.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let machines = [
            self.arp.poll_timeout(),
            self.client.as_ref().and_then(Client::poll_timeout),
            self.servers.iter().filter_map(|(_, server)| server.poll_timeout()).min(),
            self.dns.poll_timeout(),
            self.host.poll_timeout(now),
        ];
        machines.into_iter().flatten().min()
    }

    /// Next record to make durable.
    pub fn poll_store(&mut self) -> Option<StoreRecord> {
        let wan = self.client.as_mut().and_then(Client::poll_store);
        if let Some(record) = wan {
            return Some(StoreRecord::Wan(record));
        }
        self.servers.iter_mut().find_map(|(link, server)| {
            server.poll_store().map(|record| StoreRecord::Lan(*link, record))
        })
    }

    /// Forgets the frames that would acknowledge what could not be stored: the peers ask again.
    pub fn discard_transmits(&mut self) {
        if let Some(client) = &mut self.client {
            client.discard_transmits();
        }
        for (_, server) in &mut self.servers {
            server.discard_transmits();
        }
    }

    /// Space that [`Self::poll_transmit`] may need, in bytes: that of a small buffer, unless a packet that came in
    /// fragments, or the answer to one, is about to leave.
    #[must_use]
    pub fn transmit_space(&self) -> usize {
        let again = self.again.front().map_or(0, |waiting| waiting.frame.len());
        let packet = self.host.next_len().map_or(0, |len| ethernet::LEN + len);
        SMALL_FRAME_MAX.max(again).max(packet)
    }

    /// Writes the next frame or packet, which needs at most the space of a small buffer; one that needs more and finds
    /// less is lost (see [`Self::transmit_space`]).
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        if let Some((egress, len)) = self.arp.poll_transmit(buffer) {
            return Some(Transmit::Frame { egress, len });
        }
        if let Some(len) = self.client.as_mut().and_then(|client| client.poll_transmit(buffer)) {
            return Some(Transmit::Frame { egress: LinkId::WAN, len });
        }
        for (link, server) in &mut self.servers {
            if let Some(len) = server.poll_transmit(buffer) {
                return Some(Transmit::Frame { egress: *link, len });
            }
        }
        if let Some((egress, len)) = self.unreachables.poll_transmit(buffer) {
            return Some(Transmit::Frame { egress, len });
        }
        while let Some(waiting) = self.again.pop_front() {
            let len = waiting.frame.len();
            let Some(space) = buffer.get_mut(..len) else { continue };
            space.copy_from_slice(&waiting.frame);
            return Some(Transmit::Again { ingress: waiting.ingress, len });
        }
        while let Some(packet) = self.host.poll_packet() {
            let len = ethernet::LEN + packet.len();
            let Some(space) = buffer.get_mut(..len) else { continue };
            let (header, body) = space.split_at_mut(ethernet::LEN);
            header.fill(0);
            header[ethernet::ETHERTYPE..].copy_from_slice(&ethernet::IPV4.to_be_bytes());
            body.copy_from_slice(&packet);
            return Some(Transmit::Packet { len });
        }
        None
    }

    /// Next event.
    pub fn poll_event(&mut self) -> Option<StackEvent> {
        self.events.pop_front()
    }

    /// Asks for the WAN lease to be renewed, or obtained, now.
    pub fn renew_wan(&mut self, now: Now) {
        if let Some(client) = &mut self.client {
            client.renew(now);
        }
        self.settle(now);
    }

    /// Gives the WAN lease back.
    pub fn release_wan(&mut self, now: Now) {
        if let Some(client) = &mut self.client {
            client.release(now);
        }
        self.settle(now);
    }

    /// Tells the WAN's client that its link came or went.
    pub fn set_wan_link(&mut self, up: LinkCarrier, now: Now) {
        if let Some(client) = &mut self.client {
            match up {
                LinkCarrier::Up => client.handle_link_up(now),
                LinkCarrier::Down => client.handle_link_down(now),
            }
        }
        self.settle(now);
    }

    /// The server that hands out an address, for commands.
    pub fn server_of(&mut self, address: Ipv4Addr) -> Option<&mut Server> {
        let index = self.settings.lans.iter().position(|lan| lan.contains(&address))?;
        self.server_on(LinkId(index as u8 + 1))
    }

    /// The server on a link, for commands.
    pub fn server_on(&mut self, link: LinkId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|(id, _)| *id == link).map(|(_, server)| server)
    }

    /// Takes other settings; leases, cache and waiting queries stay.
    pub fn reconfigure(&mut self, settings: Settings, now: Now) {
        for (name, _) in self.known_names() {
            self.dns.remove_host(&name);
        }
        for (link, config) in &settings.servers {
            if let Some(server) = self.server_on(*link) {
                server.reconfigure(config.clone(), now);
            }
        }
        let mut dns = settings.dns.clone();
        if dns.upstreams.is_empty() {
            dns.upstreams.clone_from(&self.lease_dns);
        }
        self.dns.reconfigure(dns, now.instant);
        for config in link_configs(&settings) {
            if config.id != LinkId::WAN || settings.client.is_none() {
                self.arp.set_addresses(config.id, config.addresses, now.instant);
            }
        }
        if let Some((own, gateways)) = &self.leased {
            let addresses = settings.wan_addresses(*own, gateways);
            self.arp.set_addresses(LinkId::WAN, addresses, now.instant);
        }
        self.settings = settings;
        self.name_hosts();
        self.settle(now);
    }

    fn handle_arp(&mut self, frame: &[u8], ingress: LinkId, now: Now) {
        self.arp.handle_arp(frame, ingress, now.instant);
        let Ok(Parsed::Arp(Arp { sender, sender_mac, .. })) = parse(frame, Offload::NONE) else {
            return;
        };
        if ingress == LinkId::WAN {
            if let Some(client) = &mut self.client {
                client.handle_arp(sender, sender_mac, now);
            }
        } else if let Some(server) = self.server_on(ingress) {
            server.handle_arp(sender, sender_mac, now);
        }
    }

    /// Hands the outputs of one machine to the next until nothing moves: the events of DHCP to ARP and DNS, the
    /// queries to the forwarder, its messages to the sockets.
    fn settle(&mut self, now: Now) {
        self.host.handle_timeout(now.instant);
        while let Some(input) = self.host.poll_input() {
            self.handle_input(input, now.instant);
        }
        self.drain_dns(now.instant);
        while let Some(event) = self.client.as_mut().and_then(Client::poll_event) {
            self.handle_client_event(&event, now);
            self.events.push_back(StackEvent::Wan(event));
        }
        for index in 0..self.servers.len() {
            let link = self.servers[index].0;
            while let Some(event) = self.servers[index].1.poll_event() {
                self.handle_server_event(link, &event);
                self.events.push_back(StackEvent::Lan(link, event));
            }
        }
        while let Some(released) = self.arp.poll_released() {
            match released.resolution {
                Resolution::Resolved => self.again.push_back(released.frame),
                Resolution::Failed => self.tell_unreachable(&released.frame, now.instant),
            }
        }
        while let Some(event) = self.arp.poll_event() {
            self.events.push_back(StackEvent::Neighbour(event));
        }
        // Other upstream servers, from a lease, are asked at once.
        self.drain_dns(now.instant);
        self.host.handle_timeout(now.instant);
    }

    fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Query { transport, from, token, message } => {
                let client = dns::Client { link: self.link_of(from), address: from, token };
                if self.dns.handle_query(client, transport, &message, now) == Disposition::Ignored {
                    self.host.forget(token);
                }
            }
            Input::UdpAnswer { port, from, message } => {
                let origin = UpstreamOrigin::Udp { source_port: port, server: from };
                self.dns.handle_upstream(origin, &message, now);
            }
            Input::TcpAnswer { server, message } => {
                self.dns.handle_upstream(UpstreamOrigin::Tcp { server }, &message, now);
            }
            Input::TcpClosed { server } => self.dns.handle_upstream_closed(server, now),
        }
        self.drain_dns(now);
    }

    fn drain_dns(&mut self, now: Instant) {
        while let Some(request) = self.dns.poll_upstream() {
            match request {
                UpstreamRequest::Udp { source_port, server, message } => {
                    if !self.host.send_udp(source_port, server, &message) {
                        self.dns.handle_port_unavailable(source_port, now);
                    }
                    self.dns.recycle(message);
                }
                UpstreamRequest::Tcp { server, message } => {
                    if !self.host.send_tcp(server, &message, now) {
                        self.dns.handle_upstream_closed(server, now);
                    }
                    self.dns.recycle(message);
                }
            }
        }
        while let Some(port) = self.dns.poll_port_released() {
            self.host.close_udp(port);
        }
        while let Some(reply) = self.dns.poll_reply() {
            self.host.answer(reply.client.token, &reply.message, now);
            self.dns.recycle(reply.message);
        }
    }

    fn handle_client_event(&mut self, event: &ClientEvent, now: Now) {
        match event {
            ClientEvent::Obtained(lease) | ClientEvent::Changed { new: lease, .. } => {
                self.take_lease(lease, now.instant);
            }
            ClientEvent::Lost { .. } => {
                self.leased = None;
                self.arp.set_addresses(LinkId::WAN, Vec::new(), now.instant);
            }
            ClientEvent::StateChanged(_)
            | ClientEvent::Renewed(_)
            | ClientEvent::Conflict { .. }
            | ClientEvent::Rejected { .. } => {}
        }
    }

    fn take_lease(&mut self, lease: &Lease, now: Instant) {
        let prefix = lease.settings.prefix.prefix_len();
        let address = Ipv4Net::new(lease.address(), prefix).unwrap_or(lease.settings.prefix);
        let gateways: Vec<Ipv4Addr> =
            lease.settings.routes.iter().filter_map(|route| route.gateway).collect();
        let addresses = self.settings.wan_addresses(address, &gateways);
        self.arp.set_addresses(LinkId::WAN, addresses, now);
        self.leased = Some((address, gateways));
        self.lease_dns =
            lease.settings.dns.iter().map(|server| Endpoint::new(*server, DNS_PORT)).collect();
        if self.settings.dns.upstreams.is_empty() {
            self.dns.set_upstreams(&self.lease_dns, now);
        }
    }

    /// A lease is a name (DS22, DN22). Names of the configuration win over what a client calls itself.
    fn handle_server_event(&mut self, link: LinkId, event: &ServerEvent) {
        match event {
            ServerEvent::HostAppeared(host) => self.name(host),
            ServerEvent::HostChanged { old, new } => {
                self.unname(old);
                self.name(new);
            }
            ServerEvent::HostLeft(host) => self.unname(host),
            ServerEvent::PoolExhausted { mac } => warn!(?link, %mac, "DHCP pool exhausted"),
            ServerEvent::Declined { address, mac } | ServerEvent::AddressInUse { address, mac } => {
                warn!(?link, %address, %mac, "address in use, quarantined");
            }
            ServerEvent::ForeignServer { address, mac } => {
                warn!(?link, %address, %mac, "another DHCP server answers on this link");
            }
        }
    }

    fn name(&mut self, host: &Host) {
        let Some(name) = host.name.as_deref().filter(|name| !self.is_taken(name, host.mac)) else {
            return;
        };
        self.insert_names([(name.to_owned(), host.address)]);
    }

    /// Forgets what a host was called; another host of that name takes it over.
    fn unname(&mut self, host: &Host) {
        let Some(name) = host.name.as_deref() else { return };
        self.dns.remove_host(name);
        let mut heirs = self.known_names();
        heirs.retain(|(heir, _)| heir.eq_ignore_ascii_case(name));
        self.insert_names(heirs);
    }

    /// Whether a name belongs to another than the station `mac`, by configuration or reservation.
    fn is_taken(&self, name: &str, mac: MacAddr) -> bool {
        let reserved = self.servers.iter().flat_map(|(_, server)| server.reservations());
        let mut reserved = reserved.filter(|host| host.mac != mac);
        self.settings.hosts.iter().any(|(host, _)| host.eq_ignore_ascii_case(name))
            || reserved.any(|host| {
                host.name.as_deref().is_some_and(|host| host.eq_ignore_ascii_case(name))
            })
    }

    /// Enters the names of the configuration: hosts of `[dns]` and reservations, which answer from the start.
    fn name_hosts(&mut self) {
        let names = self.known_names();
        self.insert_names(names);
    }

    /// All names with their addresses. Where one comes twice the later counts: names of the configuration win over
    /// reservations, and those over what clients call themselves.
    fn known_names(&self) -> Vec<(String, Ipv4Addr)> {
        let leased = self.servers.iter().flat_map(|(_, server)| {
            server.bindings().filter_map(|binding| {
                let active = matches!(binding.state, BindingState::Active { .. });
                active.then_some((binding.name?.to_owned(), binding.address))
            })
        });
        let reserved = self.servers.iter().flat_map(|(_, server)| {
            let named = server.reservations();
            named.filter_map(|host| Some((host.name.clone()?, host.address)))
        });
        leased.chain(reserved).chain(self.settings.hosts.iter().cloned()).collect()
    }

    fn insert_names(&mut self, names: impl IntoIterator<Item = (String, Ipv4Addr)>) {
        for (name, address) in names {
            if let Err(error) = self.dns.insert_host(&name, IpAddr::V4(address), HOST_TTL) {
                warn!(name, %address, %error, "a name does not enter DNS");
            }
        }
    }

    /// What waited in vain was not translated yet, so the error goes out as it is. The router's own packets have
    /// nobody to be told.
    fn tell_unreachable(&mut self, waiting: &WaitingFrame, now: Instant) {
        let ingress = waiting.ingress;
        let Some(mac) = self.settings.macs.get(ingress.index()).copied() else { return };
        let Some(address) = self.address_on(ingress) else { return };
        self.unreachables.tell(waiting, mac, address, now);
    }

    /// The router's own address on a link.
    fn address_on(&self, link: LinkId) -> Option<Ipv4Addr> {
        if link == LinkId::WAN {
            let leased = self.client.as_ref().and_then(Client::lease).map(Lease::address);
            return leased.or(self.settings.static_wan.map(|wan| wan.addr()));
        }
        self.settings.lans.get(link.index() - 1).map(Ipv4Net::addr)
    }

    fn link_of(&self, address: Ipv4Addr) -> LinkId {
        let lan = self.settings.lans.iter().position(|lan| lan.contains(&address));
        lan.map_or(LinkId::WAN, |index| LinkId(index as u8 + 1))
    }
}

/// Whether a link has a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkCarrier {
    /// It has.
    Up,
    /// It has not, or the link is gone.
    Down,
}

fn link_configs(settings: &Settings) -> Vec<LinkConfig> {
    let wan = settings.static_wan.map_or_else(Vec::new, |own| settings.wan_addresses(own, &[]));
    let addresses = std::iter::once(wan).chain(settings.lans.iter().map(|lan| vec![*lan]));
    let links = settings.macs.iter().zip(addresses).enumerate();
    links
        .map(|(index, (mac, addresses))| LinkConfig {
            id: LinkId(index as u8),
            mac: *mac,
            addresses,
        })
        .collect()
}
