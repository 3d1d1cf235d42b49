//! illumos with `dladm` and `zonecfg` (OmniOS and its like): etherstubs, vNICs made beforehand, and an
//! exclusive-IP zone that owns them.
//!
//! Three facts of the platform shape the plan. A vNIC over an etherstub starts with an MTU of 9000 and
//! one given at creation does not always take, so the MTU is set again. Link protection would drop what
//! we forward, so it is reset, and no link carries an `allowed-address`. A zone boots without a link
//! that is missing or busy, so the plan checks after the boot that the links are inside.

use std::collections::BTreeSet;
use std::path::Path;

use config::ZoneCaps;
use packet::MacAddr;

use crate::host::{Host, ObserveError, query};
use crate::record::{Record, check_paths, file};
use crate::step::{Action, Plan};
use crate::{Attachment, DesiredLink, DesiredZone, PlanError, Platform, ServiceKind};

/// Where the zone sees our programs.
pub(crate) const ZONE_PROGRAMS: &str = "/opt/zone-router";

/// Where the zone sees the configuration; the service manifest names the file in it.
pub(crate) const ZONE_CONFIG: &str = "/etc/zone-router";

/// The service in the zone.
pub(crate) const SERVICE: &str = "network/zone-router";

/// Threads that the zone may have: the router has some tens, the zone's own services the rest.
const LWPS_MAX: &str = "2000";

/// Seconds from boot until the zone can be logged into; a first boot imports its services.
const BOOT_SECS: u32 = 180;

/// The state of an illumos host, as far as a zone is concerned.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    /// What was made for the zone before.
    pub record: Option<Record>,
    /// Links that exist, of any class.
    pub links: BTreeSet<String>,
    /// Etherstubs among them.
    pub etherstubs: BTreeSet<String>,
    /// vNICs among them.
    pub vnics: Vec<VnicSeen>,
    /// State of the zone (`configured`, `installed`, `running`, ...); `None` if there is none.
    pub zone_state: Option<String>,
    /// State of the service in a running zone.
    pub service_state: Option<String>,
}

/// A vNIC.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VnicSeen {
    /// Name.
    pub name: String,
    /// Lower link.
    pub over: String,
    /// Hardware address.
    pub mac: Option<MacAddr>,
    /// VLAN, 0 if untagged.
    pub vlan: u16,
}

/// Reads what the plan for `desired` depends on. Changes nothing.
pub(crate) fn observe(
    desired: &DesiredZone,
    host: &mut dyn Host,
) -> Result<Observed, ObserveError> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let vnic_fields = ["dladm", "show-vnic", "-p", "-o", "LINK,OVER,MACADDRESS,VID"];
    let zone_state = zone_state(desired, &query(host, &["zoneadm", "list", "-cp"])?);
    let name = desired.name.as_str();
    let service_state = if zone_state.as_deref() == Some("running") {
        let argv = ["zlogin", name, "svcs", "-H", "-o", "state", SERVICE].map(str::to_owned);
        // A service that is not imported yet is an error to svcs, and no state to us.
        host.run(&argv)
            .ok()
            .filter(super::Output::is_success)
            .map(|out| out.stdout.trim().to_owned())
    } else {
        None
    };
    Ok(Observed {
        record: Record::observe(desired, host)?,
        links: lines(query(host, &["dladm", "show-link", "-p", "-o", "LINK"])?),
        etherstubs: lines(query(host, &["dladm", "show-etherstub", "-p", "-o", "LINK"])?),
        vnics: query(host, &vnic_fields)?.lines().filter_map(vnic).collect(),
        zone_state,
        service_state,
    })
}

/// Splits a line of parseable output: fields end at a colon, a backslash takes the next character as it
/// is (dladm(8), "Parsable Output Format").
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            ':' => fields.push(String::new()),
            '\\' => fields[last].extend(characters.next()),
            _ => fields[last].push(character),
        }
    }
    fields
}

fn vnic(line: &str) -> Option<VnicSeen> {
    let mut fields = fields(line).into_iter();
    let (name, over) = (fields.next()?, fields.next()?);
    let mac = fields.next()?.parse().ok();
    Some(VnicSeen { name, over, mac, vlan: fields.next()?.parse().unwrap_or(0) })
}

/// State of our zone in `zoneadm list -cp`: `id:name:state:path:uuid:brand:iptype`, and more on new systems.
fn zone_state(desired: &DesiredZone, text: &str) -> Option<String> {
    let mut lines = text.lines().map(fields);
    let line = lines.find(|line| line.get(1).is_some_and(|name| name == desired.name.as_str()))?;
    line.get(2).cloned()
}

