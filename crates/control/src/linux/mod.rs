//! Linux: a network namespace for the zone, a bridge for each etherstub, and for each link
//!
//! | attachment | outside the zone | in the zone |
//! |---|---|---|
//! | etherstub, bridge | one end of a veth pair, a port of the bridge | the other end |
//! | NIC | nothing | macvlan in bridge mode over the NIC |
//! | any, with a VLAN | a `vlan` link over the NIC or bridge | macvlan in bridge mode over that |
//!
//! A macvlan is what a Crossbow vNIC over a NIC is: a MAC of its own on a NIC that the host may go on
//! using. (A Wi-Fi NIC in station mode carries one MAC only; bridge it or use another.)
//!
//! The kernel's own stack stays silent in the zone: no address, no IPv6, no forwarding. What is ours
//! carries the alias `zone-router:ZONE`; the namespace itself, which can carry none, is in the record.

mod observe;
mod service;

use std::collections::BTreeSet;

use packet::MacAddr;

pub use observe::{LinkSeen, Observed, ZoneSeen};
pub use service::{ProcessSeen, ServiceSeen};

pub(crate) use observe::observe;
pub(crate) use service::unit_texts;

use crate::record::{Record, check_paths};
use crate::step::Plan;
use crate::{Attachment, DesiredLink, DesiredZone, PlanError};

const IP_FORWARD: &str = "ipv4/ip_forward";

/// Longest name of a Linux link (`IFNAMSIZ` without its zero).
const NAME_BYTES_MAX: usize = 15;

/// Kernel settings of the zone: path below `/proc/sys/net` and the value that keeps the kernel silent.
/// `default` comes before any link moves in, so that none ever speaks IPv6.
fn settings(desired: &DesiredZone) -> Vec<(String, &'static str)> {
    let ipv6 = |link: &str| (format!("ipv6/conf/{link}/disable_ipv6"), "1");
    let mut settings = vec![(IP_FORWARD.to_owned(), "0"), ipv6("default"), ipv6("all")];
    settings.extend(desired.links.iter().map(|link| ipv6(link.name.as_str())));
    settings
}

/// The alias that marks what belongs to a zone.
fn mark(desired: &DesiredZone) -> String {
    format!("zone-router:{}", desired.name)
}

/// FNV-1a, 64 bits: short, fixed for ever, and no secret depends on it.
fn fnv1a(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Name of what a link has outside the zone: `ZONE-LINK`, shortened with a hash where that is too long.
fn outside_name(desired: &DesiredZone, link: &DesiredLink) -> String {
    let (zone, link) = (desired.name.as_str(), link.name.as_str());
    let name = format!("{zone}-{link}");
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let hash = format!("-{:08x}", fnv1a(&[zone, link]) as u32);
    format!("{}{hash}", &name[..NAME_BYTES_MAX - hash.len()])
}

/// A MAC that stays the same when the link is made again: the ISP knows us by it. Unique per host
/// because the machine's identity goes in; locally administered, unicast.
fn derived_mac(machine: &str, desired: &DesiredZone, link: &DesiredLink) -> MacAddr {
    let [.., b, c, d, e, f] =
        fnv1a(&[machine, desired.name.as_str(), link.name.as_str()]).to_be_bytes();
    MacAddr([0x02, b, c, d, e, f])
}

/// One planning run: what is wanted, what is there, and what is known to be ours.
struct Planner<'a> {
    desired: &'a DesiredZone,
    observed: &'a Observed,
    mark: String,
    plan: Plan,
    /// Links outside the zone that the plan has removed so far.
    removed: BTreeSet<&'a str>,
}

/// What a link shall be like; `None`: as it is.
#[derive(Default)]
struct Want<'a> {
    mac: Option<MacAddr>,
    mtu: Option<u16>,
    master: Option<&'a str>,
    /// Whether it is ours to mark, silence and keep.
    is_ours: bool,
}

/// Where a link is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InZone,
}

