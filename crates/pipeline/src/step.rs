//! One packet's decision.

use std::net::Ipv4Addr;

use config::Hairpinning;
use firewall::{FirstPacket, Zone};
use flow_table::{Hash, Pass};
use forwarding::{NeighbourRef, Neighbours, Route};
use nat::{
    Direction, Engine, NextHop, OpenRequest, Revalidation, SessionHit, SessionKey, Tables,
    Translation,
};
use packet::gso;
use packet::header::{destination_mac, ipv4, put_macs, seal_ipv4};
use packet::icmp::{self, ErrorKind};
use packet::{
    Datagram, DropReason, FlowKey, IcmpKind, Instant, Internal, L4, LinkId, MacAddr, PacketBuf,
    Protocol, PuntReason, Side,
};

use crate::counters::Counters;
use crate::limit::IcmpLimit;
use crate::mss;
use crate::snapshot::{LinkFacts, Snapshot};
use crate::verdict::Verdict;

pub(crate) const DHCP_SERVER_PORT: u16 = 67;
pub(crate) const DHCP_CLIENT_PORT: u16 = 68;

/// Whom a packet is queued for: fair queueing is by inside host, then by flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tag {
    /// The inside host's address.
    pub host: u32,
    /// The session.
    pub flow: u32,
}

/// What a decision may look at and change.
pub(crate) struct Step<'a> {
    pub engine: &'a mut Engine,
    pub tables: &'a Tables,
    pub neighbours: &'a Neighbours,
    pub limit: &'a mut IcmpLimit,
    pub counters: &'a Counters,
    pub pass: &'a Pass<'a>,
    pub snapshot: &'a Snapshot,
    pub now: Instant,
    pub side: Side,
}

/// `Err` is the verdict on a packet that opens no flow.
type Opening<'a> = Result<SessionHit<'a>, Verdict>;

impl<'a> Step<'a> {
    /// Looks the packet's flow up, opens one if it may, and rewrites the packet.
    #[inline]
    pub fn decide(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hash: Hash,
    ) -> (Verdict, Tag) {
        let found = match datagram.transport {
            // An error belongs to the flow of the packet that it embeds.
            L4::Icmp(IcmpKind::Error) => None,
            L4::Icmp(_) | L4::Tcp { .. } | L4::Udp => {
                let key = SessionKey(datagram.key(self.side));
                self.tables.sessions().lookup_hashed(self.pass, hash, &key)
            }
        };
        let opened = match found {
            Some(hit) if hit.value().generation() == self.snapshot.generation => Ok(hit),
            Some(hit) => self.check_again(packet, datagram, hit),
            None => self.open(packet, datagram),
        };
        match opened {
            Ok(hit) => {
                let host = match self.side {
                    Side::Inside => datagram.source.address,
                    Side::Outside => hit.value().destination().address,
                };
                let tag = Tag { host: u32::from(host), flow: hit.id().index() as u32 };
                (self.forward(packet, datagram, hit), tag)
            }
            Err(verdict) => (verdict, Tag::default()),
        }
    }

