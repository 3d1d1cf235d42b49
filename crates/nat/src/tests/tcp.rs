//! The states of a connection (RFC 7857 §2).

use super::*;

const CLIENT: Endpoint = Endpoint::new(A, 5000);
const SERVER: Endpoint = Endpoint::new(R, 80);
const OUTSIDE: Endpoint = Endpoint::new(E, 5000);

fn established() -> Rig {
    let mut rig = Rig::new(policy());
    rig.tcp_out(CLIENT, SERVER, SYN).unwrap();
    assert_eq!(rig.states(), ["opening"]);
    rig.tcp_in(SERVER, OUTSIDE, SYN_ACK).unwrap();
    rig.tcp_out(CLIENT, SERVER, ACK).unwrap();
    assert_eq!(rig.states(), ["established"]);
    rig
}

#[test]
fn rfc7857_2_both_fins_close_and_leave_four_minutes() {
    let mut rig = established();
    rig.tcp_in(SERVER, OUTSIDE, FIN_ACK).unwrap();
    assert_eq!(rig.states(), ["half-closed"]);
    rig.advance(secs(300));
    rig.tcp_out(CLIENT, SERVER, FIN_ACK).unwrap();
    assert_eq!(rig.states(), ["closed"]);
    rig.advance(secs(239));
    assert!(rig.tcp_in(SERVER, OUTSIDE, ACK).is_ok());
    rig.advance(secs(242));
    assert!(rig.sessions().is_empty());
}

#[test]
fn rfc7857_2_2_a_reset_passes_and_does_not_end_the_session() {
    let mut rig = established();
    rig.advance(secs(3600));
    rig.tcp_in(SERVER, OUTSIDE, RST).unwrap();
    assert_eq!(rig.states(), ["reset"]);
    rig.advance(secs(239));
    assert_eq!(rig.states(), ["reset"]);
    rig.advance(secs(4));
    assert!(rig.sessions().is_empty());
}

#[test]
fn rfc7857_2_2_traffic_after_a_forged_reset_shows_that_the_connection_lives() {
    for (reply_from_server, ingress) in [(true, LinkId::WAN), (false, LAN)] {
        let mut rig = established();
        rig.tcp_in(SERVER, OUTSIDE, RST).unwrap();
        rig.advance(secs(1));
        let packet =
            if reply_from_server { tcp(SERVER, OUTSIDE, ACK) } else { tcp(CLIENT, SERVER, ACK) };
        rig.send(ingress, packet).unwrap();
        assert_eq!(rig.states(), ["established"]);
        rig.advance(secs(3600));
        assert_eq!(rig.states(), ["established"]);
    }
}

#[test]
fn req2a_simultaneous_open_works() {
    let mut rig = Rig::new(policy());
    rig.tcp_out(CLIENT, SERVER, SYN).unwrap();
    assert_eq!(rig.tcp_in(SERVER, OUTSIDE, SYN), Ok((SERVER, CLIENT)));
    assert_eq!(rig.tcp_out(CLIENT, SERVER, SYN_ACK), Ok((OUTSIDE, SERVER)));
    assert_eq!(rig.tcp_in(SERVER, OUTSIDE, SYN_ACK), Ok((SERVER, CLIENT)));
    assert_eq!(rig.states(), ["established"]);
}

#[test]
fn a_closed_connection_opens_again_with_the_same_ports() {
    let mut rig = established();
    rig.tcp_out(CLIENT, SERVER, FIN_ACK).unwrap();
    rig.tcp_in(SERVER, OUTSIDE, FIN_ACK).unwrap();
    assert_eq!(rig.states(), ["closed"]);
    rig.tcp_out(CLIENT, SERVER, SYN).unwrap();
    assert_eq!(rig.states(), ["opening"]);
    rig.tcp_in(SERVER, OUTSIDE, SYN_ACK).unwrap();
    assert_eq!(rig.states(), ["established"]);
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn from_outside_only_a_syn_opens() {
    let mut rig = Rig::new(with_forwards(vec![forward(Protocol::Tcp, 80, ep(B, 80))]));
    for flags in [ACK, SYN_ACK, FIN_ACK, RST] {
        let seen = rig.tcp_in(ep(R, 4000), ep(E, 80), flags);
        assert_eq!(seen, Err(DropReason::TcpNoSession), "{flags:02x}");
    }
    assert!(rig.tcp_in(ep(R, 4000), ep(E, 80), SYN).is_ok());
}

#[test]
fn from_outside_only_a_syn_passes_a_mapping_open_to_all() {
    let mut rig = Rig::new(with_filtering(Filtering::EndpointIndependent));
    rig.tcp_out(CLIENT, SERVER, SYN).unwrap();
    assert_eq!(rig.tcp_in(ep(R2, 1), OUTSIDE, ACK), Err(DropReason::TcpNoSession));
    assert_eq!(rig.tcp_in(ep(R2, 1), OUTSIDE, SYN), Ok((ep(R2, 1), CLIENT)));
}

#[test]
fn a_connection_from_before_a_restart_goes_on_and_is_trusted_once_answered() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.tcp_out(CLIENT, SERVER, ACK), Ok((OUTSIDE, SERVER)));
    assert_eq!(rig.states(), ["opening"]);
    rig.tcp_in(SERVER, OUTSIDE, ACK).unwrap();
    assert_eq!(rig.states(), ["established"]);
    rig.tcp_in(SERVER, OUTSIDE, FIN_ACK).unwrap();
    rig.tcp_out(CLIENT, SERVER, FIN_ACK).unwrap();
    assert_eq!(rig.states(), ["closed"]);
}

#[test]
fn from_inside_resets_and_stray_answers_open_nothing() {
    let mut rig = Rig::new(policy());
    for flags in [RST, RST | ACK, SYN_ACK] {
        assert_eq!(rig.tcp_out(CLIENT, SERVER, flags), Err(DropReason::TcpNoSession));
    }
    assert_eq!((rig.sessions().len(), rig.tables.stats().mappings), (0, 0));
}
