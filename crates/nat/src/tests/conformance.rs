//! Requirements that no other file here is about: see `RFC.md`.

use std::collections::BTreeSet;

use super::*;

#[test]
fn req5382_1_one_internal_endpoint_has_one_external_endpoint_for_tcp_too() {
    let mut rig = Rig::new(policy());
    rig.tcp_out(ep(B, 5000), ep(R, 80), SYN).unwrap();
    let remotes = [ep(R, 80), ep(R, 81), ep(R2, 80)];
    let externals: BTreeSet<Endpoint> =
        remotes.iter().map(|remote| rig.tcp_out(ep(A, 5000), *remote, SYN).unwrap().0).collect();
    assert_eq!(externals.len(), 1, "{externals:?}");
}

#[test]
fn req5382_7_no_two_tcp_endpoints_share_an_external_port_whatever_their_remotes() {
    let mut rig = Rig::new(policy());
    let mut externals = BTreeSet::new();
    for host in 2..250 {
        let internal = ep(Ipv4Addr::new(10, 0, 0, host), 443);
        let remote = ep(Ipv4Addr::new(198, 51, 100, host), 80);
        let (external, _) = rig.tcp_out(internal, remote, SYN).unwrap();
        assert!(externals.insert(external), "{external} was given twice");
    }
}

#[test]
fn req5382_3_filtering_of_tcp_is_as_configured() {
    for (filtering, admitted) in [
        (Filtering::EndpointIndependent, [true, true]),
        (Filtering::AddressDependent, [true, false]),
        (Filtering::AddressAndPortDependent, [false, false]),
    ] {
        let mut rig = Rig::new(with_filtering(filtering));
        let (external, _) = rig.tcp_out(ep(A, 5000), ep(R, 80), SYN).unwrap();
        let seen = [ep(R, 81), ep(R2, 80)].map(|from| rig.tcp_in(from, external, SYN).is_ok());
        assert_eq!(seen, admitted, "{filtering:?}: another port, another host");
    }
}

#[test]
fn req6888_11_a_flow_that_finds_no_port_is_dropped_and_no_live_mapping_is_evicted_for_it() {
    // Odd ports below 1024 are one class of range and parity.
    let mut rig = Rig::new(policy());
    let mut mapped = Vec::new();
    for host in 0..=255 {
        for port in [1, 3, 5] {
            let internal = ep(Ipv4Addr::new(10, 0, 2, host), port);
            match rig.map(internal) {
                Ok(external) => mapped.push((internal, external)),
                Err(reason) => assert_eq!(reason, DropReason::PortsExhausted),
            }
        }
    }
    assert_eq!(mapped.len(), 512, "every odd port below 1024");
    for (internal, external) in mapped {
        assert_eq!(rig.map(internal), Ok(external));
    }
}

#[test]
fn req6056_3_4_another_start_scatters_ports_otherwise() {
    let given = |seed| {
        let (tables, engines) = Tables::new(4096, 1, seed);
        let participant = tables.domain().participant().unwrap();
        let now = Instant::from_secs(1000);
        let mut rig = Rig { tables, engines, participant, policy: policy(), now };
        let hosts = (2..34).map(|host| ep(Ipv4Addr::new(10, 0, 0, host), 5000));
        hosts.map(|internal| rig.map(internal).unwrap().port).collect::<Vec<_>>()
    };
    assert_eq!(given(1), given(1), "the seed is all that decides");
    let (one, other) = (given(1), given(2));
    // The first has its own port; of the others, next to none may agree.
    let alike = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(alike <= 2, "{alike} of {} ports are the same", one.len());
}
