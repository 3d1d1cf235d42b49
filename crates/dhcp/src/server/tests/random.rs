use proptest::prelude::*;

use super::*;

/// What a client may say.
#[derive(Clone, Debug)]
struct Spoken {
    kind: u8,
    number: u8,
    ciaddr: Option<u8>,
    requested: Option<u8>,
    server: Option<u8>,
    id: Option<u8>,
    wait: u16,
}

fn spoken() -> impl Strategy<Value = Spoken> {
    let host = || prop::option::of(prop_oneof![98u8..106, Just(1u8), Just(5u8)]);
    (1u8..9, 0u8..6, host(), host(), prop::option::of(1u8..3), prop::option::of(0u8..3), 0u16..900)
        .prop_map(|(kind, number, ciaddr, requested, server, id, wait)| Spoken {
            kind,
            number,
            ciaddr,
            requested,
            server,
            id,
            wait,
        })
}

proptest! {
    #[test]
    fn random_message_sequences_never_panic_and_no_address_has_two_owners(
        script in proptest::collection::vec(spoken(), 1..120),
        probe in 0u64..2,
    ) {
        let mut bench = Bench::new(|config| {
            config.reservations = vec![reservation(5, 5, "web"), reservation(4, 101, "tv")];
            config.probe_wait = Duration::from_secs(probe);
        });
        let mut owners = std::collections::BTreeMap::new();
        for said in script {
            let mut message = request(said.kind.into(), said.number, &[]);
            message.set_ciaddr(said.ciaddr.map_or(ZERO, lan));
            let options = message.opts_mut();
            if let Some(last) = said.requested {
                options.insert(DhcpOption::RequestedIpAddress(lan(last)));
            }
            if let Some(last) = said.server {
                options.insert(DhcpOption::ServerIdentifier(lan(last)));
            }
            if let Some(id) = said.id {
                options.insert(DhcpOption::ClientIdentifier(vec![id; 3]));
            }
            bench.deliver(&message, ZERO, Ipv4Addr::BROADCAST);
            for sent in bench.sent() {
                let address = sent.message.yiaddr;
                if sent.kind() != MessageType::Ack || address.is_unspecified() {
                    continue;
                }
                let until = bench.now.instant + LEASE;
                let id = sent.message.options.bytes(OptionCode::ClientIdentifier);
                let owner = (sent.message.chaddr, id.map(<[u8]>::to_vec));
                let (other, end) = owners.insert(address, (owner.clone(), until))
                    .unwrap_or((owner.clone(), until));
                // Another identity may follow only when the first has let go, or is the same station.
                let let_go = end <= bench.now.instant || other.0 == owner.0
 || (owner.1.is_some() && other.1 == owner.1);
                prop_assert!(let_go, "{} of {:?} given to {:?}", address, other, owner);
            }
            if matches!(MessageType::from(said.kind), MessageType::Release | MessageType::Decline) {
                // Whoever let go may be replaced at once.
                let active = bench.active();
                owners.retain(|address, _| active.contains(address));
            }
            bench.events();
            bench.wait(u64::from(said.wait));
            bench.frames();
            let active = bench.active();
            owners.retain(|address, _| active.contains(address));
        }
        bench.restart(|_| {});
    }
}
