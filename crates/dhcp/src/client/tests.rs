use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode, UnknownOption};
use packet::{Instant, MacAddr};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::frame::{Addressing, FRAME_MAX, SERVER_PORT};
use crate::lease::{LeaseSettings, Route};
use crate::message::RawOption;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 2, 2]);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
const EPOCH: u64 = 1_700_000_000;
const LEASE_SECS: u32 = 36_000;

/// A client and the hand-turned clock it lives by.
struct Bench {
    client: Client,
    now: Now,
}

/// A frame the client sent: how it was addressed and what it said.
struct Sent {
    addressing: Addressing,
    message: Received,
}

impl Bench {
    fn new(change: impl FnOnce(&mut ClientConfig)) -> Self {
        Self::restarted(change, None)
    }

    fn restarted(change: impl FnOnce(&mut ClientConfig), stored: Option<StoredLease>) -> Self {
        let mut config = ClientConfig::new(MAC);
        config.conflict_probe = ConflictProbe::OFF;
        change(&mut config);
        let client = Client::new(config, stored, StdRng::seed_from_u64(7));
        let mut bench = Self { client, now: Now::new(Instant::ZERO, EPOCH) };
        bench.wait(1_000_000);
        bench
    }

    /// A client that has just got [`ADDRESS`].
    fn bound() -> Self {
        let mut bench = Self::new(|_| {});
        bench.bind();
        bench
    }

    fn bind(&mut self) {
        self.client.handle_link_up(self.now);
        self.sent();
        self.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
        self.wait(300);
        self.sent();
        self.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
        while self.client.poll_store().is_some() {}
        assert_eq!(self.client.state(), State::Bound);
        self.wait(3_000);
        self.arps();
        self.events();
    }

    fn wait(&mut self, millis: u64) {
        self.now.instant += Duration::from_millis(millis);
        self.now.unix_secs = EPOCH + self.now.instant.as_secs();
        self.client.handle_timeout(self.now);
    }

    /// Waits until the client's next deadline.
    fn wait_deadline(&mut self) -> Duration {
        let at = self.client.poll_timeout().expect("a deadline");
        let span = at.saturating_since(self.now.instant);
        self.now.instant = at.max(self.now.instant);
        self.now.unix_secs = EPOCH + self.now.instant.as_secs();
        self.client.handle_timeout(self.now);
        span
    }

    fn frames(&mut self) -> Vec<Vec<u8>> {
        while self.client.poll_store().is_some() {}
        let mut buffer = [0; FRAME_MAX];
        let mut frames = Vec::new();
        while let Some(len) = self.client.poll_transmit(&mut buffer) {
            frames.push(buffer[..len].to_vec());
        }
        frames
    }

    /// The DHCP messages sent since the last look.
    fn sent(&mut self) -> Vec<Sent> {
        let frames = self.frames();
        let datagrams = frames.iter().filter_map(|bytes| frame::parse(bytes));
        datagrams
            .map(|datagram| Sent {
                addressing: datagram.addressing,
                message: message::decode(datagram.payload).expect("well-formed"),
            })
            .collect()
    }

    fn sent_one(&mut self) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "one message in {:?}", self.client.state());
        sent.remove(0)
    }

    /// The sender and target addresses of the ARP requests sent since the last look.
    fn arps(&mut self) -> Vec<(Ipv4Addr, Ipv4Addr)> {
        let octets = |bytes: &[u8], at: usize| Ipv4Addr::from(*bytes[at..].first_chunk().unwrap());
        let frames = self.frames();
        let arps = frames.iter().filter(|bytes| frame::parse(bytes).is_none());
        arps.map(|bytes| (octets(bytes, 28), octets(bytes, 38))).collect()
    }

    fn events(&mut self) -> Vec<ClientEvent> {
        std::iter::from_fn(|| self.client.poll_event())
            .filter(|event| !matches!(event, ClientEvent::StateChanged(_)))
            .collect()
    }

    fn reply(
        &mut self,
        kind: MessageType,
        server: Ipv4Addr,
        address: Ipv4Addr,
        extra: &[DhcpOption],
    ) {
        let xid = self.client.transaction.xid;
        let reply = reply(xid, kind, server, address, extra);
        self.deliver(&reply);
    }

    fn deliver(&mut self, reply: &Message) {
        let addressing = Addressing {
            src_mac: SERVER_MAC,
            dst_mac: MAC,
            src: SERVER,
            dst: ADDRESS,
            src_port: SERVER_PORT,
            dst_port: frame::CLIENT_PORT,
        };
        let mut buffer = [0; FRAME_MAX];
        let len = frame::emit(&mut buffer, &addressing, &message::encode(reply).unwrap());
        self.client.handle_frame(&buffer[..len], self.now);
    }
}

