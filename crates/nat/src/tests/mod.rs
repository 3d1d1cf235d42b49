//! The crate as a whole, driven by a miniature packet path.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::PacketBuilder;
use flow_table::Participant;
use packet::{
    Datagram, DropReason, Endpoint, External, IcmpKind, Instant, Internal, L4, LinkId, PacketBuf,
    Parsed, Protocol, Segment, Side, parse,
};

use crate::*;

mod addresses;
mod conformance;
mod errors;
mod esp;
mod exempt;
mod explicit;
mod filtering;
mod hairpin;
mod handshake;
mod hold_down;
mod lifetime;
mod machine;
mod mappings;
mod other_protocols;
mod outbound;
mod policy_change;
mod properties;
mod quotas;
mod resets;
mod statics;
mod tcp;
mod workers;

const LAN: LinkId = LinkId(1);
const LAN2: LinkId = LinkId(2);
const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const C: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const E: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const E_NEW: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
const R: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const R2: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 0x04;

fn ep(address: Ipv4Addr, port: u16) -> Endpoint {
    Endpoint::new(address, port)
}

/// Rounds to do of so many: a part of them where a sanitizer watches (`cargo xtask sanitize`).
fn rounds(of: u32) -> u32 {
    let divisor = std::env::var("STRESS_DIVISOR").ok();
    of / divisor.map_or(1, |divisor| divisor.parse().expect("STRESS_DIVISOR is a number"))
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn policy() -> Policy {
    Policy {
        generation: 1,
        external: Some(E),
        pool: Pool::default(),
        statics: Statics::default(),
        exemptions: Box::default(),
        filtering: vec![Filtering::AddressAndPortDependent; 3].into(),
        host_filterings: HostFilterings::default(),
        forwards: Forwards::default(),
        dmz: None,
        timeouts: Timeouts::default(),
        reserved: ReservedPorts::none().with(Protocol::Udp, 68..=68),
        mappings_per_host_max: 1_000_000,
        mappings_per_host_max_of: ProtocolQuotas::NONE,
        ports_at_rest_max: 1_000_000,
        sessions_per_host_max: Some(1_000_000),
        new_sessions: Rate { per_second: 1_000_000, burst: 1_000_000 },
    }
}

fn with_filtering(filtering: Filtering) -> Policy {
    Policy { filtering: vec![filtering; 3].into(), ..policy() }
}

fn forward(protocol: Protocol, port: u16, to: Endpoint) -> Forward {
    Forward {
        protocol,
        address: None,
        external: port..=port,
        to: Internal(to),
        id: u32::from(port),
        sources: None,
        hairpin: Hairpin::Allowed,
    }
}

fn with_forwards(forwards: Vec<Forward>) -> Policy {
    Policy { forwards: Forwards::new(forwards).unwrap(), ..policy() }
}

/// What a packet says that came out on the other side.
type Seen = Result<(Endpoint, Endpoint), DropReason>;

/// Tables, an engine, and the order in which the packet path calls them.
struct Rig {
    tables: Tables,
    engines: Vec<Engine>,
    participant: Participant,
    policy: Policy,
    now: Instant,
}

impl Rig {
    fn new(policy: Policy) -> Self {
        Self::sized(4096, 1, policy)
    }

    fn sized(sessions: usize, workers: usize, policy: Policy) -> Self {
        let (tables, engines) = Tables::new(sessions, workers, 0x5eed);
        let participant = tables.domain().participant().unwrap();
        Self { tables, engines, participant, policy, now: Instant::from_secs(1000) }
    }

    /// Sends a frame through the router; the buffer then holds what leaves it.
    fn pass(&mut self, ingress: LinkId, packet: &mut PacketBuf) -> Result<NextHop, DropReason> {
        self.pass_at(0, ingress, packet)
    }

    fn pass_at(
        &mut self,
        worker: usize,
        ingress: LinkId,
        packet: &mut PacketBuf,
    ) -> Result<NextHop, DropReason> {
        let datagram = datagram(packet);
        let side = if ingress == LinkId::WAN { Side::Outside } else { Side::Inside };
        let pass = self.participant.pass();
        let engine = &mut self.engines[worker];
        let (policy, now) = (&self.policy, self.now);
        if datagram.transport == L4::Icmp(IcmpKind::Error) {
            return self.tables.translate_error(&pass, packet, &datagram, side, policy);
        }
        let mut hit = self.tables.sessions().lookup(&pass, &SessionKey(datagram.key(side)));
        if let Some(stale) = hit.filter(|hit| hit.value().generation() != policy.generation) {
            match engine.revalidate(&pass, &stale, policy, now) {
                Revalidation::Current => {}
                Revalidation::Gone => hit = None,
                Revalidation::Drop(reason) => return Err(reason),
            }
        }
        let segment = Segment::read(packet.frame(), &datagram);
        let hit = match hit {
            Some(hit) => hit,
            None => {
                let relay = match (segment, side) {
                    (Some(segment), Side::Inside) => {
                        self.tables.answer(&pass, &datagram, &segment, now, policy)
                    }
                    _ => None,
                };
                let request = match relay {
                    Some(relay) => Err(relay),
                    None => request(engine, &pass, (&datagram, segment), ingress, policy, now)?,
                };
                match request {
                    Ok(request) => {
                        let foreseen = engine.tables().foresee(&pass, &request, policy, now, None);
                        let opened = engine.open(&pass, &request, policy, now);
                        assert_foreseen(foreseen, &opened);
                        opened?
                    }
                    Err(relay) => {
                        relay.apply(packet, &datagram);
                        self.tables.note(&relay);
                        let egress = if side == Side::Outside { LAN } else { LinkId::WAN };
                        return Ok(NextHop { egress, neighbour: 0 });
                    }
                }
            }
        };
        if segment.is_some_and(|segment| !expects(&hit, &segment)) {
            return Err(DropReason::TcpResetOutOfWindow);
        }
        hit.value().apply(packet, &datagram);
        match (segment, datagram.transport) {
            (Some(segment), _) => touch_tcp(hit, &segment, now, packet.len() as u64, 1),
            (None, L4::Sctp(chunk)) => touch_sctp(&hit, chunk, now, packet.len() as u64, 1),
            (None, _) => hit.value().touch(now, packet.len() as u64, 1),
        }
        Ok(hit.value().next_hop())
    }

    fn send(&mut self, ingress: LinkId, mut packet: PacketBuf) -> Seen {
        self.pass(ingress, &mut packet)?;
        let datagram = datagram(&packet);
        assert_checksums(packet.frame());
        Ok((datagram.source, datagram.destination))
    }

    fn udp_out(&mut self, source: Endpoint, destination: Endpoint) -> Seen {
        self.send(LAN, udp(source, destination))
    }

    fn udp_in(&mut self, source: Endpoint, destination: Endpoint) -> Seen {
        self.send(LinkId::WAN, udp(source, destination))
    }

    fn tcp_out(&mut self, source: Endpoint, destination: Endpoint, flags: u8) -> Seen {
        self.send(LAN, tcp(source, destination, flags))
    }

    fn tcp_in(&mut self, source: Endpoint, destination: Endpoint, flags: u8) -> Seen {
        self.send(LinkId::WAN, tcp(source, destination, flags))
    }

    /// Opens a connection from outside; what its third segment meets.
    fn accept(&mut self, remote: Endpoint, external: Endpoint) -> Seen {
        let (_, internal) = self.tcp_in(remote, external, SYN)?;
        self.tcp_out(internal, remote, SYN_ACK)?;
        self.tcp_in(remote, external, ACK)
    }

    /// The external endpoint of an internal one that sends now.
    fn map(&mut self, source: Endpoint) -> Result<Endpoint, DropReason> {
        self.udp_out(source, ep(R, 9)).map(|(external, _)| external)
    }

    /// Lets time pass, with expiry often enough to be exact.
    fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(500)).min(end);
            self.expire();
        }
    }

    fn expire(&mut self) {
        for engine in &mut self.engines {
            let pass = self.participant.pass();
            engine.expire(&pass, self.now, &self.policy.timeouts, usize::MAX);
        }
    }

    fn sessions(&mut self) -> Vec<SessionInfo> {
        let pass = self.participant.pass();
        let mut sessions = Vec::new();
        self.tables.for_each_session(&pass, self.now, &self.policy.timeouts, |session| {
            sessions.push(session);
        });
        sessions
    }

    fn states(&mut self) -> Vec<&'static str> {
        self.sessions().iter().map(|session| session.state.name()).collect()
    }
}

