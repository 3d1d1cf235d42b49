//! The WAN address goes, comes back and changes, and the power is cut: what becomes of flows and ports, and that
//! nothing ever leaves untranslated (the router is watched in every scenario).

use super::*;

const NEW_POOL: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(198, 51, 100, 70), Ipv4Addr::new(198, 51, 100, 79));

/// From here on the provider leases other addresses, and the router asks.
fn renumber(world: &mut World) -> Ipv4Addr {
    let now = world.now;
    world.provider.renumber(NEW_POOL, now);
    world.router().stack.renew_wan(sim::now(now));
    let moved = world.run_until(secs(300), |world| {
        world.router().wan_address().is_some_and(|address| address >= NEW_POOL.0)
    });
    assert!(moved, "no new address");
    world.router().wan_address().unwrap()
}

fn power_cut(world: &mut World) {
    world.restart_router().unwrap();
    go_online(world);
}

#[test]
fn req6888_8_after_a_power_cut_a_port_is_held_for_the_host_that_had_it() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        let wan = go_online(world);
        let [first, second, third] = [HOME, HOME, GUEST].map(|lan| {
            let host = join(world, lan);
            (host, world.host(host).udp(5000))
        });
        let held = Endpoint::new(wan, 5000);
        assert_eq!(mirrored(world, first), held);
        power_cut(world);
        let now = world.now;
        assert!(world.router().held_ports(now) > 0);
        assert_ne!(mirrored(world, second).port, 5000);
        assert_eq!(mirrored(world, first), held, "its own at once");
        power_cut(world);
        assert_ne!(mirrored(world, third).port, 5000, "after another one");
        world.run_for(secs(121));
        let fresh = join(world, HOME);
        let late = reflection(world, fresh, 5000, &[SERVER])[0].1;
        assert_eq!(late, held, "two minutes later it is anybody's");
    });
}

/// How a host's socket looks to the mirror.
fn mirrored(world: &mut World, (host, socket): (HostId, SocketHandle)) -> Endpoint {
    world.host(host).udp_send(socket, Endpoint::new(SERVER, MIRROR), b"who am I?");
    let mut answer = None;
    world.run_until(secs(2), |world| {
        answer = world.host(host).udp_recv(socket);
        answer.is_some()
    });
    let (_, text) = answer.expect("the line is good");
    let (address, port) = std::str::from_utf8(&text).unwrap().split_once(':').unwrap();
    Endpoint::new(address.parse().unwrap(), port.parse().unwrap())
}

#[test]
fn req6888_8_a_connection_whose_port_was_not_preserved_survives_a_power_cut() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        server(world, OTHER_SERVER);
        go_online(world);
        let (first, second) = (join(world, HOME), join(world, GUEST));
        let to = |server| Endpoint::new(server, ECHO);
        let of_first = world.host(first).tcp_connect(40_000, to(SERVER));
        assert!(echoes(world, first, of_first, b"before"));
        let of_second = world.host(second).tcp_connect(40_000, to(OTHER_SERVER));
        assert!(echoes(world, second, of_second, b"before"));
        power_cut(world);
        assert!(echoes(world, second, of_second, b"after"));
        assert!(echoes(world, first, of_first, b"after"));
    });
}

#[test]
fn req6888_8_under_another_address_after_a_power_cut_nothing_is_held() {
    scenario(CONFIG, |world| {
        server(world, SERVER);
        go_online(world);
        let (first, second) = (join(world, HOME), join(world, HOME));
        reflection(world, first, 5000, &[SERVER]);
        let now = world.now;
        world.provider.renumber(NEW_POOL, now);
        power_cut(world);
        let wan = world.router().wan_address().unwrap();
        assert!(wan >= NEW_POOL.0, "{wan}");
        let seen = reflection(world, second, 5000, &[SERVER])[0].1;
        assert_eq!(seen, Endpoint::new(wan, 5000));
    });
}

#[test]
fn a_new_wan_address_moves_the_flows_bound_to_the_old_one_and_no_others() {
    let reaching = CONFIG.replacen("link = \"lan0\"", "link = \"lan0\"\nreach = [\"guest\"]", 1);
    scenario(&reaching, |world| {
        server(world, SERVER);
        let old = go_online(world);
        let (host, guest) = (join(world, HOME), join(world, GUEST));
        world.host(guest).serve_echo(ECHO);
        let inside = Endpoint::new(world.host(guest).address().unwrap(), ECHO);
        let routed = world.host(host).tcp_connect(40_000, inside);
        assert!(echoes(world, host, routed, b"before"));
        let outside = world.host(host).udp(5000);
        let mirror = Endpoint::new(SERVER, MIRROR);
        world.host(host).udp_send(outside, mirror, b"before");
        world.run_for(secs(1));
        let before = sessions_of(world, host);
        assert_eq!(before.len(), 2);
        let new = renumber(world);
        assert!(echoes(world, host, routed, b"after"));
        world.host(host).udp_send(outside, mirror, b"after");
        world.run_for(secs(1));
        let after = sessions_of(world, host);
        assert_eq!(after.len(), 2, "{after:?}");
        for (was, is) in before.iter().zip(&after) {
            let address = is.external.0.address;
            match was.protocol {
                packet::Protocol::Tcp => assert_eq!((was.id, was.external), (is.id, is.external)),
                _ => assert_eq!((was.external.0.address, address), (old, new)),
            }
        }
        let answers: Vec<_> = std::iter::from_fn(|| world.host(host).udp_recv(outside))
            .map(|(_, text)| text)
            .collect();
        let expected = [old, new].map(|address| format!("{address}:5000").into_bytes());
        assert_eq!(answers, expected);
    });
}

