//! A stack without OS: its inputs by hand, its outputs in order, its clock turned.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::Now;
use dhcp::client::{Client, ClientConfig, ConflictProbe};
use dhcp::server::{Server, ServerConfig};
use etherparse::ArpOperation;
use local_stack::{LocalStack, Settings, StackEvent, StoreRecord, Transmit};
use packet::{Instant, LinkId, MacAddr, PuntReason, SMALL_FRAME_MAX};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::frames::{arp, mac, query, router_mac, see, udp};

pub const HOME: LinkId = LinkId(1);
pub const HOME_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 9);
pub const UPSTREAM: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
pub const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const DNS: u16 = 53;

/// A static WAN and a configured upstream server.
pub const STATIC: &str = r#"
[wan]
link = "wan0"
mode = "static"
address = "198.51.100.2/24"
gateway = "198.51.100.1"

[[lan]]
name = "home"
link = "lan1"
address = "10.0.1.1/24"
[lan.dhcp]
pool = "10.0.1.100-10.0.1.199"
lease = "1h"
[[lan.dhcp.reservation]]
mac = "06:00:00:00:00:05"
address = "10.0.1.5"
name = "web"

[[lan]]
name = "guest"
link = "lan2"
address = "10.0.2.1/24"
[lan.dhcp]
pool = "10.0.2.100-10.0.2.199"

[dns]
upstream = ["203.0.113.53"]

[[dns.host]]
name = "printer"
address = "10.0.1.20"
"#;

/// A WAN that learns its address and its servers.
pub fn dynamic() -> String {
    let wan = "mode = \"static\"\naddress = \"198.51.100.2/24\"\ngateway = \"198.51.100.1\"";
    STATIC.replace(wan, "mode = \"dhcp\"").replace("upstream = [\"203.0.113.53\"]", "")
}

pub fn settings(text: &str) -> Settings {
    let config = config::parse("the test's", text).unwrap();
    Settings::new(&config, (0..3).map(router_mac).collect()).unwrap()
}

pub struct Rig {
    pub stack: LocalStack,
    pub now: Now,
    pub records: Vec<StoreRecord>,
    pub frames: Vec<(LinkId, Vec<u8>)>,
    pub packets: Vec<Vec<u8>>,
    pub again: Vec<(LinkId, Vec<u8>)>,
    pub events: Vec<StackEvent>,
}

impl Rig {
    pub fn new(text: &str) -> Self {
        let now = Now::new(Instant::from_secs(1000), 1_700_000_000);
        let rng = StdRng::seed_from_u64(7);
        let mut rig = Self {
            stack: LocalStack::new(settings(text), None, |_| Vec::new(), rng, now),
            now,
            records: Vec::new(),
            frames: Vec::new(),
            packets: Vec::new(),
            again: Vec::new(),
            events: Vec::new(),
        };
        rig.drain();
        rig
    }

    /// Takes every output, records first.
    pub fn drain(&mut self) {
        self.records.extend(std::iter::from_fn(|| self.stack.poll_store()));
        let mut buffer = vec![0xa5; SMALL_FRAME_MAX];
        loop {
            buffer.resize(self.stack.transmit_space(), 0xa5);
            let Some(transmit) = self.stack.poll_transmit(&mut buffer) else { break };
            match transmit {
                Transmit::Frame { egress, len } => {
                    self.frames.push((egress, buffer[..len].to_vec()));
                }
                Transmit::Packet { len } => self.packets.push(buffer[..len].to_vec()),
                Transmit::Again { ingress, len } => {
                    self.again.push((ingress, buffer[..len].to_vec()));
                }
            }
        }
        self.events.extend(std::iter::from_fn(|| self.stack.poll_event()));
    }

    pub fn forget_outputs(&mut self) {
        self.frames.clear();
        self.packets.clear();
        self.events.clear();
    }

    pub fn punt(&mut self, reason: PuntReason, link: LinkId, frame: &[u8]) {
        self.stack.handle_punt(reason, link, None, frame, self.now);
        self.drain();
    }

    pub fn punt_unresolved(&mut self, link: LinkId, wanted: (LinkId, Ipv4Addr), frame: &[u8]) {
        let reason = PuntReason::NeighbourMissing;
        self.stack.handle_punt(reason, link, Some(wanted), frame, self.now);
        self.drain();
    }

