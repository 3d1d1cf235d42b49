//! A Linux host in memory: it understands exactly the commands that the Linux plan uses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::host::{Host, Output};

/// Where a link is: outside any zone, or in one.
type Place = Option<String>;

#[derive(Clone, PartialEq, Debug, Default)]
struct FakeLink {
    index: u32,
    kind: String,
    mtu: u32,
    mac: String,
    up: bool,
    master: Option<String>,
    alias: Option<String>,
    addrgen_none: bool,
    /// Peer or lower link.
    lower: Option<u32>,
    vlan: Option<u16>,
}

/// Links, namespaces, files and processes, all made up.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct FakeHost {
    links: BTreeMap<(Place, String), FakeLink>,
    zones: BTreeSet<String>,
    settings: BTreeMap<(String, String), String>,
    pub(crate) addresses: BTreeSet<String>,
    pub(crate) files: BTreeMap<PathBuf, String>,
    pids: BTreeMap<u32, String>,
    next: u32,
    /// Changes until the next one fails; `None`: none does.
    pub(crate) fail_after: Option<usize>,
}

impl FakeHost {
    /// A host with one NIC.
    pub(crate) fn with_nic(name: &str) -> Self {
        let mut host = Self::default();
        host.files.insert("/etc/machine-id".into(), "0123456789abcdef\n".into());
        let nic = FakeLink { mtu: 1500, mac: "52:54:00:00:00:01".into(), ..FakeLink::default() };
        host.insert(None, name, nic);
        host
    }

    /// Links, namespaces and processes: what a destroyed zone must leave as it was.
    pub(crate) fn footprint(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let links: Vec<_> =
            self.links.iter().map(|(at, link)| (at.clone(), link.kind.clone())).collect();
        (links, self.zones.clone(), self.pids.clone())
    }

    /// Somebody deletes a link behind our back.
    pub(crate) fn delete(&mut self, zone: Option<&str>, name: &str) {
        let key = (zone.map(str::to_owned), name.to_owned());
        let link = self.links.remove(&key).unwrap_or_else(|| panic!("no link {key:?}"));
        // A peer goes with its end, an upper link with its lower one.
        self.links.retain(|_, other| {
            other.lower != Some(link.index) || (other.kind == "veth") != (link.kind == "veth")
        });
        if link.kind == "vlan" {
            self.links.retain(|_, other| other.lower != Some(link.index));
        }
        for port in self.links.values_mut().filter(|port| port.master.as_deref() == Some(name)) {
            port.master = None;
        }
    }

    /// Somebody makes a link.
    pub(crate) fn add(&mut self, name: &str, kind: &str, master: Option<&str>) {
        let master = master.map(str::to_owned);
        let link =
            FakeLink { kind: kind.into(), mtu: 1500, up: true, master, ..FakeLink::default() };
        self.insert(None, name, link);
    }

    /// The process ends.
    pub(crate) fn kill_all(&mut self) {
        self.pids.clear();
    }

    fn insert(&mut self, place: Place, name: &str, mut link: FakeLink) -> u32 {
        self.next += 1;
        link.index = self.next;
        let old = self.links.insert((place, name.to_owned()), link);
        assert!(old.is_none(), "{name} exists");
        self.next
    }

    fn show(&self, place: &Place) -> String {
        let name_of = |index: u32| {
            let mut all = self.links.iter();
            all.find(|(_, link)| link.index == index)
                .map(|((at, name), _)| (at.clone(), name.clone()))
        };
        let links =
            self.links.iter().filter(|((at, _), _)| at == place).map(|((_, name), link)| {
                let mut value = json!({
                    "ifindex": link.index, "ifname": name, "mtu": link.mtu, "address": link.mac,
                    "flags": if link.up { json!(["UP"]) } else { json!([]) },
                    "linkinfo": {"info_kind": link.kind, "info_data": {}},
                    "inet6_addr_gen_mode": if link.addrgen_none { "none" } else { "eui64" },
                });
                if link.kind == "macvlan" {
                    value["linkinfo"]["info_data"]["mode"] = json!("bridge");
                }
                for (key, text) in [("master", &link.master), ("ifalias", &link.alias)] {
                    if let Some(text) = text {
                        value[key] = json!(text);
                    }
                }
                if let Some(id) = link.vlan {
                    value["linkinfo"]["info_data"]["id"] = json!(id);
                }
                match link.lower.map(|index| (index, name_of(index))) {
                    Some((_, Some((at, lower)))) if at == *place => value["link"] = json!(lower),
                    Some((index, _)) => value["link_index"] = json!(index),
                    None => {}
                }
                value
            });
        Value::Array(links.collect()).to_string()
    }

