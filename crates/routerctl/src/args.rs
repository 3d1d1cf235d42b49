//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use ctl_api::{
    ExplainRequest, FlowFilter, ForwardProtocol, ForwardTarget, PacketEnd, PortRange, TcpFlags,
    Transport,
};
use packet::MacAddr;

/// Where the configuration is, unless said otherwise.
const CONFIG: &str = "/etc/zone-router/router.toml";

/// Provision the router's zone and run the router day to day.
#[derive(Parser, Debug)]
#[command(name = "routerctl", version)]
pub(crate) struct Args {
    /// Control socket of the router.
    #[arg(long, global = true, default_value = config::defaults::SOCKET)]
    pub socket: PathBuf,
    /// Print JSON as the control API gives it.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub noun: Noun,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Noun {
    /// One screen: WAN, links, LANs, flows, drops, shapers, DNS.
    Status,
    /// Ports that lead inside.
    Forward {
        #[command(subcommand)]
        verb: ForwardVerb,
    },
    /// Leases and reservations of the DHCP server.
    Lease {
        #[command(subcommand)]
        verb: LeaseVerb,
    },
    /// Sessions.
    Flow {
        #[command(subcommand)]
        verb: FlowVerb,
    },
    /// Hosts inside.
    Host {
        #[command(subcommand)]
        verb: HostVerb,
    },
    /// The WAN and its lease.
    Wan {
        #[command(subcommand)]
        verb: WanVerb,
    },
    /// Rules of the firewall.
    Rule {
        #[command(subcommand)]
        verb: RuleVerb,
    },
    /// What would become of a packet, and why; changes nothing.
    Explain(Explain),
    /// What was dropped and why.
    Drops,
    /// The DNS forwarder: counters, or `flush`.
    Dns {
        #[command(subcommand)]
        verb: Option<DnsVerb>,
    },
    /// Queues and delays of the shaped directions.
    Qos,
    /// The configuration.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// The zone that the router lives in, on this host.
    Zone {
        #[command(subcommand)]
        verb: ZoneVerb,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum ForwardVerb {
    /// All forwards.
    List,
    /// Open one: `add tcp 8080 10.0.0.5:80`, `add udp 27000-27015 minecraft`.
    Add {
        /// tcp, udp or both.
        #[arg(value_parser = protocol)]
        protocol: ForwardProtocol,
        /// External port or range.
        port: PortRange,
        /// Address or name inside, with a port unless it stays the same.
        to: ForwardTarget,
        /// Who may use it: addresses, prefixes, ranges, names or @set; may be given several times.
        #[arg(long)]
        from: Vec<String>,
        /// Hosts inside may not use it by the WAN address.
        #[arg(long)]
        no_hairpin: bool,
    },
    /// Close one: `remove tcp 8080`.
    Remove {
        /// tcp, udp or both.
        #[arg(value_parser = protocol)]
        protocol: ForwardProtocol,
        /// External port or range, as it was added.
        port: PortRange,
    },
}

/// Reads a protocol and says what to write instead.
fn protocol(text: &str) -> Result<ForwardProtocol, String> {
    text.parse::<ForwardProtocol>().map_err(|error| format!("{error}: {}", error.remedy()))
}

#[derive(Subcommand, Debug)]
pub(crate) enum LeaseVerb {
    /// All leases and reservations.
    List,
    /// Tie an address to a MAC: `reserve 02:08:20:0a:0b:01 10.0.0.5 --name web`.
    Reserve {
        /// Hardware address of the client.
        mac: MacAddr,
        /// The address.
        address: Ipv4Addr,
        /// Host name.
        #[arg(long)]
        name: Option<String>,
    },
    /// Forget the lease and reservation of an address.
    Release {
        /// The address.
        address: Ipv4Addr,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum FlowVerb {
    /// Sessions that match.
    List(Filter),
    /// End the sessions that match; at least one condition.
    Kill(Filter),
}

/// Conditions on sessions; all that are given must hold.
#[derive(clap::Args, Debug)]
pub(crate) struct Filter {
    /// Transport or tunnel protocol.
    #[arg(long)]
    protocol: Option<TransportWord>,
    /// Host inside, by address or name.
    #[arg(long)]
    host: Option<String>,
    /// Remote address.
    #[arg(long)]
    remote: Option<Ipv4Addr>,
    /// Internal, external or remote port.
    #[arg(long)]
    port: Option<u16>,
    /// Most sessions to list.
    #[arg(long)]
    limit: Option<usize>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum TransportWord {
    Tcp,
    Udp,
    Icmp,
    #[value(name = "udplite")]
    UdpLite,
    Sctp,
    Gre,
    Esp,
    #[value(name = "ipip")]
    IpIp,
    #[value(name = "6in4")]
    SixInFour,
}

impl Filter {
    pub(crate) fn to_api(&self) -> FlowFilter {
        FlowFilter {
            protocol: self.protocol.map(|word| match word {
                TransportWord::Tcp => Transport::Tcp,
                TransportWord::Udp => Transport::Udp,
                TransportWord::Icmp => Transport::Icmp,
                TransportWord::UdpLite => Transport::UdpLite,
                TransportWord::Sctp => Transport::Sctp,
                TransportWord::Gre => Transport::Gre,
                TransportWord::Esp => Transport::Esp,
                TransportWord::IpIp => Transport::IpIp,
                TransportWord::SixInFour => Transport::SixInFour,
            }),
            host: self.host.clone(),
            remote: self.remote,
            port: self.port,
            limit: self.limit,
        }
    }
}

/// `explain tcp 10.0.0.7:40000 203.0.113.10:443`, `explain icmp 10.0.0.7 203.0.113.10`, `explain --frame HEX`.
#[derive(clap::Args, Debug)]
pub(crate) struct Explain {
    /// tcp, udp or icmp.
    #[arg(required_unless_present = "frame", conflicts_with = "frame")]
    protocol: Option<ProbeWord>,
    /// Who sends the packet: address and port; of icmp, address and perhaps identifier.
    #[arg(required_unless_present = "frame")]
    source: Option<PacketEnd>,
    /// Whom it is for, likewise.
    #[arg(required_unless_present = "frame")]
    destination: Option<PacketEnd>,
    /// Where it comes from: a link, a LAN, wan or router. By default the LAN of the source, or the WAN.
    #[arg(long)]
    from: Option<String>,
    /// TCP flags, such as syn,ack; by default syn.
    #[arg(long, conflicts_with = "frame")]
    flags: Option<TcpFlags>,
    /// An Ethernet frame in hexadecimal; a station address of zeroes stands for the router's.
    #[arg(long)]
    frame: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum ProbeWord {
    Tcp,
    Udp,
    Icmp,
}

impl Explain {
    pub(crate) fn to_api(&self) -> ExplainRequest {
        ExplainRequest {
            from: self.from.clone(),
            protocol: self.protocol.map(|word| match word {
                ProbeWord::Tcp => Transport::Tcp,
                ProbeWord::Udp => Transport::Udp,
                ProbeWord::Icmp => Transport::Icmp,
            }),
            source: self.source,
            destination: self.destination,
            flags: self.flags,
            frame: self.frame.clone(),
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum HostVerb {
    /// Every host that was seen or holds a lease.
    List,
}

#[derive(Subcommand, Debug)]
pub(crate) enum WanVerb {
    /// Address, lease and state.
    Show,
    /// Renew the lease now.
    Renew,
    /// Give the lease back and stay without one until `renew`.
    Release,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RuleVerb {
    /// All rules in the order in which they are tried, with what each did.
    List,
}

#[derive(Subcommand, Debug)]
pub(crate) enum DnsVerb {
    /// Empty the cache.
    Flush,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigVerb {
    /// Validate a file; needs no running router.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Make the router read its file again; a bad one is refused whole.
    Reload,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ZoneVerb {
    /// Show the steps from what is there to what is wanted; changes nothing.
    Plan {
        #[command(flatten)]
        zone: ZoneArgs,
        /// Print a shell script.
        #[arg(long, conflicts_with = "json")]
        script: bool,
    },
    /// Carry the steps out; nothing is done where nothing drifted.
    Apply {
        #[command(flatten)]
        zone: ZoneArgs,
    },
    /// Remove what was made for the zone, and only that.
    Destroy {
        #[command(flatten)]
        zone: ZoneArgs,
    },
    /// What the zone consists of and whether it drifted.
    Show {
        #[command(flatten)]
        zone: ZoneArgs,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct ZoneArgs {
    /// The router's configuration, with its `[zone]` section.
    #[arg(long, default_value = CONFIG)]
    pub config: PathBuf,
    /// Instead of the platform that the configuration names.
    #[arg(long)]
    pub platform: Option<PlatformWord>,
    /// Who keeps routerd running: by default systemd or smf where they run, else a background process.
    #[arg(long)]
    pub service: Option<ServiceWord>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum PlatformWord {
    Linux,
    Illumos,
    Smartos,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum ServiceWord {
    /// Links only; the service is left as it is.
    None,
    Process,
    Systemd,
    Smf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn what_the_design_promises_is_accepted() {
        let lines = [
            "status",
            "--json status",
            "--socket /s status --json",
            "forward list",
            "forward add tcp 8080 10.0.0.5:80",
            "forward add udp 27000-27015 minecraft",
            "forward add tcp 443 web --from @office --from 203.0.113.0/24 --no-hairpin",
            "forward remove tcp 8080",
            "rule list",
            "--json rule list",
            "lease list",
            "lease reserve 2:8:20:a:b:1 10.0.0.5 --name web",
            "lease release 10.0.0.5",
            "flow list --protocol tcp --host web --remote 203.0.113.9 --port 443 --limit 5",
            "flow kill --host 10.0.0.5",
            "host list",
            "wan show",
            "wan renew",
            "wan release",
            "explain tcp 10.0.0.7:40000 203.0.113.10:443",
            "explain tcp 203.0.113.10:443 198.51.100.2:8080 --from wan --flags syn,ack --json",
            "explain icmp 10.0.0.7 203.0.113.10",
            "explain --frame 02:08:20:0a --from wan",
            "drops",
            "dns",
            "dns flush",
            "qos",
            "config check router.toml",
            "config reload",
            "zone plan --config router.toml --platform smartos --script",
            "zone apply --service none",
            "zone destroy",
            "zone show",
        ];
        for line in lines {
            let words = ["routerctl"].into_iter().chain(line.split(' '));
            assert!(Args::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_wrong_word_is_a_usage_error_with_status_2() {
        for line in [
            "forward add sctp 80 web",
            "forward add tcp 0 web",
            "flow list --port 65536",
            "explain",
            "explain tcp 10.0.0.7:40000",
            "explain tcp 10.0.0.7:40000 somewhere:443",
            "explain tcp 10.0.0.7:4 203.0.113.10:5 --flags urgent",
            "explain tcp 10.0.0.7:4 203.0.113.10:5 --frame 00",
            "",
        ] {
            let words = ["routerctl"].into_iter().chain(line.split(' '));
            assert_eq!(Args::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
