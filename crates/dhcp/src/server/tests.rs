mod random;

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption};
use packet::{Instant, MacAddr};

use super::*;
use crate::frame::{Addressing, CLIENT_PORT, FRAME_MAX, SERVER_PORT};
use crate::message::{self, Op, RawOption, Received};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const STRANGER: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);
const EPOCH: u64 = 1_700_000_000;
const LEASE: Duration = Duration::from_secs(3600);
const ZERO: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, number])
}

fn lan(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn config() -> ServerConfig {
    let subnet = "10.0.0.0/24".parse().unwrap();
    let mut config = ServerConfig::new("home".into(), ROUTER_MAC, ROUTER, subnet);
    config.pools = vec![(lan(100), lan(103))];
    config.lease = LEASE;
    config.probe_wait = Duration::ZERO;
    config
}

fn reservation(number: u8, last: u8, name: &str) -> Reservation {
    Reservation { mac: mac(number), address: lan(last), name: Some(name.into()) }
}

struct Bench {
    server: Server,
    now: Now,
    stored: Vec<StoredBinding>,
}

/// A frame the server sent.
#[derive(Debug)]
struct Sent {
    addressing: Addressing,
    message: Received,
}

impl Sent {
    fn kind(&self) -> MessageType {
        self.message.kind
    }

    fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        self.message.options.address(code)
    }
}

impl Bench {
    fn new(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        let now = Now::new(Instant::from_secs(1000), EPOCH);
        Self { server: Server::new(config, [], now), now, stored: Vec::new() }
    }

    fn restart(&mut self, change: impl FnOnce(&mut ServerConfig)) {
        self.drain_store();
        let mut config = config();
        change(&mut config);
        self.server = Server::new(config, self.stored.clone(), self.now);
    }

    fn wait(&mut self, secs: u64) {
        self.now.instant += Duration::from_secs(secs);
        self.now.unix_secs += secs;
        self.server.handle_timeout(self.now);
    }

    fn drain_store(&mut self) {
        while let Some(record) = self.server.poll_store() {
            match record {
                StoreRecord::Binding(binding) => {
                    self.stored.retain(|other| other.address != binding.address);
                    self.stored.push(binding);
                }
                StoreRecord::Forget(address) => {
                    self.stored.retain(|other| other.address != address);
                }
                StoreRecord::Reservation(_) | StoreRecord::Unreserve(_) => {}
            }
        }
    }

    fn frames(&mut self) -> Vec<Vec<u8>> {
        self.drain_store();
        let mut buffer = [0; FRAME_MAX];
        std::iter::from_fn(|| {
            self.server.poll_transmit(&mut buffer).map(|len| buffer[..len].to_vec())
        })
        .collect()
    }

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

    fn events(&mut self) -> Vec<ServerEvent> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    fn deliver(&mut self, message: &Message, src: Ipv4Addr, dst: Ipv4Addr) {
        let src_mac = MacAddr(message.chaddr().try_into().unwrap());
        let addressing = Addressing {
            src_mac,
            dst_mac: MacAddr::BROADCAST,
            src,
            dst,
            src_port: CLIENT_PORT,
            dst_port: SERVER_PORT,
        };
        let mut buffer = [0; FRAME_MAX];
        let len = frame::emit(&mut buffer, &addressing, &message::encode(message).unwrap());
        self.server.handle_frame(&buffer[..len], self.now);
    }

    /// Delivers a broadcast and returns the only answer, if any.
    fn ask(&mut self, message: &Message) -> Option<Sent> {
        self.deliver(message, ZERO, Ipv4Addr::BROADCAST);
        let mut sent = self.sent();
        assert!(sent.len() <= 1, "{sent:?}");
        sent.pop()
    }

    fn offer(&mut self, number: u8) -> Option<Ipv4Addr> {
        let offer = self.ask(&request(MessageType::Discover, number, &[]))?;
        assert_eq!(offer.kind(), MessageType::Offer);
        Some(offer.message.yiaddr)
    }

