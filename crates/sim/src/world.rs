//! Everything together, from event to event.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use config::Config;
use ipnet::Ipv4Net;
use local_stack::LinkCarrier;
use packet::header::{destination_mac, ethernet};
use packet::{Instant, LinkId, MacAddr};

use crate::provider::Sent;
use crate::{Address, Cable, Host, Provider, Router, START};

/// One way through the house.
const LAN_DELAY: Duration = Duration::from_micros(200);

/// One way over the line.
const LINE_DELAY: Duration = Duration::from_millis(5);

/// One way through the Internet.
const INTERNET_DELAY: Duration = Duration::from_millis(10);

/// The router does its upkeep at least this often.
const UPKEEP: Duration = Duration::from_millis(500);

/// A stack that wants to run again at once is run again after this long, so that time goes on.
const STEP_MIN: Duration = Duration::from_micros(100);

/// The provider's gateway, and what it leases.
const LINE: &str = "198.51.100.1/24";
const POOL: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(198, 51, 100, 50), Ipv4Addr::new(198, 51, 100, 59));
const LINE_LEASE: Duration = Duration::from_secs(3600);

/// A host of a [`World`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostId(usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Lan(LinkId),
    Internet,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Router(LinkId),
    Host(usize),
    Provider,
    /// The Internet's way to the provider.
    Line,
}

struct Delivery {
    to: Node,
    frame: Vec<u8>,
}

/// A house, its line, and the Internet.
pub struct World {
    /// Virtual time.
    pub now: Instant,
    /// What the history follows from; tests name it when they fail.
    pub seed: u64,
    /// The line to the provider.
    pub line: Cable,
    /// The cables of the LANs, in order.
    pub lans: Vec<Cable>,
    /// The operator's end of the line.
    pub provider: Provider,
    router: Option<Router>,
    hosts: Vec<(Place, Host)>,
    queue: BTreeMap<(Instant, u64), Delivery>,
    sequence: u64,
    upkeep: Instant,
}

impl World {
    /// Starts a router with this configuration, and a provider at the other end of its WAN.
    ///
    /// # Errors
    /// If the configuration can't be put in force.
    ///
    /// # Panics
    /// Never: the addresses of the line are well-formed.
    pub fn new(config: Config, seed: u64) -> Result<Self> {
        let now = START;
        let lans =
            (1..=config.lans.len() as u64).map(|lan| Cable::new(LAN_DELAY, seed ^ lan << 32));
        let lans = lans.collect();
        let line: Ipv4Net = LINE.parse().expect("an address and a prefix length");
        let router = Router::new(config, seed, now)?;
        let mut world = Self {
            now,
            seed,
            line: Cable::new(LINE_DELAY, seed),
            lans,
            provider: Provider::new(line, POOL, LINE_LEASE, now),
            router: Some(router),
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            upkeep: now + UPKEEP,
        };
        world.collect();
        Ok(world)
    }

    /// The router.
    ///
    /// # Panics
    /// Never: it is only away while it restarts.
    pub fn router(&mut self) -> &mut Router {
        self.router.as_mut().expect("the router is only away while it restarts")
    }

    /// A host, to act as it. What it is told to send leaves when time goes on.
    pub fn host(&mut self, id: HostId) -> &mut Host {
        &mut self.hosts[id.0].1
    }

    /// Adds a host to a LAN; the first is 0.
    pub fn add_host(&mut self, lan: u8, address: Address) -> HostId {
        self.add(Place::Lan(LinkId(lan + 1)), address)
    }

    /// Adds a host to the Internet.
    pub fn add_remote(&mut self, address: Ipv4Addr) -> HostId {
        self.add(Place::Internet, Address::Remote(address))
    }

    fn add(&mut self, place: Place, address: Address) -> HostId {
        let index = self.hosts.len();
        let mac = MacAddr([6, 0, 0, 0, 0, index as u8]);
        let seed = self.seed.wrapping_add(1 + index as u64);
        self.hosts.push((place, Host::new(mac, address, seed, self.now)));
        HostId(index)
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.run(end, |_| false);
    }

    /// Lets time pass until something holds, at most so much; says whether it does.
    pub fn run_until(&mut self, limit: Duration, holds: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        self.run(end, holds)
    }

    /// Cuts the router's power and starts it again.
    ///
    /// # Errors
    /// If the configuration can no longer be put in force.
    pub fn restart_router(&mut self) -> Result<()> {
        if let Some(router) = self.router.take() {
            self.router = Some(router.restart(self.now)?);
        }
        self.collect();
        Ok(())
    }

    /// Pulls the line or plugs it in; the router notices, as its link does.
    pub fn set_line(&mut self, carrier: LinkCarrier) {
        self.line.plugged = matches!(carrier, LinkCarrier::Up);
        let now = self.now;
        self.router().set_wan_link(carrier, now);
        self.collect();
    }