pub(crate) fn plan(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    check_paths(desired)?;
    let mut planner = Planner::new(desired, observed);
    planner.check()?;
    let (first, last) = planner.records();
    first.plan_write(observed.record.as_ref(), desired, &mut planner.plan);
    service::plan_stop_stale(desired, observed, &mut planner.plan);
    planner.zone();
    planner.remove_leftovers();
    for stub in &desired.etherstubs {
        planner.etherstub(stub.as_str());
    }
    for link in &desired.links {
        planner.link(link);
    }
    let mut plan = planner.plan;
    service::plan_start(desired, observed, &mut plan)?;
    last.plan_write(Some(&first), desired, &mut plan);
    Ok(plan)
}

pub(crate) fn plan_destroy(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    check_paths(desired)?;
    let mut planner = Planner::new(desired, observed);
    let record = observed.record.clone().unwrap_or_default();
    service::plan_remove(desired, observed, &record, &mut planner.plan);
    planner.remove_outside();
    planner.remove_zone(&record);
    let kept = planner.remove_etherstubs();
    let mut plan = planner.plan;
    if observed.record.is_none() {
        return Ok(plan);
    }
    if kept.is_empty() {
        Record::plan_remove(desired, &mut plan);
    } else {
        let rest = Record { links: kept, ..Record::default() };
        rest.plan_write(observed.record.as_ref(), desired, &mut plan);
    }
    Ok(plan)
}

impl<'a> Planner<'a> {
    fn new(desired: &'a DesiredZone, observed: &'a Observed) -> Self {
        let mark = mark(desired);
        Self { desired, observed, mark, plan: Plan::default(), removed: BTreeSet::new() }
    }

