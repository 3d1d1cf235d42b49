//! A house in virtual time: the whole router but its links and threads, hosts and remote hosts with a stack
//! that is not ours, and cables that lose, double, reorder and damage. Hours pass in a moment.
//!
//! Each scenario runs for several seeds; when one fails, its seed is printed, and gives the same history again.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::Ipv4Addr;
use std::time::Duration;

use packet::{DropReason, Endpoint};
use sim::{Address, Faults, HostId, LinkCarrier, SocketHandle, World};

#[path = "scenarios/wan_address.rs"]
mod wan_address;

const SEEDS: u64 = 4;

const HOME: u8 = 0;
const GUEST: u8 = 1;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 5);
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
const ECHO: u16 = 7;
const MIRROR: u16 = 3478;

const CONFIG: &str = r#"
[wan]
link = "wan0"

[[lan]]
name = "home"
link = "lan0"
address = "10.0.1.1/24"
[lan.dhcp]
pool = "10.0.1.100-10.0.1.199"
lease = "1h"

[[lan]]
name = "guest"
link = "lan1"
address = "10.0.2.1/24"
[lan.dhcp]
pool = "10.0.2.100-10.0.2.199"

[dns]
upstream = ["203.0.113.53"]

[[forward]]
protocol = "tcp"
port = 8080
to = "10.0.1.5:7"
"#;

const SHAPER: &str = "[wan.shaper]\nupload = \"4Mbit/s\"\ndownload = \"8Mbit/s\"\n";

const BAD_LINE: Faults =
    Faults { loss: 0.05, duplication: 0.03, reordering: 0.05, corruption: 0.01 };

/// Says which seed it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the scenario failed with seed {}", self.0);
        }
    }
}

/// Runs a scenario for each seed; whatever it does, every frame has one verdict, every buffer comes home, and nothing
/// leaves the WAN but under the address that it has at that moment.
fn scenario(config: &str, body: impl Fn(&mut World)) {
    for seed in 0..SEEDS {
        let _named_on_failure = Seed(seed);
        let config = config::parse("the scenario's", config).expect("it is right");
        let mut world = World::new(config, seed).unwrap();
        body(&mut world);
        assert_eq!(world.violation(), None);
        assert_eq!(world.provider.strangers, Vec::<Ipv4Addr>::new());
    }
}

/// Waits for the WAN's lease.
fn go_online(world: &mut World) -> Ipv4Addr {
    let online = world.run_until(secs(300), |world| world.router().wan_address().is_some());
    assert!(online, "no WAN lease");
    world.router().wan_address().unwrap()
}

/// Adds a host and waits for its lease.
fn join(world: &mut World, lan: u8) -> HostId {
    let host = world.add_host(lan, Address::Dhcp);
    assert!(world.run_until(secs(300), |world| world.host(host).address().is_some()), "no lease");
    host
}

fn web_server(world: &mut World) -> HostId {
    let net = ipnet(WEB, 24);
    let web = world.add_host(HOME, Address::Static(net, Ipv4Addr::new(10, 0, 1, 1)));
    world.host(web).serve_echo(ECHO);
    web
}

fn server(world: &mut World, address: Ipv4Addr) -> HostId {
    let server = world.add_remote(address);
    world.host(server).serve_echo(ECHO);
    world.host(server).serve_mirror(MIRROR);
    server
}

/// What `host` asks a mirror: how it looks from there.
fn reflection(
    world: &mut World,
    host: HostId,
    port: u16,
    mirrors: &[Ipv4Addr],
) -> Vec<(Endpoint, Endpoint)> {
    let socket = world.host(host).udp(port);
    let mut seen = Vec::new();
    for mirror in mirrors {
        let mirror = Endpoint::new(*mirror, MIRROR);
        let mut answer = None;
        for _ in 0..20 {
            world.host(host).udp_send(socket, mirror, b"who am I?");
            let answered = world.run_until(secs(1), |world| {
                answer = world.host(host).udp_recv(socket).or(answer.take());
                answer.is_some()
            });
            if answered {
                break;
            }
        }
        let (from, text) = answer.expect("the mirror answers one of twenty");
        let (address, port) = std::str::from_utf8(&text).unwrap().split_once(':').unwrap();
        seen.push((from, Endpoint::new(address.parse().unwrap(), port.parse().unwrap())));
    }
    seen
}