fn reply(
    xid: u32,
    kind: MessageType,
    server: Ipv4Addr,
    address: Ipv4Addr,
    extra: &[DhcpOption],
) -> Message {
    let mut reply = message::start(Op::Reply, kind, xid, MAC);
    reply.set_yiaddr(address);
    reply.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    if kind != MessageType::Nak {
        reply.opts_mut().insert(DhcpOption::AddressLeaseTime(LEASE_SECS));
        reply.opts_mut().insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
        reply.opts_mut().insert(DhcpOption::Router(vec![SERVER]));
    }
    for option in extra {
        reply.opts_mut().insert(option.clone());
    }
    reply
}

fn settings(extra: &[DhcpOption]) -> LeaseSettings {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    bench.wait(300);
    bench.reply(MessageType::Ack, SERVER, ADDRESS, extra);
    bench.client.lease().expect("a lease").settings.clone()
}

#[test]
fn dc1_discover_is_broadcast_from_nowhere_at_once_or_after_one_to_ten_seconds() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    let discover = bench.sent_one();
    assert_eq!(discover.message.kind, MessageType::Discover);
    assert_eq!(discover.addressing.src, Ipv4Addr::UNSPECIFIED);
    assert_eq!(discover.addressing.dst, Ipv4Addr::BROADCAST);
    assert_eq!(discover.addressing.dst_mac, MacAddr::BROADCAST);

    let mut bench = Bench::new(|config| config.start_delay = StartDelay::Random);
    bench.client.handle_link_up(bench.now);
    assert!(bench.sent().is_empty());
    let delay = bench.wait_deadline();
    assert!((1..=10).contains(&delay.as_secs()), "{delay:?}");
    assert_eq!(bench.sent_one().message.kind, MessageType::Discover);
}

#[test]
fn dc2_wrong_xid_wrong_station_and_stray_acks_are_ignored_while_selecting() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    let xid = bench.client.transaction.xid;
    bench.deliver(&reply(xid ^ 1, MessageType::Offer, SERVER, ADDRESS, &[]));
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    let mut for_other = reply(xid, MessageType::Offer, SERVER, ADDRESS, &[]);
    for_other.set_chaddr(&[2; 6]);
    bench.deliver(&for_other);
    bench.wait(1000);
    assert_eq!(bench.client.state(), State::Selecting);
    assert_eq!(bench.sent().len(), 1, "only the DISCOVER");
}

#[test]
fn dc2_the_previous_server_is_preferred_to_the_first() {
    let mut bench = Bench::bound();
    bench.wait(u64::from(LEASE_SECS) * 1000);
    assert_eq!(bench.client.state(), State::Selecting);
    bench.sent();
    bench.reply(MessageType::Offer, OTHER_SERVER, ADDRESS, &[]);
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    let request = bench.sent_one().message;
    assert_eq!(request.options.address(OptionCode::ServerIdentifier), Some(SERVER));
}