    fn outside(&self, name: &str) -> Option<&'a LinkSeen> {
        self.observed.links.iter().find(|link| link.name == name)
    }

    fn in_zone(&self, name: &str) -> Option<&'a LinkSeen> {
        self.observed.zone.as_ref()?.links.iter().find(|link| link.name == name)
    }

    fn is_ours(&self, link: &LinkSeen) -> bool {
        let is_recorded =
            self.observed.record.as_ref().is_some_and(|record| record.links.contains(&link.name));
        is_recorded || link.alias.as_ref() == Some(&self.mark)
    }

    /// A port of an etherstub that somebody else attached.
    fn user(&self, stub: &LinkSeen) -> Option<&'a LinkSeen> {
        let mut links = self.observed.links.iter();
        links.find(|link| link.master.as_ref() == Some(&stub.name) && !self.is_ours(link))
    }

    fn note_user(&mut self, stub: &LinkSeen, user: &LinkSeen) {
        let note = format!("etherstub {} stays: {} is attached to it", stub.name, user.name);
        self.plan.notes.push(note);
    }

    /// Whether a link has something of its own outside the zone: all but a macvlan over a NIC.
    fn has_outside(&self, link: &DesiredLink) -> bool {
        link.vlan.is_some() || self.is_on_bridge(link)
    }

    fn is_on_bridge(&self, link: &DesiredLink) -> bool {
        match &link.over {
            Attachment::Etherstub(_) => true,
            Attachment::Existing(lower) => {
                self.outside(lower.as_str()).is_some_and(|seen| seen.kind == "bridge")
            }
        }
    }

    /// Names outside the zone that the zone shall have.
    fn outside_wanted(&self) -> BTreeSet<String> {
        let links = self.desired.links.iter().filter(|link| self.has_outside(link));
        let stubs = self.desired.etherstubs.iter().map(|stub| stub.as_str().to_owned());
        links.map(|link| outside_name(self.desired, link)).chain(stubs).collect()
    }

    /// Refuses what would touch the work of others or cannot succeed.
    fn check(&self) -> Result<(), PlanError> {
        let is_recorded = self.observed.record.as_ref().is_some_and(|record| record.zone);
        if self.observed.zone.is_some() && !is_recorded {
            return Err(PlanError::ForeignZone { zone: self.desired.name.clone() });
        }
        for stub in &self.desired.etherstubs {
            if self.outside(stub.as_str()).is_some_and(|seen| seen.kind != "bridge") {
                return Err(PlanError::NotABridge { link: stub.to_string() });
            }
        }
        let mut names = BTreeSet::new();
        for link in &self.desired.links {
            if !names.insert(&link.name) {
                return Err(PlanError::Twice { link: link.name.clone() });
            }
            self.check_link(link)?;
        }
        Ok(())
    }

    fn check_link(&self, link: &DesiredLink) -> Result<(), PlanError> {
        let outside = outside_name(self.desired, link);
        if self.has_outside(link) && self.outside(&outside).is_some_and(|seen| !self.is_ours(seen))
        {
            return Err(PlanError::ForeignLink { link: outside });
        }
        let lower = match &link.over {
            Attachment::Existing(lower) => lower,
            Attachment::Etherstub(stub) if self.desired.etherstubs.contains(stub) => return Ok(()),
            Attachment::Etherstub(stub) => {
                return Err(PlanError::NoSuchStub { stub: stub.clone(), link: link.name.clone() });
            }
        };
        let Some(seen) = self.outside(lower.as_str()) else {
            return Err(PlanError::NoSuchLink { lower: lower.clone(), link: link.name.clone() });
        };
        if !self.is_on_bridge(link) && u32::from(link.mtu) > seen.mtu {
            let (link, mtu) = (link.name.clone(), link.mtu);
            return Err(PlanError::Mtu { link, mtu, lower_mtu: seen.mtu });
        }
        Ok(())
    }

    /// What is ours while the plan runs, and what is ours after it.
    fn records(&self) -> (Record, Record) {
        let wanted = self.outside_wanted();
        let is_ours_or_new =
            |name: &String| self.outside(name).is_none_or(|seen| self.is_ours(seen));
        let present = || self.observed.links.iter().filter(|seen| self.is_ours(seen));
        let used = present().filter(|seen| self.user(seen).is_some());
        let kept: BTreeSet<String> = wanted
            .into_iter()
            .filter(is_ours_or_new)
            .chain(used.map(|seen| seen.name.clone()))
            .collect();
        let before = self.observed.record.clone().unwrap_or_default();
        let files = before.files.into_iter().chain(service::files(self.desired)).collect();
        let last = Record { zone: true, links: kept, files };
        let links = present().map(|seen| seen.name.clone()).chain(last.links.clone()).collect();
        (Record { links, ..last.clone() }, last)
    }

    fn zone(&mut self) {
        let zone = self.desired.name.as_str();
        let seen = self.observed.zone.as_ref();
        if seen.is_none() {
            self.plan
                .run("the zone exists", ["ip", "netns", "add", zone])
                .undo(["ip", "netns", "del", zone]);
        }
        for (path, value) in settings(self.desired) {
            let is_of_link = self
                .desired
                .links
                .iter()
                .any(|link| path == format!("ipv6/conf/{}/disable_ipv6", link.name));
            let has_drifted = match seen {
                Some(seen) => seen.settings.get(&path).is_some_and(|now| now != value),
                // A new zone: links that move in take the default.
                None => !is_of_link && (path == IP_FORWARD || self.has_ipv6()),
            };
            if has_drifted {
                let write = format!("echo {value} > {}{path}", observe::SYSCTL);
                let argv = ["ip", "netns", "exec", zone, "sh", "-c", &write];
                let reason = if path == IP_FORWARD {
                    "the kernel forwards nothing in the zone".to_owned()
                } else {
                    format!("the kernel speaks no IPv6 in the zone ({path})")
                };
                self.plan.run(reason, argv);
            }
        }
        if self.in_zone("lo").is_none_or(|lo| !lo.is_up) {
            self.run(Place::InZone, "loopback is up", &["set", "dev", "lo", "up"]);
        }
    }

    /// Whether the kernel speaks IPv6 at all.
    fn has_ipv6(&self) -> bool {
        self.observed.links.iter().any(|link| link.ipv6_automatic.is_some())
    }

    /// Removes links of ours that are not wanted any more.
    fn remove_leftovers(&mut self) {
        let wanted = self.outside_wanted();
        for seen in &self.observed.links {
            if !self.is_ours(seen) || wanted.contains(&seen.name) {
                continue;
            }
            match self.user(seen) {
                Some(user) => self.note_user(seen, user),
                None => self.remove(seen, Place::Outside, "not part of the zone any more"),
            }
        }
        let Some(zone) = &self.observed.zone else { return };
        for seen in &zone.links {
            let is_wanted = self.desired.links.iter().any(|link| link.name.as_str() == seen.name);
            if !is_wanted && seen.alias.as_ref() == Some(&self.mark) && !self.is_gone(seen) {
                self.remove(seen, Place::InZone, "not part of the zone any more");
            }
        }
    }

    /// Whether a link of the zone went with what the plan has removed outside.
    fn is_gone(&self, seen: &LinkSeen) -> bool {
        let lower = self.observed.links.iter().find(|link| Some(link.index) == seen.lower_index);
        lower.is_some_and(|lower| self.removed.contains(lower.name.as_str()))
    }

    fn remove(&mut self, seen: &'a LinkSeen, place: Place, reason: &str) {
        self.run(place, format!("{}: {reason}", seen.name), &["del", "dev", &seen.name]);
        if place == Place::Outside {
            self.removed.insert(&seen.name);
        }
    }

    fn etherstub(&mut self, name: &str) {
        let what = format!("etherstub {name}");
        match self.outside(name) {
            Some(seen) if self.is_ours(seen) => {
                self.converge(Place::Outside, seen, &Want { is_ours: true, ..Want::default() });
            }
            Some(seen) => {
                self.plan
                    .notes
                    .push(format!("bridge {name} was there before; it stays when the zone goes"));
                self.converge(Place::Outside, seen, &Want::default());
            }
            None => {
                let argv = ["ip", "link", "add", "name", name, "type", "bridge", "stp_state", "0"];
                self.plan
                    .run(format!("{what} exists"), argv)
                    .undo(["ip", "link", "del", "dev", name]);
                let fresh = self.fresh(name);
                self.converge(Place::Outside, &fresh, &Want { is_ours: true, ..Want::default() });
            }
        }
    }

    /// A link that the plan has just made, as the kernel makes it.
    fn fresh(&self, name: &str) -> LinkSeen {
        let ipv6_automatic = self.has_ipv6().then_some(true);
        LinkSeen { name: name.to_owned(), ipv6_automatic, ..LinkSeen::default() }
    }

    fn link(&mut self, link: &'a DesiredLink) {
        let (lower, is_on_bridge) = (link.over.lower(), self.is_on_bridge(link));
        if self.outside(lower).is_some_and(|seen| !seen.is_up) && !is_on_bridge {
            self.run(Place::Outside, format!("{lower} is up"), &["set", "dev", lower, "up"]);
        }
        match link.vlan {
            None if is_on_bridge => self.veth(link, lower),
            None => self.macvlan(link, lower),
            Some(vlan) => {
                let outside = outside_name(self.desired, link);
                self.vlan(&outside, lower, vlan.number());
                self.macvlan(link, &outside);
            }
        }
    }

    fn veth(&mut self, link: &'a DesiredLink, bridge: &str) {
        let outside = outside_name(self.desired, link);
        let (host_end, zone_end) = (self.outside(&outside), self.in_zone(link.name.as_str()));
        let is_pair = host_end.zip(zone_end).is_some_and(|(host_end, zone_end)| {
            let is_veth = host_end.kind == "veth" && zone_end.kind == "veth";
            is_veth
                && host_end.lower_index == Some(zone_end.index)
                && zone_end.lower_index == Some(host_end.index)
        });
        if !is_pair {
            if let Some(seen) = host_end {
                self.remove(seen, Place::Outside, "its other end is not in the zone");
            }
            self.remove_mismatch(zone_end);
            self.make_veth(link, &outside);
        }
        let fresh = LinkSeen { mtu: u32::from(link.mtu), ..self.fresh(&outside) };
        let want = Want { mtu: Some(link.mtu), master: Some(bridge), is_ours: true, mac: None };
        self.converge(Place::Outside, host_end.filter(|_| is_pair).unwrap_or(&fresh), &want);
        self.router_end(link, zone_end.filter(|_| is_pair));
    }

    fn make_veth(&mut self, link: &DesiredLink, outside: &str) {
        let (zone, mtu) = (self.desired.name.as_str(), link.mtu.to_string());
        let mac = self.mac(link).map(|mac| mac.to_string());
        let mut argv = vec!["ip", "link", "add", "name", outside, "mtu", &mtu, "type", "veth"];
        argv.extend(["peer", "name", link.name.as_str(), "netns", zone, "mtu", &mtu]);
        argv.extend(mac.iter().flat_map(|mac| ["address", mac.as_str()]));
        let reason = format!("link {} reaches {}", link.name, link.over);
        self.plan.run(reason, argv).undo(["ip", "link", "del", "dev", outside]);
    }

    fn vlan(&mut self, outside: &str, lower: &str, vlan: u16) {
        let seen = self.outside(outside);
        let is_right = seen.is_some_and(|seen| {
            seen.kind == "vlan" && seen.vlan == Some(vlan) && seen.lower.as_deref() == Some(lower)
        });
        if !is_right {
            if let Some(seen) = seen {
                self.remove(seen, Place::Outside, "another VLAN or lower link is wanted");
            }
            let id = vlan.to_string();
            let argv =
                ["ip", "link", "add", "link", lower, "name", outside, "type", "vlan", "id", &id];
            self.plan
                .run(format!("VLAN {vlan} of {lower} is apart"), argv)
                .undo(["ip", "link", "del", "dev", outside]);
        }
        let fresh = self.fresh(outside);
        let want = Want { is_ours: true, ..Want::default() };
        self.converge(Place::Outside, seen.filter(|_| is_right).unwrap_or(&fresh), &want);
    }

    fn macvlan(&mut self, link: &'a DesiredLink, lower: &str) {
        let zone_end = self.in_zone(link.name.as_str());
        let lower_index =
            self.outside(lower).filter(|seen| !self.removed.contains(seen.name.as_str()));
        let is_right = zone_end.zip(lower_index).is_some_and(|(seen, lower)| {
            seen.kind == "macvlan"
                && seen.mode.as_deref() == Some("bridge")
                && seen.lower_index == Some(lower.index)
        });
        if !is_right {
            self.remove_mismatch(zone_end);
            let (zone, mtu) = (self.desired.name.as_str(), link.mtu.to_string());
            let mac = self.mac(link).map(|mac| mac.to_string());
            let mut argv = vec!["ip", "link", "add", "link", lower, "name", link.name.as_str()];
            argv.extend(["netns", zone, "mtu", &mtu]);
            argv.extend(mac.iter().flat_map(|mac| ["address", mac.as_str()]));
            argv.extend(["type", "macvlan", "mode", "bridge"]);
            let undo = ["ip", "-n", zone, "link", "del", "dev", link.name.as_str()];
            self.plan.run(format!("link {} reaches {}", link.name, link.over), argv).undo(undo);
        }
        self.router_end(link, zone_end.filter(|_| is_right));
    }

    /// Clears the way for a link of the zone that has the wrong kind or lower link.
    fn remove_mismatch(&mut self, zone_end: Option<&'a LinkSeen>) {
        if let Some(seen) = zone_end
            && !self.is_gone(seen)
        {
            self.remove(seen, Place::InZone, "it does not lead where it should");
        }
    }

    /// The MAC that is asked for, or one of our own making; without either, the kernel's choice stays.
    fn mac(&self, link: &DesiredLink) -> Option<MacAddr> {
        let derived = || {
            let machine = self.observed.machine.as_deref()?;
            Some(derived_mac(machine, self.desired, link))
        };
        link.mac.or_else(derived)
    }

    fn router_end(&mut self, link: &DesiredLink, seen: Option<&LinkSeen>) {
        let mac = self.mac(link);
        let mtu = u32::from(link.mtu);
        let fresh = LinkSeen { mtu, mac, ..self.fresh(link.name.as_str()) };
        let want = Want { mac, mtu: Some(link.mtu), master: None, is_ours: true };
        self.converge(Place::InZone, seen.unwrap_or(&fresh), &want);
        let zone = self.observed.zone.as_ref();
        if seen.is_some() && zone.is_some_and(|zone| zone.addressed.contains(link.name.as_str())) {
            let (zone, name) = (self.desired.name.as_str(), link.name.as_str());
            let argv = ["ip", "-n", zone, "addr", "flush", "dev", name];
            self.plan.run(format!("link {name} has no kernel address"), argv);
        }
    }

    /// Brings the settings of one link from what is seen to what is wanted.
    fn converge(&mut self, place: Place, seen: &LinkSeen, want: &Want<'_>) {
        let name = seen.name.clone();
        let mark = self.mark.clone();
        if want.is_ours && seen.alias.as_ref() != Some(&mark) {
            self.set(place, &name, "is marked as ours", &["alias", &mark]);
        }
        if want.is_ours && seen.ipv6_automatic == Some(true) {
            self.set(place, &name, "gets no address by itself", &["addrgenmode", "none"]);
        }
        if let Some(mtu) = want.mtu.filter(|mtu| u32::from(*mtu) != seen.mtu) {
            self.set(place, &name, "has the right MTU", &["mtu", &mtu.to_string()]);
        }
        if let Some(mac) = want.mac.filter(|mac| Some(*mac) != seen.mac) {
            self.set(place, &name, "has the right MAC", &["address", &mac.to_string()]);
        }
        if let Some(master) = want.master.filter(|master| Some(*master) != seen.master.as_deref()) {
            self.set(place, &name, &format!("is a port of {master}"), &["master", master]);
        }
        if !seen.is_up {
            self.set(place, &name, "is up", &["up"]);
        }
    }

    fn set(&mut self, place: Place, link: &str, what: &str, change: &[&str]) {
        let arguments = [&["set", "dev", link], change].concat();
        self.run(place, format!("{link} {what}"), &arguments);
    }

    /// Adds an `ip link` command.
    fn run(&mut self, place: Place, reason: impl Into<String>, arguments: &[&str]) {
        let prefix: &[&str] = match place {
            Place::Outside => &["ip", "link"],
            Place::InZone => &["ip", "-n", self.desired.name.as_str(), "link"],
        };
        self.plan.run(reason, prefix.iter().chain(arguments).copied());
    }

    /// Removes every link of ours but the etherstubs.
    fn remove_outside(&mut self) {
        for seen in &self.observed.links {
            if self.is_ours(seen) && seen.kind != "bridge" {
                self.remove(seen, Place::Outside, "the zone goes");
            }
        }
    }

    /// Removes the zone. Its links go first: a process that is still in it would keep them alive.
    fn remove_zone(&mut self, record: &Record) {
        let Some(zone) = &self.observed.zone else { return };
        let name = self.desired.name.as_str();
        if !record.zone {
            self.plan.notes.push(format!("namespace {name} was made by others; it stays"));
            return;
        }
        for seen in &zone.links {
            if seen.alias.as_ref() == Some(&self.mark) && !self.is_gone(seen) {
                self.remove(seen, Place::InZone, "the zone goes");
            }
        }
        self.plan.run("the zone goes", ["ip", "netns", "del", name]);
    }

    /// Removes the etherstubs of ours that nobody else uses; returns those that stay.
    fn remove_etherstubs(&mut self) -> BTreeSet<String> {
        let mut kept = BTreeSet::new();
        for stub in &self.observed.links {
            if !self.is_ours(stub) || stub.kind != "bridge" {
                continue;
            }
            if let Some(user) = self.user(stub) {
                self.note_user(stub, user);
                kept.insert(stub.name.clone());
            } else {
                self.remove(stub, Place::Outside, "the zone goes");
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests;