/// Sends `data` to an echo service and waits until it is back; says how long that took.
fn exchange(
    world: &mut World,
    host: HostId,
    from: u16,
    to: Endpoint,
    data: &[u8],
) -> Option<Duration> {
    let started = world.now;
    let socket = world.host(host).tcp_connect(from, to);
    let (mut sent, mut back) = (0, Vec::new());
    let whole = world.run_until(secs(600), |world| {
        let host = world.host(host);
        sent += host.tcp_send(socket, &data[sent..]);
        back.extend(host.tcp_recv(socket));
        back.len() >= data.len()
    });
    assert!(
        back.starts_with(&data[..back.len().min(data.len())]),
        "what came back is not what went"
    );
    world.host(host).tcp_close(socket);
    world.run_for(secs(1));
    whole.then(|| world.now - started)
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 / 7) as u8).collect()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ipnet(address: Ipv4Addr, prefix_len: u8) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new(address, prefix_len).unwrap()
}

#[test]
fn a_host_plugged_in_reaches_the_internet() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        let wan = go_online(world);
        let host = join(world, HOME);
        let address = world.host(host).address().unwrap();
        assert!(ipnet(WEB, 24).contains(&address));
        assert_eq!(world.host(host).dns_servers(), [Ipv4Addr::new(10, 0, 1, 1)]);
        world.host(host).ping(SERVER, 1);
        assert!(world.run_until(secs(2), |world| !world.host(host).pongs().is_empty()));
        let seen = reflection(world, host, 5000, &[SERVER]);
        assert_eq!(seen[0].1, Endpoint::new(wan, 5000));
        assert!(
            exchange(world, host, 40_000, Endpoint::new(SERVER, ECHO), &data(200_000)).is_some()
        );
    });
}

#[test]
fn req1_two_servers_see_one_external_endpoint() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        server(world, OTHER_SERVER);
        go_online(world);
        let (first, second) = (join(world, HOME), join(world, GUEST));
        let of_first = reflection(world, first, 5000, &[SERVER, OTHER_SERVER]);
        let of_second = reflection(world, second, 5000, &[SERVER, OTHER_SERVER]);
        assert_eq!(of_first[0].1, of_first[1].1);
        assert_eq!(of_second[0].1, of_second[1].1);
        assert_ne!(of_first[0].1, of_second[0].1);
    });
}

#[test]
fn a_rule_with_a_schedule_closes_and_opens_the_internet_by_the_clock() {
    // The simulated world begins on a Tuesday at 22:13:20 UTC.
    let curfew = "[policy]\nutc_offset = \"+01:00\"\n[[policy.rule]]\naction = \"refuse\"\n\
                  from = \"home\"\nto = \"wan\"\nschedule = \"tue 23:30-24:00\"\n";
    scenario(&format!("{CONFIG}{curfew}"), |world| {
        server(world, SERVER);
        go_online(world);
        let (home, guest) = (join(world, HOME), join(world, GUEST));
        let at = |world: &mut World, minutes: u64| {
            let until = sim::START + secs(minutes * 60);
            world.run_for(until.saturating_since(world.now));
            let sequence = minutes as u16;
            [home, guest].map(|host| {
                world.host(host).ping(SERVER, sequence);
                world.run_for(secs(2));
                world.host(host).pongs().contains(&(SERVER, sequence))
            })
        };
        assert_eq!(at(world, 16), [true, true]);
        assert_eq!(at(world, 17), [false, true]);
        assert_eq!(at(world, 46), [false, true]);
        assert_eq!(at(world, 47), [true, true]);
    });
}

#[test]
fn everything_works_over_a_bad_line_and_a_bad_lan() {
    scenario(CONFIG, |world| {
        world.line.faults = BAD_LINE;
        world.lans[0].faults = BAD_LINE;
        server(world, SERVER);
        server(world, OTHER_SERVER);
        go_online(world);
        let host = join(world, HOME);
        let seen = reflection(world, host, 5000, &[SERVER, OTHER_SERVER]);
        assert_eq!(seen[0].1, seen[1].1);
        let took = exchange(world, host, 40_000, Endpoint::new(SERVER, ECHO), &data(50_000));
        assert!(took.is_some(), "TCP gets through");
        assert!(world.line.lost > 0);
    });
}