#[test]
fn dc3_request_names_server_and_address_and_repeats_xid_secs_and_wishes() {
    let mut bench = Bench::new(|config| config.client_id = ClientId::Mac);
    bench.client.handle_link_up(bench.now);
    bench.wait_deadline();
    let discover = bench.sent().pop().unwrap().message;
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    bench.wait(300);
    let request = bench.sent_one().message;
    assert_eq!(request.kind, MessageType::Request);
    assert_eq!(request.xid, discover.xid);
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(request.options.address(OptionCode::ServerIdentifier), Some(SERVER));
    assert_eq!(request.options.address(OptionCode::RequestedIpAddress), Some(ADDRESS));
    for code in [OptionCode::ParameterRequestList, OptionCode::ClientIdentifier] {
        assert!(request.options.bytes(code).is_some());
        assert_eq!(request.options.bytes(code), discover.options.bytes(code));
    }
}

#[test]
fn dc4_an_address_in_use_is_declined_and_asked_for_again_after_ten_seconds() {
    let mut bench = Bench::new(|config| config.conflict_probe = ConflictProbe::FAST);
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    bench.wait(300);
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    assert_eq!(bench.client.state(), State::Probing);
    assert_eq!(bench.arps(), [(Ipv4Addr::UNSPECIFIED, ADDRESS)]);
    bench.client.handle_arp(ADDRESS, SERVER_MAC, bench.now);
    let decline = bench.sent_one();
    assert_eq!(decline.message.kind, MessageType::Decline);
    assert_eq!(decline.addressing.dst, Ipv4Addr::BROADCAST);
    assert_eq!(decline.message.options.address(OptionCode::RequestedIpAddress), Some(ADDRESS));
    assert!(bench.client.lease().is_none());
    assert!(bench.wait_deadline() >= Duration::from_secs(10));
    assert_eq!(bench.sent_one().message.kind, MessageType::Discover);
}

#[test]
fn dc4_an_unanswered_probe_leads_to_two_announcements() {
    let mut bench = Bench::new(|config| config.conflict_probe = ConflictProbe::FAST);
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    bench.wait(300);
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    bench.wait(250);
    bench.wait(250);
    assert_eq!(bench.client.state(), State::Bound);
    bench.wait(2000);
    let probe = (Ipv4Addr::UNSPECIFIED, ADDRESS);
    let announcement = (ADDRESS, ADDRESS);
    assert_eq!(bench.arps(), [probe, probe, announcement, announcement]);
}

#[test]
fn dc4_an_address_in_use_is_defended_but_not_in_a_shouting_match() {
    let mut bench = Bench::bound();
    for _ in 0..5 {
        bench.client.handle_arp(ADDRESS, SERVER_MAC, bench.now);
    }
    assert_eq!(bench.arps(), [(ADDRESS, ADDRESS)]);
    assert_eq!(bench.events(), [ClientEvent::Conflict { address: ADDRESS, mac: SERVER_MAC }]);
    assert!(bench.client.lease().is_some());
}

#[test]
fn dc5_the_lease_clock_starts_when_the_request_is_sent() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    bench.wait(300);
    let sent_at = bench.now.instant;
    bench.wait(2000);
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    let lease = bench.client.lease().unwrap();
    assert_eq!(lease.obtained_at, sent_at);
    assert_eq!(lease.expires_at, sent_at + Duration::from_secs(LEASE_SECS.into()));
}

#[test]
fn dc5_t1_and_t2_keep_their_order_whatever_the_server_says() {
    let span = |t1, t2| [DhcpOption::Renewal(t1), DhcpOption::Rebinding(t2)];
    for (given, near) in [
        (&[][..], (18_000, 31_500)),
        (&span(100, 200), (100, 200)),
        (&span(200, 100), (18_000, 31_500)),
        (&span(0, 100), (18_000, 31_500)),
        (&span(100, LEASE_SECS), (18_000, 31_500)),
        (&span(u32::MAX, u32::MAX), (18_000, 31_500)),
    ] {
        let mut bench = Bench::new(|_| {});
        bench.client.handle_link_up(bench.now);
        bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
        bench.wait(300);
        bench.reply(MessageType::Ack, SERVER, ADDRESS, given);
        let lease = bench.client.lease().unwrap();
        let t1 = lease.renew_at.saturating_since(lease.obtained_at).as_secs_f64();
        let t2 = lease.rebind_at.saturating_since(lease.obtained_at).as_secs_f64();
        assert!(t1 < t2 && lease.rebind_at < lease.expires_at);
        let (t1_near, t2_near) = (f64::from(near.0), f64::from(near.1));
        assert!((t1 / t1_near - 1.0).abs() < 0.1 && (t2 / t2_near - 1.0).abs() < 0.1);
    }
}

