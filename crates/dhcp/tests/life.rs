//! The client against the server, back to back in virtual time.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::client::{Client, ClientConfig, ClientEvent, ConflictProbe, LostReason, State};
use dhcp::server::{Server, ServerConfig, ServerEvent, StoredBinding};
use dhcp::{Now, StoredLease, client, frame, server};
use packet::{Instant, MacAddr};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const EPOCH: u64 = 1_700_000_000;
const DAY: u64 = 86_400;

fn at(millis: u64) -> Now {
    Now::new(Instant::from_millis(millis), EPOCH + millis / 1000)
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, last])
}

fn server_config() -> ServerConfig {
    let address = Ipv4Addr::new(10, 0, 0, 1);
    let subnet = "10.0.0.0/24".parse().expect("a prefix");
    let mut config = ServerConfig::new("home".into(), MacAddr([2, 0, 0, 0, 0, 1]), address, subnet);
    config.pools = vec![(Ipv4Addr::new(10, 0, 0, 100), Ipv4Addr::new(10, 0, 0, 109))];
    config.lease = Duration::from_secs(12 * 3600);
    config
}

/// One server, some clients, and a wire that may lose frames.
struct Lan {
    millis: u64,
    server: Option<Server>,
    clients: Vec<Client>,
    loss: f64,
    rng: StdRng,
    client_events: Vec<(usize, ClientEvent)>,
    server_events: Vec<ServerEvent>,
    bindings: Vec<StoredBinding>,
    stored: Option<StoredLease>,
}

impl Lan {
    fn new(clients: u8, loss: f64, seed: u64) -> Self {
        let client = |number| {
            let mut config = ClientConfig::new(mac(number));
            config.hostname = Some("host".into());
            Client::new(config, None, StdRng::seed_from_u64(seed ^ u64::from(number)))
        };
        Self {
            millis: 1000,
            server: Some(Server::new(server_config(), [], at(1000))),
            clients: (0..clients).map(client).collect(),
            loss,
            rng: StdRng::seed_from_u64(seed),
            client_events: Vec::new(),
            server_events: Vec::new(),
            bindings: Vec::new(),
            stored: None,
        }
    }

    fn link_up(&mut self) {
        for client in &mut self.clients {
            client.handle_link_up(at(self.millis));
        }
        self.settle();
    }

    /// Carries frames until nobody has anything to say.
    fn settle(&mut self) {
        let now = at(self.millis);
        loop {
            let mut quiet = true;
            let mut buffer = [0; frame::FRAME_MAX];
            for index in 0..self.clients.len() {
                while let Some(record) = self.clients[index].poll_store() {
                    self.stored = match record {
                        client::StoreRecord::Keep(lease) => Some(lease),
                        client::StoreRecord::Forget => None,
                    };
                }
                while let Some(len) = self.clients[index].poll_transmit(&mut buffer) {
                    quiet = false;
                    if self.rng.random_bool(self.loss) {
                        continue;
                    }
                    if let Some(server) = &mut self.server {
                        server.handle_frame(&buffer[..len], now);
                    }
                }
                while let Some(event) = self.clients[index].poll_event() {
                    self.client_events.push((index, event));
                }
            }
            quiet &= !self.settle_server(now);
            if quiet {
                return;
            }
        }
    }

    fn settle_server(&mut self, now: Now) -> bool {
        let mut spoke = false;
        let mut buffer = [0; frame::FRAME_MAX];
        let Some(server) = &mut self.server else { return false };
        while let Some(record) = server.poll_store() {
            match record {
                server::StoreRecord::Binding(binding) => {
                    self.bindings.retain(|other| other.address != binding.address);
                    self.bindings.push(binding);
                }
                server::StoreRecord::Forget(address) => {
                    self.bindings.retain(|other| other.address != address);
                }
                other => panic!("no reservations here: {other:?}"),
            }
        }
        while let Some(event) = server.poll_event() {
            self.server_events.push(event);
        }
        while let Some(len) = server.poll_transmit(&mut buffer) {
            spoke = true;
            if self.rng.random_bool(self.loss) {
                continue;
            }
            for client in &mut self.clients {
                client.handle_frame(&buffer[..len], now);
            }
        }
        spoke
    }

