//! Every default and every limit, each with its source.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::model::{
    Bogons, Brand, Filtering, IcmpRefusals, Overhead, Ping, Pooling, UnsolicitedSyn,
};

// The file

/// Longest file in bytes: all the tables below at their limits fit with room for comments.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most problems that one report shows: more than anybody reads, few enough to send.
pub const PROBLEMS_MAX: usize = 50;

// [control]

/// The control socket, under the folder that every system empties at boot.
pub const SOCKET: &str = "/run/zone-router/control.sock";
/// The folder of durable state (FHS 3.0 §5.8).
pub const STATE: &str = "/var/lib/zone-router";
/// Longest path of a socket in bytes: `sun_path` is 108 with its NUL on Linux and illumos alike.
pub const SOCKET_PATH_MAX: usize = 107;
/// Longest other path in bytes: illumos `PATH_MAX` is 1024 with its NUL.
pub const PATH_MAX: usize = 1023;

// [wan]

/// Most further external addresses, 1:1 ones among them: a /24.
pub const WAN_ADDRESSES_MAX: usize = 256;
/// The WAN answers pings, so that a line can be tested from outside (RFC 1122 §3.2.2.6).
pub const PING: Ping = Ping::Answer;
/// Nobody honest sends from what the Internet does not carry (RFC 2827, RFC 3704 §2, RFC 6890).
pub const BOGONS: Bogons = Bogons::Drop;
/// Most ranges that pass nevertheless: a modem's page and a provider's services need two.
pub const BOGONS_ALLOW_MAX: usize = 64;
/// Smallest MTU: what every host must take (RFC 791 §3.1); also the least of an etherstub.
pub const MTU_MIN: u16 = 576;
/// Largest MTU: what a vNIC over an etherstub can have.
pub const MTU_MAX: u16 = 9000;
/// MTU of a vNIC: Ethernet's (RFC 894). Always set, since an etherstub would give 9000.
pub const MTU: u16 = 1500;
/// Most prefixes that the DHCP client rejects (DC21); one cable modem needs one.
pub const REJECT_MAX: usize = 16;
/// Longest client id in bytes: what one option holds (RFC 2132 §9.14).
pub const CLIENT_ID_MAX: usize = 255;

// [wan.shaper]

/// Slowest rate of a shaper in bit/s: below it one full packet takes longer than 0.18 s.
pub const RATE_MIN: u64 = 64_000;
/// Fastest rate of a shaper in bit/s: the fastest line that a host of this size has.
pub const RATE_MAX: u64 = 10_000_000_000;
/// Counts more than most lines add, so that the queue stays here rather than in the modem.
pub const OVERHEAD: Overhead = Overhead::Ethernet;
/// Largest overhead of the operator's own, in bytes; Ethernet in PPPoE in ATM adds less than half.
pub const OVERHEAD_BYTES_MAX: i16 = 256;
/// Smallest overhead of the operator's own, in bytes: minus an IPv4 header and more makes no sense.
pub const OVERHEAD_BYTES_MIN: i16 = -64;
/// Largest least size of a packet, in bytes: a full packet is the most that can be a minimum.
pub const OVERHEAD_MPU_MAX: u16 = 1500;

// [[lan]]

/// Most LANs: with the WAN, every link is one bit in a 32-bit set.
pub const LANS_MAX: usize = 16;
/// Strict by default: unsolicited packets never come in (RFC 4787 REQ-8).
pub const FILTERING: Filtering = Filtering::AddressAndPortDependent;
/// Shortest prefix of a LAN: the largest private block (RFC 1918 §3).
pub const LAN_PREFIX_MIN: u8 = 8;
/// Longest prefix of a LAN: the router and one host.
pub const LAN_PREFIX_MAX: u8 = 30;

// [lan.dhcp]

/// Half a day: a host that sleeps at night keeps its address, one that left frees it by the next.
pub const LEASE: Duration = Duration::from_secs(12 * 3600);
/// Shortest lease: what is handed out while the WAN is down (RFC 5625 §5.3, DS25).
pub const LEASE_MIN: Duration = Duration::from_secs(60);
/// Longest lease: a year; one that never ends would never free an address.
pub const LEASE_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Most addresses of a pool: one /16, which the server can hold in memory.
pub const POOL_MAX: u64 = 65_536;
/// Most reservations of one LAN: a /20 in which every host is known.
pub const RESERVATIONS_MAX: usize = 4096;
/// Most addresses in one DHCP option: 63 fit (RFC 2132 §2), 8 are more than any client tries.
pub const OPTION_ADDRESSES_MAX: usize = 8;

// [dns]