#[test]
fn dc6_renewing_is_unicast_to_option_54_by_way_of_the_acks_sender() {
    let mut bench = Bench::bound();
    bench.wait_deadline();
    assert_eq!(bench.client.state(), State::Renewing);
    let renew = bench.sent_one();
    assert_eq!(renew.addressing.dst, SERVER);
    assert_eq!(renew.addressing.dst_mac, SERVER_MAC);
    assert_eq!(renew.addressing.src, ADDRESS);
    assert_eq!(renew.message.ciaddr, ADDRESS);
    assert!(renew.message.options.bytes(OptionCode::ServerIdentifier).is_none());
    assert!(renew.message.options.bytes(OptionCode::RequestedIpAddress).is_none());
}

#[test]
fn dc7_rebinding_is_broadcast_and_any_server_may_answer() {
    let mut bench = Bench::bound();
    let rebind_at = bench.client.lease().unwrap().rebind_at;
    while bench.now.instant < rebind_at {
        bench.wait_deadline();
    }
    assert_eq!(bench.client.state(), State::Rebinding);
    let rebind = bench.sent().pop().unwrap();
    assert_eq!(rebind.addressing.dst, Ipv4Addr::BROADCAST);
    assert_eq!(rebind.addressing.src, ADDRESS);
    assert_eq!(rebind.message.ciaddr, ADDRESS);
    bench.reply(MessageType::Ack, OTHER_SERVER, ADDRESS, &[]);
    assert_eq!(bench.client.state(), State::Bound);
    assert_eq!(bench.client.lease().unwrap().server, OTHER_SERVER);
}

#[test]
fn dc8_retry_halves_remaining_time_floor_60s() {
    let mut bench = Bench::bound();
    bench.wait_deadline();
    let lease = bench.client.lease().unwrap().clone();
    for deadline in [lease.rebind_at, lease.expires_at] {
        loop {
            let remaining = deadline.saturating_since(bench.now.instant);
            let expected = (remaining / 2).max(Duration::from_secs(60)).min(remaining);
            assert_eq!(bench.wait_deadline(), expected);
            if bench.now.instant >= deadline {
                break;
            }
        }
    }
    assert!(bench.client.lease().is_none());
}