/// What the packet path finds out before it opens a session, or lets a segment pass without one.
/// Whatever a session's opening comes to was foreseen.
#[track_caller]
fn assert_foreseen(
    foreseen: Result<Foreseen, DropReason>,
    opened: &Result<SessionHit<'_>, DropReason>,
) {
    match (foreseen, opened) {
        (Ok(foreseen), Ok(hit)) => {
            let flow = hit.value();
            let (direction, destination) = (flow.direction(), flow.destination());
            assert_eq!((foreseen.direction, foreseen.destination), (direction, destination));
            assert_eq!(foreseen.source.address, flow.source().address);
            if foreseen.origin != Some(Origin::Drawn) {
                assert_eq!(foreseen.source, flow.source());
            }
        }
        (Err(foreseen), Err(reason)) => assert_eq!(foreseen, *reason),
        // Only the worker knows how many sessions of strangers it has.
        (Ok(Foreseen { direction: Direction::Inbound, .. }), Err(DropReason::SessionTableFull)) => {
        }
        (foreseen, Err(reason)) => panic!("{reason:?}, but {foreseen:?} was foreseen"),
        (Err(foreseen), Ok(_)) => panic!("opened, but {foreseen:?} was foreseen"),
    }
}

fn request<'d>(
    engine: &Engine,
    pass: &flow_table::Pass<'_>,
    (datagram, segment): (&'d Datagram, Option<Segment>),
    ingress: LinkId,
    policy: &Policy,
    now: Instant,
) -> Result<Result<OpenRequest<'d>, Relay>, DropReason> {
    let inside = ingress != LinkId::WAN;
    let to_external = policy.is_external(datagram.destination.address);
    let is_exempt = policy.exempts(datagram.protocol(), datagram.source, datagram.destination);
    let side = if inside { Side::Inside } else { Side::Outside };
    let translation = match (inside, to_external) {
        (false, true) => {
            let internal = engine.tables().resolve_external(pass, datagram, side, policy)?;
            match segment {
                Some(segment) => {
                    match engine.tables().entry(datagram, &segment, internal, now, policy)? {
                        Entry::Relayed(relay) => return Ok(Err(relay)),
                        Entry::Opens(accepted) => Translation::Accepted(accepted),
                    }
                }
                None => Translation::Inbound(internal),
            }
        }
        (true, true) => {
            Translation::Hairpin(engine.tables().resolve_external(pass, datagram, side, policy)?)
        }
        (true, false) if datagram.destination.address.octets()[0] == 10 => Translation::Routed,
        (true, false) if is_exempt => Translation::Routed,
        (true, false) => Translation::Outbound,
        (false, false) => return Err(DropReason::NoRoute),
    };
    let leaves = translation == Translation::Outbound || inside && !to_external && is_exempt;
    let egress = if leaves { LinkId::WAN } else { LAN };
    Ok(Ok(OpenRequest {
        datagram,
        segment,
        ingress,
        translation,
        forward: NextHop { egress, neighbour: 11 },
        reverse: NextHop { egress: ingress, neighbour: 22 },
    }))
}