    /// A complete exchange; returns the ACK.
    fn lease_with(&mut self, number: u8, extra: &[DhcpOption]) -> Sent {
        let offer = self.ask(&request(MessageType::Discover, number, extra)).expect("an offer");
        let mut options = extra.to_vec();
        options.push(DhcpOption::ServerIdentifier(ROUTER));
        options.push(DhcpOption::RequestedIpAddress(offer.message.yiaddr));
        let ack = self.ask(&request(MessageType::Request, number, &options)).expect("an answer");
        assert_eq!(ack.kind(), MessageType::Ack);
        ack
    }

    fn lease(&mut self, number: u8) -> Ipv4Addr {
        self.lease_with(number, &[]).message.yiaddr
    }

    fn renew(&mut self, number: u8, address: Ipv4Addr) -> Option<Sent> {
        let mut message = request(MessageType::Request, number, &[]);
        message.set_ciaddr(address);
        self.deliver(&message, address, ROUTER);
        self.sent().pop()
    }

    fn reboot(&mut self, number: u8, address: Ipv4Addr) -> Option<Sent> {
        let option = DhcpOption::RequestedIpAddress(address);
        self.ask(&request(MessageType::Request, number, &[option]))
    }

    fn release(&mut self, number: u8, address: Ipv4Addr) {
        let option = DhcpOption::ServerIdentifier(ROUTER);
        let mut message = request(MessageType::Release, number, &[option]);
        message.set_ciaddr(address);
        self.deliver(&message, address, ROUTER);
        assert!(self.sent().is_empty());
    }

    fn active(&self) -> Vec<Ipv4Addr> {
        let views = self.server.bindings();
        let active = views.filter(|view| matches!(view.state, BindingState::Active { .. }));
        active.map(|view| view.address).collect()
    }
}

fn request(kind: MessageType, number: u8, options: &[DhcpOption]) -> Message {
    let mut message = message::start(Op::Request, kind, u32::from(number), mac(number));
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message
}

fn hostname(name: &str) -> DhcpOption {
    DhcpOption::Hostname(name.into())
}

#[test]
fn ds1_a_client_gets_its_address_back_after_release_and_after_expiry() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.lease(1), lan(100));
    assert_eq!(bench.lease(2), lan(101));
    bench.release(1, lan(100));
    bench.wait(2 * 3600);
    assert!(bench.active().is_empty());
    assert_eq!(bench.lease(2), lan(101));
    assert_eq!(bench.lease(1), lan(100));
}

#[test]
fn ds1_the_requested_address_is_given_if_free() {
    let mut bench = Bench::new(|_| {});
    let wish = [DhcpOption::RequestedIpAddress(lan(102))];
    let offer = bench.ask(&request(MessageType::Discover, 1, &wish)).unwrap();
    assert_eq!(offer.message.yiaddr, lan(102));
    let offer = bench.ask(&request(MessageType::Discover, 2, &wish)).unwrap();
    assert_ne!(offer.message.yiaddr, lan(102));
}

#[test]
fn ds1_unused_addresses_go_first_then_the_one_free_for_longest() {
    let mut bench = Bench::new(|_| {});
    for number in 1..=4 {
        bench.lease(number);
        bench.wait(1);
    }
    for number in [3, 1, 2] {
        bench.release(number, lan(99 + number));
        bench.wait(1);
    }
    assert_eq!(bench.lease(5), lan(102));
    assert_eq!(bench.lease(6), lan(100));
}