#[test]
fn dc9_a_stored_lease_is_asked_for_by_option_50_without_54() {
    let mut bench = Bench::restarted(|_| {}, Some(stored()));
    bench.client.handle_link_up(bench.now);
    assert_eq!(bench.client.state(), State::Rebooting);
    let request = bench.sent_one();
    assert_eq!(request.message.kind, MessageType::Request);
    assert_eq!(request.message.ciaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(request.message.options.address(OptionCode::RequestedIpAddress), Some(ADDRESS));
    assert!(request.message.options.bytes(OptionCode::ServerIdentifier).is_none());
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    assert_eq!(bench.client.state(), State::Bound);
}

#[test]
fn dc9_nak_returns_to_init_and_forgets_the_lease() {
    let mut bench = Bench::restarted(|_| {}, Some(stored()));
    bench.client.handle_link_up(bench.now);
    bench.sent();
    bench.reply(MessageType::Nak, SERVER, Ipv4Addr::UNSPECIFIED, &[]);
    assert_eq!(bench.client.poll_store(), Some(StoreRecord::Forget));
    let discover = bench.sent_one().message;
    assert_eq!(discover.kind, MessageType::Discover);
    assert!(discover.options.bytes(OptionCode::RequestedIpAddress).is_none());
}

#[test]
fn dc9_an_unexpired_lease_is_used_on_after_ten_seconds_if_no_server_answers_at_all() {
    for seed in 1..100 {
        resumed(seed);
    }
    let mut bench = resumed(0);
    assert_eq!(bench.client.state(), State::Rebinding);
    let lease = bench.client.lease().unwrap();
    assert_eq!(lease.settings, stored().settings);
    let left = lease.expires_at.saturating_since(bench.now.instant).as_secs();
    assert_eq!(bench.now.unix_secs + left, stored().expires_unix.unwrap());
    bench.sent();
    bench.wait(60_000);
    assert_eq!(bench.sent_one().addressing.dst, Ipv4Addr::BROADCAST, "asks every minute");
}

#[test]
fn dc9_an_expired_lease_is_only_a_hint_in_discover() {
    let expired = StoredLease { expires_unix: Some(EPOCH), ..stored() };
    let mut bench = Bench::restarted(|_| {}, Some(expired));
    bench.client.handle_link_up(bench.now);
    let discover = bench.sent_one().message;
    assert_eq!(discover.kind, MessageType::Discover);
    assert_eq!(discover.options.address(OptionCode::RequestedIpAddress), Some(ADDRESS));
}

#[test]
fn dc9_with_a_clock_before_the_lease_it_is_asked_for_but_not_used_unconfirmed() {
    let future = StoredLease {
        obtained_unix: EPOCH + 1_000_000,
        expires_unix: Some(EPOCH + 1_036_000),
        ..stored()
    };
    let mut bench = Bench::restarted(|_| {}, Some(future));
    bench.client.handle_link_up(bench.now);
    assert_eq!(bench.client.state(), State::Rebooting);
    bench.wait(600_000);
    assert!(bench.client.lease().is_none());
}

#[test]
fn dc10_a_new_address_replaces_everything() {
    let mut bench = Bench::bound();
    let old = bench.client.lease().unwrap().clone();
    bench.wait_deadline();
    let address = Ipv4Addr::new(198, 51, 100, 88);
    bench.reply(MessageType::Ack, SERVER, address, &[]);
    let new = bench.client.lease().unwrap().clone();
    assert_eq!(new.address(), address);
    assert_eq!(bench.events(), [ClientEvent::Changed { old, new }]);
}

#[test]
fn dc11_discover_is_retried_after_4_8_16_32_64_seconds_give_or_take_one() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    for expected in [4u64, 8, 16, 32, 64, 64] {
        let pause = bench.wait_deadline().as_millis() as u64;
        assert!(pause.abs_diff(expected * 1000) <= 1000, "{pause} ms instead of {expected} s");
    }
    assert_eq!(bench.sent().len(), 7);
}

#[test]
fn dc12_the_broadcast_flag_is_clear_at_first_and_set_after_silence_or_by_option() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    for _ in 0..3 {
        bench.wait_deadline();
    }
    let flags: Vec<bool> = bench.sent().iter().map(|sent| sent.message.broadcast).collect();
    assert_eq!(flags, [false, false, true, true]);

    let mut bench = Bench::new(|config| config.broadcast_flag = BroadcastFlag::Always);
    bench.client.handle_link_up(bench.now);
    assert!(bench.sent_one().message.broadcast);
}

#[test]
fn dc13_only_the_command_sends_release() {
    let mut bench = Bench::bound();
    bench.client.handle_link_down(bench.now);
    bench.wait(1000);
    bench.client.handle_link_up(bench.now);
    assert!(bench.sent().iter().all(|sent| sent.message.kind != MessageType::Release));
    bench.client.release(bench.now);
    let release = bench.sent_one();
    assert_eq!(release.message.kind, MessageType::Release);
    assert_eq!(release.addressing.dst, SERVER);
    assert_eq!(release.message.ciaddr, ADDRESS);
    assert!(release.message.options.bytes(OptionCode::ParameterRequestList).is_none());
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn dc14_client_id_is_none_mac_or_given_bytes() {
    let opaque = ClientId::Opaque(vec![255, 1, 2, 3]);
    let mac = [&[1], &MAC.0[..]].concat();
    for (id, expected) in
        [(ClientId::None, None), (ClientId::Mac, Some(mac)), (opaque, Some(vec![255, 1, 2, 3]))]
    {
        let mut bench = Bench::new(|config| config.client_id = id);
        bench.client.handle_link_up(bench.now);
        let discover = bench.sent_one().message;
        let sent = discover.options.bytes(OptionCode::ClientIdentifier);
        assert_eq!(sent, expected.as_deref());
    }
}

#[test]
fn dc15_a_reply_with_another_client_id_is_dropped() {
    let mut bench = Bench::new(|config| config.client_id = ClientId::Mac);
    bench.client.handle_link_up(bench.now);
    let other = [DhcpOption::ClientIdentifier(vec![1, 9, 9, 9, 9, 9, 9])];
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &other);
    bench.wait(300);
    assert_eq!(bench.client.state(), State::Selecting);
    let ours = [DhcpOption::ClientIdentifier([&[1], &MAC.0[..]].concat())];
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &ours);
    bench.wait(300);
    assert_eq!(bench.client.state(), State::Requesting);
}