    /// Says what does not add up in the router.
    #[must_use]
    pub fn violation(&mut self) -> Option<String> {
        let now = self.now;
        self.router().violation(now)
    }

    fn run(&mut self, end: Instant, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        self.poll_hosts();
        loop {
            if holds(self) {
                return true;
            }
            // What the condition did to hosts is to be sent as well.
            self.poll_hosts();
            let next = self.next_event();
            if next > end {
                self.now = end;
                return holds(self);
            }
            self.now = next;
            self.deliver();
            self.handle_timeouts();
        }
    }

    fn next_event(&mut self) -> Instant {
        let (now, upkeep) = (self.now, self.upkeep);
        let stacks = self.hosts.iter_mut().filter_map(|(_, host)| host.poll_timeout(now)).min();
        let machines = Instant::earliest(stacks, self.provider.poll_timeout());
        let machines = Instant::earliest(machines, self.router().poll_timeout(now));
        let machines = machines.map_or(upkeep, |due| due.min(upkeep)).max(now + STEP_MIN);
        let arrival = self.queue.first_key_value().map(|((time, _), _)| *time);
        arrival.map_or(machines, |time| time.min(machines))
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let Delivery { to, frame } = entry.remove();
            let now = self.now;
            match to {
                Node::Router(link) => self.router().receive(link, &frame, now),
                Node::Host(index) => self.hosts[index].1.receive(frame, now),
                Node::Provider => self.provider.receive(&frame, now),
                Node::Line => self.provider.receive_internet(&frame),
            }
            self.collect();
        }
    }

    fn handle_timeouts(&mut self) {
        let now = self.now;
        if now >= self.upkeep {
            self.upkeep = now + UPKEEP;
        }
        self.router().handle_timeout(now);
        self.provider.handle_timeout(now);
        self.poll_hosts();
    }

    fn poll_hosts(&mut self) {
        for (_, host) in &mut self.hosts {
            host.handle_timeout(self.now);
        }
        self.collect();
    }

    /// Puts what everybody sent on its way.
    fn collect(&mut self) {
        while let Some((link, frame)) = self.router.as_mut().and_then(Router::poll_transmit) {
            self.put_on(link, None, &frame);
        }
        while let Some(sent) = self.provider.poll_transmit() {
            match sent {
                Sent::Line(frame) => self.put_on_line(Node::Router(LinkId::WAN), frame),
                Sent::Internet(packet) => self.put_on_internet(packet),
            }
        }
        for index in 0..self.hosts.len() {
            while let Some(frame) = self.hosts[index].1.poll_transmit() {
                match self.hosts[index].0 {
                    Place::Lan(link) => self.put_on(link, Some(index), &frame),
                    Place::Internet => {
                        self.schedule(self.now + INTERNET_DELAY, Node::Line, frame);
                    }
                }
            }
        }
    }

    /// Carries a frame over a link to those on it that it is for.
    fn put_on(&mut self, link: LinkId, from: Option<usize>, frame: &[u8]) {
        if link == LinkId::WAN {
            return self.put_on_line(Node::Provider, frame.to_vec());
        }
        let to = destination_mac(frame);
        let mut receivers: Vec<Node> = Vec::new();
        if from.is_some() && (to.is_group() || to == Router::mac(link)) {
            receivers.push(Node::Router(link));
        }
        let hosts = self.hosts.iter().enumerate().filter(|(index, (place, host))| {
            let is_here = *place == Place::Lan(link) && Some(*index) != from;
            is_here && (to.is_group() || to == host.mac)
        });
        receivers.extend(hosts.map(|(index, _)| Node::Host(index)));
        for receiver in receivers {
            let mut arrivals = Vec::new();
            let cable = &mut self.lans[link.index() - 1];
            cable.carry(frame.to_vec(), self.now, |time, frame| arrivals.push((time, frame)));
            for (time, frame) in arrivals {
                self.schedule(time, receiver, frame);
            }
        }
    }

    fn put_on_line(&mut self, to: Node, frame: Vec<u8>) {
        let mut arrivals = Vec::new();
        self.line.carry(frame, self.now, |time, frame| arrivals.push((time, frame)));
        for (time, frame) in arrivals {
            self.schedule(time, to, frame);
        }
    }

    fn put_on_internet(&mut self, packet: Vec<u8>) {
        let Some(octets) = packet.get(16..20) else { return };
        let destination = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
        let mut hosts = self.hosts.iter();
        let found = hosts.position(|(place, host)| {
            *place == Place::Internet && host.address() == Some(destination)
        });
        if let Some(index) = found {
            self.schedule(self.now + INTERNET_DELAY, Node::Host(index), packet);
        }
    }

    fn schedule(&mut self, time: Instant, to: Node, frame: Vec<u8>) {
        self.sequence += 1;
        self.queue.insert((time, self.sequence), Delivery { to, frame });
    }
}

const _: () = assert!(ethernet::LEN == 14, "what a remote host's packets are without");
