//! Who may use a forward, and the host that gets what nothing else takes.

use packet::AddressSet;

use super::*;

const WEB: u16 = 8080;

fn limited() -> Forward {
    let friends: AddressSet = [(R, R), (A, A)].into_iter().collect();
    Forward { sources: Some(friends), ..forward(Protocol::Tcp, WEB, ep(B, 80)) }
}

fn with_dmz(echo: DmzEcho) -> Policy {
    Policy {
        dmz: Some(Dmz { host: B, echo }),
        ..with_forwards(vec![forward(Protocol::Tcp, WEB, ep(A, 80))])
    }
}

fn next(policy: &Policy, rig: &Rig) -> Policy {
    Policy { generation: rig.policy.generation + 1, ..policy.clone() }
}

#[test]
fn a_forward_with_sources_is_open_to_them_alone_and_refuses_others_by_name() {
    let mut rig = Rig::new(with_forwards(vec![limited()]));
    assert_eq!(rig.accept(ep(R, 1000), ep(E, WEB)), Ok((ep(R, 1000), ep(B, 80))));
    let stranger = rig.tcp_in(ep(R2, 1000), ep(E, WEB), SYN);
    assert_eq!(stranger, Err(DropReason::ForwardSource));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn the_sources_of_a_forward_hold_for_hosts_inside_too() {
    let mut rig = Rig::new(with_forwards(vec![limited()]));
    assert!(rig.tcp_out(ep(A, 1000), ep(E, WEB), SYN).is_ok());
    let other = rig.send(LAN2, tcp(ep(C, 1000), ep(E, WEB), SYN));
    assert_eq!(other, Err(DropReason::ForwardSource));
}

#[test]
fn a_forward_may_be_for_the_outside_alone() {
    let outside = Forward { hairpin: Hairpin::Refused, ..forward(Protocol::Tcp, WEB, ep(B, 80)) };
    let mut rig = Rig::new(with_forwards(vec![outside]));
    assert_eq!(rig.tcp_out(ep(A, 1000), ep(E, WEB), SYN), Err(DropReason::HairpinDisabled));
    assert!(rig.tcp_in(ep(R, 1000), ep(E, WEB), SYN).is_ok());
}

#[test]
fn sessions_of_sources_that_a_forward_no_longer_names_end_at_their_next_packet() {
    let open = forward(Protocol::Tcp, WEB, ep(B, 80));
    let mut rig = Rig::new(with_forwards(vec![open.clone()]));
    for remote in [R, R2] {
        assert!(rig.accept(ep(remote, 1000), ep(E, WEB)).is_ok());
    }
    assert!(rig.tcp_out(ep(A, 1000), ep(E, WEB), SYN).is_ok());
    rig.policy = next(&with_forwards(vec![limited()]), &rig);
    assert!(rig.tcp_in(ep(R, 1000), ep(E, WEB), ACK).is_ok());
    assert!(rig.tcp_out(ep(A, 1000), ep(E, WEB), ACK).is_ok());
    let stranger = rig.tcp_in(ep(R2, 1000), ep(E, WEB), ACK);
    assert_eq!(stranger, Err(DropReason::ForwardSource));
    assert_eq!(rig.sessions().len(), 2);
    let outside = Forward { hairpin: Hairpin::Refused, ..open };
    rig.policy = next(&with_forwards(vec![outside]), &rig);
    assert!(rig.tcp_in(ep(R, 1000), ep(E, WEB), ACK).is_ok());
    assert_eq!(rig.tcp_out(ep(A, 1000), ep(E, WEB), ACK), Err(DropReason::HairpinDisabled));
    assert_eq!(rig.sessions().len(), 1);
}

#[test]
fn the_dmz_host_gets_what_nothing_else_takes() {
    let mut rig = Rig::new(with_dmz(DmzEcho::Router));
    assert_eq!(rig.tcp_in(ep(R, 1000), ep(E, 22), SYN), Ok((ep(R, 1000), ep(B, 22))));
    assert_eq!(rig.udp_in(ep(R, 1000), ep(E, 22)), Ok((ep(R, 1000), ep(B, 22))));
    let answer = rig.tcp_out(ep(B, 22), ep(R, 1000), SYN_ACK);
    assert_eq!(answer, Ok((ep(E, 22), ep(R, 1000))));
    assert_eq!(rig.tcp_in(ep(R, 1000), ep(E, WEB), SYN), Ok((ep(R, 1000), ep(A, 80))));
    assert_eq!(rig.udp_in(ep(R, 1000), ep(E, 68)), Err(DropReason::NoMapping), "reserved");
    rig.udp_out(ep(A, 5000), ep(R, 9)).unwrap();
    assert_eq!(rig.udp_in(ep(R2, 9), ep(E, 5000)), Err(DropReason::FilterDenied), "mapped");
    assert_eq!(rig.tcp_in(ep(R, 1001), ep(E, 22), ACK), Err(DropReason::TcpNoSession));
    assert_eq!(rig.udp_out(ep(A, 5001), ep(E, 4444)), Err(DropReason::NoMapping), "from inside");
}

#[test]
fn echo_requests_go_to_the_dmz_host_only_if_the_router_leaves_them() {
    let mut rig = Rig::new(with_dmz(DmzEcho::Router));
    assert_eq!(rig.send(LinkId::WAN, echo(R, E, 7)), Err(DropReason::NoMapping));
    rig.policy = next(&with_dmz(DmzEcho::Host), &rig);
    assert_eq!(rig.send(LinkId::WAN, echo(R, E, 7)), Ok((ep(R, 7), ep(B, 0))));
    assert_eq!(rig.send(LAN, echo_reply(B, R, 7)), Ok((ep(E, 0), ep(R, 7))));
    assert_eq!(rig.send(LinkId::WAN, echo_reply(R, E, 8)), Err(DropReason::NoMapping));
    // The same identifier outwards is another query.
    assert!(rig.send(LAN, echo(B, R, 7)).is_ok());
    assert_eq!(rig.sessions().len(), 2);
}

#[test]
fn a_handshake_that_the_policy_overtakes_opens_no_session() {
    let forward = forward(Protocol::Tcp, WEB, ep(A, 80));
    let limited = Forward { sources: Some([(R2, R2)].into_iter().collect()), ..forward };
    for (port, server, changed) in [
        (22, ep(B, 22), Policy { dmz: None, ..with_dmz(DmzEcho::Host) }),
        (WEB, ep(A, 80), with_forwards(vec![limited])),
    ] {
        let mut rig = Rig::new(with_dmz(DmzEcho::Host));
        rig.tcp_in(ep(R, 1000), ep(E, port), SYN).unwrap();
        rig.policy = next(&changed, &rig);
        let answer = rig.tcp_out(server, ep(R, 1000), SYN_ACK);
        assert_eq!(answer, Err(DropReason::TcpNoSession), "{port}");
        assert!(rig.tcp_in(ep(R, 1000), ep(E, port), ACK).is_err(), "{port}");
        assert!(rig.sessions().is_empty());
    }
}

#[test]
fn sessions_of_a_dmz_host_end_when_another_takes_their_port_or_its_place() {
    let policy = with_dmz(DmzEcho::Host);
    for changed in [
        Policy { dmz: None, ..policy.clone() },
        Policy { dmz: Some(Dmz { host: C, echo: DmzEcho::Host }), ..policy.clone() },
        Policy { reserved: ReservedPorts::none().with(Protocol::Tcp, 22..=22), ..policy.clone() },
        Policy { external: Some(E_NEW), ..policy.clone() },
    ] {
        let mut rig = Rig::new(policy.clone());
        rig.accept(ep(R, 1000), ep(E, 22)).unwrap();
        rig.policy = next(&policy, &rig);
        assert!(rig.tcp_in(ep(R, 1000), ep(E, 22), ACK).is_ok(), "nothing changed");
        rig.policy = next(&changed, &rig);
        assert!(rig.tcp_in(ep(R, 1000), ep(E, 22), ACK).is_err(), "{changed:?}");
        assert!(rig.sessions().is_empty());
    }
}

#[test]
fn scans_of_a_dmz_host_leave_room_for_sessions_from_inside() {
    let mut rig = Rig::sized(256, 1, with_dmz(DmzEcho::Router));
    for port in 100..356 {
        rig.tcp_in(ep(R, 1000), ep(E, port), SYN).unwrap();
    }
    assert!(rig.sessions().is_empty());
    let refused = (100..356).filter(|port| rig.udp_in(ep(R, 1000), ep(E, *port)).is_err());
    assert!(refused.count() > 0);
    assert!(rig.tcp_out(ep(A, 1000), ep(R, 443), SYN).is_ok());
}