/// A host's sessions, in order of their protocol.
fn sessions_of(world: &mut World, host: HostId) -> Vec<nat::SessionInfo> {
    let (now, address) = (world.now, world.host(host).address().unwrap());
    let mut sessions = world.router().sessions(now);
    sessions.retain(|session| session.internal.0.address == address);
    sessions.sort_by_key(|session| session.protocol as u8);
    sessions
}

/// Hosts that send whatever comes to their mind.
struct Chatter {
    hosts: Vec<(HostId, Vec<SocketHandle>)>,
    state: u64,
}

impl Chatter {
    fn new(world: &mut World) -> Self {
        let hosts = [HOME, HOME, GUEST].map(|lan| {
            let host = join(world, lan);
            (host, [500, 5000, 5001, 60_000].map(|port| world.host(host).udp(port)).into())
        });
        Self { hosts: hosts.into(), state: world.seed.wrapping_mul(2).wrapping_add(1) }
    }

    /// A number below `bound`, from the seed (a linear congruential generator, Knuth's constants).
    fn random(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) as usize % bound
    }

    /// Leaves so much in the shaper that it waits for a second.
    fn fill_the_line(&self, world: &mut World) {
        let (host, sockets) = &self.hosts[0];
        for _ in 0..80 {
            world.host(*host).udp_send(sockets[0], Endpoint::new(SERVER, 9), &data(1400));
        }
        world.run_for(Duration::from_millis(100));
    }

    /// Lets so much time pass, with about thirty bursts of traffic in it.
    fn talk(&mut self, world: &mut World, span: Duration) {
        // Some reach, some do not; the gateway is on the WAN's own link, and the last are the router's addresses.
        let on_line = [1, 50, 70].map(|last| Ipv4Addr::new(198, 51, 100, last));
        let remotes =
            [&[SERVER, OTHER_SERVER, RESOLVER, Ipv4Addr::new(192, 0, 2, 1)], &on_line[..]];
        let remotes = remotes.concat();
        for _ in 0..30 {
            let index = self.random(self.hosts.len());
            let which = self.random(4);
            let (host, socket) = (self.hosts[index].0, self.hosts[index].1[which]);
            let remote = remotes[self.random(remotes.len())];
            let payload = data(self.random(1400));
            match self.random(16) {
                0 => world.host(host).ping(remote, 1),
                1 if world.host(host).address().is_some() => {
                    let port = 40_000 + self.random(1000) as u16;
                    world.host(host).tcp_connect(port, Endpoint::new(remote, ECHO));
                }
                _ => {
                    for _ in 0..self.random(40) {
                        let port = [MIRROR, 9, 53][self.random(3)];
                        world.host(host).udp_send(socket, Endpoint::new(remote, port), &payload);
                    }
                }
            }
            let pause = span.as_millis() as usize / 15;
            world.run_for(Duration::from_millis(self.random(pause) as u64));
        }
    }
}

fn forwarded(world: &mut World) -> u64 {
    let counters = world.router().counters();
    (1..=2).map(|lan| counters.link(packet::LinkId(lan)).forwarded.load()).sum()
}

#[test]
fn no_packet_leaves_untranslated_at_start_at_reload_at_lease_loss_or_change() {
    let slow = "[wan.shaper]\nupload = \"1Mbit/s\"\n";
    let shaped = CONFIG.replacen("[[lan]]", &format!("{slow}\n[[lan]]"), 1);
    let reloaded = shaped.replacen("10.0.1.5:7", "10.0.1.6:7", 1);
    scenario(&shaped, |world| {
        server(world, SERVER);
        server(world, OTHER_SERVER);
        world.line.faults = Faults { loss: 1.0, ..Faults::NONE };
        let mut chatter = Chatter::new(world);
        chatter.talk(world, secs(20));
        assert_eq!((world.router().wan_address(), forwarded(world)), (None, 0), "at start");
        world.line.faults = Faults::NONE;
        go_online(world);
        chatter.talk(world, secs(20));
        assert!(forwarded(world) > 100, "there is traffic");

        for text in [&reloaded, &shaped] {
            let (config, now) = (config::parse("reloaded", text).expect("it is right"), world.now);
            world.router().reconfigure(config, now).unwrap();
            chatter.talk(world, secs(5));
        }

        let now = world.now;
        world.provider.renumber(NEW_POOL, now);
        world.router().stack.renew_wan(sim::now(now));
        chatter.talk(world, secs(20));
        assert!(go_online(world) >= NEW_POOL.0, "changed");
        chatter.talk(world, secs(20));

        world.set_line(LinkCarrier::Down);
        chatter.talk(world, secs(60));
        assert_eq!(world.router().wan_address(), None, "lost");
        world.set_line(LinkCarrier::Up);
        chatter.talk(world, secs(20));

        go_online(world);
        chatter.fill_the_line(world);
        let now = world.now;
        world.router().stack.release_wan(sim::now(now));
        chatter.talk(world, secs(5));
        assert_eq!(world.router().wan_address(), None, "released");
        let now = world.now;
        let lost = world.router().counters().dropped(DropReason::AddressLost);
        assert!(lost > 0, "something waited for the WAN while its address went");
        world.router().stack.renew_wan(sim::now(now));

        chatter.talk(world, secs(5));
        world.restart_router().unwrap();
        chatter.talk(world, secs(20));
        assert!(forwarded(world) > 0);
    });
}