#[test]
fn ds2_the_offer_waits_for_the_probe_without_blocking_others() {
    let mut bench = Bench::new(|config| config.probe_wait = Duration::from_secs(1));
    bench.deliver(&request(MessageType::Discover, 1, &[]), ZERO, Ipv4Addr::BROADCAST);
    bench.deliver(&request(MessageType::Discover, 2, &[]), ZERO, Ipv4Addr::BROADCAST);
    bench.deliver(&request(MessageType::Discover, 1, &[]), ZERO, Ipv4Addr::BROADCAST);
    let frames = bench.frames();
    let targets: Vec<_> = frames.iter().map(|bytes| bytes[41]).collect();
    assert_eq!(targets, [100, 101], "one ARP probe for each address");
    bench.server.handle_arp(lan(100), STRANGER, bench.now);
    bench.frames();
    bench.wait(1);
    let offered: Vec<_> = bench.sent().iter().map(|sent| sent.message.yiaddr).collect();
    assert_eq!(offered.len(), 2);
    assert!(offered.contains(&lan(101)) && offered.contains(&lan(102)), "{offered:?}");
    let in_use = ServerEvent::AddressInUse { address: lan(100), mac: STRANGER };
    assert_eq!(bench.events(), [in_use]);
    // The verdict is kept: nobody is offered the address for a while.
    assert_eq!(
        bench.server.book.choose(&ClientKey::Hardware(mac(9)), mac(9), None),
        Some(lan(103))
    );
}

#[test]
fn ds2_the_clients_own_answer_is_no_conflict() {
    let mut bench = Bench::new(|config| config.probe_wait = Duration::from_secs(1));
    bench.deliver(&request(MessageType::Discover, 1, &[]), ZERO, Ipv4Addr::BROADCAST);
    bench.server.handle_arp(lan(100), mac(1), bench.now);
    bench.wait(1);
    assert_eq!(bench.sent().pop().unwrap().message.yiaddr, lan(100));
}

#[test]
fn ds3_an_offer_is_held_until_it_times_out() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.offer(1), Some(lan(100)));
    assert_eq!(bench.offer(2), Some(lan(101)));
    assert_eq!(bench.offer(1), Some(lan(100)));
    bench.wait(31);
    assert_eq!(bench.offer(3), Some(lan(100)));
}

#[test]
fn ds3_a_client_that_takes_another_servers_offer_frees_ours() {
    let mut bench = Bench::new(|_| {});
    bench.offer(1);
    let other = [DhcpOption::ServerIdentifier(lan(2)), DhcpOption::RequestedIpAddress(lan(50))];
    assert!(bench.ask(&request(MessageType::Request, 1, &other)).is_none());
    assert_eq!(bench.offer(2), Some(lan(100)));
}

#[test]
fn ds4_ack_has_the_required_options_and_echoes_no_wishes() {
    let mut bench = Bench::new(|_| {});
    let wishes = DhcpOption::ParameterRequestList(vec![OptionCode::Router]);
    let ack = bench.lease_with(1, &[wishes]);
    let options = &ack.message.options;
    assert_eq!(options.seconds(OptionCode::AddressLeaseTime), Some(3600));
    assert_eq!(options.seconds(OptionCode::Renewal), Some(1800));
    assert_eq!(options.seconds(OptionCode::Rebinding), Some(3150));
    assert_eq!(ack.address(OptionCode::ServerIdentifier), Some(ROUTER));
    assert_eq!(ack.address(OptionCode::Router), Some(ROUTER));
    assert_eq!(ack.address(OptionCode::SubnetMask), Some(Ipv4Addr::new(255, 255, 255, 0)));
    for code in [OptionCode::ParameterRequestList, OptionCode::RequestedIpAddress] {
        assert!(options.bytes(code).is_none());
    }
}

#[test]
fn ds5_the_client_id_comes_back_unchanged_in_offer_ack_and_nak() {
    let mut bench = Bench::new(|_| {});
    let id = DhcpOption::ClientIdentifier(vec![255, 1, 2, 3]);
    let expected = Some(&[255, 1, 2, 3][..]);
    let same = |sent: Sent| sent.message.options.bytes(OptionCode::ClientIdentifier) == expected;
    let offer = bench.ask(&request(MessageType::Discover, 1, std::slice::from_ref(&id))).unwrap();
    assert!(same(offer));
    assert!(same(bench.lease_with(1, std::slice::from_ref(&id))));
    let elsewhere = DhcpOption::RequestedIpAddress(Ipv4Addr::new(172, 16, 0, 9));
    let nak = bench.ask(&request(MessageType::Request, 1, &[id, elsewhere])).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert!(same(nak));
}

