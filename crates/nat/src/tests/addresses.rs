//! Several external addresses: who gets which, and what happens when one has no port left.

use std::collections::BTreeSet;

use super::*;

const E2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
const E3: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 31);

fn pooled(pooling: Pooling) -> Policy {
    Policy { pool: Pool::new([E2, E3], pooling), ..policy() }
}

/// So many hosts that are paired with an address.
fn hosts_of(pair: Ipv4Addr, count: usize) -> Vec<Ipv4Addr> {
    let pool = pooled(Pooling::Paired).pool;
    let hosts = (0x0a00_0100..).map(Ipv4Addr::from_bits);
    hosts.filter(|host| pool.paired(E, *host) == pair).take(count).collect()
}

/// Takes every odd port below 1024 of an address, one host each.
fn fill_odd_ports(rig: &mut Rig, pair: Ipv4Addr) -> Vec<Ipv4Addr> {
    let hosts = hosts_of(pair, 514);
    for host in &hosts[..512] {
        assert_eq!(rig.map(ep(*host, 501)).unwrap().address, pair);
    }
    hosts
}

#[test]
fn req2_req6888_2_all_flows_of_a_host_use_one_address_whatever_the_protocol() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let mut used = BTreeSet::new();
    for host in hosts_of(E, 3).into_iter().chain(hosts_of(E2, 3)).chain(hosts_of(E3, 3)) {
        let mut seen = BTreeSet::new();
        for n in 0..34 {
            seen.insert(rig.udp_out(ep(host, 5000 + n), ep(R, 9 + n)).unwrap().0.address);
            seen.insert(rig.tcp_out(ep(host, 5000 + n), ep(R2, 9), SYN).unwrap().0.address);
            seen.insert(rig.send(LAN, echo(host, R, n)).unwrap().0.address);
        }
        assert_eq!(seen.len(), 1, "{host}: {seen:?}");
        used.extend(seen);
    }
    assert_eq!(used, BTreeSet::from([E, E2, E3]));
}

#[test]
fn an_answer_to_a_further_address_comes_home_and_a_stranger_is_filtered() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let host = hosts_of(E3, 1)[0];
    assert_eq!(rig.map(ep(host, 5000)), Ok(ep(E3, 5000)));
    assert_eq!(rig.udp_in(ep(R, 9), ep(E3, 5000)), Ok((ep(R, 9), ep(host, 5000))));
    assert_eq!(rig.udp_in(ep(R2, 9), ep(E3, 5000)), Err(DropReason::FilterDenied));
    assert_eq!(rig.udp_in(ep(R, 9), ep(E2, 5000)), Err(DropReason::NoMapping));
}

#[test]
fn one_port_of_two_addresses_is_two_mappings() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    for pair in [E, E2, E3] {
        let host = hosts_of(pair, 1)[0];
        assert_eq!(rig.map(ep(host, 5000)), Ok(ep(pair, 5000)));
    }
    assert_eq!(rig.tables.stats().mappings, 3);
}

#[test]
fn a_collision_on_a_further_address_keeps_range_class_and_parity() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let hosts = hosts_of(E2, 2);
    for port in [501, 1023, 1024, 50_001] {
        rig.map(ep(hosts[0], port)).unwrap();
        let other = rig.map(ep(hosts[1], port)).unwrap();
        assert_eq!(other.address, E2);
        assert_ne!(other.port, port);
        assert_eq!((other.port < 1024, other.port % 2), (port < 1024, port % 2));
    }
}

#[test]
fn req7857_4_req6888_11_a_host_whose_address_is_out_of_ports_is_refused() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let hosts = fill_odd_ports(&mut rig, E2);
    assert_eq!(rig.map(ep(hosts[512], 501)), Err(DropReason::PortsExhausted));
    // The old are kept, and nobody else feels it.
    assert!(rig.udp_in(ep(R, 9), ep(E2, 501)).is_ok());
    assert_eq!(rig.map(ep(hosts_of(E3, 1)[0], 501)), Ok(ep(E3, 501)));
    assert_eq!(rig.map(ep(hosts[512], 502)), Ok(ep(E2, 502)));
}

