//! The packet path of a router with one WAN and one LAN, without links.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use forwarding::{ArpMachine, ArpMessage, ArpOperation, LinkConfig};
use nat::{PortJournal, Sizes, Tables};
use packet::header::tcp;
use packet::{BATCH_MAX, Batch, Instant, LinkId, MacAddr, Offloads};
use pipeline::{
    Counters, Egress, EgressLink, LinkFacts, PolicyState, Rings, Runtime, Shapers, Snapshot,
    WanAddress, Worker, configured_forwards,
};

use crate::traffic::{self, HOSTS, Traffic, Way, host};

/// Packets per batch, unless a measurement is about that.
pub const BATCH: usize = BATCH_MAX;

/// The LAN's link.
pub(crate) const LAN: LinkId = LinkId(1);

/// Buffers for received frames: what `routerd` has for two links.
const LARGE_BUFFERS: usize = 2 * BATCH_MAX;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// When the router starts; no time before it is ever named.
const START: Instant = Instant::from_millis(1_000_000);

/// What passes from a packet to the next: as at 6.4 million a second.
const PACKET_TIME: Duration = Duration::from_nanos(156);

/// How large a router is made.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Sessions that it has room for.
    pub sessions: usize,
    /// External addresses.
    pub addresses: usize,
    /// Whether both directions are shaped, at a rate that no packet waits for.
    pub shaped: bool,
    /// Hosts inside, all of which the router knows.
    pub hosts: usize,
    /// Rules, none of which is about the traffic.
    pub rules: usize,
    /// Forwards, none of which is about the traffic.
    pub forwards: usize,
}

impl Scale {
    /// A router for so many sessions.
    #[must_use]
    pub const fn of(sessions: usize) -> Self {
        Self { sessions, addresses: 1, shaped: false, hosts: HOSTS, rules: 0, forwards: 0 }
    }
}

/// A router and what it keeps.
pub struct Rig {
    config: config::Config,
    runtime: Runtime,
    snapshot: Snapshot,
    worker: Worker,
    egress: Egress,
    tables: Tables,
    counters: Arc<Counters>,
    batch: Batch,
    now: Instant,
}

impl Rig {
    /// Makes a router with a static WAN that knows its neighbours.
    ///
    /// # Panics
    /// If there are more external addresses than the WAN's subnet has.
    #[must_use]
    pub fn new(scale: &Scale) -> Self {
        Self::crew(scale, 1).pop().expect("one worker")
    }

    /// The same with several workers, each a router of its own but for what workers share.
    ///
    /// # Panics
    /// As [`Self::new`], and without a worker.
    #[must_use]
    pub fn crew(scale: &Scale, workers: usize) -> Vec<Self> {
        let config = config(scale);
        let links = (0..2).map(|link| LinkFacts {
            name: format!("link{link}"),
            mac: Self::mac(LinkId(link)),
            mtu: 1500,
            address: None,
        });
        let runtime = Runtime {
            generation: 1,
            links: links.collect(),
            wan: WanAddress::of_static(&config),
            forwards: configured_forwards(&config),
            policy: PolicyState::default(),
        };
        let sizes = Sizes::new(scale.sessions, scale.addresses);
        let (tables, engines) = Tables::sized(sizes, workers, PortJournal::none(), 0x5eed);
        tables.memory().for_each(|range| {
            link::prefer_large_pages(range);
        });
        let neighbours = known(&config, scale.hosts).neighbours();
        let of_worker = |engine| {
            let snapshot =
                Snapshot::build(&config, &runtime).expect("no forwards, none that disagree");
            let rings = Arc::new(Rings::new());
            let egress_links = vec![EgressLink { offloads: Offloads::NONE }; 2];
            let shapers = Shapers::of(&config, START);
            let egress = Egress::new(egress_links, shapers, LARGE_BUFFERS, Arc::clone(&rings));
            let worker = Worker::new(engine, Arc::clone(&neighbours), rings)
                .expect("a participant for each worker");
            let (counters, batch) = (worker.counters(), Batch::new());
            let (config, runtime, tables) = (config.clone(), runtime.clone(), tables.clone());
            Self { config, runtime, snapshot, worker, egress, tables, counters, batch, now: START }
        };
        engines.into_iter().map(of_worker).collect()
    }

