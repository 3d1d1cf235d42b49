use packet::Offload;

use super::*;

const WAN: LinkId = LinkId(0);
const LAN: LinkId = LinkId(1);
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const HOST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 8]);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

struct Bench {
    machine: ArpMachine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::from_secs(1000);
        let link = |id, addresses: &[&str]| LinkConfig {
            id,
            mac: OUR_MAC,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        let links = vec![link(WAN, &["198.51.100.2/32"]), link(LAN, &["10.0.0.1/24"])];
        let mut bench = Self { machine: ArpMachine::new(links, now), now };
        bench.pass(5);
        bench.sent();
        bench
    }

    /// Lets time pass, waking the machine whenever it asks for it.
    fn pass(&mut self, secs: u64) {
        let end = self.now + Duration::from_secs(secs);
        while let Some(deadline) = self.machine.poll_timeout().filter(|&d| d <= end) {
            self.now = self.now.max(deadline);
            self.machine.handle_timeout(self.now);
        }
        self.now = end;
        self.machine.handle_timeout(end);
    }

    fn sent(&mut self) -> Vec<(LinkId, MacAddr, ArpMessage)> {
        let mut buffer = [0xff; 2048];
        let mut sent = Vec::new();
        while let Some((link, len)) = self.machine.poll_transmit(&mut buffer) {
            let destination = MacAddr(buffer[..6].try_into().unwrap());
            sent.push((link, destination, ArpMessage::parse(&buffer[..len]).unwrap()));
        }
        sent
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    fn released(&mut self) -> Vec<(u8, Resolution)> {
        std::iter::from_fn(|| self.machine.poll_released())
            .map(|released| (released.frame.frame[0], released.resolution))
            .collect()
    }

    fn hear(&mut self, link: LinkId, message: ArpMessage) {
        let frame = message.emit(MacAddr::BROADCAST);
        self.machine.handle_arp(&frame, link, self.now);
    }

    fn hear_host_ask(&mut self) {
        self.hear(LAN, request(HOST_MAC, HOST, OURS));
    }

    fn unresolved(&mut self, link: LinkId, next_hop: Ipv4Addr, mark: u8) {
        let frame =
            WaitingFrame { ingress: LinkId(3), offload: Offload::NONE, frame: vec![mark; 60] };
        self.machine.handle_unresolved(link, next_hop, frame, self.now);
    }

    /// What a worker would find.
    fn mac_of(&self, link: LinkId, address: Ipv4Addr) -> Option<MacAddr> {
        let table = self.machine.neighbours();
        table.lookup(link, address).and_then(|neighbour| table.resolve(neighbour))
    }

    fn state_of(&self, address: Ipv4Addr) -> Option<NeighbourState> {
        self.machine.iter().find(|n| n.address == address).map(|n| n.state)
    }
}

fn request(sender_mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> ArpMessage {
    let target_mac = MacAddr::ZERO;
    ArpMessage { operation: ArpOperation::Request, sender_mac, sender, target_mac, target }
}

fn reply(sender_mac: MacAddr, sender: Ipv4Addr) -> ArpMessage {
    ArpMessage {
        operation: ArpOperation::Reply,
        sender_mac,
        sender,
        target_mac: OUR_MAC,
        target: OURS,
    }
}

#[test]
fn a_request_for_our_address_is_answered_and_its_sender_learnt() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    let answer = ArpMessage {
        operation: ArpOperation::Reply,
        sender_mac: OUR_MAC,
        sender: OURS,
        target_mac: HOST_MAC,
        target: HOST,
    };
    assert_eq!(bench.sent(), [(LAN, HOST_MAC, answer)]);
    assert_eq!(bench.mac_of(LAN, HOST), Some(HOST_MAC));
    let appeared = Event::NeighbourAppeared { link: LAN, address: HOST, mac: HOST_MAC };
    assert_eq!(bench.events(), [appeared]);
}

#[test]
fn a_request_for_an_address_of_another_link_is_ignored() {
    let mut bench = Bench::new();
    bench.hear(LAN, request(HOST_MAC, HOST, Ipv4Addr::new(198, 51, 100, 2)));
    assert!(bench.sent().is_empty());
    assert_eq!(bench.mac_of(LAN, HOST), None);
}

#[test]
fn a_probe_for_our_address_is_answered_but_not_learnt_from() {
    let mut bench = Bench::new();
    bench.hear(LAN, request(HOST_MAC, Ipv4Addr::UNSPECIFIED, OURS));
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].1, sent[0].2.sender), (1, HOST_MAC, OURS));
    assert_eq!(bench.machine.iter().count(), 0);
}

