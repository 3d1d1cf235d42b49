//! Resets: which are of the connection, and what they end (RFC 7857 §2.2, §7.1).

use super::*;

const CLIENT: Endpoint = Endpoint::new(A, 5000);
const SERVER: Endpoint = Endpoint::new(R, 80);
const OUTSIDE: Endpoint = Endpoint::new(E, 5000);

/// The client expects 3,000,000 and the server 1,000,000, each for a window of 1000.
fn established() -> Rig {
    let mut rig = Rig::new(policy());
    let mut send = |ingress, source, destination, flags, numbers| {
        rig.send(ingress, tcp_at(source, destination, flags, numbers)).unwrap();
    };
    send(LAN, CLIENT, SERVER, SYN, (999_995, 0));
    send(LinkId::WAN, SERVER, OUTSIDE, SYN_ACK, (2_999_995, 1_000_000));
    send(LAN, CLIENT, SERVER, ACK, (1_000_000, 3_000_000));
    assert_eq!(rig.states(), ["established"]);
    rig
}

fn reset(rig: &mut Rig, sequence: u32) -> Seen {
    rig.send(LinkId::WAN, tcp_at(SERVER, OUTSIDE, RST, (sequence, 0)))
}

#[test]
fn req7857_2_2_a_reset_outside_the_window_is_dropped_and_changes_nothing() {
    for sequence in [0, 2_990_000, 3_010_000, 3_000_000 ^ 1 << 31, u32::MAX] {
        let mut rig = established();
        let before = rig.sessions()[0].packets;
        assert_eq!(reset(&mut rig, sequence), Err(DropReason::TcpResetOutOfWindow));
        assert_eq!((rig.states(), rig.sessions()[0].packets), (vec!["established"], before));
        rig.advance(secs(3600));
        assert_eq!(rig.states(), ["established"]);
    }
}

#[test]
fn req7857_2_2_a_reset_within_the_window_passes() {
    for sequence in [3_000_000, 3_000_500, 3_001_000] {
        let mut rig = established();
        assert_eq!(reset(&mut rig, sequence), Ok((SERVER, CLIENT)));
        assert_eq!(rig.states(), ["reset"]);
    }
}

#[test]
fn req7857_2_2_a_reset_from_inside_is_checked_alike() {
    let mut rig = established();
    let forged = tcp_at(CLIENT, SERVER, RST, (5, 0));
    assert_eq!(rig.send(LAN, forged), Err(DropReason::TcpResetOutOfWindow));
    assert!(rig.send(LAN, tcp_at(CLIENT, SERVER, RST, (1_000_000, 0))).is_ok());
}

#[test]
fn a_refused_connection_is_told_from_a_blind_reset_by_what_it_acknowledges() {
    let mut rig = Rig::new(policy());
    rig.send(LAN, tcp_at(CLIENT, SERVER, SYN, (999_995, 0))).unwrap();
    let refused = |rig: &mut Rig, flags, acknowledged| {
        rig.send(LinkId::WAN, tcp_at(SERVER, OUTSIDE, flags, (0, acknowledged)))
    };
    let forged = refused(&mut rig, RST | ACK, 77);
    assert_eq!(forged, Err(DropReason::TcpResetOutOfWindow));
    assert_eq!(refused(&mut rig, RST, 0), Err(DropReason::TcpResetOutOfWindow));
    assert_eq!(rig.states(), ["opening"]);
    assert!(refused(&mut rig, RST | ACK, 1_000_000).is_ok());
    assert_eq!(rig.states(), ["reset"]);
}

#[test]
fn the_window_of_a_connection_that_was_let_in_is_known_from_its_handshake() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Tcp, 80, ep(B, 80))]));
    rig.send(LinkId::WAN, tcp_at(SERVER, ep(E, 80), SYN, (999_995, 0))).unwrap();
    rig.send(LAN, tcp_at(ep(B, 80), SERVER, SYN_ACK, (2_999_995, 1_000_000))).unwrap();
    rig.send(LinkId::WAN, tcp_at(SERVER, ep(E, 80), ACK, (1_000_000, 3_000_000))).unwrap();
    for (flags, sequence) in [(RST, 5), (RST | ACK, 1_200_000)] {
        let forged = rig.send(LinkId::WAN, tcp_at(SERVER, ep(E, 80), flags, (sequence, 1)));
        assert_eq!(forged, Err(DropReason::TcpResetOutOfWindow));
    }
    assert!(rig.send(LinkId::WAN, tcp_at(SERVER, ep(E, 80), RST, (1_000_000, 0))).is_ok());
}

#[test]
fn req7857_7_1_resets_from_inside_in_reply_do_not_refresh() {
    let mut rig = established();
    // One segment from outside every four hours' tenth, each answered by a reset.
    for _ in 0..4 {
        rig.advance(secs(1450));
        rig.send(LinkId::WAN, tcp_at(SERVER, OUTSIDE, ACK, (3_000_000, 1_000_000))).unwrap();
        rig.send(LAN, tcp_at(CLIENT, SERVER, RST, (1_000_000, 0))).unwrap();
        assert_eq!(rig.states(), ["reset"]);
        rig.send(LinkId::WAN, tcp_at(SERVER, OUTSIDE, ACK, (3_000_000, 1_000_000))).unwrap();
        assert_eq!(rig.states(), ["established"]);
    }
    rig.advance(secs(7440 - 4 * 1450 - 2));
    assert_eq!(rig.states(), ["established"]);
    rig.advance(secs(4));
    assert!(rig.sessions().is_empty(), "two hours after the last word from inside");
}

#[test]
fn req7857_7_1_resets_that_go_on_do_not_keep_a_session_that_was_reset() {
    let mut rig = established();
    for _ in 0..80 {
        rig.send(LAN, tcp_at(CLIENT, SERVER, RST, (1_000_000, 0))).unwrap_or((CLIENT, SERVER));
        rig.advance(secs(100));
        if rig.sessions().is_empty() {
            return;
        }
    }
    panic!("{:?}", rig.sessions());
}

#[test]
fn a_closed_connection_ends_four_minutes_after_its_second_fin_whatever_comes() {
    let mut rig = established();
    let (out, back) = ((1_000_000, 3_000_000), (3_000_000, 1_000_000));
    rig.send(LAN, tcp_at(CLIENT, SERVER, FIN_ACK, out)).unwrap();
    rig.send(LinkId::WAN, tcp_at(SERVER, OUTSIDE, FIN_ACK, back)).unwrap();
    for _ in 0..2 {
        rig.advance(secs(115));
        rig.send(LAN, tcp_at(CLIENT, SERVER, ACK, out)).unwrap();
        rig.send(LinkId::WAN, tcp_at(SERVER, OUTSIDE, ACK, back)).unwrap();
        rig.send(LinkId::WAN, tcp_at(SERVER, OUTSIDE, RST, back)).unwrap();
        assert_eq!(rig.states(), ["closed"]);
    }
    rig.advance(secs(12));
    assert!(rig.sessions().is_empty());
}

#[test]
fn a_forged_syn_does_not_shorten_a_half_closed_connection() {
    let mut rig = established();
    rig.send(LAN, tcp_at(CLIENT, SERVER, FIN_ACK, (1_000_000, 3_000_000))).unwrap();
    rig.tcp_in(SERVER, OUTSIDE, SYN).unwrap();
    assert_eq!(rig.states(), ["half-closed"]);
}