    /// Turns the clock, stopping at every deadline.
    fn run_until(&mut self, millis: u64) {
        loop {
            let mut next = self.server.as_ref().and_then(Server::poll_timeout);
            for client in &self.clients {
                next = Instant::earliest(next, client.poll_timeout());
            }
            let next = next.map_or(u64::MAX, |at| at.as_nanos().div_ceil(1_000_000));
            if next > millis {
                break;
            }
            self.millis = self.millis.max(next);
            let now = at(self.millis);
            if let Some(server) = &mut self.server {
                server.handle_timeout(now);
            }
            for client in &mut self.clients {
                client.handle_timeout(now);
            }
            self.settle();
        }
        self.millis = millis;
    }

    fn count(&self, wanted: fn(&ClientEvent) -> bool) -> usize {
        self.client_events.iter().filter(|(_, event)| wanted(event)).count()
    }
}

fn is_obtained(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::Obtained(_))
}

fn is_lost(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::Lost { .. })
}

#[test]
fn a_lease_lives_for_three_days_of_renewals_without_a_change() {
    let mut lan = Lan::new(1, 0.0, 1);
    lan.link_up();
    lan.run_until(3 * DAY * 1000);
    assert_eq!(lan.count(is_obtained), 1);
    assert_eq!(lan.count(|event| matches!(event, ClientEvent::Changed { .. })), 0);
    // T1 at about six hours: twelve renewals, or one less or more by fuzz.
    let renewals = lan.count(|event| matches!(event, ClientEvent::Renewed(_)));
    assert!((10..=13).contains(&renewals), "{renewals} renewals");
    assert_eq!(lan.clients[0].state(), State::Bound);
    assert_eq!(lan.server_events.len(), 1, "one host, which appeared: {:?}", lan.server_events);
}

#[test]
fn a_lossy_wire_delays_but_never_loses_the_lease() {
    for seed in 0..20 {
        let mut lan = Lan::new(3, 0.3, seed);
        lan.link_up();
        lan.run_until(3 * DAY * 1000);
        for client in &lan.clients {
            assert!(client.lease().is_some(), "seed {seed}: {:?}", client.state());
        }
        assert_eq!(lan.count(is_lost), 0, "seed {seed}");
    }
}

#[test]
fn the_first_lease_takes_less_than_a_second() {
    let mut lan = Lan::new(1, 0.0, 1);
    lan.link_up();
    lan.run_until(2000);
    assert_eq!(lan.clients[0].state(), State::Bound);
}

#[test]
fn dc10_without_a_server_the_lease_ends_on_time_and_comes_back_with_the_same_address() {
    let mut lan = Lan::new(1, 0.0, 1);
    lan.link_up();
    lan.run_until(5000);
    let lease = lan.clients[0].lease().unwrap().clone();
    let server = lan.server.take();
    lan.run_until(lease.expires_at.as_millis() - 1);
    assert_eq!(lan.clients[0].state(), State::Rebinding);
    assert!(lan.clients[0].lease().is_some());
    lan.run_until(lease.expires_at.as_millis() + 1);
    assert!(lan.clients[0].lease().is_none());
    let lost = lan
        .client_events
        .iter()
        .any(|(_, event)| matches!(event, ClientEvent::Lost { reason: LostReason::Expired, .. }));
    assert!(lost);
    lan.server = server;
    lan.run_until(lan.millis + 200_000);
    assert_eq!(lan.clients[0].lease().unwrap().address(), lease.address());
}

#[test]
fn dc9_ds14_after_both_restart_the_client_reboots_into_the_same_lease() {
    let mut lan = Lan::new(1, 0.0, 1);
    lan.link_up();
    lan.run_until(5000);
    let address = lan.clients[0].lease().unwrap().address();
    lan.millis += 3_600_000;
    let now = at(lan.millis);
    lan.server = Some(Server::new(server_config(), lan.bindings.clone(), now));
    let config = ClientConfig::new(mac(0));
    lan.clients[0] = Client::new(config, lan.stored.clone(), StdRng::seed_from_u64(9));
    lan.client_events.clear();
    lan.link_up();
    assert!(
        !lan.client_events
            .iter()
            .any(|(_, event)| { matches!(event, ClientEvent::StateChanged(State::Selecting)) })
    );
    lan.run_until(lan.millis + 1000);
    assert_eq!(lan.clients[0].lease().unwrap().address(), address);
}

