//! Connections from outside, until they are open.

use super::*;

const REMOTE: Endpoint = Endpoint::new(R, 4000);
const WEB: Endpoint = Endpoint::new(E, 8080);
const SERVER: Endpoint = Endpoint::new(B, 80);

fn rig() -> Rig {
    Rig::new(with_forwards(vec![forward(Protocol::Tcp, 8080, SERVER)]))
}

#[test]
fn a_syn_from_outside_costs_no_session_and_no_mapping() {
    let mut rig = Rig::new(Policy {
        forwards: Forwards::new(vec![forward(Protocol::Tcp, 8080, SERVER)]).unwrap(),
        ..with_filtering(Filtering::EndpointIndependent)
    });
    rig.tcp_out(ep(A, 5000), ep(R2, 9), SYN).unwrap();
    let before = rig.tables.stats();
    for port in 1..5000 {
        assert_eq!(rig.tcp_in(ep(R, port), WEB, SYN), Ok((ep(R, port), SERVER)));
        assert_eq!(rig.tcp_in(ep(R, port), ep(E, 5000), SYN), Ok((ep(R, port), ep(A, 5000))));
    }
    assert_eq!(rig.tables.stats(), before);
    assert_eq!(rig.tables.sessions_of.count(B), 0);
}

#[test]
fn the_third_segment_opens_the_session_as_established() {
    let mut rig = rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    assert_eq!(rig.tcp_out(SERVER, REMOTE, SYN_ACK), Ok((WEB, REMOTE)));
    assert!(rig.sessions().is_empty());
    assert_eq!(rig.tcp_in(REMOTE, WEB, ACK), Ok((REMOTE, SERVER)));
    assert_eq!(rig.states(), ["established"]);
    let session = rig.sessions()[0];
    assert_eq!(session.direction, Direction::Inbound);
    assert_eq!((session.internal, session.external), (Internal(SERVER), External(WEB)));
    assert_eq!((session.remote, session.packets), (REMOTE, [1, 0]));
    rig.advance(secs(7400));
    assert_eq!(rig.tcp_out(SERVER, REMOTE, ACK), Ok((WEB, REMOTE)));
}

#[test]
fn only_who_received_the_answer_opens_a_session() {
    for acknowledged in [0, 1, 0x8000_0000, 7, u32::MAX] {
        let mut rig = rig();
        rig.tcp_in(REMOTE, WEB, SYN).unwrap();
        let blind = tcp_at(REMOTE, WEB, ACK, (6, acknowledged));
        assert_eq!(rig.send(LinkId::WAN, blind), Err(DropReason::TcpNoSession), "no answer yet");
        // The answer is 1 with four octets of data: 2 to 6 acknowledge it.
        rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
        let blind = tcp_at(REMOTE, WEB, ACK, (6, acknowledged));
        assert_eq!(rig.send(LinkId::WAN, blind), Err(DropReason::TcpNoSession));
        let other = tcp_at(ep(R2, 4000), WEB, ACK, (6, 2));
        assert_eq!(rig.send(LinkId::WAN, other), Err(DropReason::TcpNoSession));
        assert!(rig.sessions().is_empty());
        assert!(rig.send(LinkId::WAN, tcp_at(REMOTE, WEB, ACK, (6, 6))).is_ok());
    }
}