fn buffer(frame: &[u8]) -> PacketBuf {
    let mut packet = PacketBuf::small();
    assert!(packet.copy_from(frame));
    packet
}

fn builder(
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(
        source.octets(),
        destination.octets(),
        64,
    )
}

fn udp(source: Endpoint, destination: Endpoint) -> PacketBuf {
    let mut frame = Vec::new();
    let step = builder(source.address, destination.address).udp(source.port, destination.port);
    step.write(&mut frame, b"payload").unwrap();
    buffer(&frame)
}

/// Sequence and acknowledgement number of every segment that does not say otherwise: each side
/// expects what the other sends.
const NUMBERS: (u32, u32) = (1, 2);

fn tcp(source: Endpoint, destination: Endpoint, flags: u8) -> PacketBuf {
    tcp_at(source, destination, flags, NUMBERS)
}

fn tcp_at(
    source: Endpoint,
    destination: Endpoint,
    flags: u8,
    (sequence, acknowledgement): (u32, u32),
) -> PacketBuf {
    let mut frame = Vec::new();
    let ports = (source.port, destination.port);
    let mut step =
        builder(source.address, destination.address).tcp(ports.0, ports.1, sequence, 1000);
    if flags & SYN != 0 {
        step = step.syn();
    }
    if flags & ACK != 0 {
        step = step.ack(acknowledgement);
    }
    if flags & 1 != 0 {
        step = step.fin();
    }
    if flags & RST != 0 {
        step = step.rst();
    }
    step.write(&mut frame, b"data").unwrap();
    buffer(&frame)
}