    /// Makes of the configuration, which has not changed, what the packet path works by, and puts it in force: every flow
    /// will be checked again.
    ///
    /// # Panics
    /// Never: it was made of the same before.
    pub fn reload(&mut self) {
        self.runtime.generation += 1;
        self.snapshot = Snapshot::build(&self.config, &self.runtime).expect("as before");
    }

    /// Lets time pass.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    /// Looks after a bounded number of sessions; whether there are more to look after.
    #[inline(never)]
    pub fn expire(&mut self) -> bool {
        self.worker.expire(&self.snapshot, self.now)
    }

    /// The router's own station on a link.
    #[must_use]
    pub fn mac(link: LinkId) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, link.0])
    }

    /// The tables, to count what is in them.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Lets time pass until every session has ended and every mapping has rested.
    pub fn end_all(&mut self) {
        let Self { worker, tables, snapshot, now, .. } = self;
        while tables.stats().sessions + tables.stats().mappings > 0 {
            *now += Duration::from_secs(1);
            while worker.expire(snapshot, *now) {}
        }
    }

    /// Writes a batch of packets that [`Self::pass`] then takes.
    #[inline]
    pub fn load(
        &mut self,
        traffic: &mut Traffic,
        way: Way,
        count: usize,
        mut draw: impl FnMut() -> usize,
    ) {
        self.load_with(count, |packet| traffic.write(packet, way, draw()));
    }

    #[inline]
    fn load_with(&mut self, count: usize, mut write: impl FnMut(&mut packet::PacketBuf)) {
        for _ in 0..count {
            let mut packet = self.egress.large_pool().take().expect("all buffers are home");
            write(&mut packet);
            self.batch.push(packet);
        }
    }

    /// Takes the batch from the Ethernet header in to the Ethernet header out, with the upkeep that is done once per
    /// batch; returns how many packets left. A function of its own, by whose name callgrind counts.
    #[inline(never)]
    pub fn pass(&mut self) -> usize {
        self.pass_to(|_| ())
    }

    fn pass_to(&mut self, mut leave: impl FnMut(&[packet::PacketBuf])) -> usize {
        let Self { worker, egress, snapshot, counters, batch, now, .. } = self;
        let packets = batch.len() as u32;
        worker.receive(batch, egress, snapshot, *now);
        *now += PACKET_TIME * packets;
        egress.dequeue(*now, counters);
        worker.expire(snapshot, *now);
        let mut left = 0;
        for link in [LinkId::WAN, LAN] {
            egress.flush(link, counters, |packets| {
                leave(packets);
                left += packets.len();
                0
            });
        }
        left
    }

    /// Opens flows by what their hosts and peers send first.
    ///
    /// # Panics
    /// If a packet is not let through.
    pub fn open(&mut self, traffic: &mut Traffic, numbers: impl Iterator<Item = usize>) {
        let numbers: Vec<usize> = numbers.collect();
        for chunk in numbers.chunks(BATCH) {
            self.exchange(traffic, Way::Outbound, chunk, tcp::SYN);
            let connections: Vec<_> =
                chunk.iter().copied().filter(|number| traffic.is_tcp(*number)).collect();
            if !connections.is_empty() {
                self.exchange(traffic, Way::Inbound, &connections, tcp::SYN | tcp::ACK);
                self.exchange(traffic, Way::Outbound, &connections, tcp::ACK);
            }
        }
    }

    fn exchange(&mut self, traffic: &mut Traffic, way: Way, numbers: &[usize], flags: u8) {
        for number in numbers {
            self.load_with(1, |packet| traffic.write_flags(packet, way, *number, flags));
        }
        let mut sources = Vec::with_capacity(numbers.len());
        let left = self.pass_to(|packets| {
            sources.extend(packets.iter().map(|packet| traffic::source_of(packet.frame())));
        });
        assert_eq!(left, numbers.len(), "{:?}", self.worker.verdicts().collect::<Vec<_>>());
        if way == Way::Outbound {
            for (number, source) in numbers.iter().zip(sources) {
                let pair = Traffic::pair(*number);
                if pair >= traffic.external.len() {
                    traffic.external.resize(pair + 1, source);
                }
                traffic.external[pair] = source;
            }
        }
    }
}