#[test]
fn ds6_a_reservation_matches_the_mac_whatever_the_client_id() {
    let mut bench = Bench::new(|config| config.reservations = vec![reservation(1, 5, "web")]);
    for id in [vec![1, 1], vec![2, 2]] {
        let ack = bench.lease_with(1, &[DhcpOption::ClientIdentifier(id)]);
        assert_eq!(ack.message.yiaddr, lan(5));
    }
    assert_eq!(bench.lease(1), lan(5));
    assert_eq!(bench.active(), [lan(5)]);
}

#[test]
fn ds6_two_client_ids_of_one_station_are_two_clients() {
    let mut bench = Bench::new(|_| {});
    let first = bench.lease_with(1, &[DhcpOption::ClientIdentifier(vec![1, 1])]);
    let second = bench.lease_with(1, &[DhcpOption::ClientIdentifier(vec![2, 2])]);
    assert_ne!(first.message.yiaddr, second.message.yiaddr);
}

#[test]
fn ds7_init_reboot_wrong_network_is_refused_even_by_a_server_that_shares_the_link() {
    let mut bench = Bench::new(|config| config.authority = Authority::Shared);
    let nak = bench.reboot(1, Ipv4Addr::new(192, 168, 1, 5)).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert_eq!(nak.message.yiaddr, ZERO);
    assert!(nak.message.options.bytes(OptionCode::AddressLeaseTime).is_none());
}

#[test]
fn ds7_an_unknown_client_is_met_with_silence_unless_we_are_the_only_server() {
    let mut shared = Bench::new(|config| config.authority = Authority::Shared);
    assert!(shared.reboot(1, lan(101)).is_none());
    let mut sole = Bench::new(|_| {});
    assert_eq!(sole.reboot(1, lan(101)).unwrap().kind(), MessageType::Ack);
    assert_eq!(sole.reboot(2, lan(101)).unwrap().kind(), MessageType::Nak, "taken");
    assert_eq!(sole.reboot(2, lan(50)).unwrap().kind(), MessageType::Nak, "not in the pool");
}

#[test]
fn ds8_renewal_extends_the_lease_and_a_lease_given_to_another_is_refused() {
    let mut bench = Bench::new(|_| {});
    let address = bench.lease(1);
    bench.wait(1800);
    assert_eq!(bench.renew(1, address).unwrap().kind(), MessageType::Ack);
    bench.wait(1801);
    assert_eq!(bench.active(), [address], "extended");
    bench.wait(3600);
    let wish = [DhcpOption::RequestedIpAddress(address)];
    bench.lease_with(2, &wish);
    assert_eq!(bench.renew(1, address).unwrap().kind(), MessageType::Nak);
}

#[test]
fn ds9_nak_is_broadcast_also_in_answer_to_a_unicast_renewal() {
    let mut bench = Bench::new(|_| {});
    let nak = bench.renew(1, lan(50)).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert_eq!(nak.addressing.dst, Ipv4Addr::BROADCAST);
    assert_eq!(nak.addressing.dst_mac, MacAddr::BROADCAST);
}

#[test]
fn ds10_replies_go_to_ciaddr_else_broadcast_if_wished_else_to_the_new_address() {
    let mut bench = Bench::new(|_| {});
    let ack = bench.lease_with(1, &[]);
    assert_eq!((ack.addressing.dst, ack.addressing.dst_mac), (lan(100), mac(1)));
    let renewed = bench.renew(1, lan(100)).unwrap();
    assert_eq!((renewed.addressing.dst, renewed.addressing.dst_mac), (lan(100), mac(1)));
    assert_eq!(renewed.addressing.src, ROUTER);
    let mut discover = request(MessageType::Discover, 2, &[]);
    discover.set_flags(Flags::default().set_broadcast());
    let offer = bench.ask(&discover).unwrap();
    assert_eq!(offer.addressing.dst, Ipv4Addr::BROADCAST);
    assert_eq!(offer.addressing.dst_mac, MacAddr::BROADCAST);
    assert!(offer.message.broadcast);
}