/// What both illumos platforms ask of a zone: a service manager, and files where the manifest has them.
pub(crate) fn check(desired: &DesiredZone) -> Result<(), PlanError> {
    check_paths(desired)?;
    if !matches!(desired.service, ServiceKind::Smf | ServiceKind::None) {
        return Err(PlanError::Service { service: desired.service });
    }
    if desired.binary.parent().and_then(Path::file_name).is_none_or(|folder| folder != "bin") {
        return Err(PlanError::Layout { path: desired.binary.clone(), wanted: "bin/routerd" });
    }
    if desired.config.file_name().is_none_or(|name| name != "router.toml") {
        return Err(PlanError::Layout { path: desired.config.clone(), wanted: "router.toml" });
    }
    for link in &desired.links {
        if let Attachment::Etherstub(stub) = &link.over
            && !desired.etherstubs.contains(stub)
        {
            return Err(PlanError::NoSuchStub { stub: stub.clone(), link: link.name.clone() });
        }
    }
    Ok(())
}

/// Folders of the host that the zone sees read-only: ours, and where in the zone.
pub(crate) fn shared_folders(desired: &DesiredZone) -> [(String, &'static str); 2] {
    let text = |path: Option<&Path>| path.unwrap_or(Path::new("/")).display().to_string();
    [
        (text(desired.binary.parent().and_then(Path::parent)), ZONE_PROGRAMS),
        (text(desired.config.parent()), ZONE_CONFIG),
    ]
}

pub(crate) fn plan(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    check(desired)?;
    check_links(desired, observed)?;
    let mut plan = Plan::default();
    record(desired, observed).plan_write(observed.record.as_ref(), desired, &mut plan);
    for stub in &desired.etherstubs {
        let stub = stub.as_str();
        if !observed.etherstubs.contains(stub) {
            plan.run(format!("etherstub {stub} exists"), ["dladm", "create-etherstub", stub])
                .undo(["dladm", "delete-etherstub", stub]);
        } else if !is_ours(observed, stub) {
            plan.notes
                .push(format!("etherstub {stub} was there before; it stays when the zone goes"));
        }
    }
    for link in &desired.links {
        plan_vnic(link, observed, &mut plan);
    }
    plan_zone(desired, observed, &mut plan)?;
    plan_service(desired, observed, &mut plan);
    Ok(plan)
}

fn is_ours(observed: &Observed, link: &str) -> bool {
    observed.record.as_ref().is_some_and(|record| record.links.contains(link))
}

fn check_links(desired: &DesiredZone, observed: &Observed) -> Result<(), PlanError> {
    let is_recorded = observed.record.as_ref().is_some_and(|record| record.zone);
    if observed.zone_state.is_some() && !is_recorded {
        return Err(PlanError::ForeignZone { zone: desired.name.clone() });
    }
    for stub in &desired.etherstubs {
        let stub = stub.as_str();
        if observed.links.contains(stub) && !observed.etherstubs.contains(stub) {
            return Err(PlanError::ForeignLink { link: stub.to_owned() });
        }
    }
    for link in &desired.links {
        let name = link.name.as_str();
        if observed.links.contains(name) && !is_ours(observed, name) {
            return Err(PlanError::ForeignLink { link: name.to_owned() });
        }
        if let Attachment::Existing(lower) = &link.over
            && !observed.links.contains(lower.as_str())
        {
            return Err(PlanError::NoSuchLink { lower: lower.clone(), link: link.name.clone() });
        }
    }
    Ok(())
}

fn record(desired: &DesiredZone, observed: &Observed) -> Record {
    let names = desired.etherstubs.iter().chain(desired.links.iter().map(|link| &link.name));
    let ours = names
        .map(|name| name.as_str())
        .filter(|name| !observed.links.contains(*name) || is_ours(observed, name));
    Record { zone: true, links: ours.map(str::to_owned).collect(), files: BTreeSet::new() }
}

fn plan_vnic(link: &DesiredLink, observed: &Observed, plan: &mut Plan) {
    let (name, lower) = (link.name.as_str(), link.over.lower());
    let vlan = link.vlan.map_or(0, |vlan| vlan.number());
    if let Some(seen) = observed.vnics.iter().find(|vnic| vnic.name == name) {
        let is_right = seen.over == lower
            && seen.vlan == vlan
            && link.mac.is_none_or(|mac| Some(mac) == seen.mac);
        if is_right {
            return;
        }
        let reason = format!("{name}: another lower link, VLAN or MAC is wanted");
        plan.run(reason, ["dladm", "delete-vnic", name]);
    }
    let mtu = format!("mtu={}", link.mtu);
    let mut argv = ["dladm", "create-vnic", "-l", lower].map(str::to_owned).to_vec();
    argv.extend(link.mac.iter().flat_map(|mac| ["-m".to_owned(), mac.to_string()]));
    argv.extend(link.vlan.iter().flat_map(|vlan| ["-v".to_owned(), vlan.number().to_string()]));
    argv.extend(["-p", &mtu, name].map(str::to_owned));
    plan.run(format!("link {name} reaches {}", link.over), argv).undo([
        "dladm",
        "delete-vnic",
        name,
    ]);
    plan.run(
        format!("{name} has the right MTU, whatever its creation made of it"),
        ["dladm", "set-linkprop", "-p", &mtu, name],
    );
    plan.run(
        format!("{name} may send what it forwards"),
        ["dladm", "reset-linkprop", "-p", "protection,allowed-ips,allowed-dhcp-cids", name],
    );
}

/// Brings the zone from its state to running, one state after the other.
fn plan_zone(desired: &DesiredZone, observed: &Observed, plan: &mut Plan) -> Result<(), PlanError> {
    let name = desired.name.as_str();
    let mut state = observed.zone_state.as_deref();
    if state.is_none() {
        let path = file(desired, "zonecfg");
        let commands = path.display().to_string();
        let contents = zonecfg(desired)?;
        plan.push("the zone's configuration is written down", Action::Write { path, contents });
        plan.run("the zone is configured", ["zonecfg", "-z", name, "-f", &commands])
            .undo(["zonecfg", "-z", name, "delete", "-F"]);
        state = Some("configured");
    }
    if state == Some("incomplete") {
        plan.run("an installation broke off", ["zoneadm", "-z", name, "uninstall", "-F"]);
        state = Some("configured");
    }
    if state == Some("configured") {
        plan.run("the zone can be installed", ["zoneadm", "-z", name, "verify"]);
        plan.run("the zone is installed (this takes minutes)", ["zoneadm", "-z", name, "install"])
            .undo(["zoneadm", "-z", name, "uninstall", "-F"]);
        state = Some("installed");
    }
    match state {
        Some("installed") => plan_boot(desired, plan),
        Some("running") => {}
        other => {
            let state = other.unwrap_or_default().to_owned();
            return Err(PlanError::ZoneState { zone: desired.name.clone(), state });
        }
    }
    Ok(())
}

fn plan_boot(desired: &DesiredZone, plan: &mut Plan) {
    let name = desired.name.as_str();
    plan.run("the zone runs", ["zoneadm", "-z", name, "boot"])
        .undo(["zoneadm", "-z", name, "halt"]);
    for link in &desired.links {
        let test = format!("test \"$(dladm show-vnic -p -o ZONE {})\" = {name}", link.name);
        plan.run(format!("{} is in the zone", link.name), ["sh", "-c", &test]);
    }
    let wait = format!(
        "i=0; until zlogin {name} svcs -H -o state svc:/milestone/multi-user:default | grep -qx online; \
         do i=$((i + 1)); test $i -lt {BOOT_SECS} || exit 1; sleep 1; done"
    );
    plan.run("the zone's services are up", ["sh", "-c", &wait]);
}

fn plan_service(desired: &DesiredZone, observed: &Observed, plan: &mut Plan) {
    if desired.service == ServiceKind::None || observed.service_state.as_deref() == Some("online") {
        return;
    }
    let name = desired.name.as_str();
    if observed.service_state.is_none() {
        let manifest = format!("{ZONE_PROGRAMS}/lib/svc/manifest/zone-router.xml");
        plan.run("the zone knows the service", ["zlogin", name, "svccfg", "import", &manifest]);
    }
    if observed.service_state.as_deref() == Some("maintenance") {
        plan.run("the service may try again", ["zlogin", name, "svcadm", "clear", SERVICE]);
    }
    plan.run("routerd runs", ["zlogin", name, "svcadm", "enable", "-s", SERVICE])
        .undo(["zlogin", name, "svcadm", "disable", SERVICE]);
}

/// The zone as commands for `zonecfg -f`.
pub(crate) fn zonecfg(desired: &DesiredZone) -> Result<String, PlanError> {
    let Platform::Illumos { zones, brand } = &desired.platform else {
        return Err(PlanError::Service { service: desired.service });
    };
    let zonepath = zones.join(desired.name.as_str());
    let mut lines = vec![
        "create -b".to_owned(),
        format!("set zonepath={}", zonepath.display()),
        format!("set brand={}", brand.as_str()),
        "set autoboot=true".to_owned(),
        "set ip-type=exclusive".to_owned(),
        "set limitpriv=default".to_owned(),
        format!("set max-lwps={LWPS_MAX}"),
    ];
    for link in &desired.links {
        lines.extend([
            "add net".to_owned(),
            format!("set physical={}", link.name),
            "end".to_owned(),
        ]);
    }
    for (special, dir) in shared_folders(desired) {
        lines.push("add fs".to_owned());
        lines.push(format!("set dir={dir}"));
        lines.push(format!("set special={special}"));
        lines.extend(
            ["set type=lofs", "add options ro", "add options nodevices", "end"].map(str::to_owned),
        );
    }
    let ZoneCaps { memory_mib, swap_mib, locked_mib, cpu_percent, quota_gib: _ } = desired.caps;
    let (cpus, hundredths) = (cpu_percent / 100, cpu_percent % 100);
    lines.extend([
        "add capped-memory".to_owned(),
        format!("set physical={memory_mib}m"),
        format!("set swap={swap_mib}m"),
        format!("set locked={locked_mib}m"),
        "end".to_owned(),
        "add capped-cpu".to_owned(),
        format!("set ncpus={cpus}.{hundredths:02}"),
        "end".to_owned(),
    ]);
    lines.extend(["verify".to_owned(), "commit".to_owned(), String::new()]);
    Ok(lines.join("\n"))
}

pub(crate) fn plan_destroy(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    check_paths(desired)?;
    let mut plan = Plan::default();
    let Some(record) = &observed.record else { return Ok(plan) };
    if record.zone {
        remove_zone(desired, observed, &mut plan);
    }
    for vnic in observed.vnics.iter().filter(|vnic| record.links.contains(&vnic.name)) {
        let argv = ["dladm", "delete-vnic", &vnic.name];
        plan.run(format!("{}: the zone goes", vnic.name), argv);
    }
    let mut kept = BTreeSet::new();
    for stub in observed.etherstubs.intersection(&record.links) {
        let is_user = |v: &&VnicSeen| v.over == *stub && !record.links.contains(&v.name);
        if let Some(user) = observed.vnics.iter().find(is_user) {
            plan.notes.push(format!("etherstub {stub} stays: {} is attached to it", user.name));
            kept.insert(stub.clone());
        } else {
            plan.run(format!("{stub}: the zone goes"), ["dladm", "delete-etherstub", stub]);
        }
    }
    if kept.is_empty() {
        plan.push("the zone is gone", Action::Remove(file(desired, "zonecfg")));
        Record::plan_remove(desired, &mut plan);
    } else {
        let rest = Record { links: kept, ..Record::default() };
        rest.plan_write(Some(record), desired, &mut plan);
    }
    Ok(plan)
}

fn remove_zone(desired: &DesiredZone, observed: &Observed, plan: &mut Plan) {
    let name = desired.name.as_str();
    let Some(state) = observed.zone_state.as_deref() else { return };
    if !matches!(state, "configured" | "installed" | "incomplete") {
        let stop = format!("zoneadm -z {name} shutdown || zoneadm -z {name} halt");
        plan.run("the zone stops", ["sh", "-c", &stop]);
    }
    if state != "configured" {
        plan.run("the zone goes", ["zoneadm", "-z", name, "uninstall", "-F"]);
    }
    plan.run("its configuration goes", ["zonecfg", "-z", name, "delete", "-F"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parseable_output_is_unescaped() {
        let line = r"wan0:igb0:2\:8\:20\:aa\:bb\:1:20:zr0";
        let seen = vnic(line).unwrap();
        assert_eq!((seen.name.as_str(), seen.over.as_str(), seen.vlan), ("wan0", "igb0", 20));
        assert_eq!(seen.mac, Some(MacAddr([2, 8, 0x20, 0xaa, 0xbb, 1])));
        assert_eq!(fields(r"a\\b:"), [r"a\b", ""]);
    }

    #[test]
    fn a_vnic_with_a_mac_that_is_unknown_is_still_seen() {
        assert_eq!(vnic("lan0:zrstub0:unknown:0").unwrap().mac, None);
        assert_eq!(vnic("lan0:zrstub0"), None);
    }
}