    /// Turns the clock, stopping at every deadline.
    pub fn advance(&mut self, span: Duration) {
        let end = self.now.instant + span;
        for _ in 0..100_000 {
            let due = self.stack.poll_timeout(self.now.instant);
            let Some(due) = due.filter(|due| *due <= end) else {
                self.turn_to(end);
                return;
            };
            self.turn_to(due);
            self.stack.handle_timeout(self.now);
            self.drain();
        }
        panic!("the stack wants to run again and again");
    }

    fn turn_to(&mut self, at: Instant) {
        let at = at.max(self.now.instant);
        let passed = at.as_secs() - self.now.instant.as_secs();
        self.now = Now::new(at, self.now.unix_secs + passed);
    }

    /// Asks by UDP from a host of the home and returns what comes back at once.
    pub fn ask(&mut self, dotted: &str, kind: u16) -> Option<Vec<u8>> {
        let asking = udp((HOST, 5353), (HOME_ADDRESS, DNS), &query(0x1234, dotted, kind));
        self.punt(PuntReason::Local, HOME, &asking);
        let answered =
            self.packets.iter().position(|packet| see(packet).destination == (HOST, 5353))?;
        let seen = see(&self.packets.remove(answered));
        assert_eq!(seen.source, (HOME_ADDRESS, DNS));
        assert_eq!(seen.payload[..2], [0x12, 0x34]);
        Some(seen.payload)
    }

    /// Lets a DHCP client on a LAN talk until it is content, probes and pauses included.
    pub fn run_client(&mut self, link: LinkId, client: &mut Client) {
        for _ in 0..100 {
            let mut buffer = [0; 1024];
            while client.poll_store().is_some() || client.poll_event().is_some() {}
            while let Some(len) = client.poll_transmit(&mut buffer) {
                self.punt(PuntReason::DhcpServer, link, &buffer[..len]);
            }
            for (egress, frame) in std::mem::take(&mut self.frames) {
                if egress == link {
                    client.handle_frame(&frame, self.now);
                }
            }
            if client.lease().is_some() {
                return;
            }
            self.advance(Duration::from_millis(50));
            client.handle_timeout(self.now);
        }
        panic!("no lease: {:?}", client.state());
    }

    /// Lets the provider's server answer the stack for some time.
    pub fn run_provider(&mut self, server: &mut Server, span: Duration) {
        let end = self.now.instant + span;
        while self.now.instant < end {
            let mut buffer = [0; 1024];
            for (egress, frame) in self.frames.clone() {
                if egress == LinkId::WAN {
                    server.handle_frame(&frame, self.now);
                }
            }
            self.frames.retain(|(egress, frame)| *egress != LinkId::WAN || frame[12..14] == [8, 6]);
            server.handle_timeout(self.now);
            while server.poll_store().is_some() || server.poll_event().is_some() {}
            while let Some(len) = server.poll_transmit(&mut buffer) {
                self.punt(PuntReason::DhcpClient, LinkId::WAN, &buffer[..len]);
            }
            self.advance(Duration::from_millis(50));
        }
    }

    /// A neighbour asks for the router, which makes it known.
    pub fn learn(&mut self, link: LinkId, host: (MacAddr, Ipv4Addr), router: Ipv4Addr) {
        let request = arp(ArpOperation::REQUEST, host, (MacAddr::ZERO, router));
        self.punt(PuntReason::Arp, link, &request);
    }
}

/// A DHCP client of a LAN.
pub fn lan_client(last: u8, name: &str, now: Now) -> Client {
    let config = ClientConfig {
        hostname: Some(name.to_owned()),
        conflict_probe: ConflictProbe::OFF,
        ..ClientConfig::new(mac(last))
    };
    let mut client = Client::new(config, None, StdRng::seed_from_u64(u64::from(last)));
    client.handle_link_up(now);
    client
}

/// The provider's server: one address, one DNS server, ten minutes.
pub fn provider(now: Now) -> Server {
    let subnet = "198.51.100.0/24".parse().unwrap();
    let config = ServerConfig {
        pools: vec![(WAN_ADDRESS, WAN_ADDRESS)],
        lease: Duration::from_secs(600),
        dns: vec![UPSTREAM],
        probe_wait: Duration::ZERO,
        ..ServerConfig::new("provider".into(), mac(1), GATEWAY, subnet)
    };
    Server::new(config, [], now)
}