#[test]
fn ds11_a_declined_address_is_quarantined_and_another_offered() {
    let mut bench = Bench::new(|_| {});
    let address = bench.lease(1);
    bench.events();
    let options = [DhcpOption::ServerIdentifier(ROUTER), DhcpOption::RequestedIpAddress(address)];
    assert!(bench.ask(&request(MessageType::Decline, 2, &options)).is_none());
    assert_eq!(bench.active(), [address], "not the holder");
    assert!(bench.ask(&request(MessageType::Decline, 1, &options)).is_none());
    let events = bench.events();
    assert!(events.contains(&ServerEvent::Declined { address, mac: mac(1) }), "{events:?}");
    assert_eq!(bench.lease(1), lan(101));
    let wish = DhcpOption::RequestedIpAddress(address);
    let offer = bench.ask(&request(MessageType::Discover, 3, std::slice::from_ref(&wish)));
    assert_ne!(offer.unwrap().message.yiaddr, address);
    bench.wait(601);
    let offer = bench.ask(&request(MessageType::Discover, 4, &[wish]));
    assert_eq!(offer.unwrap().message.yiaddr, address);
}

#[test]
fn ds12_release_is_stored_and_remembered_over_a_restart() {
    let mut bench = Bench::new(|_| {});
    bench.lease(1);
    let address = bench.lease(2);
    bench.release(2, address);
    bench.restart(|_| {});
    assert_eq!(bench.active(), [lan(100)]);
    assert_eq!(bench.offer(2), Some(address));
}

#[test]
fn ds12_nobody_releases_another_clients_address() {
    let mut bench = Bench::new(|_| {});
    let address = bench.lease(1);
    bench.release(2, address);
    assert_eq!(bench.active(), [address]);
}

#[test]
fn ds13_inform_is_answered_to_ciaddr_without_address_and_lease_time() {
    let mut bench = Bench::new(|config| config.domain = Some("home.arpa".into()));
    let mut inform = request(MessageType::Inform, 1, &[]);
    inform.set_ciaddr(lan(60));
    let ack = bench.ask(&inform).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.addressing.dst, lan(60));
    assert_eq!(ack.message.yiaddr, ZERO);
    assert!(ack.message.options.bytes(OptionCode::AddressLeaseTime).is_none());
    assert_eq!(ack.message.options.text(OptionCode::DomainName).as_deref(), Some("home.arpa"));
    assert!(bench.active().is_empty());
}

#[test]
fn ds14_the_ack_waits_until_the_binding_is_stored() {
    let mut bench = Bench::new(|_| {});
    bench.offer(1);
    let options = [DhcpOption::ServerIdentifier(ROUTER), DhcpOption::RequestedIpAddress(lan(100))];
    bench.deliver(&request(MessageType::Request, 1, &options), ZERO, Ipv4Addr::BROADCAST);
    let mut buffer = [0; FRAME_MAX];
    assert_eq!(bench.server.poll_transmit(&mut buffer), None);
    let Some(StoreRecord::Binding(stored)) = bench.server.poll_store() else { panic!("no record") };
    assert_eq!((stored.address, stored.expires_unix), (lan(100), Some(EPOCH + 3600)));
    assert!(bench.server.poll_transmit(&mut buffer).is_some());
}

#[test]
fn ds14_leases_and_names_survive_a_restart() {
    let mut bench = Bench::new(|_| {});
    bench.lease_with(1, &[hostname("web")]);
    bench.wait(600);
    bench.restart(|_| {});
    let host = Host { address: lan(100), mac: mac(1), name: Some("web".into()) };
    assert_eq!(bench.events(), [ServerEvent::HostAppeared(host)]);
    bench.wait(2999);
    assert_eq!(bench.active(), [lan(100)]);
    bench.wait(2);
    assert!(bench.active().is_empty());
}

