//! UDP-Lite, SCTP, GRE, IPIP and 6in4.

use packet::header::{put_u16, u16_at};

use super::*;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const SHUTDOWN_COMPLETE: u8 = 14;
const DATA: u8 = 0;

impl Rig {
    fn sctp_out(&mut self, source: Endpoint, destination: Endpoint, chunk: u8) -> Seen {
        self.send(LAN, sctp(source, destination, chunk))
    }

    fn sctp_in(&mut self, source: Endpoint, destination: Endpoint, chunk: u8) -> Seen {
        self.send(LinkId::WAN, sctp(source, destination, chunk))
    }

    /// The addresses of what leaves.
    fn addresses(
        &mut self,
        ingress: LinkId,
        packet: PacketBuf,
    ) -> Result<(Ipv4Addr, Ipv4Addr), DropReason> {
        self.send(ingress, packet)
            .map(|(source, destination)| (source.address, destination.address))
    }
}

fn lite(source: Endpoint, destination: Endpoint) -> PacketBuf {
    udp_lite(source, destination, 8, b"sound")
}

/// What has no port to tell two hosts by.
fn by_peer(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<PacketBuf> {
    vec![
        gre(source, destination, None),
        gre(source, destination, Some(42)),
        ip(Protocol::Gre, source, destination, [0x30, 1, 0x88, 0x0b, 0, 4, 0, 7, 0, 0, 0, 1]),
        ip(Protocol::IpIp, source, destination, [0x45; 40]),
        ip(Protocol::SixInFour, source, destination, [0x60; 48]),
    ]
}

#[test]
fn req1_req3_udp_lite_has_mappings_like_udp_and_of_its_own() {
    let mut rig = Rig::new(policy());
    rig.map(ep(B, 5000)).unwrap();
    let first = rig.send(LAN, lite(ep(A, 5000), ep(R, 9)));
    assert_eq!(first, Ok((ep(E, 5000), ep(R, 9))), "UDP's port 5000 is another");
    let same = rig.send(LAN, lite(ep(A, 5000), ep(R2, 7)));
    assert_eq!(same, Ok((ep(E, 5000), ep(R2, 7))));
    let (other, _) = rig.send(LAN, lite(ep(B, 5000), ep(R, 9))).unwrap();
    assert!(other.port != 5000 && other.port % 2 == 0 && other.port >= 1024, "{other}");
    let back = rig.send(LinkId::WAN, lite(ep(R, 9), other));
    assert_eq!(back, Ok((ep(R, 9), ep(B, 5000))));
    let stranger = rig.send(LinkId::WAN, lite(ep(R2, 9), other));
    assert_eq!(stranger, Err(DropReason::FilterDenied));
}

#[test]
fn rfc3828_a_checksum_covers_what_it_says_and_never_becomes_zero() {
    let mut rig = Rig::new(policy());
    for coverage in [0, 8, 9, 11] {
        rig.send(LAN, udp_lite(ep(A, 5000), ep(R, 9), coverage, b"abc")).unwrap();
    }
    let mut packet = lite(ep(A, 5000), ep(R, 9));
    let original = packet.frame().to_vec();
    for checksum in 1..=u16::MAX {
        assert!(packet.copy_from(&original));
        put_u16(packet.frame_mut(), 40, checksum);
        rig.pass(LAN, &mut packet).unwrap();
        assert_ne!(u16_at(packet.frame(), 40), 0, "{checksum:04x}");
    }
}

#[test]
fn req5_udp_lite_lives_as_long_as_udp_and_dns_means_nothing_to_it() {
    let mut rig = Rig::new(policy());
    rig.send(LAN, lite(ep(A, 5000), ep(R, 53))).unwrap();
    rig.advance(secs(300));
    assert_eq!(rig.sessions().len(), 1);
    rig.advance(secs(2));
    assert_eq!(rig.sessions().len(), 0);
}

#[test]
fn req9_udp_lite_and_sctp_hairpin() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.send(LAN, lite(ep(B, 6000), ep(R, 9))).unwrap();
    let there = rig.send(LAN, lite(ep(A, 5000), ep(E, 6000)));
    assert_eq!(there, Ok((ep(E, 5000), ep(B, 6000))));
    rig.sctp_out(ep(B, 6000), ep(R, 9), INIT).unwrap();
    let there = rig.sctp_out(ep(A, 5000), ep(E, 6000), INIT);
    assert_eq!(there, Ok((ep(E, 5000), ep(B, 6000))));
    let back = rig.sctp_out(ep(B, 6000), ep(E, 5000), INIT_ACK);
    assert_eq!(back, Ok((ep(E, 6000), ep(A, 5000))));
}