fn echo(source: Ipv4Addr, destination: Ipv4Addr, id: u16) -> PacketBuf {
    let mut frame = Vec::new();
    builder(source, destination).icmpv4_echo_request(id, 1).write(&mut frame, b"ping").unwrap();
    buffer(&frame)
}

fn echo_reply(source: Ipv4Addr, destination: Ipv4Addr, id: u16) -> PacketBuf {
    let mut frame = Vec::new();
    builder(source, destination).icmpv4_echo_reply(id, 1).write(&mut frame, b"ping").unwrap();
    buffer(&frame)
}

/// An IP packet of any protocol.
fn ip(
    protocol: Protocol,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    segment: impl AsRef<[u8]>,
) -> PacketBuf {
    let mut frame = Vec::new();
    let number = etherparse::IpNumber(protocol as u8);
    builder(source, destination).write(&mut frame, number, segment.as_ref()).unwrap();
    buffer(&frame)
}

fn esp(source: Ipv4Addr, destination: Ipv4Addr, spi: u32) -> PacketBuf {
    ip(
        Protocol::Esp,
        source,
        destination,
        [&spi.to_be_bytes()[..], &[0, 0, 0, 1], b"sealed"].concat(),
    )
}

/// GRE with a key, or without.
fn gre(source: Ipv4Addr, destination: Ipv4Addr, key: Option<u32>) -> PacketBuf {
    let segment = match key {
        Some(key) => [&[0x20, 0, 8, 0][..], &key.to_be_bytes(), b"inner"].concat(),
        None => [&[0, 0, 8, 0][..], b"inner"].concat(),
    };
    ip(Protocol::Gre, source, destination, segment)
}

/// SCTP with one chunk.
fn sctp(source: Endpoint, destination: Endpoint, chunk: u8) -> PacketBuf {
    let mut segment = [source.port.to_be_bytes(), destination.port.to_be_bytes()].concat();
    segment.extend_from_slice(&[1, 2, 3, 4, 0xca, 0xfe, 0xba, 0xbe, chunk, 0, 0, 8, 5, 6, 7, 8]);
    ip(Protocol::Sctp, source.address, destination.address, segment)
}

/// UDP-Lite whose checksum, a right one, covers `coverage` bytes or, if that is 0, all.
fn udp_lite(source: Endpoint, destination: Endpoint, coverage: u16, payload: &[u8]) -> PacketBuf {
    let mut segment = [source.port, destination.port, coverage, 0].map(u16::to_be_bytes).concat();
    segment.extend_from_slice(payload);
    let mut packet = ip(Protocol::UdpLite, source.address, destination.address, &segment);
    let checksum = udp_lite_checksum(packet.frame());
    packet::header::put_u16(packet.frame_mut(), 34 + 6, checksum);
    packet
}

/// The checksum that a UDP-Lite packet should have (RFC 3828 §3.1), summed as plainly as it is put.
fn udp_lite_checksum(frame: &[u8]) -> u16 {
    let mut segment = frame[34..].to_vec();
    let length = segment.len();
    segment[6..8].fill(0);
    match usize::from(u16::from_be_bytes([segment[4], segment[5]])) {
        0 => {}
        coverage => segment.truncate(coverage),
    }
    let pseudo = [&frame[26..34], &[0, 136], &(length as u16).to_be_bytes(), &segment].concat();
    let sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    match !(((folded & 0xffff) + (folded >> 16)) as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}

fn datagram(packet: &PacketBuf) -> Datagram {
    match parse(packet.frame(), packet.offload) {
        Ok(Parsed::Ipv4(datagram)) => datagram,
        other => panic!("not a datagram: {other:?}"),
    }
}

/// Recomputes every checksum with etherparse and compares.
fn assert_checksums(frame: &[u8]) {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP checksum");
    match sliced.transport {
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            let full = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
            assert_eq!(udp.checksum(), full, "UDP checksum");
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let full = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).unwrap();
            assert_eq!(tcp.checksum(), full, "TCP checksum");
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let full = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), full, "ICMP checksum");
        }
        _ if header.protocol.0 == Protocol::UdpLite as u8 => {
            let checksum = u16::from_be_bytes([frame[40], frame[41]]);
            assert_eq!(checksum, udp_lite_checksum(frame), "UDP-Lite checksum");
        }
        _ => {}
    }
}