#[test]
fn ds15_a_wrong_clock_at_boot_neither_ends_leases_nor_makes_them_longer() {
    for wrong in [0, EPOCH - 500_000] {
        let mut bench = Bench::new(|_| {});
        bench.lease(1);
        bench.now.unix_secs = wrong;
        bench.drain_store();
        bench.server = Server::new(config(), bench.stored.clone(), bench.now);
        assert_eq!(bench.active(), [lan(100)]);
        bench.wait(3601);
        assert!(bench.active().is_empty(), "clamped to one lease");
    }
}

#[test]
fn ds15_after_a_clock_step_a_restart_finds_the_leases_alive() {
    let mut bench = Bench::new(|_| {});
    bench.now.unix_secs = 100;
    bench.server = Server::new(config(), [], bench.now);
    bench.lease(1);
    bench.now.unix_secs = EPOCH;
    bench.wait(1);
    assert_eq!(bench.active(), [lan(100)], "no mass expiry");
    bench.restart(|_| {});
    assert_eq!(bench.active(), [lan(100)]);
}

#[test]
fn ds16_a_new_reservation_moves_its_live_client_at_renewal() {
    let mut bench = Bench::new(|_| {});
    let old = bench.lease(1);
    bench.server.reserve(reservation(1, 5, "web")).unwrap();
    let nak = bench.renew(1, old).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert_eq!(bench.lease(1), lan(5));
    assert_eq!(bench.active(), [lan(5)]);
}

#[test]
fn ds16_while_the_reserved_address_is_held_its_owner_keeps_another_and_then_moves() {
    let mut bench = Bench::new(|_| {});
    let holder = bench.lease(1);
    bench.server.reserve(Reservation { mac: mac(2), address: holder, name: None }).unwrap();
    let other = bench.lease(2);
    assert_ne!(other, holder);
    assert_eq!(bench.renew(2, other).unwrap().kind(), MessageType::Ack);
    assert_eq!(bench.renew(1, holder).unwrap().kind(), MessageType::Nak);
    bench.wait(1801);
    bench.renew(2, other);
    bench.wait(1801);
    assert_eq!(bench.renew(2, other).unwrap().kind(), MessageType::Nak);
    assert_eq!(bench.lease(2), holder);
}

#[test]
fn ds18_options_are_sent_as_configured_and_asked_for() {
    let mut bench = Bench::new(|config| {
        config.mtu = Some(1492);
        config.ntp = vec![ROUTER];
        config.options = vec![RawOption { code: 252, data: b"x".to_vec() }];
    });
    let all = bench.lease_with(1, &[]).message.options;
    assert_eq!(all.number16(OptionCode::InterfaceMtu), Some(1492));
    assert_eq!(all.address(OptionCode::BroadcastAddr), Some(lan(255)));
    assert_eq!(all.addresses(OptionCode::NtpServers), [ROUTER]);
    assert_eq!(all.bytes(OptionCode::Unknown(252)), Some(&b"x"[..]));
    let wishes = DhcpOption::ParameterRequestList(vec![OptionCode::NtpServers]);
    let asked = bench.lease_with(1, &[wishes]).message.options;
    assert_eq!(asked.addresses(OptionCode::NtpServers), [ROUTER]);
    assert!(asked.bytes(OptionCode::InterfaceMtu).is_none());
}

#[test]
fn ds19_no_domain_is_sent_unless_configured() {
    let ack = Bench::new(|_| {}).lease_with(1, &[]);
    assert!(ack.message.options.bytes(OptionCode::DomainName).is_none());
}

#[test]
fn ds20_the_name_server_is_the_router_unless_configured() {
    let ack = Bench::new(|_| {}).lease_with(1, &[]);
    assert_eq!(ack.address(OptionCode::DomainNameServer), Some(ROUTER));
    let upstream = Ipv4Addr::new(198, 51, 100, 53);
    let ack = Bench::new(|config| config.dns = vec![upstream]).lease_with(1, &[]);
    assert_eq!(ack.address(OptionCode::DomainNameServer), Some(upstream));
}