#[test]
fn segments_that_are_sent_again_change_nothing() {
    let mut rig = rig();
    for _ in 0..3 {
        rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    }
    for _ in 0..3 {
        rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
        rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    }
    assert!(rig.tcp_in(REMOTE, WEB, ACK).is_ok());
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn a_new_syn_forgets_the_answer_to_another() {
    let mut rig = rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
    rig.send(LinkId::WAN, tcp_at(REMOTE, WEB, SYN, (9000, 0))).unwrap();
    assert_eq!(rig.tcp_in(REMOTE, WEB, ACK), Err(DropReason::TcpNoSession));
}

#[test]
fn a_server_that_speaks_before_the_third_segment_is_heard() {
    let mut rig = rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
    let data = tcp_at(SERVER, REMOTE, ACK, (6, 6));
    assert_eq!(rig.send(LAN, data), Ok((WEB, REMOTE)));
    assert!(rig.sessions().is_empty());
    assert!(rig.send(LinkId::WAN, tcp_at(REMOTE, WEB, ACK, (6, 10))).is_ok());
    assert_eq!(rig.states(), ["established"]);
}

#[test]
fn a_server_that_refuses_is_heard_and_then_forgotten() {
    let mut rig = rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    assert_eq!(rig.tcp_out(SERVER, REMOTE, RST | ACK), Ok((WEB, REMOTE)));
    assert_eq!(rig.tcp_out(SERVER, REMOTE, RST | ACK), Err(DropReason::TcpNoSession));
    assert!(rig.sessions().is_empty());
}

#[test]
fn a_remote_host_that_knows_of_no_syn_resets_what_it_did_not_ask_for() {
    let mut rig = rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
    let blind = rig.send(LinkId::WAN, tcp_at(REMOTE, WEB, RST, (100_000, 0)));
    assert_eq!(blind, Err(DropReason::TcpNoSession));
    let asked = rig.send(LinkId::WAN, tcp_at(REMOTE, WEB, RST, (6, 0)));
    assert_eq!(asked, Ok((REMOTE, SERVER)));
    assert_eq!(rig.tcp_in(REMOTE, WEB, ACK), Err(DropReason::TcpNoSession));
}

#[test]
fn a_handshake_takes_four_minutes_at_most() {
    let mut rig = rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
    rig.advance(secs(239));
    assert!(rig.tcp_in(REMOTE, WEB, ACK).is_ok());
    let mut rig = self::rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
    rig.advance(secs(245));
    assert_eq!(rig.tcp_in(REMOTE, WEB, ACK), Err(DropReason::TcpNoSession));
}

#[test]
fn a_handshake_ends_with_what_let_it_in() {
    let mut rig = rig();
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    rig.adopt(with_forwards(vec![forward(Protocol::Tcp, 8080, ep(C, 80))]));
    let answer = rig.tcp_out(SERVER, REMOTE, SYN_ACK);
    assert_eq!(answer, Err(DropReason::TcpNoSession));
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.tcp_out(ep(A, 5000), ep(R2, 9), SYN).unwrap();
    rig.tcp_in(REMOTE, ep(E, 5000), SYN).unwrap();
    rig.advance(secs(242));
    rig.tcp_in(REMOTE, ep(E, 5000), SYN).unwrap_err();
    let answer = rig.tcp_out(ep(A, 5000), REMOTE, SYN_ACK);
    assert_eq!(answer, Err(DropReason::TcpNoSession));
}

#[test]
fn an_answer_makes_up_for_a_note_that_a_flood_overwrote() {
    let mut rig = rig();
    assert_eq!(rig.tcp_out(SERVER, REMOTE, SYN_ACK), Ok((WEB, REMOTE)));
    assert!(rig.tcp_in(REMOTE, WEB, ACK).is_ok());
    assert_eq!(rig.states(), ["established"]);
    let stranger = rig.tcp_out(ep(B, 81), REMOTE, SYN_ACK);
    assert_eq!(stranger, Err(DropReason::TcpNoSession), "nothing would let the SYN in");
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.tcp_out(ep(A, 5000), ep(R2, 9), SYN).unwrap();
    assert_eq!(rig.tcp_out(ep(A, 5000), REMOTE, SYN_ACK), Ok((ep(E, 5000), REMOTE)));
    let mut rig = Rig::new(policy());
    rig.tcp_out(ep(A, 5000), ep(R2, 9), SYN).unwrap();
    let refused = rig.tcp_out(ep(A, 5000), REMOTE, SYN_ACK);
    assert_eq!(refused, Err(DropReason::TcpNoSession));
}

#[test]
fn two_external_ports_of_one_server_are_two_connections() {
    let forwards = [forward(Protocol::Tcp, 8080, SERVER), forward(Protocol::Tcp, 8081, SERVER)];
    let mut rig = Rig::new(with_forwards(forwards.into()));
    rig.tcp_in(REMOTE, WEB, SYN).unwrap();
    rig.tcp_out(SERVER, REMOTE, SYN_ACK).unwrap();
    assert_eq!(rig.tcp_in(REMOTE, ep(E, 8081), ACK), Err(DropReason::TcpNoSession));
    assert!(rig.tcp_in(REMOTE, WEB, ACK).is_ok());
}

#[test]
fn a_session_that_was_let_in_holds_its_mapping_at_once() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.tcp_out(ep(A, 5000), ep(R2, 9), SYN).unwrap();
    rig.accept(REMOTE, ep(E, 5000)).unwrap();
    rig.advance(secs(300));
    assert_eq!(rig.states(), ["established"]);
    assert_eq!(rig.tcp_in(ep(R, 1), ep(E, 5000), SYN), Ok((ep(R, 1), ep(A, 5000))));
    rig.advance(secs(7440 + 130));
    let stats = rig.tables.stats();
    assert_eq!((stats.sessions, stats.mappings, rig.tables.hosts.total()), (0, 0, 0));
    assert_eq!(rig.tables.sessions_of.total(), 0);
}