/// The domain for home networks (RFC 8375, DN21).
pub const DOMAIN: &str = "home.arpa";
/// The port of DNS (RFC 1035 §4.2).
pub const DNS_PORT: u16 = 53;
/// Most upstream servers: a client has given up before the ninth is tried.
pub const UPSTREAMS_MAX: usize = 8;
/// Domains that give private addresses to public names on purpose (DN24).
pub const REBINDING_ALLOW: [&str; 1] = ["plex.direct"];
/// Most domains on that list.
pub const REBINDING_ALLOW_MAX: usize = 256;
/// Record sets in the cache: a household's day, about 4 MiB.
pub const CACHE_ENTRIES_MAX: usize = 10_000;
/// Largest cache that may be asked for, about 400 MiB.
pub const CACHE_ENTRIES_LIMIT: u64 = 1_000_000;
/// Most static names.
pub const DNS_HOSTS_MAX: usize = 4096;

// [nat]

/// How long a UDP mapping lives idle (RFC 4787 REQ-5c).
pub const TIMEOUT_UDP: Duration = Duration::from_secs(300);
/// The least of it (RFC 4787 REQ-5).
pub const TIMEOUT_UDP_FLOOR: Duration = Duration::from_secs(120);
/// How long a question to a DNS server outside lives (RFC 4787 REQ-5a): longer than a client asks.
pub const TIMEOUT_UDP_DNS: Duration = Duration::from_secs(30);
/// The least of it: a resolver's own patience (RFC 5452 §10).
pub const TIMEOUT_UDP_DNS_FLOOR: Duration = Duration::from_secs(10);
/// How long an established TCP connection lives idle, which is also the least (RFC 5382 REQ-5).
pub const TIMEOUT_TCP_ESTABLISHED: Duration = Duration::from_secs(7440);
/// How long a TCP connection may take to open or close, which is also the least (RFC 5382 REQ-5, RFC
/// 7857 §2.1).
pub const TIMEOUT_TCP_TRANSITORY: Duration = Duration::from_secs(240);
/// How long an ICMP query session lives idle, which is also the least (RFC 5508 REQ-2).
pub const TIMEOUT_ICMP: Duration = Duration::from_secs(60);
/// How long a session of GRE, ESP, IPIP or 6in4 lives idle: what is idle in a tunnel may be a UDP flow
/// at the end of its own five minutes, and only the host inside can open the session anew.
pub const TIMEOUT_OTHER: Duration = Duration::from_secs(600);
/// The least of it: no RFC sets one, so that of UDP, which a tunnel may carry.
pub const TIMEOUT_OTHER_FLOOR: Duration = TIMEOUT_UDP_FLOOR;
/// How long an external port goes to no other endpoint after its last use, which is also the least (RFC 6888
/// REQ-8).
pub const PORT_REST: Duration = Duration::from_secs(120);
/// Ports at rest, of all hosts together: every port of TCP, UDP and ICMP.
pub const PORTS_AT_REST_MAX: u32 = 3 * 65_536;
/// Most ports at rest that may be asked for: those of a former address as well.
pub const PORTS_AT_REST_LIMIT: u64 = 2 * 3 * 65_536;
/// Shortest timeout even when short ones are allowed: an answer needs about a second.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Longest timeout: beyond a week, state outlives what it was for.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Fewest sessions: one browser opens a few hundred.
pub const SESSIONS_MIN: u64 = 1024;
/// Most sessions that may be asked for: 2^26, several GiB.
pub const SESSIONS_LIMIT: u64 = 1 << 26;
/// Mappings per host: a quarter of the ports of one protocol, so that no host starves the others
/// (RFC 6888 REQ-4).
pub const MAPPINGS_PER_HOST_MAX: usize = 16_384;
/// Fewest mappings per host: one busy page.
pub const MAPPINGS_PER_HOST_MIN: u64 = 64;
/// Most mappings per host: every port of TCP, UDP and ICMP.
pub const MAPPINGS_PER_HOST_LIMIT: u64 = 3 * 65_536;
/// All flows of a host have one external address (RFC 4787 REQ-2, RFC 6888 REQ-2).
pub const POOLING: Pooling = Pooling::Paired;
/// Most exemptions from translation: each new flow to the WAN walks them.
pub const EXEMPTIONS_MAX: usize = 64;
/// Most hosts with a filtering of their own: every reservation of one LAN.
pub const NAT_HOSTS_MAX: usize = RESERVATIONS_MAX;
/// Hosts inside are told, or they would wait for a timeout (RFC 5508 REQ-8).
pub const ICMP_REFUSALS: IcmpRefusals = IcmpRefusals::Answer;
/// Fewest sessions per host: one busy page.
pub const SESSIONS_PER_HOST_MIN: u64 = 64;
/// New flows per host and second: a hundred times what a busy host opens, and a thirtieth of the
/// SYNs that fit into a gigabit: it stops a flood, not work (RFC 6888 REQ-4c).
pub const NEW_FLOWS_PER_HOST: u32 = 50_000;
/// New flows that one host may open back to back: a second's worth.
pub const NEW_FLOWS_BURST: u32 = 50_000;
/// Fewest new flows per second, and back to back: what a page with its names needs at once.
pub const NEW_FLOWS_MIN: u64 = 10;
/// Most new flows per second, and back to back: as many as there can be packets.
pub const NEW_FLOWS_LIMIT: u64 = 10_000_000;
/// Unsolicited SYNs get no answer, so that nothing shows to whom scans (RFC 5382 REQ-4a).
pub const UNSOLICITED_SYN: UnsolicitedSyn = UnsolicitedSyn::Silent;
/// Smallest MSS: the default of TCP over IPv4 (RFC 9293 §3.7.1).
pub const MSS_MIN: u16 = 536;
/// Largest MSS: the largest MTU without IPv4 and TCP headers.
pub const MSS_MAX: u16 = MTU_MAX - 40;