#[test]
fn a_sender_outside_the_subnet_is_answered_but_not_learnt() {
    let mut bench = Bench::new();
    for sender in [[10, 0, 1, 9], [10, 0, 0, 0], [10, 0, 0, 255], [224, 0, 0, 1]] {
        bench.hear(LAN, request(HOST_MAC, sender.into(), OURS));
    }
    assert_eq!(bench.sent().len(), 4);
    assert_eq!(bench.machine.iter().count(), 0);
}

#[test]
fn an_unsolicited_reply_creates_nothing() {
    let mut bench = Bench::new();
    bench.hear(LAN, reply(HOST_MAC, HOST));
    assert_eq!(bench.machine.iter().count(), 0);
    assert!(bench.events().is_empty());
}

#[test]
fn a_known_neighbour_that_announces_another_mac_is_followed() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    let table = bench.machine.neighbours();
    let neighbour = table.lookup(LAN, HOST).unwrap();
    bench.events();
    bench.hear(LAN, request(OTHER_MAC, HOST, HOST));
    assert_eq!(table.resolve(neighbour), Some(OTHER_MAC));
    let changed =
        Event::NeighbourChanged { link: LAN, address: HOST, mac: OTHER_MAC, was: HOST_MAC };
    assert_eq!(bench.events(), [changed]);
}

#[test]
fn new_addresses_are_announced_twice_two_seconds_apart() {
    let mut bench = Bench::new();
    let nets = vec!["10.0.0.1/24".parse().unwrap(), "10.0.7.1/24".parse().unwrap()];
    bench.machine.set_addresses(LAN, nets.clone(), bench.now);
    let address = Ipv4Addr::new(10, 0, 7, 1);
    let announcement = (LAN, MacAddr::BROADCAST, request(OUR_MAC, address, address));
    assert_eq!(bench.sent(), [announcement]);
    bench.pass(1);
    assert!(bench.sent().is_empty());
    bench.pass(1);
    assert_eq!(bench.sent(), [announcement]);
    bench.machine.set_addresses(LAN, nets, bench.now);
    bench.pass(10);
    assert!(bench.sent().is_empty());
}

#[test]
fn the_first_addresses_are_announced_as_well() {
    let link =
        LinkConfig { id: LAN, mac: OUR_MAC, addresses: vec!["10.0.0.1/24".parse().unwrap()] };
    let mut bench =
        Bench { machine: ArpMachine::new(vec![link], Instant::ZERO), now: Instant::ZERO };
    assert_eq!(bench.sent(), [(LAN, MacAddr::BROADCAST, request(OUR_MAC, OURS, OURS))]);
}

#[test]
fn a_frame_waits_for_its_neighbour_and_is_injected_when_it_answers() {
    let mut bench = Bench::new();
    bench.unresolved(LAN, HOST, 1);
    bench.unresolved(LAN, HOST, 2);
    let asked = request(OUR_MAC, OURS, HOST);
    assert_eq!(bench.sent(), [(LAN, MacAddr::BROADCAST, asked)]);
    assert!(bench.released().is_empty());
    bench.hear(LAN, reply(HOST_MAC, HOST));
    assert_eq!(bench.released(), [(1, Resolution::Resolved), (2, Resolution::Resolved)]);
    assert_eq!(bench.mac_of(LAN, HOST), Some(HOST_MAC));
}

#[test]
fn a_frame_that_raced_with_the_answer_is_injected_at_once() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    bench.sent();
    bench.unresolved(LAN, HOST, 7);
    assert_eq!(bench.released(), [(7, Resolution::Resolved)]);
    assert!(bench.sent().is_empty());
}

#[test]
fn three_requests_a_second_apart_then_the_frame_fails() {
    let mut bench = Bench::new();
    bench.unresolved(LAN, HOST, 1);
    for _ in 0..2 {
        assert_eq!(bench.sent().len(), 1);
        bench.pass(1);
    }
    assert_eq!(bench.sent().len(), 1);
    assert!(bench.released().is_empty());
    bench.pass(1);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.released(), [(1, Resolution::Failed)]);
    assert_eq!(bench.machine.iter().count(), 0);
}

#[test]
fn what_cannot_be_a_next_hop_fails_at_once() {
    let mut bench = Bench::new();
    for next_hop in
        [[10, 0, 0, 1], [10, 0, 0, 255], [10, 0, 0, 0], [255; 4], [224, 0, 0, 5], [0; 4]]
    {
        bench.unresolved(LAN, next_hop.into(), 1);
        assert_eq!(bench.released(), [(1, Resolution::Failed)], "{next_hop:?}");
    }
    bench.unresolved(LinkId(9), HOST, 1);
    assert_eq!(bench.released(), [(1, Resolution::Failed)]);
    assert!(bench.sent().is_empty());
}