#[test]
fn a_forward_is_reached_from_outside_and_from_inside() {
    scenario(CONFIG, |world| {
        let remote = world.add_remote(SERVER);
        web_server(world);
        let wan = go_online(world);
        let host = join(world, HOME);
        let web = Endpoint::new(wan, 8080);
        assert!(exchange(world, remote, 40_000, web, &data(20_000)).is_some(), "from outside");
        assert!(exchange(world, host, 40_000, web, &data(20_000)).is_some(), "from inside");
        let guest = join(world, GUEST);
        assert!(exchange(world, guest, 40_000, web, &data(20_000)).is_some(), "from another LAN");
    });
}

#[test]
fn a_stranger_outside_gets_nothing() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        let stranger = server(world, OTHER_SERVER);
        let wan = go_online(world);
        let host = join(world, HOME);
        let external = reflection(world, host, 5000, &[SERVER])[0].1;
        let socket = world.host(stranger).udp(9);
        for port in [external.port, 22, 53, 67, 5001] {
            world.host(stranger).udp_send(socket, Endpoint::new(wan, port), b"let me in");
        }
        world.run_for(secs(2));
        assert!(world.host(stranger).udp_recv(socket).is_none());
        let counters = world.router().counters();
        assert_eq!(counters.dropped(DropReason::FilterDenied), 1);
        assert_eq!(counters.dropped(DropReason::NoMapping), 4);
        world.host(stranger).ping(wan, 1);
        assert!(world.run_until(secs(1), |world| !world.host(stranger).pongs().is_empty()));
    });
}

#[test]
fn guests_do_not_reach_the_home() {
    scenario(CONFIG, |world| {
        web_server(world);
        server(world, SERVER);
        go_online(world);
        let guest = join(world, GUEST);
        let home = join(world, HOME);
        for host in [guest, home] {
            world.host(host).ping(WEB, 1);
        }
        world.run_for(secs(3));
        assert!(world.host(guest).pongs().is_empty());
        assert!(!world.host(home).pongs().is_empty());
        let socket = world.host(guest).tcp_connect(41_000, Endpoint::new(WEB, ECHO));
        assert!(!echoes(world, guest, socket, b"anyone?"));
        let connected = exchange(world, home, 41_000, Endpoint::new(SERVER, ECHO), b"anyone?");
        assert!(connected.is_some(), "the same from home to the Internet works");
    });
}

#[test]
fn a_connection_survives_a_line_that_was_pulled() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        let wan = go_online(world);
        let host = join(world, HOME);
        let socket = world.host(host).tcp_connect(40_000, Endpoint::new(SERVER, ECHO));
        assert!(echoes(world, host, socket, b"before"));
        world.set_line(LinkCarrier::Down);
        world.run_for(secs(20));
        world.set_line(LinkCarrier::Up);
        assert!(world.run_until(secs(60), |w| w.router().wan_address() == Some(wan)));
        assert!(echoes(world, host, socket, b"after"));
    });
}

fn echoes(world: &mut World, host: HostId, socket: SocketHandle, text: &[u8]) -> bool {
    let (mut sent, mut back) = (0, Vec::new());
    world.run_until(secs(120), |world| {
        let host = world.host(host);
        sent += host.tcp_send(socket, &text[sent..]);
        back.extend(host.tcp_recv(socket));
        back == text
    })
}

#[test]
fn a_connection_survives_a_power_cut_of_the_router() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        let wan = go_online(world);
        let host = join(world, HOME);
        let address = world.host(host).address();
        let socket = world.host(host).tcp_connect(40_000, Endpoint::new(SERVER, ECHO));
        assert!(echoes(world, host, socket, b"before"));
        world.restart_router().unwrap();
        assert_eq!(world.router().sessions(sim::START).len(), 0);
        assert!(world.run_until(secs(60), |w| w.router().wan_address() == Some(wan)));
        assert!(echoes(world, host, socket, b"after"));
        assert_eq!(world.host(host).address(), address);
        let next = join(world, HOME);
        assert_ne!(world.host(next).address(), address, "leases are remembered");
    });
}

#[test]
fn a_new_wan_address_is_taken_and_old_flows_move_to_it() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        let old = go_online(world);
        let host = join(world, HOME);
        let before = reflection(world, host, 5000, &[SERVER])[0].1;
        assert_eq!(before.address, old);
        let pool = [70, 79].map(|last| Ipv4Addr::new(198, 51, 100, last));
        let now = world.now;
        world.provider.renumber((pool[0], pool[1]), now);
        let moved = world.run_until(secs(7200), |world| {
            world.router().wan_address().is_some_and(|address| pool[0] <= address)
        });
        assert!(moved, "the renewal was refused, and another address obtained");
        let new = world.router().wan_address().unwrap();
        let after = reflection(world, host, 5001, &[SERVER])[0].1;
        assert_eq!(after.address, new);
    });
}