#[test]
fn dc13_release_gives_the_address_back_and_renew_asks_again() {
    let mut lan = Lan::new(1, 0.0, 1);
    lan.link_up();
    lan.run_until(5000);
    let address = lan.clients[0].lease().unwrap().address();
    lan.clients[0].release(at(lan.millis));
    lan.settle();
    assert!(lan.clients[0].lease().is_none());
    assert!(lan.stored.is_none());
    assert!(matches!(lan.server_events.last(), Some(ServerEvent::HostLeft(_))));
    lan.run_until(lan.millis + DAY * 1000);
    assert_eq!(lan.clients[0].state(), State::Released, "released stays released");
    lan.clients[0].renew(at(lan.millis));
    lan.settle();
    lan.run_until(lan.millis + 2000);
    assert_eq!(lan.clients[0].lease().unwrap().address(), address, "DS12: remembered");
}

#[test]
fn ds2_dc4_an_address_answered_for_by_a_stranger_is_never_leased() {
    let mut lan = Lan::new(1, 0.0, 1);
    let stranger = MacAddr([2, 9, 9, 9, 9, 9]);
    let taken = Ipv4Addr::new(10, 0, 0, 100);
    lan.link_up();
    let now = at(lan.millis + 50);
    lan.server.as_mut().unwrap().handle_arp(taken, stranger, now);
    lan.settle();
    lan.run_until(5000);
    assert_eq!(lan.clients[0].lease().unwrap().address(), Ipv4Addr::new(10, 0, 0, 101));
}

#[test]
fn more_clients_than_addresses_leave_the_rest_without_and_tell_once() {
    let mut lan = Lan::new(14, 0.0, 1);
    lan.link_up();
    lan.run_until(120_000);
    let leased = lan.clients.iter().filter(|client| client.lease().is_some()).count();
    assert_eq!(leased, 10);
    let exhausted = |event: &&ServerEvent| matches!(event, ServerEvent::PoolExhausted { .. });
    assert_eq!(lan.server_events.iter().filter(exhausted).count(), 1);
}

/// What may happen to a LAN.
#[derive(Clone, Debug)]
enum Step {
    Wait(u32),
    LinkDown(u8),
    LinkUp(u8),
    Renew(u8),
    Release(u8),
    RestartServer,
    Conflict(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..50_000).prop_map(Step::Wait),
        1 => (0u8..6).prop_map(Step::LinkDown),
        2 => (0u8..6).prop_map(Step::LinkUp),
        1 => (0u8..6).prop_map(Step::Renew),
        1 => (0u8..6).prop_map(Step::Release),
        1 => Just(Step::RestartServer),
        1 => (100u8..110).prop_map(Step::Conflict),
    ]
}

fn apply(lan: &mut Lan, step: &Step) {
    let now = at(lan.millis);
    match *step {
        Step::Wait(secs) => lan.run_until(lan.millis + u64::from(secs) * 1000),
        Step::LinkDown(index) => lan.clients[usize::from(index)].handle_link_down(now),
        Step::LinkUp(index) => lan.clients[usize::from(index)].handle_link_up(now),
        Step::Renew(index) => lan.clients[usize::from(index)].renew(now),
        Step::Release(index) => lan.clients[usize::from(index)].release(now),
        Step::RestartServer => {
            lan.server = Some(Server::new(server_config(), lan.bindings.clone(), now));
        }
        Step::Conflict(last) => {
            let address = Ipv4Addr::new(10, 0, 0, last);
            lan.server.as_mut().expect("never taken away").handle_arp(address, mac(250), now);
        }
    }
    lan.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_leased_to_two_clients(
        steps in proptest::collection::vec(step(), 1..40),
        loss in 0.0f64..0.5,
        seed in any::<u64>(),
    ) {
        let mut lan = Lan::new(6, loss, seed);
        lan.link_up();
        for step in &steps {
            apply(&mut lan, step);
            let mut addresses: Vec<Ipv4Addr> =
                lan.clients.iter().filter_map(|client| client.lease()).map(|l| l.address()).collect();
            let count = addresses.len();
            addresses.sort_unstable();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), count, "two clients with one address");
        }
    }
}

#[test]
fn clients_that_trust_the_server_skip_the_probe() {
    let mut lan = Lan::new(1, 0.0, 1);
    let mut config = ClientConfig::new(mac(0));
    config.conflict_probe = ConflictProbe::OFF;
    lan.clients[0] = Client::new(config, None, StdRng::seed_from_u64(1));
    lan.link_up();
    lan.run_until(5000);
    let probed = lan
        .client_events
        .iter()
        .any(|(_, event)| matches!(event, ClientEvent::StateChanged(State::Probing)));
    assert!(!probed && lan.clients[0].lease().is_some());
}