#[test]
fn dc23_a_gateway_outside_the_subnet_is_asked_for_and_learnt() {
    let mut bench = Bench::new();
    let gateway = Ipv4Addr::new(203, 0, 113, 1);
    bench.unresolved(WAN, gateway, 1);
    let asked = request(OUR_MAC, Ipv4Addr::new(198, 51, 100, 2), gateway);
    assert_eq!(bench.sent(), [(WAN, MacAddr::BROADCAST, asked)]);
    bench.hear(WAN, reply(HOST_MAC, gateway));
    assert_eq!(bench.released(), [(1, Resolution::Resolved)]);
    assert_eq!(bench.mac_of(WAN, gateway), Some(HOST_MAC));
}

#[test]
fn a_neighbour_in_use_is_probed_by_unicast_and_stays() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    bench.sent();
    for _ in 0..20 {
        assert_eq!(bench.mac_of(LAN, HOST), Some(HOST_MAC));
        bench.pass(30);
        assert_eq!(bench.sent(), [(LAN, HOST_MAC, request(OUR_MAC, OURS, HOST))]);
        assert_eq!(bench.state_of(HOST), Some(NeighbourState::Probing));
        assert_eq!(bench.mac_of(LAN, HOST), Some(HOST_MAC));
        bench.hear(LAN, reply(HOST_MAC, HOST));
        assert_eq!(bench.state_of(HOST), Some(NeighbourState::Reachable));
    }
}

#[test]
fn a_neighbour_in_use_that_stops_answering_leaves_after_three_probes() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    bench.sent();
    bench.events();
    assert!(bench.mac_of(LAN, HOST).is_some());
    bench.pass(32);
    assert_eq!(bench.sent().len(), 3);
    assert!(bench.mac_of(LAN, HOST).is_some());
    bench.pass(1);
    assert_eq!(bench.mac_of(LAN, HOST), None);
    let left = Event::NeighbourLeft { link: LAN, address: HOST, mac: HOST_MAC };
    assert_eq!(bench.events(), [left]);
}

#[test]
fn an_unused_neighbour_ages_out_after_five_minutes_without_a_probe() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    bench.sent();
    bench.pass(299);
    assert_eq!(bench.state_of(HOST), Some(NeighbourState::Stale));
    bench.pass(1);
    assert_eq!(bench.state_of(HOST), None);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_stale_neighbour_that_is_used_again_is_probed() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    bench.pass(100);
    bench.sent();
    assert!(bench.mac_of(LAN, HOST).is_some());
    bench.pass(30);
    assert_eq!(bench.sent()[0].1, HOST_MAC);
}

#[test]
fn a_conflict_over_our_address_is_reported_and_defended_once_in_ten_seconds() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.hear(LAN, request(HOST_MAC, OURS, HOST));
    }
    let conflict = Event::AddressConflict { link: LAN, address: OURS, mac: HOST_MAC };
    assert_eq!(bench.events(), [conflict]);
    assert_eq!(bench.sent(), [(LAN, MacAddr::BROADCAST, request(OUR_MAC, OURS, OURS))]);
    assert_eq!(bench.machine.stats().conflicts, 3);
    bench.pass(10);
    bench.hear(LAN, reply(HOST_MAC, OURS));
    assert_eq!(bench.events(), [conflict]);
}

#[test]
fn our_own_frames_looped_back_are_ignored() {
    let mut bench = Bench::new();
    bench.hear(LAN, request(OUR_MAC, OURS, OURS));
    assert!(bench.events().is_empty() && bench.sent().is_empty());
}

#[test]
fn dc4_a_probe_carries_no_sender_address_and_reports_who_answers() {
    let mut bench = Bench::new();
    let offered = Ipv4Addr::new(198, 51, 100, 77);
    bench.hear(WAN, reply(HOST_MAC, offered));
    assert!(bench.events().is_empty());
    bench.machine.probe(WAN, offered, bench.now);
    let probe = request(OUR_MAC, Ipv4Addr::UNSPECIFIED, offered);
    assert_eq!(bench.sent(), [(WAN, MacAddr::BROADCAST, probe)]);
    let sighted = |mac| Event::Sighted { link: WAN, address: offered, mac };
    bench.hear(WAN, reply(HOST_MAC, offered));
    bench.hear(WAN, request(OTHER_MAC, Ipv4Addr::UNSPECIFIED, offered));
    bench.hear(LAN, reply(HOST_MAC, offered));
    assert_eq!(bench.events(), [sighted(HOST_MAC), sighted(OTHER_MAC)]);
    bench.pass(10);
    bench.hear(WAN, reply(HOST_MAC, offered));
    assert!(bench.events().is_empty());
}