// [[forward]] and [policy]

/// Most forwards of the file.
pub const FORWARDS_MAX: usize = 1024;
/// UDP port on which the WAN's DHCP client listens (RFC 2131 §4.1).
pub const DHCP_CLIENT_PORT: u16 = 68;
/// UDP port on which LANs find the DHCP server (RFC 2131 §4.1); the WAN must not reach it.
pub const DHCP_SERVER_PORT: u16 = 67;
/// Most policy rules: each new flow walks those of its zone in order.
pub const RULES_MAX: usize = 256;
/// Most zones of LANs: as many as there can be LANs.
pub const POLICY_ZONES_MAX: usize = LANS_MAX;
/// Most sets of addresses: one for every other rule.
pub const SETS_MAX: usize = 128;
/// Most entries of one set, and of one list of addresses in a rule: a block list of a country fits.
pub const SET_ENTRIES_MAX: usize = 4096;
/// Most ports or code points in one list of a rule: what is more is a range.
pub const RULE_LIST_MAX: usize = 64;
/// Most new flows in the time of a rate: more than a household's line can open in a second.
pub const FLOW_RATE_MAX: u32 = 1_000_000;
/// Least burst of a rate that does not name one: a page opens this many flows at once.
pub const FLOW_BURST_MIN: u32 = 5;

// [zone]

/// First etherstub; the number goes up with each LAN.
pub const ETHERSTUB_PREFIX: &str = "zrstub";
/// Most etherstubs: one per LAN.
pub const ETHERSTUBS_MAX: usize = LANS_MAX;
/// SmartOS nic tag of the WAN: the name that its installer gives to the outer network.
pub const SMARTOS_WAN_TAG: &str = "external";
/// Brand on illumos: shares the system's files with the global zone.
pub const BRAND_ILLUMOS: Brand = Brand::Sparse;
/// Brand on SmartOS: next to no services.
pub const BRAND_SMARTOS: Brand = Brand::JoyentMinimal;
/// Parent of the zone's folder on illumos.
pub const ZONE_PATH: &str = "/zones";
/// Folder of the programs on Linux and illumos.
pub const INSTALL: &str = "/opt/zone-router";
/// Folder of the programs on SmartOS, where only `/opt` survives a reboot.
pub const INSTALL_SMARTOS: &str = "/opt/custom/zone-router";
/// Physical memory in MiB: a million sessions, packet buffers and the DNS cache.
pub const MEMORY_MIB: u32 = 512;
/// CPU time in hundredths of a CPU: one worker and the control thread.
pub const CPU_PERCENT: u32 = 200;
/// Disk in GiB: logs, captures and state.
pub const QUOTA_GIB: u32 = 10;
/// Least memory in MiB; swap has a floor of 256 on SmartOS, so memory may as well.
pub const MEMORY_MIB_MIN: u64 = 64;
/// Most memory in MiB: 1 TiB.
pub const MEMORY_MIB_MAX: u64 = 1 << 20;
/// Least swap in MiB (SmartOS).
pub const SWAP_MIB_MIN: u64 = 256;
/// Most CPU time: 256 CPUs.
pub const CPU_PERCENT_MAX: u64 = 25_600;
/// Most disk in GiB.
pub const QUOTA_GIB_MAX: u64 = 65_536;
/// Highest VLAN (IEEE 802.1Q).
pub const VLAN_MAX: u16 = 4094;

/// Where the example subnets of remedies begin (RFC 1918 §3).
pub(crate) const EXAMPLE_SUBNETS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
