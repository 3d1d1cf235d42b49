//! A zone on this machine's kernel: made, found whole, broken, repaired, removed. Needs root.
//!
//! The host is a namespace of the lab; only the zone's own namespace is made beside it, and goes with
//! [`Zone`] whatever happens.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use config::ZoneCaps;
use control::{
    Attachment, DesiredLink, DesiredZone, Host, LocalHost, Plan, Platform, ServiceKind, apply,
    observe, plan, plan_destroy,
};
use lab::{Lab, Namespace};
use serde_json::Value;

/// Stands in for `routerd`: stays until it is told to go.
const SERVICE: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n";

/// Same for all zones here; Linux does not look at them.
const CAPS: ZoneCaps =
    ZoneCaps { memory_mib: 512, swap_mib: 1024, locked_mib: 256, cpu_percent: 100, quota_gib: 1 };

/// A zone on a host of the lab.
struct Zone {
    desired: DesiredZone,
    host: LocalHost,
    folder: tempfile::TempDir,
}

impl Zone {
    fn new(name: &str, host: &Namespace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("bin")).unwrap();
        fs::write(path("bin/routerd"), SERVICE).unwrap();
        fs::set_permissions(path("bin/routerd"), fs::Permissions::from_mode(0o755)).unwrap();
        let link = |name: &str, over, mtu, mac: Option<&str>| DesiredLink {
            name: name.parse().unwrap(),
            over,
            mac: mac.map(|mac| mac.parse().unwrap()),
            mtu,
            vlan: None,
        };
        let stub = "zrstub0".parse().unwrap();
        let links = vec![
            link(
                "wan0",
                Attachment::Existing("nic0".parse().unwrap()),
                1500,
                Some("02:08:20:0a:0b:01"),
            ),
            link("lan0", Attachment::Etherstub("zrstub0".parse().unwrap()), 1400, None),
            link("lan1", Attachment::Existing("br-old".parse().unwrap()), 1500, None),
        ];
        let desired = DesiredZone {
            name: format!("{name}{}", std::process::id()).parse().unwrap(),
            platform: Platform::Linux,
            links,
            etherstubs: vec![stub],
            binary: path("bin/routerd"),
            routerctl: path("bin/routerctl"),
            config: path("router.toml"),
            state: path("state"),
            service: ServiceKind::Process,
            caps: CAPS,
        };
        Self { desired, host: LocalHost::in_netns(host.name()), folder }
    }

    fn plan(&mut self) -> Plan {
        plan(&self.desired, &observe(&self.desired, &mut self.host).unwrap()).unwrap()
    }

    fn apply(&mut self) {
        let plan = self.plan();
        apply(&plan, &mut self.host).unwrap_or_else(|error| panic!("{error}"));
    }

    fn destroy(&mut self) -> Plan {
        let observed = observe(&self.desired, &mut self.host).unwrap();
        let plan = plan_destroy(&self.desired, &observed).unwrap();
        apply(&plan, &mut self.host).unwrap_or_else(|error| panic!("{error}"));
        plan
    }

    fn assert_settled(&mut self) {
        let rest = self.plan();
        assert!(rest.steps.is_empty(), "{}", rest.script());
    }

    fn run(&mut self, line: &str) -> String {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let output = self.host.run(&argv).unwrap();
        assert!(output.is_success(), "{line}: {}", output.stderr);
        output.stdout
    }

    fn in_zone(&mut self, line: &str) -> String {
        let line = format!("ip netns exec {} {line}", self.desired.name);
        self.run(&line)
    }

    fn pid(&self) -> u32 {
        let file = self.desired.state.join(format!("zones/{}.pid", self.desired.name));
        fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    /// What the host is like outside the zone.
    fn footprint(&mut self) -> BTreeMap<String, Value> {
        let links: Vec<Value> = serde_json::from_str(&self.run("ip -j link")).unwrap();
        links.into_iter().map(|link| (link["ifname"].to_string(), link)).collect()
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        let name = self.desired.name.as_str();
        if !Path::new("/run/netns").join(name).exists() {
            return;
        }
        let pids = Command::new("ip").args(["netns", "pids", name]).output();
        for pid in pids.iter().flat_map(|pids| pids.stdout.split(|byte| *byte == b'\n')) {
            let pid = String::from_utf8_lossy(pid).into_owned();
            if !pid.is_empty() {
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
            }
        }
        let _ = Command::new("ip").args(["netns", "del", name]).status();
    }
}