#[test]
fn req5382_2a_a_syn_that_comes_first_and_one_that_answers_it_open_one_connection() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    let (inside, outside) = (ep(A, 5000), ep(E, 5000));
    rig.tcp_out(inside, ep(R2, 9), SYN).unwrap();
    assert_eq!(rig.tcp_in(REMOTE, outside, SYN), Ok((REMOTE, inside)));
    assert_eq!(rig.tcp_out(inside, REMOTE, SYN), Ok((outside, REMOTE)));
    assert_eq!(rig.tcp_out(inside, REMOTE, SYN_ACK), Ok((outside, REMOTE)));
    assert_eq!(rig.tcp_in(REMOTE, outside, SYN_ACK), Ok((REMOTE, inside)));
    let states: Vec<_> =
        rig.sessions().iter().filter(|s| s.remote == REMOTE).map(|s| s.state.name()).collect();
    assert_eq!(states, ["established"]);
}

#[test]
fn an_error_about_a_handshake_finds_it_from_both_sides() {
    let mut rig = rig();
    let syn = tcp(REMOTE, WEB, SYN);
    let mut inside = buffer(syn.frame());
    rig.pass(LinkId::WAN, &mut inside).unwrap();
    let (pass, now) = (rig.participant.pass(), rig.now);
    let about = |side, packet: &PacketBuf| {
        let found =
            rig.tables.pending_of_error(&pass, packet, &datagram(packet), (side, now), &rig.policy);
        let mut translated = buffer(packet.frame());
        found.map(|error| {
            error.apply(&mut translated, &datagram(packet));
            assert_checksums(translated.frame());
            let outer = datagram(&translated);
            let inner = packet::icmp::embedded(translated.frame(), &outer).unwrap();
            assert_eq!(error.destination(), outer.destination.address);
            ((outer.source.address, outer.destination.address), (inner.source, inner.destination))
        })
    };
    let refused = errors::error(B, R, errors::unreachable(), &inside.frame()[14..]);
    assert_eq!(about(Side::Inside, &refused), Ok(((E, R), (REMOTE, WEB))));
    let answer = tcp(WEB, REMOTE, SYN_ACK);
    let lost = errors::error(errors::MIDDLE, E, errors::exceeded(), &answer.frame()[14..]);
    let expected = ((errors::MIDDLE, B), (SERVER, REMOTE));
    assert_eq!(about(Side::Outside, &lost), Ok(expected));
    let stranger = tcp(WEB, ep(R2, 4000), SYN_ACK);
    let stray = errors::error(R2, E, errors::unreachable(), &stranger.frame()[14..]);
    assert_eq!(about(Side::Outside, &stray), Err(DropReason::IcmpNoSession));
}

#[test]
fn an_error_about_a_handshake_of_the_dmz_host_finds_it() {
    let dmz = Some(Dmz { host: B, echo: DmzEcho::Router });
    let mut rig = Rig::new(Policy { dmz, ..policy() });
    rig.tcp_in(REMOTE, ep(E, 80), SYN).unwrap();
    let answer = tcp(ep(E, 80), REMOTE, SYN_ACK);
    let lost = errors::error(errors::MIDDLE, E, errors::exceeded(), &answer.frame()[14..]);
    let (pass, at) = (rig.participant.pass(), (Side::Outside, rig.now));
    let found = rig.tables.pending_of_error(&pass, &lost, &datagram(&lost), at, &rig.policy);
    assert_eq!(found.map(|error| error.destination()), Ok(B));
}

#[test]
fn a_handshake_crosses_workers() {
    let policy = with_forwards(vec![forward(Protocol::Tcp, 8080, SERVER)]);
    let mut rig = Rig::sized(4096, 2, policy);
    rig.pass_at(0, LinkId::WAN, &mut tcp(REMOTE, WEB, SYN)).unwrap();
    rig.pass_at(1, LAN, &mut tcp(SERVER, REMOTE, SYN_ACK)).unwrap();
    rig.pass_at(0, LinkId::WAN, &mut tcp(REMOTE, WEB, ACK)).unwrap();
    assert_eq!(rig.states(), ["established"]);
}