#[test]
fn neighbours_of_a_subnet_that_is_given_up_are_forgotten() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    bench.unresolved(LAN, Ipv4Addr::new(10, 0, 0, 10), 5);
    bench.machine.set_addresses(LAN, vec!["10.9.0.1/24".parse().unwrap()], bench.now);
    assert_eq!(bench.mac_of(LAN, HOST), None);
    assert_eq!(bench.released(), [(5, Resolution::Failed)]);
}

#[test]
fn a_flushed_link_has_no_neighbours() {
    let mut bench = Bench::new();
    bench.hear_host_ask();
    bench.unresolved(WAN, Ipv4Addr::new(203, 0, 113, 1), 5);
    bench.machine.flush(LAN);
    assert_eq!(bench.mac_of(LAN, HOST), None);
    assert_eq!(bench.machine.iter().count(), 1);
    bench.machine.forget(WAN, Ipv4Addr::new(203, 0, 113, 1));
    assert_eq!(bench.released(), [(5, Resolution::Failed)]);
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_frame_too_long_to_wait_is_dropped_and_counted() {
    let mut bench = Bench::new();
    let frame = vec![0; WAITING_FRAME_LEN_MAX + 1];
    let frame = WaitingFrame { ingress: LAN, offload: Offload::NONE, frame };
    bench.machine.handle_unresolved(LAN, HOST, frame, bench.now);
    assert_eq!(bench.machine.stats().frames_dropped, 1);
    assert!(bench.sent().is_empty());
}

#[test]
fn malformed_messages_are_counted() {
    let mut bench = Bench::new();
    bench.machine.handle_arp(&[0; 13], LAN, bench.now);
    bench.machine.handle_arp(&[0xff; 60], LAN, bench.now);
    assert_eq!(bench.machine.stats().malformed, 2);
}

/// A router with a /16, which has more hosts than the machine has room for.
fn wide() -> Bench {
    let mut bench = Bench::new();
    bench.machine.set_addresses(LAN, vec!["10.0.0.1/16".parse().unwrap()], bench.now);
    bench.pass(5);
    bench.sent();
    bench
}

#[test]
fn a_scan_of_a_subnet_is_bounded_and_a_host_that_answers_still_resolves() {
    let mut bench = wide();
    for n in 0..2000u32 {
        bench.unresolved(LAN, Ipv4Addr::from(0x0a00_1000 + n), 0);
        bench.sent();
        bench.released();
    }
    assert_eq!(bench.machine.iter().count(), INCOMPLETE_MAX);
    bench.unresolved(LAN, HOST, 1);
    bench.released();
    bench.hear(LAN, reply(HOST_MAC, HOST));
    assert_eq!(bench.released(), [(1, Resolution::Resolved)]);
    bench.pass(5);
    assert_eq!(bench.machine.iter().count(), 1);
}

#[test]
fn a_flood_of_requests_leaves_room_for_neighbours_that_packets_wait_for() {
    let mut bench = wide();
    for n in 0..8000u32 {
        bench.hear(LAN, request(OTHER_MAC, Ipv4Addr::from(0x0a00_1000 + n), OURS));
        bench.sent();
        bench.events();
    }
    let stats = bench.machine.stats();
    assert_eq!(bench.machine.iter().count(), LEARNT_MAX);
    assert_eq!(stats.table_full, 8000 - LEARNT_MAX as u64);
    for n in 0..256u32 {
        let host = Ipv4Addr::from(0x0a00_0100 + n);
        bench.unresolved(LAN, host, 0);
        bench.hear(LAN, reply(HOST_MAC, host));
        assert_eq!(bench.released(), [(0, Resolution::Resolved)]);
    }
}

#[test]
fn an_undrained_machine_stays_bounded() {
    let mut bench = wide();
    for n in 0..3000u32 {
        bench.hear(LAN, request(OTHER_MAC, Ipv4Addr::from(0x0a00_1000 + n), OURS));
        bench.unresolved(LAN, Ipv4Addr::from(0x0a00_1000 + n), 0);
    }
    assert!(bench.machine.stats().outputs_dropped > 0);
    assert!(bench.sent().len() <= 512);
    assert!(bench.events().len() <= 1024);
    assert!(bench.released().len() <= WAITING_MAX);
}

#[test]
fn waking_early_or_twice_changes_nothing() {
    let mut bench = Bench::new();
    bench.unresolved(LAN, HOST, 1);
    bench.sent();
    let deadline = bench.machine.poll_timeout();
    for _ in 0..3 {
        bench.machine.handle_timeout(bench.now);
    }
    assert_eq!(bench.machine.poll_timeout(), deadline);
    assert!(bench.sent().is_empty());
}