#[test]
fn sctp_keeps_its_port_or_is_refused() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.sctp_out(ep(A, 2905), ep(R, 9), INIT), Ok((ep(E, 2905), ep(R, 9))));
    assert_eq!(rig.sctp_out(ep(A, 2905), ep(R2, 9), INIT), Ok((ep(E, 2905), ep(R2, 9))));
    let taken = rig.sctp_out(ep(B, 2905), ep(R2, 9), INIT);
    assert_eq!(taken, Err(DropReason::PortsExhausted));
    assert_eq!(rig.sctp_out(ep(B, 2906), ep(R, 9), INIT), Ok((ep(E, 2906), ep(R, 9))));
    assert_eq!(rig.sctp_in(ep(R, 9), ep(E, 2906), INIT_ACK), Ok((ep(R, 9), ep(B, 2906))));
    assert_eq!(rig.sctp_in(ep(R2, 9), ep(E, 2905), INIT_ACK), Ok((ep(R2, 9), ep(A, 2905))));
}

#[test]
fn req8_a_freed_sctp_port_rests_before_another_host_gets_it() {
    let mut rig = Rig::new(policy());
    rig.sctp_out(ep(A, 2905), ep(R, 9), INIT).unwrap();
    rig.advance(secs(242));
    assert!(rig.sessions().is_empty());
    assert_eq!(rig.sctp_out(ep(B, 2905), ep(R, 9), INIT), Err(DropReason::PortsExhausted));
    rig.advance(secs(121));
    assert!(rig.sctp_out(ep(B, 2905), ep(R, 9), INIT).is_ok());
}

#[test]
fn an_sctp_association_lives_like_a_tcp_connection() {
    let mut rig = Rig::new(policy());
    let (a, r, e) = (ep(A, 2905), ep(R, 9), ep(E, 2905));
    rig.sctp_out(a, r, INIT).unwrap();
    assert_eq!(rig.states(), ["opening"]);
    rig.sctp_in(r, e, INIT_ACK).unwrap();
    rig.sctp_out(a, r, DATA).unwrap();
    rig.advance(secs(7440));
    assert_eq!(rig.states(), ["established"]);
    rig.sctp_out(a, r, SHUTDOWN).unwrap();
    assert_eq!(rig.states(), ["half-closed"]);
    rig.sctp_in(r, e, SHUTDOWN_ACK).unwrap();
    rig.sctp_out(a, r, SHUTDOWN_COMPLETE).unwrap();
    assert_eq!(rig.states(), ["closed"]);
    rig.advance(secs(242));
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_sctp_abort_shortens_a_life_that_data_restores() {
    let mut rig = Rig::new(policy());
    let (a, r, e) = (ep(A, 2905), ep(R, 9), ep(E, 2905));
    rig.sctp_out(a, r, INIT).unwrap();
    rig.sctp_in(r, e, INIT_ACK).unwrap();
    rig.sctp_in(r, e, ABORT).unwrap();
    assert_eq!(rig.states(), ["reset"]);
    rig.advance(secs(1));
    rig.sctp_out(a, r, DATA).unwrap();
    rig.advance(secs(300));
    assert_eq!(rig.states(), ["established"]);
    rig.sctp_in(r, e, ABORT).unwrap();
    rig.advance(secs(242));
    assert!(rig.sessions().is_empty());
}

#[test]
fn from_outside_only_an_init_opens_an_association_and_only_where_something_leads_in() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    assert_eq!(rig.sctp_in(ep(R, 9), ep(E, 2905), INIT), Err(DropReason::NoMapping));
    rig.sctp_out(ep(A, 2905), ep(R2, 9), INIT).unwrap();
    for chunk in [DATA, INIT_ACK, ABORT, SHUTDOWN_COMPLETE] {
        let refused = rig.sctp_in(ep(R, 9), ep(E, 2905), chunk);
        assert_eq!(refused, Err(DropReason::SctpNoSession), "chunk {chunk}");
    }
    assert_eq!(rig.sctp_in(ep(R, 9), ep(E, 2905), INIT), Ok((ep(R, 9), ep(A, 2905))));
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Sctp, 80, ep(B, 80))]));
    assert_eq!(rig.sctp_in(ep(R, 9), ep(E, 80), INIT), Ok((ep(R, 9), ep(B, 80))));
    assert_eq!(rig.sctp_out(ep(B, 80), ep(R, 9), INIT_ACK), Ok((ep(E, 80), ep(R, 9))));
}