#[test]
fn dc17_option_121_beats_3_and_33_and_is_asked_for_first() {
    let gateway = Ipv4Addr::new(198, 51, 100, 9);
    let classless = vec![(ipnet::Ipv4Net::default(), gateway)];
    let static_routes = vec![(Ipv4Addr::new(203, 0, 113, 9), OTHER_SERVER)];
    let static_routes = DhcpOption::StaticRoutingTable(static_routes);
    let both = [DhcpOption::ClasslessStaticRoute(classless), static_routes.clone()];
    let default =
        |gateway| Route { destination: ipnet::Ipv4Net::default(), gateway: Some(gateway) };
    assert_eq!(settings(&both).routes, [default(gateway)]);

    let host =
        Route { destination: "203.0.113.9/32".parse().unwrap(), gateway: Some(OTHER_SERVER) };
    assert_eq!(settings(&[static_routes]).routes, [host, default(SERVER)]);

    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    let discover = bench.sent_one().message;
    let list = discover.options.bytes(OptionCode::ParameterRequestList).unwrap();
    let place = |code: u8| list.iter().position(|asked| *asked == code);
    assert!(place(121).unwrap() < place(3).unwrap());
}

#[test]
fn dc20_dns_domain_ntp_and_mtu_are_in_the_lease() {
    let settings = settings(&[
        DhcpOption::DomainNameServer(vec![SERVER, OTHER_SERVER]),
        DhcpOption::DomainName("example.net".into()),
        DhcpOption::NtpServers(vec![OTHER_SERVER]),
        DhcpOption::InterfaceMtu(1492),
    ]);
    assert_eq!(settings.dns, [SERVER, OTHER_SERVER]);
    assert_eq!(settings.domain.as_deref(), Some("example.net"));
    assert_eq!(settings.ntp, [OTHER_SERVER]);
    assert_eq!(settings.mtu, Some(1492));
}

#[test]
fn dc21_rejected_servers_and_prefixes_are_ignored_and_asked_again_soon() {
    let modem = Ipv4Addr::new(10, 100, 0, 1);
    let temporary = Ipv4Addr::new(10, 100, 0, 10);
    let mut bench = Bench::new(|config| {
        config.reject_servers = vec![OTHER_SERVER];
        config.reject_prefixes = vec!["10.100.0.0/24".parse().unwrap()];
    });
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, modem, temporary, &[]);
    bench.reply(MessageType::Offer, OTHER_SERVER, ADDRESS, &[]);
    bench.wait(300);
    assert_eq!(bench.client.state(), State::Selecting);
    let rejected = ClientEvent::Rejected { server: modem, address: temporary };
    assert_eq!(bench.events(), [rejected], "told once");
    for _ in 0..8 {
        assert!(bench.wait_deadline() <= Duration::from_secs(15));
    }
}