#[test]
fn req7857_4_tcp_is_refused_as_well_when_its_address_is_out_of_ports() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let hosts = hosts_of(E2, 513);
    for host in &hosts[..512] {
        assert_eq!(rig.tcp_out(ep(*host, 501), ep(R, 9), SYN).unwrap().0.address, E2);
    }
    let refused = rig.tcp_out(ep(hosts[512], 501), ep(R, 9), SYN);
    assert_eq!(refused, Err(DropReason::PortsExhausted));
    // UDP has ports of its own (RFC 7857 §5).
    assert_eq!(rig.map(ep(hosts[512], 501)), Ok(ep(E2, 501)));
}

#[test]
fn req11_determinism_after_exhaustion_of_one_address() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let hosts = fill_odd_ports(&mut rig, E2);
    for _ in 0..3 {
        assert_eq!(rig.map(ep(hosts[513], 501)), Err(DropReason::PortsExhausted));
    }
    let host = hosts[512];
    assert_eq!(rig.udp_out(ep(host, 5000), ep(R, 1)), Ok((ep(E2, 5000), ep(R, 1))));
    assert_eq!(rig.udp_out(ep(host, 5000), ep(R2, 1)), Ok((ep(E2, 5000), ep(R2, 1))));
    assert_eq!(rig.udp_in(ep(R, 2), ep(E2, 5000)), Err(DropReason::FilterDenied));
}

#[test]
fn arbitrary_pooling_gives_a_port_of_another_address_and_keeps_one_mapping() {
    let mut rig = Rig::new(pooled(Pooling::Any));
    let hosts = fill_odd_ports(&mut rig, E2);
    let external = rig.map(ep(hosts[512], 501)).unwrap();
    assert!([E, E3].contains(&external.address), "{external}");
    let again = rig.udp_out(ep(hosts[512], 501), ep(R2, 77)).unwrap().0;
    assert_eq!(again, external, "one mapping for all remote endpoints (REQ-1)");
    assert_eq!(rig.udp_in(ep(R2, 77), external), Ok((ep(R2, 77), ep(hosts[512], 501))));
    // The same still holds when a reload changed nothing.
    rig.adopt(pooled(Pooling::Any));
    assert_eq!(rig.udp_out(ep(hosts[512], 501), ep(R2, 77)).unwrap().0, external);
    assert_eq!(rig.sessions().len(), 514);
}

#[test]
fn the_router_itself_speaks_from_the_interfaces_own_address() {
    for pooling in [Pooling::Paired, Pooling::Any] {
        let mut rig = Rig::new(pooled(pooling));
        for host in hosts_of(E2, 2).into_iter().chain(hosts_of(E3, 2)) {
            let seen = rig.send(LinkId::LOCAL, udp(ep(host, 5353), ep(R, 53))).unwrap();
            assert_eq!(seen.0.address, E);
            rig.adopt(pooled(pooling));
            assert!(rig.udp_in(ep(R, 53), seen.0).is_ok());
        }
        assert_eq!(rig.sessions().len(), 4);
    }
}

#[test]
fn req9_a_mapping_on_a_further_address_is_reached_from_inside_with_the_external_source() {
    let open = Filtering::EndpointIndependent;
    let mut rig = Rig::new(Policy { filtering: vec![open; 3].into(), ..pooled(Pooling::Paired) });
    let (server, client) = (hosts_of(E2, 1)[0], hosts_of(E3, 1)[0]);
    rig.map(ep(server, 5000)).unwrap();
    let there = rig.udp_out(ep(client, 6000), ep(E2, 5000));
    assert_eq!(there, Ok((ep(E3, 6000), ep(server, 5000))));
    let back = rig.udp_out(ep(server, 5000), ep(E3, 6000));
    assert_eq!(back, Ok((ep(E2, 5000), ep(client, 6000))));
}