    /// Checks a flow that was made under another configuration: first by the policy between zones, then by the
    /// translation's own. What no longer agrees is opened anew, if it may.
    #[cold]
    fn check_again(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: SessionHit<'a>,
    ) -> Opening<'a> {
        let (first, key) = (hit.value_at(0), hit.key_at(0).0);
        let by_policy = matches!(first.direction(), Direction::Outbound | Direction::Routed);
        let first_packet = FirstPacket {
            from: Zone::of(first.ingress()),
            to: Zone::of(first.next_hop().egress),
            protocol: key.protocol(),
            source: key.source(),
            destination: key.destination(),
        };
        if by_policy && self.snapshot.check_policy(&first_packet).is_err() {
            self.engine.kill(self.pass, hit.id(), self.now);
            return self.open(packet, datagram);
        }
        match self.engine.revalidate(self.pass, &hit, &self.snapshot.nat, self.now) {
            Revalidation::Current if self.reroute(&hit) => Ok(hit),
            Revalidation::Current => {
                self.engine.kill(self.pass, hit.id(), self.now);
                self.open(packet, datagram)
            }
            Revalidation::Gone => self.open(packet, datagram),
            Revalidation::Drop(reason) => Err(reason.into()),
        }
    }

    /// Points both directions of a flow at the next hops of today's routes; `false` if one of them leads to
    /// another link than the flow's.
    fn reroute(&self, hit: &SessionHit<'a>) -> bool {
        [hit.value_at(0), hit.value_at(1)].into_iter().all(|flow| {
            let egress = flow.next_hop().egress;
            if egress == LinkId::LOCAL {
                return true;
            }
            let destination = flow.destination().address;
            let route = self.snapshot.routes.lookup(destination);
            let Some(route) = route.filter(|route| route.egress == egress) else { return false };
            let neighbour = self.neighbours.lookup(egress, route.next_hop(destination));
            flow.set_neighbour(neighbour.unwrap_or(NeighbourRef::NONE).to_bits());
            true
        })
    }

    fn check_policy(
        &self,
        datagram: &Datagram,
        from: LinkId,
        to: LinkId,
    ) -> Result<(), DropReason> {
        self.snapshot.check_policy(&FirstPacket {
            from: Zone::of(from),
            to: Zone::of(to),
            protocol: datagram.protocol(),
            source: datagram.source,
            destination: datagram.destination,
        })
    }

    /// Rewrites a packet of a flow. Until the neighbour is known the packet stays untouched, for it may come
    /// back from the control thread.
    #[inline]
    fn forward(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: SessionHit<'a>,
    ) -> Verdict {
        let flow = hit.value();
        if flow.ingress() != packet.ingress {
            return DropReason::SourceSpoofed.into();
        }
        if packet.ingress != LinkId::LOCAL && destination_mac(packet.frame()).is_group() {
            return DropReason::Broadcast.into();
        }
        let hop = flow.next_hop();
        if hop.egress == LinkId::LOCAL {
            return self.deliver(packet, datagram, hit);
        }
        let Some(egress) = self.snapshot.link(hop.egress) else {
            return DropReason::LinkDown.into();
        };
        if let Err(verdict) = self.check_fit(packet, datagram, egress) {
            return verdict;
        }
        let known = self.neighbours.resolve(NeighbourRef::from_bits(hop.neighbour));
        let mac = match known {
            Some(mac) => mac,
            None => match self.resolve_again(hit) {
                Ok(mac) => mac,
                Err(verdict) => return verdict,
            },
        };
        self.note(packet, datagram, hit);
        packet.set_len(datagram.end as usize);
        if let Some(mss_max) = self.snapshot.mss_max(packet.ingress, hop.egress) {
            mss::clamp(packet, datagram, mss_max);
        }
        flow.apply(packet, datagram);
        put_macs(packet.frame_mut(), mac, egress.mac);
        Verdict::Forward(hop.egress)
    }

    /// Rewrites a packet of a flow of the router itself. What arrives has arrived, however low its TTL.
    fn deliver(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        hit: SessionHit<'a>,
    ) -> Verdict {
        self.note(packet, datagram, hit);
        if datagram.ttl <= 1 {
            let (l3, l4) = (usize::from(datagram.l3), usize::from(datagram.l4));
            let frame = packet.frame_mut();
            // The rewrite lowers it.
            frame[l3 + ipv4::TTL] = 2;
            seal_ipv4(frame, l3, l4 - l3);
        }
        hit.value().apply(packet, datagram);
        Verdict::Punt(PuntReason::Local)
    }

    /// Counts a packet and follows its connection's state.
    #[inline]
    fn note(&self, packet: &PacketBuf, datagram: &Datagram, hit: SessionHit<'a>) {
        let (bytes, packets) = gso::wire_size(packet, datagram.headers_len());
        hit.value().touch(self.now, bytes as u64, packets as u64);
        if let L4::Tcp { flags, .. } = datagram.transport {
            nat::observe_tcp(&hit, flags);
        }
    }

    /// Refuses what must not go on: an expired TTL, a packet that the egress can't carry.
    #[inline]
    fn check_fit(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        egress: &LinkFacts,
    ) -> Result<(), Verdict> {
        if datagram.ttl <= 1 {
            let dropped = DropReason::TtlExpired;
            return Err(self.reply(packet, datagram, ErrorKind::TimeExceeded, dropped));
        }
        if datagram.wire_ip_len(packet.offload) > usize::from(egress.mtu) {
            let dropped = DropReason::TooBig;
            if !datagram.dont_fragment {
                return Err(dropped.into());
            }
            let kind = ErrorKind::FragmentationNeeded(egress.mtu);
            return Err(self.reply(packet, datagram, kind, dropped));
        }
        Ok(())
    }

    /// Finds the neighbour of a flow anew, after its entry in the neighbour table was removed.
    #[cold]
    fn resolve_again(&mut self, hit: SessionHit<'a>) -> Result<MacAddr, Verdict> {
        let flow = hit.value();
        let destination = flow.destination().address;
        let route = self.snapshot.routes.lookup(destination).ok_or(DropReason::NoRoute)?;
        let hop = self.hop(route.egress, route.next_hop(destination))?;
        flow.set_neighbour(hop.neighbour);
        self.neighbours
            .resolve(NeighbourRef::from_bits(hop.neighbour))
            .ok_or(Verdict::Resolve(route.egress, route.next_hop(destination)))
    }

    #[cold]
    fn open(&mut self, packet: &mut PacketBuf, datagram: &Datagram) -> Opening<'a> {
        match (packet.ingress, self.side) {
            (LinkId::LOCAL, _) => self.open_local(packet, datagram),
            (_, Side::Inside) => self.open_outbound(packet, datagram),
            (_, Side::Outside) => self.open_inbound(packet, datagram),
        }
    }

    fn open_outbound(&mut self, packet: &mut PacketBuf, datagram: &Datagram) -> Opening<'a> {
        let (ingress, destination) = (packet.ingress, datagram.destination.address);
        self.lan_broadcast(packet, datagram)?;
        self.snapshot.sources.check_source(ingress, datagram.source.address, destination)?;
        if self.snapshot.is_local(destination) {
            return self.open_to_router(packet, datagram);
        }
        // Before the policy: an error goes where the packet came from that it is about.
        if datagram.transport == L4::Icmp(IcmpKind::Error) {
            return Err(self.translate_error(packet, datagram));
        }
        let Some(route) = self.snapshot.routes.lookup(destination).copied() else {
            let kind = ErrorKind::NetworkUnreachable;
            return Err(self.reply(packet, datagram, kind, self.snapshot.no_route()));
        };
        if self.check_policy(datagram, ingress, route.egress).is_err() {
            let kind = ErrorKind::AdministrativelyProhibited;
            return Err(self.reply(packet, datagram, kind, DropReason::PolicyDenied));
        }
        let translation = match route.egress {
            LinkId::WAN => Translation::Outbound,
            _ => Translation::Routed,
        };
        let forward = self.hop_via(&route, destination)?;
        let reverse = self.hop(ingress, datagram.source.address)?;
        self.open_flow(datagram, ingress, translation, forward, reverse)
    }

    /// Inside to one of the router's addresses: hairpinned if the address is the external one and something
    /// inside answers for the port (RFC 4787 §6, REQ-9), else for the router itself.
    fn open_to_router(&mut self, packet: &mut PacketBuf, datagram: &Datagram) -> Opening<'a> {
        let ingress = packet.ingress;
        if self.snapshot.nat.external == Some(datagram.destination.address) {
            if datagram.transport == L4::Icmp(IcmpKind::Error) {
                return Err(self.translate_error(packet, datagram));
            }
            let nat = &self.snapshot.nat;
            match self.engine.resolve_external(self.pass, datagram, self.side, nat) {
                Ok(internal) => return self.open_hairpin(datagram, ingress, internal),
                Err(DropReason::NoMapping) => {}
                Err(reason) => return Err(reason.into()),
            }
        }
        self.check_policy(datagram, ingress, LinkId::LOCAL)?;
        Err(Verdict::Punt(PuntReason::Local))
    }

    fn open_hairpin(
        &mut self,
        datagram: &Datagram,
        ingress: LinkId,
        internal: Internal,
    ) -> Opening<'a> {
        if self.snapshot.hairpinning == Hairpinning::Off {
            return Err(DropReason::HairpinDisabled.into());
        }
        let address = internal.0.address;
        let route = *self.snapshot.routes.lookup(address).ok_or(DropReason::NoRoute)?;
        let forward = self.hop_via(&route, address)?;
        let reverse = self.hop(ingress, datagram.source.address)?;
        self.open_flow(datagram, ingress, Translation::Hairpin(internal), forward, reverse)
    }

    fn open_inbound(&mut self, packet: &mut PacketBuf, datagram: &Datagram) -> Opening<'a> {
        let (ingress, destination) = (packet.ingress, datagram.destination.address);
        if self.is_dhcp_reply(packet, datagram) {
            return Err(Verdict::Punt(PuntReason::DhcpClient));
        }
        no_group(packet, destination)?;
        self.snapshot.sources.check_source(ingress, datagram.source.address, destination)?;
        if self.snapshot.nat.external != Some(destination) {
            return Err(DropReason::PolicyDenied.into());
        }
        if datagram.transport == L4::Icmp(IcmpKind::Error) {
            return Err(self.translate_error(packet, datagram));
        }
        let nat = &self.snapshot.nat;
        let internal = match self.engine.resolve_external(self.pass, datagram, self.side, nat) {
            Ok(internal) => internal,
            Err(DropReason::NoMapping) if self.is_answered_ping(datagram) => {
                return Err(Verdict::Punt(PuntReason::Local));
            }
            Err(reason) => return Err(reason.into()),
        };
        let address = internal.0.address;
        let route = *self.snapshot.routes.lookup(address).ok_or(DropReason::NoRoute)?;
        let forward = self.hop_via(&route, address)?;
        let back = self.snapshot.routes.lookup(datagram.source.address);
        let back = *back.filter(|r| r.egress == LinkId::WAN).ok_or(DropReason::NoRoute)?;
        let reverse = self.hop_via(&back, datagram.source.address)?;
        self.open_flow(datagram, ingress, Translation::Inbound(internal), forward, reverse)
    }

    /// From the router itself: through the translation if it speaks from a LAN address to the WAN, as it is
    /// otherwise.
    fn open_local(&mut self, packet: &mut PacketBuf, datagram: &Datagram) -> Opening<'a> {
        let destination = datagram.destination.address;
        let route = *self.snapshot.routes.lookup(destination).ok_or(self.snapshot.no_route())?;
        let hop = self.hop_via(&route, destination)?;
        let translated = route.egress == LinkId::WAN
            && self.snapshot.nat.external != Some(datagram.source.address);
        if translated && datagram.transport == L4::Icmp(IcmpKind::Error) {
            return Err(self.translate_error(packet, datagram));
        }
        if translated {
            let back = NextHop { egress: LinkId::LOCAL, neighbour: NeighbourRef::NONE.to_bits() };
            return self.open_flow(datagram, LinkId::LOCAL, Translation::Outbound, hop, back);
        }
        Err(self.address(packet, hop))
    }

    fn open_flow(
        &mut self,
        datagram: &Datagram,
        ingress: LinkId,
        translation: Translation,
        forward: NextHop,
        reverse: NextHop,
    ) -> Opening<'a> {
        let request = OpenRequest { datagram, ingress, translation, forward, reverse };
        let opened = self.engine.open(self.pass, &request, &self.snapshot.nat, self.now)?;
        self.counters.opened.add(1);
        Ok(opened)
    }

    /// Translates an ICMP error by the flow of the packet that it embeds.
    fn translate_error(&mut self, packet: &mut PacketBuf, datagram: &Datagram) -> Verdict {
        if datagram.ttl <= 1 {
            return DropReason::TtlExpired.into();
        }
        if let Err(reason) = self.check_error(packet, datagram) {
            return reason.into();
        }
        packet.set_len(datagram.end as usize);
        match self.tables.translate_error(self.pass, packet, datagram, self.side) {
            Ok(hop) if hop.egress == LinkId::LOCAL => Verdict::Punt(PuntReason::Local),
            Ok(hop) => self.address(packet, hop),
            Err(reason) => reason.into(),
        }
    }

    /// An error must arrive where the flow's own packets do, or any LAN could speak for the hosts of another.
    fn check_error(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<(), DropReason> {
        let inner = icmp::embedded(packet.frame(), datagram)?;
        let key = FlowKey::new(inner.protocol, inner.destination, inner.source, self.side);
        match self.tables.sessions().lookup(self.pass, &SessionKey(key)) {
            Some(hit) if hit.value().ingress() == packet.ingress => Ok(()),
            Some(_) => Err(DropReason::SourceSpoofed),
            None => Err(DropReason::IcmpNoSession),
        }
    }

    /// Writes the MAC addresses of a packet that is otherwise ready.
    fn address(&self, packet: &mut PacketBuf, hop: NextHop) -> Verdict {
        let Some(egress) = self.snapshot.link(hop.egress) else {
            return DropReason::LinkDown.into();
        };
        match self.neighbours.resolve(NeighbourRef::from_bits(hop.neighbour)) {
            Some(mac) => {
                put_macs(packet.frame_mut(), mac, egress.mac);
                Verdict::Forward(hop.egress)
            }
            None => DropReason::NeighbourUnresolved.into(),
        }
    }

    /// What a LAN may send to everyone: DHCP. A packet to a group that no service here listens to is dropped.
    fn lan_broadcast(&self, packet: &PacketBuf, datagram: &Datagram) -> Result<(), Verdict> {
        let destination = datagram.destination;
        let to_server = datagram.protocol() == Protocol::Udp
            && destination.port == DHCP_SERVER_PORT
            && (destination.address.is_broadcast() || self.snapshot.is_local(destination.address));
        if to_server && self.snapshot.serves_dhcp(packet.ingress) {
            return Err(Verdict::Punt(PuntReason::DhcpServer));
        }
        no_group(packet, destination.address)
    }

    fn is_dhcp_reply(&self, packet: &PacketBuf, datagram: &Datagram) -> bool {
        self.snapshot.wan_dhcp
            && packet.ingress == LinkId::WAN
            && datagram.protocol() == Protocol::Udp
            && datagram.destination.port == DHCP_CLIENT_PORT
    }

    fn is_answered_ping(&self, datagram: &Datagram) -> bool {
        self.snapshot.wan_ping && datagram.transport == L4::Icmp(IcmpKind::Request)
    }

    /// Turns the packet into an ICMP error about itself, if one may be sent.
    fn reply(
        &mut self,
        packet: &mut PacketBuf,
        datagram: &Datagram,
        kind: ErrorKind,
        otherwise: DropReason,
    ) -> Verdict {
        let ingress = self.snapshot.link(packet.ingress);
        let from = ingress.and_then(|link| link.address.map(|address| (link.mac, address)));
        let Some((mac, address)) = from else { return otherwise.into() };
        if !icmp::may_answer(packet.frame(), datagram) {
            return otherwise.into();
        }
        if !self.limit.admit(self.now) {
            return DropReason::IcmpRateLimited.into();
        }
        icmp::answer(packet, datagram, kind, mac, address);
        Verdict::Reply(kind)
    }

    fn hop_via(&self, route: &Route, destination: Ipv4Addr) -> Result<NextHop, Verdict> {
        self.hop(route.egress, route.next_hop(destination))
    }

    fn hop(&self, egress: LinkId, address: Ipv4Addr) -> Result<NextHop, Verdict> {
        match self.neighbours.lookup(egress, address) {
            Some(neighbour) => Ok(NextHop { egress, neighbour: neighbour.to_bits() }),
            None => Err(Verdict::Resolve(egress, address)),
        }
    }
}

/// Refuses what is addressed to a group, on either layer: neither is ever forwarded (RFC 1812 §5.3.4, §5.3.5).
fn no_group(packet: &PacketBuf, destination: Ipv4Addr) -> Result<(), Verdict> {
    if destination.is_multicast() {
        return Err(DropReason::Multicast.into());
    }
    if destination.is_broadcast() || destination_mac(packet.frame()).is_group() {
        return Err(DropReason::Broadcast.into());
    }
    Ok(())
}