#[test]
fn ds21_names_are_cleaned_unique_and_never_those_of_a_reservation() {
    let mut bench = Bench::new(|config| config.reservations = vec![reservation(9, 5, "web")]);
    for (number, name) in [(1, "Anna's PC"), (2, "annas-pc"), (3, "wpad"), (4, "web")] {
        bench.lease_with(number, &[hostname(name)]);
    }
    let names: Vec<_> = bench.server.bindings().map(|view| view.name).collect();
    assert_eq!(names, [Some("annas-pc"), Some("annas-pc-2"), None, Some("web-2")]);
    bench.lease_with(9, &[hostname("other")]);
    let reserved = bench.server.bindings().find(|view| view.address == lan(5)).unwrap();
    assert_eq!(reserved.name, Some("web"));
}

#[test]
fn ds22_hosts_appear_change_and_leave_with_their_names() {
    let mut bench = Bench::new(|_| {});
    let host = |name: &str| Host { address: lan(100), mac: mac(1), name: Some(name.into()) };
    bench.lease_with(1, &[hostname("old")]);
    assert_eq!(bench.events(), [ServerEvent::HostAppeared(host("old"))]);
    assert_eq!(bench.renew(1, lan(100)).unwrap().kind(), MessageType::Ack);
    assert_eq!(bench.events(), [], "a renewal without a name keeps it");
    bench.lease_with(1, &[hostname("new")]);
    let changed = ServerEvent::HostChanged { old: host("old"), new: host("new") };
    assert_eq!(bench.events(), [changed]);
    bench.wait(3601);
    assert_eq!(bench.events(), [ServerEvent::HostLeft(host("new"))]);
}

#[test]
fn ds22_option_81_names_the_host_and_is_answered() {
    let mut bench = Bench::new(|config| config.domain = Some("home.arpa".into()));
    let data = b"\x04\0\0\x03web\x05local\0".to_vec();
    let fqdn = DhcpOption::Unknown(UnknownOption::new(OptionCode::ClientFQDN, data));
    let ack = bench.lease_with(1, &[fqdn, hostname("other")]);
    let answer = ack.message.options.bytes(OptionCode::ClientFQDN).unwrap();
    assert_eq!(answer, b"\x07\xff\xff\x03web\x04home\x04arpa\0");
    assert_eq!(bench.server.bindings().next().unwrap().name, Some("web"));
}