fn config(scale: &Scale) -> config::Config {
    let shaper = if scale.shaped {
        "[wan.shaper]\ndownload = \"10Gbit/s\"\nupload = \"10Gbit/s\"\n"
    } else {
        ""
    };
    let further = (scale.addresses > 1)
        .then(|| format!("addresses = [\"198.51.100.3-198.51.100.{}\"]\n", 1 + scale.addresses));
    let text = format!(
        "[wan]\nlink = \"wan0\"\nmode = \"static\"\naddress = \"198.51.100.2/24\"\ngateway = \"{GATEWAY}\"\n\
         {}{shaper}[[lan]]\nname = \"home\"\nlink = \"lan0\"\naddress = \"10.0.0.1/16\"\n",
        further.unwrap_or_default(),
    );
    let parse =
        |text: &str| config::parse("bench", text).unwrap_or_else(|error| panic!("{error:?}"));
    let mut config = parse(&text);
    // A file may hold fewer of them than a measurement wants.
    let in_files = |count: usize, section: fn(usize) -> String| -> Vec<config::Config> {
        let files = (0..count).step_by(SECTIONS_PARSED).map(|first| {
            let sections = (first..count).take(SECTIONS_PARSED).map(section);
            parse(&format!("{text}{}", sections.collect::<String>()))
        });
        files.collect()
    };
    let rules = in_files(scale.rules, |number| {
        let port = 40_000 + number;
        format!(
            "[[policy.rule]]\naction = \"drop\"\nfrom = \"home\"\nto = \"wan\"\nprotocol = \"tcp\"\nport = {port}\n"
        )
    });
    config.policy.rules.extend(rules.into_iter().flat_map(|file| file.policy.rules));
    let forwards = in_files(scale.forwards, |number| {
        let port = 30_000 + number;
        format!("[[forward]]\nprotocol = \"tcp\"\nport = {port}\nto = \"10.0.0.9:80\"\n")
    });
    config.forwards.extend(forwards.into_iter().flat_map(|file| file.forwards));
    config
}

/// Rules or forwards in one file.
const SECTIONS_PARSED: usize = 250;

/// An ARP machine that has heard the gateway and all hosts.
fn known(config: &config::Config, hosts: usize) -> ArpMachine {
    let wan = WanAddress::of_static(config).expect("a static WAN").address;
    let addresses = std::iter::once(wan).chain(config.lans.iter().map(|lan| lan.address));
    let links: Vec<LinkConfig> = addresses
        .zip(0..)
        .map(|(address, link)| LinkConfig {
            id: LinkId(link),
            mac: Rig::mac(LinkId(link)),
            addresses: vec![address],
        })
        .collect();
    let hosts = (0..hosts).map(|number| (LAN, host(number)));
    let mut arp = ArpMachine::new(links.clone(), START);
    for (link, address) in hosts.chain([(LinkId::WAN, GATEWAY)]) {
        let [a, b, c, d] = address.octets();
        let request = ArpMessage {
            operation: ArpOperation::Request,
            sender_mac: MacAddr([6, 0, a, b, c, d]),
            sender: address,
            target_mac: MacAddr::ZERO,
            target: links[link.index()].addresses[0].addr(),
        };
        arp.handle_arp(&request.emit(MacAddr::BROADCAST), link, START);
    }
    arp
}
