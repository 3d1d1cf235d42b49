//! Anything at all may be punted.

use std::net::Ipv4Addr;
use std::time::Duration;

use packet::{LinkId, PuntReason};
use proptest::prelude::*;

use crate::frames::{A, framed, ping, query, udp};
use crate::rig::{DNS, HOME_ADDRESS, HOST, Rig, UPSTREAM, WAN_ADDRESS, dynamic, provider};

#[derive(Clone, Debug)]
struct Shot {
    reason: usize,
    link: u8,
    wanted: Option<(u8, [u8; 4])>,
    frame: Vec<u8>,
    damage: Vec<(usize, u8)>,
    wait: u32,
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let noise = || prop::collection::vec(any::<u8>(), 0..400);
    let port = || prop::sample::select(vec![53u16, 67, 68, 123]);
    let to = || prop::sample::select(vec![HOME_ADDRESS, WAN_ADDRESS, Ipv4Addr::BROADCAST]);
    prop_oneof![
        noise(),
        prop::collection::vec(any::<u8>(), 1900..2200),
        noise().prop_map(|packet| framed(&packet)),
        (port(), to(), port(), noise()).prop_map(|(source, to, port, payload)| udp(
            (HOST, source),
            (to, port),
            &payload
        )),
        Just(udp((HOST, 5353), (HOME_ADDRESS, DNS), &query(1, "www.example.com", A))),
        Just(udp((UPSTREAM, DNS), (HOME_ADDRESS, 40_000), &query(1, "www.example.com", A))),
        Just(ping(HOST, HOME_ADDRESS)),
        (any::<[u8; 20]>(), noise()).prop_map(|(header, payload)| {
            let mut frame = framed(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 1, 9]);
            frame.extend(HOME_ADDRESS.octets());
            frame.extend(header);
            frame.extend(payload);
            frame
        }),
    ]
}

fn shot() -> impl Strategy<Value = Shot> {
    let wanted = prop::option::of((0u8..4, any::<[u8; 4]>()));
    let damage = prop::collection::vec((any::<usize>(), any::<u8>()), 0..3);
    (0..PuntReason::COUNT, 0u8..5, wanted, frame(), damage, 0u32..20_000).prop_map(
        |(reason, link, wanted, frame, damage, wait)| Shot {
            reason,
            link,
            wanted,
            frame,
            damage,
            wait,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_that_is_punted_panics_or_keeps_the_stack_running(
        shots in prop::collection::vec(shot(), 1..40),
        leased in any::<bool>(),
    ) {
        let mut rig = Rig::new(&dynamic());
        if leased {
            let mut provider = provider(rig.now);
            rig.run_provider(&mut provider, Duration::from_secs(3));
        }
        for mut shot in shots {
            for (at, bits) in shot.damage {
                let len = shot.frame.len().max(1);
                if let Some(octet) = shot.frame.get_mut(at % len) {
                    *octet ^= bits;
                }
            }
            let wanted =
                shot.wanted.map(|(link, address)| (LinkId(link), Ipv4Addr::from(address)));
            let link = if shot.link == 4 { LinkId::LOCAL } else { LinkId(shot.link) };
            let reason = PuntReason::ALL[shot.reason];
            rig.stack.handle_punt(reason, link, wanted, &shot.frame, rig.now);
            rig.drain();
            rig.advance(Duration::from_millis(u64::from(shot.wait)));
        }
    }
}