#[test]
fn an_association_under_way_is_picked_up_from_inside_but_not_by_its_end() {
    let mut rig = Rig::new(policy());
    let (a, r) = (ep(A, 2905), ep(R, 9));
    for chunk in [INIT_ACK, ABORT] {
        assert_eq!(rig.sctp_out(a, r, chunk), Err(DropReason::SctpNoSession));
    }
    rig.sctp_out(a, r, DATA).unwrap();
    rig.sctp_in(r, ep(E, 2905), DATA).unwrap();
    assert_eq!(rig.states(), ["established"]);
}

#[test]
fn an_sctp_packet_keeps_every_byte_behind_its_ip_header() {
    let mut rig = Rig::new(policy());
    let mut packet = sctp(ep(A, 2905), ep(R, 9), INIT);
    let segment = packet.frame()[34..].to_vec();
    rig.pass(LAN, &mut packet).unwrap();
    assert_eq!(packet.frame()[34..], segment);
}

#[test]
fn a_tunnel_goes_out_and_its_answers_come_back() {
    let (out, answers) = (by_peer(A, R), by_peer(R, E));
    for (packet, answer) in out.into_iter().zip(answers) {
        let mut rig = Rig::new(policy());
        let protocol = datagram(&packet).protocol();
        let unasked = rig.addresses(LinkId::WAN, buffer(answer.frame()));
        assert_eq!(unasked, Err(DropReason::NoMapping), "{protocol}");
        assert_eq!(rig.addresses(LAN, packet), Ok((E, R)), "{protocol}");
        assert_eq!(rig.states(), ["unreplied"]);
        assert_eq!(rig.addresses(LinkId::WAN, answer), Ok((R, A)), "{protocol}");
        assert_eq!(rig.states(), ["replied"]);
        let stats = rig.tables.stats();
        assert_eq!((stats.sessions, stats.mappings), (1, 0));
    }
}

#[test]
fn a_peer_is_one_hosts_until_it_has_been_idle_for_the_timeout() {
    let packets = by_peer(A, R).into_iter().zip(by_peer(B, R)).zip(by_peer(R, E));
    for ((of_a, of_b), answer) in packets {
        let mut rig = Rig::new(policy());
        let again = buffer(of_b.frame());
        rig.send(LAN, of_a).unwrap();
        assert_eq!(rig.send(LAN, of_b), Err(DropReason::PeerTaken));
        rig.advance(secs(600));
        assert_eq!(rig.send(LAN, buffer(again.frame())), Err(DropReason::PeerTaken));
        rig.advance(secs(2));
        assert_eq!(rig.addresses(LAN, again), Ok((E, R)));
        assert_eq!(rig.addresses(LinkId::WAN, answer), Ok((R, B)));
    }
}

#[test]
fn hosts_speak_with_different_peers_or_by_different_keys_at_once() {
    let mut rig = Rig::new(policy());
    for (host, peer, key) in
        [(A, R, None), (B, R2, None), (B, R, Some(1)), (A, R, Some(2)), (B, R, Some(0x0003_0000))]
    {
        rig.send(LAN, gre(host, peer, key)).unwrap();
        let back = rig.addresses(LinkId::WAN, gre(peer, E, key));
        assert_eq!(back, Ok((peer, host)), "{key:?}");
    }
    let foreign = rig.send(LinkId::WAN, gre(R, E, Some(9)));
    assert_eq!(foreign, Err(DropReason::NoMapping));
    let keys: Vec<u16> = rig.sessions().iter().map(|session| session.external.0.port).collect();
    assert_eq!(keys, [0, 0, 1, 2, 3], "the key is shown as port");
}