#[test]
fn dc22_a_server_outside_the_subnet_is_renewed_with() {
    let far = Ipv4Addr::new(203, 0, 113, 5);
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, far, ADDRESS, &[]);
    bench.wait(300);
    bench.reply(MessageType::Ack, far, ADDRESS, &[]);
    bench.wait(3000);
    bench.frames();
    bench.wait_deadline();
    let renew = bench.sent_one();
    assert_eq!((renew.addressing.dst, renew.addressing.dst_mac), (far, SERVER_MAC));
}

#[test]
fn dc23_without_a_usable_mask_the_prefix_is_the_address_alone() {
    for mask in [Ipv4Addr::BROADCAST, Ipv4Addr::new(255, 0, 255, 0), Ipv4Addr::UNSPECIFIED] {
        let settings = settings(&[DhcpOption::SubnetMask(mask)]);
        assert_eq!(settings.prefix, ipnet::Ipv4Net::from(ADDRESS), "{mask}");
        assert_eq!(settings.gateway(), Some(SERVER));
    }
}

#[test]
fn dc25_an_unchanged_lease_is_one_renewed_event_and_a_changed_one_says_both() {
    let mut bench = Bench::bound();
    bench.wait_deadline();
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    let events = bench.events();
    assert!(matches!(events[..], [ClientEvent::Renewed(_)]), "{events:?}");
    bench.wait_deadline();
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[DhcpOption::InterfaceMtu(1400)]);
    let events = bench.events();
    assert!(matches!(events[..], [ClientEvent::Changed { .. }]), "{events:?}");
}

#[test]
fn dc26_after_a_short_link_flap_the_lease_in_use_is_verified() {
    let mut bench = Bench::bound();
    bench.client.handle_link_down(bench.now);
    bench.wait(5_000);
    assert!(bench.client.lease().is_some());
    bench.client.handle_link_up(bench.now);
    assert_eq!(bench.client.state(), State::Rebooting);
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    let events = bench.events();
    assert!(matches!(events[..], [ClientEvent::Renewed(_)]), "{events:?}");
}

#[test]
fn dc26_a_link_that_stays_down_loses_the_lease_but_it_is_asked_for_again() {
    let mut bench = Bench::bound();
    bench.client.handle_link_down(bench.now);
    bench.wait(31_000);
    let events = bench.events();
    let lost = |event: &ClientEvent| {
        matches!(event, ClientEvent::Lost { reason: LostReason::LinkDown, .. })
    };
    assert!(events.iter().any(lost), "{events:?}");
    bench.client.handle_link_up(bench.now);
    assert_eq!(bench.client.state(), State::Rebooting);
}

#[test]
fn ds14_a_frame_waits_until_the_record_before_it_is_stored() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    bench.wait(300);
    bench.sent();
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[]);
    let mut buffer = [0; FRAME_MAX];
    assert_eq!(bench.client.poll_transmit(&mut buffer), None);
    assert!(matches!(bench.client.poll_store(), Some(StoreRecord::Keep(_))));
    assert!(bench.client.poll_transmit(&mut buffer).is_some(), "the announcement");
}

#[test]
fn a_server_that_refuses_every_request_is_asked_less_and_less_often() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    let start = bench.now.instant;
    for _ in 0..8 {
        while bench.client.state() != State::Selecting {
            bench.wait_deadline();
        }
        bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
        bench.wait(300);
        bench.reply(MessageType::Nak, SERVER, Ipv4Addr::UNSPECIFIED, &[]);
    }
    assert!(bench.now.instant.saturating_since(start) > Duration::from_secs(100));
}

#[test]
fn a_lease_without_end_has_no_deadline() {
    let mut bench = Bench::new(|_| {});
    bench.client.handle_link_up(bench.now);
    bench.reply(MessageType::Offer, SERVER, ADDRESS, &[]);
    bench.wait(300);
    bench.reply(MessageType::Ack, SERVER, ADDRESS, &[DhcpOption::AddressLeaseTime(u32::MAX)]);
    let Some(StoreRecord::Keep(stored)) = bench.client.poll_store() else { panic!("no record") };
    assert_eq!((stored.duration_secs, stored.expires_unix), (None, None));
    bench.wait(5000);
    assert_eq!(bench.client.poll_timeout(), None);
    let mut bench = Bench::restarted(|_| {}, Some(stored));
    bench.client.handle_link_up(bench.now);
    assert_eq!(bench.client.state(), State::Rebooting);
}