#[test]
fn a_new_address_moves_the_flows_of_the_hosts_that_get_it_and_no_others() {
    let mut rig = Rig::new(Policy { pool: Pool::new([E2], Pooling::Paired), ..policy() });
    let stays = hosts_of(E, 1)[0];
    let moves = hosts_of(E3, 1)[0];
    let before = rig.map(ep(moves, 5000)).unwrap();
    rig.map(ep(stays, 6000)).unwrap();
    rig.adopt(pooled(Pooling::Paired));
    assert_eq!(rig.udp_in(ep(R, 9), ep(E, 6000)), Ok((ep(R, 9), ep(stays, 6000))));
    assert_eq!(rig.map(ep(stays, 6000)), Ok(ep(E, 6000)));
    // All of its flows have one address: those under way go to the new one as well.
    assert_eq!(rig.map(ep(moves, 5000)), Ok(ep(E3, 5000)));
    assert_eq!(rig.udp_in(ep(R, 9), before), Err(DropReason::NoMapping));
    assert_eq!(rig.sessions().len(), 2);
    rig.advance(secs(310 + 130));
    assert_eq!((rig.tables.stats().mappings, rig.tables.hosts.total()), (0, 0));
}

#[test]
fn an_address_taken_out_of_the_pool_ends_exactly_its_flows() {
    for pooling in [Pooling::Paired, Pooling::Any] {
        let mut rig = Rig::new(pooled(pooling));
        for pair in [E, E2, E3] {
            rig.map(ep(hosts_of(pair, 1)[0], 5000)).unwrap();
        }
        rig.adopt(Policy { pool: Pool::new([E2], pooling), ..policy() });
        assert_eq!(rig.udp_in(ep(R, 9), ep(E3, 5000)), Err(DropReason::NoRoute));
        for pair in [E, E2] {
            assert!(rig.udp_in(ep(R, 9), ep(pair, 5000)).is_ok());
        }
        let moved = rig.map(ep(hosts_of(E3, 1)[0], 5000)).unwrap();
        assert!([E, E2].contains(&moved.address));
        assert_eq!(rig.sessions().len(), 3);
    }
}

#[test]
fn without_an_own_address_no_further_one_is_usable() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let host = hosts_of(E3, 1)[0];
    rig.map(ep(host, 5000)).unwrap();
    rig.adopt(Policy { external: None, ..pooled(Pooling::Paired) });
    assert_eq!(rig.udp_in(ep(R, 9), ep(E3, 5000)), Err(DropReason::NoRoute));
    assert_eq!(rig.map(ep(host, 5000)), Err(DropReason::WanDown));
    assert!(rig.sessions().is_empty());
}

#[test]
fn another_lease_moves_the_hosts_of_the_old_address_and_leaves_the_others_flows_alone() {
    let mut rig = Rig::new(pooled(Pooling::Paired));
    let (own, further) = (hosts_of(E, 1)[0], hosts_of(E2, 1)[0]);
    rig.map(ep(own, 5000)).unwrap();
    rig.map(ep(further, 5000)).unwrap();
    rig.adopt(Policy { external: Some(E_NEW), ..pooled(Pooling::Paired) });
    assert!(rig.udp_in(ep(R, 9), ep(E2, 5000)).is_ok());
    assert_eq!(rig.map(ep(own, 5000)), Ok(ep(E_NEW, 5000)));
    assert_eq!(rig.sessions().len(), 2);
}