#[test]
fn a_flow_that_is_alive_while_the_wan_address_changes_moves_at_its_next_packet() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        go_online(world);
        let host = join(world, HOME);
        let socket = world.host(host).udp(5000);
        let mirror = Endpoint::new(SERVER, MIRROR);
        let pool = (Ipv4Addr::new(198, 51, 100, 70), Ipv4Addr::new(198, 51, 100, 79));
        let now = world.now;
        world.provider.renumber(pool, now);
        let mut last = None;
        for _ in 0..240 {
            world.host(host).udp_send(socket, mirror, b"still me");
            world.run_for(secs(30));
            last = world.host(host).udp_recv(socket).or(last);
        }
        let (_, text) = last.unwrap();
        let expected = format!("{}:5000", world.router().wan_address().unwrap());
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert!(expected.starts_with("198.51.100.7"), "{expected}");
    });
}

#[test]
fn a_dead_line_ends_the_lease_and_hosts_are_told_until_it_is_back() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        go_online(world);
        let host = join(world, HOME);
        world.line.faults = Faults { loss: 1.0, ..Faults::NONE };
        assert!(
            world.run_until(secs(2 * 3600), |world| world.router().wan_address().is_none()),
            "the lease ends"
        );
        let before = world.router().counters().link(packet::LinkId(1)).replied.load();
        world.host(host).ping(SERVER, 1);
        world.run_for(secs(1));
        assert!(world.router().counters().link(packet::LinkId(1)).replied.load() > before);
        assert!(world.host(host).pongs().is_empty());
        world.line.faults = Faults::NONE;
        go_online(world);
        world.host(host).ping(SERVER, 2);
        assert!(world.run_until(secs(5), |world| world.host(host).pongs() == [(SERVER, 2)]));
    });
}

#[test]
fn a_silent_flow_is_forgotten_and_an_idle_connection_is_not() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        go_online(world);
        let host = join(world, HOME);
        reflection(world, host, 5000, &[SERVER]);
        let socket = world.host(host).tcp_connect(40_000, Endpoint::new(SERVER, ECHO));
        assert!(echoes(world, host, socket, b"before"));
        world.run_for(secs(2 * 3600));
        let now = world.now;
        let sessions = world.router().sessions(now);
        let is_old = |protocol| sessions.iter().filter(|s| s.protocol == protocol).count();
        assert_eq!((is_old(packet::Protocol::Udp), is_old(packet::Protocol::Tcp)), (0, 1));
        assert!(echoes(world, host, socket, b"after two hours"));
    });
}

#[test]
fn a_ping_is_quick_while_an_upload_fills_the_shaped_line() {
    let shaped = CONFIG.replacen("[[lan]]", &format!("{SHAPER}\n[[lan]]"), 1);
    scenario(&shaped, |world| {
        server(world, SERVER);
        go_online(world);
        let host = join(world, HOME);
        let (uploader, bulk) = (join(world, HOME), data(1_500_000));
        let socket = world.host(uploader).tcp_connect(40_000, Endpoint::new(SERVER, ECHO));
        let (mut sent, mut back) = (0, 0);
        let mut pings: Vec<Duration> = Vec::new();
        let (started, mut pinged, mut answered) = (world.now, world.now, 0);
        let done = world.run_until(secs(60), |world| {
            let now = world.now;
            let sender = world.host(uploader);
            sent += sender.tcp_send(socket, &bulk[sent..]);
            back += sender.tcp_recv(socket).len();
            let pinger = world.host(host);
            if pinger.pongs().len() > answered {
                answered = pinger.pongs().len();
                pings.push(now - pinged);
            }
            if answered == pings.len() && now - pinged > Duration::from_millis(100) {
                pinger.ping(SERVER, pings.len() as u16);
                pinged = now;
            }
            back >= bulk.len()
        });
        let took = world.now - started;
        assert!(done && took > secs(3) && took < secs(5), "1.5 MB at 4 Mbit/s took {took:?}");
        pings.sort();
        let (count, median) = (pings.len(), pings[pings.len() / 2]);
        assert!(count > 20 && median < Duration::from_millis(45), "{count}, median {median:?}");
    });
}