#[test]
fn dc16_raw_options_are_sent_in_discover_and_request_but_not_in_release() {
    let mut bench = Bench::new(|config| {
        config.options = vec![RawOption { code: 60, data: b"box".to_vec() }];
    });
    bench.client.handle_link_up(bench.now);
    let discover = bench.sent_one().message;
    assert_eq!(discover.options.bytes(OptionCode::ClassIdentifier), Some(&b"box"[..]));
    bench.bind();
    bench.client.release(bench.now);
    let release = bench.sent_one().message;
    assert!(release.options.bytes(OptionCode::ClassIdentifier).is_none());
}

/// A client with [`stored`] that nobody answered.
fn resumed(seed: u64) -> Bench {
    let mut bench = Bench::restarted(|_| {}, Some(stored()));
    bench.client.rng = StdRng::seed_from_u64(seed);
    bench.client.handle_link_up(bench.now);
    let start = bench.now.instant;
    while bench.client.lease().is_none() {
        bench.wait_deadline();
    }
    let took = bench.now.instant.saturating_since(start);
    assert!(took <= Duration::from_secs(10), "{took:?} with seed {seed}");
    let kinds = bench.sent().into_iter().map(|sent| sent.message.kind);
    let (request, discover) = (MessageType::Request, MessageType::Discover);
    assert_eq!(kinds.collect::<Vec<_>>(), [request, discover, request]);
    bench
}

fn stored() -> StoredLease {
    StoredLease {
        settings: settings(&[]),
        server: SERVER,
        server_mac: SERVER_MAC,
        duration_secs: Some(LEASE_SECS),
        obtained_unix: EPOCH,
        expires_unix: Some(EPOCH + u64::from(LEASE_SECS)),
    }
}

#[derive(Clone, Debug)]
enum Input {
    Wait(u32),
    Reply(u8, u8, Vec<(u8, Vec<u8>)>),
    Arp(u8),
    Command(u8),
}

fn input() -> impl Strategy<Value = Input> {
    let options = proptest::collection::vec(
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..9)),
        0..4,
    );
    prop_oneof![
        (0u32..100_000).prop_map(Input::Wait),
        (0u8..9, any::<u8>(), options).prop_map(|(kind, last, raw)| Input::Reply(kind, last, raw)),
        any::<u8>().prop_map(Input::Arp),
        (0u8..4).prop_map(Input::Command),
    ]
}

proptest! {
    #[test]
    fn random_inputs_never_panic_and_deadlines_always_move(
        inputs in proptest::collection::vec(input(), 1..60),
    ) {
        let mut bench = Bench::new(|config| config.conflict_probe = ConflictProbe::FAST);
        for input in inputs {
            match input {
                Input::Wait(secs) => bench.wait(u64::from(secs) * 1000),
                Input::Reply(kind, last, raw) => {
                    let mut options = vec![];
                    for (code, data) in raw.into_iter().filter(|(code, _)| !matches!(code, 0 | 255)) {
                        options.push(DhcpOption::Unknown(UnknownOption::new(code.into(), data)));
                    }
                    let address = Ipv4Addr::new(198, 51, 100, last);
                    bench.reply(kind.into(), SERVER, address, &options);
                }
                Input::Arp(last) => {
                    let address = Ipv4Addr::new(198, 51, 100, last);
                    bench.client.handle_arp(address, SERVER_MAC, bench.now);
                }
                Input::Command(0) => bench.client.handle_link_up(bench.now),
                Input::Command(1) => bench.client.handle_link_down(bench.now),
                Input::Command(2) => bench.client.renew(bench.now),
                Input::Command(_) => bench.client.release(bench.now),
            }
            bench.frames();
            bench.events();
            let deadline = bench.client.poll_timeout();
            prop_assert!(deadline.is_none_or(|at| at > bench.now.instant), "{:?}", bench.client.state());
        }
    }
}