    fn index_of(&self, place: &Place, name: &str) -> u32 {
        self.links[&(place.clone(), name.to_owned())].index
    }

    /// `ip link add`, in the two or three forms that we use.
    fn link_add(&mut self, words: &[&str]) {
        let after = |key: &str| {
            let at = words.iter().position(|word| *word == key)?;
            words.get(at + 1).map(|word| (*word).to_owned())
        };
        let name = after("name").unwrap();
        let kind = after("type").unwrap();
        let mtu = after("mtu").map_or(1500, |mtu| mtu.parse().unwrap());
        let mac = after("address").unwrap_or_else(|| "fe:00:00:00:00:01".into());
        let link = FakeLink { kind: kind.clone(), mtu, ..FakeLink::default() };
        let lower = after("link").map(|lower| self.index_of(&None, &lower));
        match kind.as_str() {
            "bridge" => {
                self.insert(None, &name, link);
            }
            "vlan" => {
                let vlan = after("id").map(|id| id.parse().unwrap());
                self.insert(None, &name, FakeLink { vlan, lower, ..link });
            }
            "macvlan" => {
                self.insert(after("netns"), &name, FakeLink { mac, lower, ..link });
            }
            "veth" => {
                let peer = words.iter().position(|word| *word == "peer").unwrap();
                let peer_name = words[peer + 2];
                let here = self.insert(None, &name, link.clone());
                let peer_link = FakeLink { mac, lower: Some(here), ..link };
                let there = self.insert(after("netns"), peer_name, peer_link);
                self.links.get_mut(&(None, name)).unwrap().lower = Some(there);
            }
            other => panic!("no kind {other}"),
        }
    }

    fn link_set(&mut self, place: Place, name: &str, change: &[&str]) {
        let link = self.links.get_mut(&(place, name.to_owned())).unwrap();
        match change {
            ["up"] => link.up = true,
            ["alias", alias] => link.alias = Some((*alias).into()),
            ["addrgenmode", "none"] => link.addrgen_none = true,
            ["mtu", mtu] => link.mtu = mtu.parse().unwrap(),
            ["address", mac] => link.mac = (*mac).into(),
            ["master", master] => link.master = Some((*master).into()),
            other => panic!("no change {other:?}"),
        }
    }

    fn change(&mut self, words: &[&str]) {
        match words {
            ["ip", "netns", "add", zone] => {
                assert!(self.zones.insert((*zone).into()));
                let lo = FakeLink { mtu: 65_536, ..FakeLink::default() };
                self.insert(Some((*zone).into()), "lo", lo);
                for (path, value) in [
                    ("ipv4/ip_forward", "1"),
                    ("ipv6/conf/all/disable_ipv6", "0"),
                    ("ipv6/conf/default/disable_ipv6", "0"),
                ] {
                    self.settings.insert(((*zone).into(), path.into()), value.into());
                }
            }
            ["ip", "netns", "del", zone] => {
                assert!(self.zones.remove(*zone));
                let gone = Some((*zone).to_owned());
                let inside: Vec<_> =
                    self.links.keys().filter(|key| key.0 == gone).cloned().collect();
                for (_, name) in inside {
                    if self.links.contains_key(&(gone.clone(), name.clone())) {
                        self.delete(Some(zone), &name);
                    }
                }
            }
            ["ip", "link", "add", rest @ ..] => self.link_add(rest),
            ["ip", "link", "del", "dev", name] => self.delete(None, name),
            ["ip", "-n", zone, "link", "del", "dev", name] => self.delete(Some(zone), name),
            ["ip", "link", "set", "dev", name, rest @ ..] => self.link_set(None, name, rest),
            ["ip", "-n", zone, "link", "set", "dev", name, rest @ ..] => {
                self.link_set(Some((*zone).into()), name, rest);
            }
            ["ip", "-n", _, "addr", "flush", "dev", name] => {
                self.addresses.remove(*name);
            }
            ["ip", "netns", "exec", zone, "sh", "-c", script] => {
                let (value, path) =
                    script.strip_prefix("echo ").unwrap().split_once(" > /proc/sys/net/").unwrap();
                self.settings.insert(((*zone).into(), path.into()), value.into());
            }
            ["sh", "-c", script] if script.starts_with("kill ") => {
                let pid = script.split(' ').nth(1).unwrap().parse().unwrap();
                self.pids.remove(&pid);
                self.files.remove(&PathBuf::from(format!("/proc/{pid}/cmdline")));
            }
            ["timeout", _, "sh", "-c", _, "wait", ..] => {}
            other => panic!("not a command of this host: {other:?}"),
        }
    }