#[test]
fn names_are_resolved_through_the_router() {
    scenario(CONFIG, |world| {
        world.line.faults = Faults { loss: 0.2, ..Faults::NONE };
        let resolver = world.add_remote(RESOLVER);
        let service = world.host(resolver).udp(53);
        go_online(world);
        let host = join(world, HOME);
        let socket = world.host(host).udp(5000);
        let router = Endpoint::new(world.host(host).dns_servers()[0], 53);
        let mut answers = Vec::new();
        for _ in 0..10 {
            world.host(host).udp_send(socket, router, &question());
            world.run_until(secs(5), |world| {
                while let Some((from, query)) = world.host(resolver).udp_recv(service) {
                    world.host(resolver).udp_send(service, from, &reply(&query));
                }
                let answer = world.host(host).udp_recv(socket);
                answers.extend(answer.clone());
                answer.is_some()
            });
        }
        // When every try of a question is lost, the host is told to ask again.
        let holds = |message: &[u8]| message.windows(4).any(|window| window == SERVER.octets());
        assert!(answers.iter().any(|(from, message)| *from == router && holds(message)));
    });
}

/// example.net, type A, with recursion desired.
fn question() -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x07example\x03net\x00\x00\x01\x00\x01");
    message
}

/// The answer to a question for one name: the server's address.
fn reply(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let name = query[HEADER..].iter().position(|octet| *octet == 0).unwrap();
    let mut message = query[..HEADER + name + 5].to_vec();
    message[2] |= 0x80;
    message[3] = 0x80;
    message[6..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
    message.extend(SERVER.octets());
    message
}

const FURTHER: &str = r#"
[[nat.static]]
external = "198.51.100.40"
internal = "10.0.1.5"
inbound = true
"#;

#[test]
fn req2_further_wan_addresses_carry_hosts_in_pairs_and_one_of_them_belongs_to_a_server() {
    let link = "link = \"wan0\"\naddresses = [\"198.51.100.30-198.51.100.37\"]\n";
    let config = CONFIG.replace("link = \"wan0\"\n", link) + FURTHER;
    let alone = Ipv4Addr::new(198, 51, 100, 40);
    scenario(&config, |world| {
        server(world, SERVER);
        server(world, OTHER_SERVER);
        let remote = world.add_remote(Ipv4Addr::new(203, 0, 113, 9));
        let web = web_server(world);
        let wan = go_online(world);
        let hosts = [join(world, HOME), join(world, HOME), join(world, GUEST)];
        let mut used = std::collections::BTreeSet::new();
        for host in hosts {
            let seen = reflection(world, host, 5000, &[SERVER, OTHER_SERVER]);
            assert_eq!(seen[0].1, seen[1].1, "one mapping for all servers");
            let again = reflection(world, host, 6000, &[SERVER]);
            assert_eq!(again[0].1.address, seen[0].1.address, "one address for all flows");
            let last = seen[0].1.address.octets()[3];
            assert!(seen[0].1.address == wan || (30..=37).contains(&last));
            used.insert(seen[0].1.address);
        }
        assert!(used.len() > 1, "{used:?}");
        // The gateway asks the line for the address of one host, and finds the router there.
        let own = Endpoint::new(alone, ECHO);
        assert!(exchange(world, remote, 40_000, own, &data(5_000)).is_some(), "from outside");
        assert!(exchange(world, hosts[0], 40_000, own, &data(5_000)).is_some(), "from inside");
        let seen = reflection(world, web, 5000, &[SERVER]);
        assert_eq!(seen[0].1, Endpoint::new(alone, 5000));
    });
}

#[test]
fn req7_a_wan_lease_that_equals_a_lan_subnet_leaves_every_host_online() {
    // The servers of these scenarios have addresses that such a WAN would not carry.
    let config = CONFIG.replace("[wan]\n", "[wan]\nbogons = \"pass\"\n");
    scenario(&config, |world| {
        let net = ipnet(Ipv4Addr::new(10, 0, 1, 1), 24);
        let pool = [100, 109].map(|last| Ipv4Addr::new(10, 0, 1, last));
        let now = world.now;
        world.provider = sim::Provider::new(net, (pool[0], pool[1]), secs(3600), now);
        server(world, SERVER);
        let wan = go_online(world);
        let hosts = [join(world, HOME), join(world, HOME), join(world, GUEST)];
        for host in hosts {
            let seen = reflection(world, host, 5000, &[SERVER]);
            assert_eq!(seen[0].1.address, wan);
        }
    });
}