#[test]
fn ds23_another_server_on_the_lan_is_told_of_once_in_an_hour() {
    let mut bench = Bench::new(|_| {});
    let mut offer = message::start(Op::Reply, MessageType::Offer, 1, mac(1));
    offer.opts_mut().insert(DhcpOption::ServerIdentifier(lan(7)));
    for _ in 0..3 {
        assert!(bench.ask(&offer).is_none());
    }
    assert_eq!(bench.events(), [ServerEvent::ForeignServer { address: lan(7), mac: mac(1) }]);
    bench.wait(3601);
    bench.ask(&offer);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn ds24_exhaustion_is_told_once_until_an_address_is_free_again() {
    let mut bench = Bench::new(|_| {});
    for number in 1..=4 {
        bench.lease(number);
    }
    bench.events();
    assert_eq!(bench.offer(5), None);
    assert_eq!(bench.offer(6), None);
    assert_eq!(bench.events(), [ServerEvent::PoolExhausted { mac: mac(5) }]);
    bench.release(1, lan(100));
    assert_eq!(bench.offer(5), Some(lan(100)));
}

#[test]
fn ds24_made_up_clients_hold_at_most_a_quarter_of_a_large_pool() {
    let mut bench = Bench::new(|config| config.pools = vec![(lan(2), lan(254))]);
    let offered = (0..=255).filter(|number| bench.offer(*number).is_some()).count();
    assert_eq!(offered, 253 / 4);
}

#[test]
fn ds24_a_station_that_floods_is_not_heard() {
    let mut bench = Bench::new(|_| {});
    let answered = (0..100).filter(|_| bench.offer(1).is_some()).count();
    assert_eq!(answered, 20);
}

#[test]
fn ds26_a_live_host_takes_the_name_reserved_for_it_at_once() {
    let mut bench = Bench::new(|_| {});
    bench.lease_with(1, &[hostname("pc")]);
    bench.events();
    bench.server.reserve(reservation(1, 100, "web")).unwrap();
    let host = |name: &str| Host { address: lan(100), mac: mac(1), name: Some(name.into()) };
    let changed = ServerEvent::HostChanged { old: host("pc"), new: host("web") };
    assert_eq!(bench.events(), [changed]);
}

#[test]
fn ds26_a_reservation_is_stored_and_its_end_too() {
    let mut bench = Bench::new(|_| {});
    let wanted = reservation(1, 5, "web");
    bench.server.reserve(wanted.clone()).unwrap();
    assert_eq!(bench.server.poll_store(), Some(StoreRecord::Reservation(wanted)));
    bench.server.unreserve(mac(1));
    assert_eq!(bench.server.poll_store(), Some(StoreRecord::Unreserve(mac(1))));
    assert_eq!(bench.lease(1), lan(100));
}

#[test]
fn an_impossible_reservation_is_refused_and_the_old_one_stays() {
    let mut bench = Bench::new(|config| config.reservations = vec![reservation(1, 5, "web")]);
    for address in [ROUTER, lan(0), lan(255), Ipv4Addr::new(10, 0, 1, 5)] {
        let refused = bench.server.reserve(Reservation { address, ..reservation(1, 5, "web") });
        assert_eq!(refused, Err(NotAssignable { address }));
    }
    assert_eq!(bench.lease(1), lan(5));
}

#[test]
fn ds26_an_address_released_on_command_is_forgotten() {
    let mut bench = Bench::new(|_| {});
    let address = bench.lease(1);
    assert!(bench.server.release(address));
    assert!(!bench.server.release(address));
    bench.drain_store();
    assert!(bench.stored.is_empty() && bench.active().is_empty());
}

#[test]
fn reconfiguration_keeps_leases_and_ends_those_outside_the_subnet() {
    let mut bench = Bench::new(|_| {});
    let address = bench.lease(1);
    let mut moved = config();
    moved.pools = vec![(lan(50), lan(60))];
    bench.server.reconfigure(moved, bench.now);
    assert_eq!(bench.active(), [address]);
    assert_eq!(bench.renew(1, address).unwrap().kind(), MessageType::Nak, "no longer in a pool");
    let mut elsewhere = config();
    elsewhere.subnet = "10.9.0.0/24".parse().unwrap();
    elsewhere.address = Ipv4Addr::new(10, 9, 0, 1);
    bench.server.reconfigure(elsewhere, bench.now);
    assert!(bench.active().is_empty());
}

#[test]
fn ds27_messages_for_another_server_and_from_relays_are_not_answered() {
    let mut bench = Bench::new(|_| {});
    bench.deliver(&request(MessageType::Discover, 1, &[]), ZERO, lan(7));
    let mut relayed = request(MessageType::Discover, 2, &[]);
    relayed.set_giaddr(Ipv4Addr::new(10, 9, 0, 1));
    assert!(bench.ask(&relayed).is_none());
    assert!(bench.active().is_empty());
}

#[test]
fn a_slash_16_full_of_leases_loads_and_serves_the_last_address() {
    let wide = |config: &mut ServerConfig| {
        config.subnet = "10.0.0.0/16".parse().unwrap();
        config.pools = vec![(Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 255, 254))];
    };
    let mut config = config();
    wide(&mut config);
    let stored = (2..0xfffe_u32).map(|host| StoredBinding {
        address: Ipv4Addr::from(0x0a00_0000 + host),
        mac: MacAddr([6, 0, 0, 0, (host >> 8) as u8, host as u8]),
        client_id: None,
        name: None,
        duration_secs: Some(3600),
        expires_unix: Some(EPOCH + 3600),
    });
    let mut bench = Bench::new(wide);
    bench.server = Server::new(config, stored, bench.now);
    assert_eq!(bench.active().len(), 65_532);
    assert_eq!(bench.lease(1), Ipv4Addr::new(10, 0, 255, 254));
    assert_eq!(bench.offer(2), None);
}