#[test]
fn a_forward_of_a_further_address_is_reached_there_and_nowhere_else() {
    let there = Forward { address: Some(E2), ..forward(Protocol::Tcp, 8080, ep(B, 80)) };
    let forwards = Forwards::new(vec![there]).unwrap();
    let mut rig = Rig::new(Policy { forwards, ..pooled(Pooling::Paired) });
    let syn = rig.tcp_in(ep(R, 4000), ep(E2, 8080), SYN);
    assert_eq!(syn, Ok((ep(R, 4000), ep(B, 80))));
    assert_eq!(rig.tcp_out(ep(B, 80), ep(R, 4000), SYN_ACK), Ok((ep(E2, 8080), ep(R, 4000))));
    assert_eq!(rig.tcp_in(ep(R, 4000), ep(E, 8080), SYN), Err(DropReason::NoMapping));
    // Its port is free on the others, and no mapping gets it on its own.
    assert_eq!(rig.tcp_out(ep(hosts_of(E, 1)[0], 8080), ep(R, 9), SYN).unwrap().0, ep(E, 8080));
    let other = rig.tcp_out(ep(hosts_of(E2, 1)[0], 8080), ep(R, 9), SYN).unwrap().0;
    assert!(other.address == E2 && other.port != 8080);
    // What the host says first comes from the port that others know it by.
    assert_eq!(rig.tcp_out(ep(B, 80), ep(R2, 9), SYN), Ok((ep(E2, 8080), ep(R2, 9))));
}

#[test]
fn req8_a_hosts_own_filtering_comes_before_its_lans() {
    let strict = with_filtering(Filtering::AddressAndPortDependent);
    let of = [(A, Filtering::EndpointIndependent), (C, Filtering::AddressDependent)];
    let mut rig = Rig::new(Policy { host_filterings: HostFilterings::new(of), ..strict });
    for host in [A, B, C] {
        rig.map(ep(host, 5000 + u16::from(host.octets()[2] * 10 + host.octets()[3]))).unwrap();
    }
    let stranger = |rig: &mut Rig, from, port| rig.udp_in(from, ep(E, port)).map(|(_, to)| to);
    assert_eq!(stranger(&mut rig, ep(R2, 1), 5002), Ok(ep(A, 5002)));
    assert_eq!(stranger(&mut rig, ep(R, 1), 5003), Err(DropReason::FilterDenied));
    assert_eq!(stranger(&mut rig, ep(R, 1), 5012), Ok(ep(C, 5012)));
    assert_eq!(stranger(&mut rig, ep(R2, 1), 5012), Err(DropReason::FilterDenied));
    // A hairpin is filtered the same way.
    assert!(rig.udp_out(ep(B, 7000), ep(E, 5002)).is_ok());
    assert_eq!(rig.udp_out(ep(A, 7000), ep(E, 5003)), Err(DropReason::FilterDenied));
}

#[test]
fn a_hosts_filtering_that_a_reload_takes_away_is_gone_at_once() {
    let of = HostFilterings::new([(A, Filtering::EndpointIndependent)]);
    let mut rig = Rig::new(Policy { host_filterings: of, ..policy() });
    rig.map(ep(A, 5000)).unwrap();
    assert!(rig.udp_in(ep(R2, 1), ep(E, 5000)).is_ok());
    rig.adopt(policy());
    assert_eq!(rig.udp_in(ep(R2, 2), ep(E, 5000)), Err(DropReason::FilterDenied));
    assert!(rig.udp_in(ep(R, 9), ep(E, 5000)).is_ok());
}

#[test]
fn req6888_4b_a_quota_of_one_protocol_does_not_touch_the_others() {
    let of = ProtocolQuotas { udp: 2, ..ProtocolQuotas::NONE };
    let mut rig = Rig::new(Policy { mappings_per_host_max_of: of, ..policy() });
    rig.map(ep(A, 5000)).unwrap();
    rig.map(ep(A, 5001)).unwrap();
    assert_eq!(rig.map(ep(A, 5002)), Err(DropReason::HostQuota));
    for port in 5000..5010 {
        assert!(rig.tcp_out(ep(A, port), ep(R, 9), SYN).is_ok());
    }
    assert!(rig.map(ep(B, 5002)).is_ok());
    rig.advance(secs(301));
    assert!(rig.map(ep(A, 5002)).is_ok());
}

#[test]
fn tables_for_several_addresses_hold_the_mappings_of_all() {
    let mappings = |addresses| {
        let sizes = Sizes::new(1 << 20, addresses);
        let (tables, _) = Tables::sized(sizes, 1, PortJournal::none(), 1);
        tables.stats().mappings_max
    };
    assert!(mappings(1) < mappings(3));
    assert!(mappings(3) >= 3 * 3 * 65_536);
}