#[test]
fn req6_only_the_inside_keeps_a_tunnel_alive() {
    let mut rig = Rig::new(policy());
    rig.send(LAN, gre(A, R, None)).unwrap();
    for _ in 0..3 {
        rig.advance(secs(200));
        rig.send(LinkId::WAN, gre(R, E, None)).unwrap();
    }
    rig.advance(secs(2));
    assert_eq!(rig.send(LinkId::WAN, gre(R, E, None)), Err(DropReason::NoMapping));
    rig.send(LAN, gre(A, R, None)).unwrap();
    rig.advance(secs(599));
    rig.send(LAN, gre(A, R, None)).unwrap();
    rig.advance(secs(599));
    assert!(rig.send(LinkId::WAN, gre(R, E, None)).is_ok());
}

#[test]
fn a_tunnel_to_the_external_address_does_not_hairpin() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    for packet in by_peer(B, R).into_iter().chain([esp(B, R, 7)]) {
        rig.send(LAN, packet).unwrap();
    }
    for packet in by_peer(A, E).into_iter().chain([esp(A, E, 7)]) {
        assert_eq!(rig.send(LAN, packet), Err(DropReason::HairpinUnsupported));
    }
}

#[test]
fn tunnels_between_lans_are_routed_as_they_are() {
    for (there, back) in by_peer(A, C).into_iter().zip(by_peer(C, A)) {
        let mut rig = Rig::new(policy());
        assert_eq!(rig.addresses(LAN, there), Ok((A, C)));
        assert_eq!(rig.addresses(LAN, back), Ok((C, A)));
        assert_eq!(rig.sessions().len(), 1);
        assert_eq!(rig.sessions()[0].direction, Direction::Routed);
    }
    let mut rig = Rig::new(policy());
    let routed = rig.sctp_out(ep(A, 2905), ep(C, 9), INIT);
    assert_eq!(routed, Ok((ep(A, 2905), ep(C, 9))));
    let routed = rig.send(LAN, lite(ep(A, 2905), ep(C, 9)));
    assert_eq!(routed, Ok((ep(A, 2905), ep(C, 9))));
}

#[test]
fn a_tunnel_moves_to_a_new_external_address_with_its_next_packet() {
    let mut rig = Rig::new(policy());
    rig.send(LAN, gre(A, R, Some(7))).unwrap();
    rig.policy.external = Some(E_NEW);
    rig.policy.generation += 1;
    assert_eq!(rig.addresses(LAN, gre(A, R, Some(7))), Ok((E_NEW, R)));
    assert_eq!(rig.addresses(LinkId::WAN, gre(R, E_NEW, Some(7))), Ok((R, A)));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn a_tunnel_that_a_reload_does_not_touch_goes_on() {
    let mut rig = Rig::new(policy());
    rig.send(LAN, gre(A, R, None)).unwrap();
    rig.policy.generation += 1;
    assert_eq!(rig.addresses(LinkId::WAN, gre(R, E, None)), Ok((R, A)));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn without_an_external_address_no_tunnel_leaves() {
    let mut rig = Rig::new(Policy { external: None, ..policy() });
    for packet in by_peer(A, R).into_iter().chain([esp(A, R, 7), sctp(ep(A, 1), ep(R, 2), INIT)]) {
        assert_eq!(rig.send(LAN, packet), Err(DropReason::WanDown));
    }
}

#[test]
fn a_race_of_workers_for_a_peer_has_one_winner() {
    let (tables, engines) = Tables::new(4096, 4, 7);
    let policy = policy();
    let wins: Vec<u32> = std::thread::scope(|scope| {
        let threads = engines.into_iter().enumerate().map(|(worker, mut engine)| {
            let (tables, policy) = (&tables, &policy);
            scope.spawn(move || {
                let mut participant = tables.domain().participant().unwrap();
                let host = Ipv4Addr::new(10, 0, 0, 10 + worker as u8);
                let wins = (1..=500).filter(|&key| {
                    let packet = gre(host, R, Some(key));
                    let datagram = datagram(&packet);
                    let pass = participant.pass();
                    let now = Instant::ZERO;
                    let found = (&datagram, None);
                    let request = request(&engine, &pass, found, LAN, policy, now);
                    let Ok(Ok(request)) = request else { panic!("a tunnel is opened") };
                    match engine.open(&pass, &request, policy, now) {
                        Ok(_) => true,
                        Err(reason) => {
                            assert_eq!(reason, DropReason::PeerTaken);
                            false
                        }
                    }
                });
                wins.count() as u32
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // Two that try the same name at the same moment may both lose it.
    let total: u32 = wins.iter().sum();
    assert_eq!(tables.stats().sessions, total as usize);
    assert!(total <= 500, "{wins:?}");
}