/// A host with a NIC that leads to a modem, and a bridge that somebody made.
fn host(lab: &Lab) -> Namespace {
    let (host, modem) = (lab.namespace("host").unwrap(), lab.namespace("modem").unwrap());
    lab.veth((&host, "nic0"), (&modem, "cable0")).unwrap();
    lab.veth((&host, "port0"), (&modem, "old0")).unwrap();
    lab.bridge(&host, "br-old", &["port0"]).unwrap();
    // Else a bridge takes the lowest address among its ports.
    host.exec(["ip", "link", "set", "dev", "br-old", "address", "02:00:00:00:00:77"]).unwrap();
    modem.exec(["ip", "address", "add", "198.51.100.1/24", "dev", "cable0"]).unwrap();
    host
}

#[test]
fn a_zone_is_made_found_whole_repaired_and_removed_without_a_trace() {
    let lab = Lab::new("zone").unwrap();
    let mut zone = Zone::new("zrt", &host(&lab));
    let before = zone.footprint();

    zone.apply();
    zone.assert_settled();
    let addresses = zone.in_zone("ip -j address show scope global");
    assert!(!addresses.contains("\"local\""), "{addresses}");
    assert_eq!(zone.in_zone("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
    assert_eq!(zone.in_zone("cat /sys/class/net/wan0/address").trim(), "02:08:20:0a:0b:01");
    assert_eq!(zone.in_zone("cat /sys/class/net/lan0/mtu").trim(), "1400");
    assert_eq!(zone.in_zone("ip -6 address show"), "");

    let (first_mac, pid) = (zone.in_zone("cat /sys/class/net/lan0/address"), zone.pid());
    zone.run("ip link del dev zrstub0");
    let outside = zone.footprint().into_keys().find(|name| name.contains("zrt")).unwrap();
    zone.run(&format!("ip link del dev {}", outside.trim_matches('"')));
    zone.in_zone("ip address add 203.0.113.9/24 dev wan0");
    zone.in_zone("ip link set dev wan0 down");
    zone.run(&format!("kill -KILL {pid}"));
    assert!(!zone.plan().steps.is_empty());
    zone.apply();
    zone.assert_settled();
    assert_eq!(zone.in_zone("cat /sys/class/net/lan0/address"), first_mac, "the MAC is derived");
    let addresses = zone.in_zone("ip -j address show scope global");
    assert!(!addresses.contains("203.0.113.9"), "{addresses}");

    let pid = zone.pid();
    zone.destroy();
    assert_eq!(zone.footprint(), before);
    assert!(!Path::new("/run/netns").join(zone.desired.name.as_str()).exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the service is stopped");
    assert_eq!(zone.destroy().steps, []);
    let left: Vec<_> = fs::read_dir(zone.folder.path().join("state/zones"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [format!("{}.log", zone.desired.name).as_str()]);
}

#[test]
fn frames_pass_between_host_bridge_and_zone_but_the_kernel_answers_nothing() {
    let lab = Lab::new("zone").unwrap();
    let host = host(&lab);
    let client = lab.namespace("client").unwrap();
    let mut zone = Zone::new("zrf", &host);
    zone.apply();
    lab.veth((&client, "eth0"), (&host, "web0")).unwrap();
    host.exec(["ip", "link", "set", "dev", "web0", "master", "zrstub0"]).unwrap();
    client.exec(["ip", "address", "add", "10.0.0.5/24", "dev", "eth0"]).unwrap();
    let received = |zone: &mut Zone| -> u64 {
        zone.in_zone("cat /sys/class/net/lan0/statistics/rx_packets").trim().parse().unwrap()
    };
    let sent = |zone: &mut Zone| -> u64 {
        zone.in_zone("cat /sys/class/net/lan0/statistics/tx_packets").trim().parse().unwrap()
    };
    let before = received(&mut zone);
    client.exec(["ping", "-c", "2", "-W", "1", "10.0.0.1"]).unwrap_err();
    assert!(received(&mut zone) > before, "the client's ARP requests arrive");
    assert_eq!(sent(&mut zone), 0, "a kernel without address has nothing to say");
    let plan = zone.destroy();
    assert_eq!(plan.notes, ["etherstub zrstub0 stays: web0 is attached to it"]);
    host.exec(["ip", "link", "del", "dev", "web0"]).unwrap();
    zone.destroy();
    assert!(!zone.footprint().contains_key("\"zrstub0\""));
}

#[test]
fn a_service_that_does_not_start_is_told_with_its_log_and_started_by_the_next_run() {
    let lab = Lab::new("zone").unwrap();
    let mut zone = Zone::new("zrs", &host(&lab));
    fs::write(&zone.desired.binary, "#!/bin/sh\necho no config >&2\nexit 1\n").unwrap();
    let broken = zone.plan();
    let error = apply(&broken, &mut zone.host).unwrap_err();
    assert!(error.to_string().contains(&format!("{}.log", zone.desired.name)), "{error}");
    fs::write(&zone.desired.binary, SERVICE).unwrap();
    zone.apply();
    zone.assert_settled();
    zone.destroy();
}