    fn query(&self, words: &[&str]) -> Option<String> {
        Some(match words {
            ["ip", "-j", "netns", "list"] => {
                let zones = self.zones.iter().map(|zone| json!({"name": zone}));
                if self.zones.is_empty() {
                    String::new()
                } else {
                    Value::from_iter(zones).to_string()
                }
            }
            ["ip", "-j", "-d", "link", "show"] => self.show(&None),
            ["ip", "-n", zone, "-j", "-d", "link", "show"] => self.show(&Some((*zone).into())),
            ["ip", "-n", _, "-j", "addr", "show"] => {
                let links =
                    self.addresses.iter().map(|name| json!({"ifname": name, "addr_info": [{}]}));
                Value::from_iter(links).to_string()
            }
            ["ip", "netns", "exec", zone, "grep", "-Hs", "", paths @ ..] => {
                let line = |path: &&str| {
                    let key = ((*zone).to_owned(), path.strip_prefix("/proc/sys/net/")?.to_owned());
                    Some(format!("{path}:{}\n", self.settings.get(&key)?))
                };
                paths.iter().filter_map(line).collect()
            }
            ["ip", "netns", "pids", zone] => {
                let inside = self.pids.iter().filter(|(_, at)| at == zone);
                inside.map(|(pid, _)| format!("{pid}\n")).collect()
            }
            _ => return None,
        })
    }

    fn count_change(&mut self) -> io::Result<()> {
        match &mut self.fail_after {
            Some(0) => Err(io::Error::other("the fake was told to fail")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Host for FakeHost {
    fn run(&mut self, argv: &[String]) -> io::Result<Output> {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        if let Some(stdout) = self.query(&words) {
            return Ok(Output { status: Some(0), stdout, ..Output::default() });
        }
        if self.count_change().is_err() {
            let stderr = "RTNETLINK answers: Operation not permitted\n".into();
            return Ok(Output { status: Some(2), stderr, ..Output::default() });
        }
        self.change(&words);
        Ok(Output { status: Some(0), ..Output::default() })
    }

    fn spawn(&mut self, argv: &[String], pid_file: &Path, _: &Path) -> io::Result<()> {
        self.count_change()?;
        self.next += 1;
        self.pids.insert(self.next, argv[4].clone());
        let command = argv[5..].iter().map(|word| format!("{word}\0")).collect();
        self.files.insert(PathBuf::from(format!("/proc/{}/cmdline", self.next)), command);
        self.files.insert(pid_file.to_owned(), format!("{}\n", self.next));
        Ok(())
    }

    fn read(&mut self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.files.get(path).cloned())
    }

    fn write(&mut self, path: &Path, contents: &str) -> io::Result<()> {
        self.count_change()?;
        self.files.insert(path.to_owned(), contents.to_owned());
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.count_change()?;
        self.files.remove(path);
        Ok(())
    }

    fn has_folder(&mut self, _: &Path) -> bool {
        false
    }
}
