//! SmartOS: NIC tags by `nictagadm`, the zone with its vNICs by `vmadm`.
//!
//! The platform keeps NIC tags and zones across its restarts by itself. Links of a zone are called
//! `net0`, `net1`, ... there, in the order of the payload. The zone's interfaces carry no `ips`, so the
//! kernel does not plumb them, and spoofing is allowed, because a router sends for others.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::{Host, ObserveError, query};
use crate::illumos::{SERVICE, ZONE_PROGRAMS, check, shared_folders};
use crate::record::{Record, file};
use crate::step::{Action, Plan};
use crate::{Attachment, DesiredZone, PlanError, Platform, ServiceKind};

/// Threads that the zone may have.
const LWPS_MAX: u32 = 2000;

/// The state of a SmartOS host, as far as a zone is concerned.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    /// What was made for the zone before.
    pub record: Option<Record>,
    /// NIC tags and their type (`normal`, `etherstub`, ...).
    pub tags: BTreeMap<String, String>,
    /// For each wanted etherstub that exists, the zones with a link on it.
    pub users: BTreeMap<String, Vec<String>>,
    /// UUIDs of zones with our alias.
    pub zones: Vec<String>,
    /// Whether the image is here.
    pub has_image: bool,
}

/// Reads what the plan for `desired` depends on. Changes nothing.
pub(crate) fn observe(
    desired: &DesiredZone,
    host: &mut dyn Host,
) -> Result<Observed, ObserveError> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let tags: BTreeMap<String, String> = query(host, &["nictagadm", "list", "-p", "-d", ","])?
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(',');
            Some((fields.next()?.to_owned(), fields.nth(2)?.to_owned()))
        })
        .collect();
    let mut users = BTreeMap::new();
    for stub in desired.etherstubs.iter().filter(|stub| tags.contains_key(stub.as_str())) {
        let filter = format!("nics.*.nic_tag={stub}");
        users.insert(stub.to_string(), lines(query(host, &["vmadm", "lookup", &filter])?));
    }
    let alias = format!("alias={}", desired.name);
    let (image, _) = image(desired);
    let image = ["imgadm", "get", image].map(str::to_owned);
    Ok(Observed {
        record: Record::observe(desired, host)?,
        zones: lines(query(host, &["vmadm", "lookup", &alias])?),
        // The exit status is the answer.
        has_image: host.run(&image).is_ok_and(|output| output.is_success()),
        tags,
        users,
    })
}

/// The image and brand; both are there by construction of the platform.
fn image(desired: &DesiredZone) -> (&str, &'static str) {
    match &desired.platform {
        Platform::Smartos { image, brand } => (image.as_str(), brand.as_str()),
        Platform::Linux | Platform::Illumos { .. } => unreachable!("dispatched by platform"),
    }
}

pub(crate) fn plan(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    check(desired)?;
    let payload = payload(desired)?;
    let is_ours = observed.record.as_ref().is_some_and(|record| record.zone);
    if !observed.zones.is_empty() && !is_ours {
        return Err(PlanError::ForeignZone { zone: desired.name.clone() });
    }
    check_tags(desired, observed)?;
    let mut plan = Plan::default();
    record(desired, observed).plan_write(observed.record.as_ref(), desired, &mut plan);
    for stub in desired.etherstubs.iter().filter(|stub| !observed.tags.contains_key(stub.as_str()))
    {
        let stub = stub.as_str();
        plan.run(format!("etherstub {stub} exists"), ["nictagadm", "add", "-l", stub]).undo([
            "nictagadm",
            "delete",
            stub,
        ]);
    }
    if observed.zones.is_empty() {
        if !observed.has_image {
            plan.run("the image is here", ["imgadm", "import", image(desired).0]);
        }
        let path = file(desired, "vmadm.json");
        let file = path.display().to_string();
        plan.push("the zone is written down", Action::Write { path, contents: payload });
        plan.run("vmadm takes it", ["vmadm", "validate", "create", "-f", &file]);
        plan.run("the zone runs", ["vmadm", "create", "-f", &file]);
    }
    Ok(plan)
}

fn check_tags(desired: &DesiredZone, observed: &Observed) -> Result<(), PlanError> {
    for stub in &desired.etherstubs {
        let kind = observed.tags.get(stub.as_str());
        if kind.is_some_and(|kind| kind != "etherstub") {
            return Err(PlanError::ForeignLink { link: stub.to_string() });
        }
    }
    for link in &desired.links {
        if let Attachment::Existing(tag) = &link.over
            && !observed.tags.contains_key(tag.as_str())
        {
            return Err(PlanError::NoSuchLink { lower: tag.clone(), link: link.name.clone() });
        }
    }
    Ok(())
}

fn record(desired: &DesiredZone, observed: &Observed) -> Record {
    let before = observed.record.clone().unwrap_or_default();
    let ours = desired
        .etherstubs
        .iter()
        .map(|stub| stub.to_string())
        .filter(|stub| !observed.tags.contains_key(stub) || before.links.contains(stub));
    Record { zone: true, links: ours.collect(), files: before.files }
}

#[derive(Serialize)]
struct Payload<'a> {
    brand: &'static str,
    image_uuid: &'a str,
    alias: &'a str,
    hostname: &'a str,
    autoboot: bool,
    max_physical_memory: u32,
    max_swap: u32,
    max_locked_memory: u32,
    cpu_cap: u32,
    max_lwps: u32,
    quota: u32,
    limit_priv: &'static str,
    firewall_enabled: bool,
    nics: Vec<Nic<'a>>,
    filesystems: Vec<FileSystem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_metadata: Option<Metadata>,
    tags: Tags,
}

#[derive(Serialize)]
struct Nic<'a> {
    interface: &'a str,
    nic_tag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan_id: Option<u16>,
    ips: [&'static str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<bool>,
    mtu: u16,
    allow_ip_spoofing: bool,
    allow_dhcp_spoofing: bool,
}

#[derive(Serialize)]
struct FileSystem {
    #[serde(rename = "type")]
    kind: &'static str,
    source: String,
    target: &'static str,
    options: [&'static str; 2],
}

#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "user-script")]
    user_script: String,
}

#[derive(Serialize)]
struct Tags {
    role: &'static str,
}

/// The zone as `vmadm create` reads it.
pub(crate) fn payload(desired: &DesiredZone) -> Result<String, PlanError> {
    let mut nics = Vec::new();
    for (index, link) in desired.links.iter().enumerate() {
        let wanted = format!("net{index}");
        if link.name.as_str() != wanted {
            return Err(PlanError::LinkName { link: link.name.clone(), wanted });
        }
        nics.push(Nic {
            interface: link.name.as_str(),
            nic_tag: link.over.lower(),
            mac: link.mac.map(|mac| mac.to_string()),
            vlan_id: link.vlan.map(|vlan| vlan.number()),
            ips: [],
            primary: (index == 0).then_some(true),
            mtu: link.mtu,
            allow_ip_spoofing: true,
            allow_dhcp_spoofing: true,
        });
    }
    let filesystems = shared_folders(desired).map(|(source, target)| FileSystem {
        kind: "lofs",
        source,
        target,
        options: ["ro", "nodevices"],
    });
    let user_script = format!(
        "#!/bin/sh\nsvccfg import {ZONE_PROGRAMS}/lib/svc/manifest/zone-router.xml && svcadm enable {SERVICE}\n"
    );
    let (image_uuid, brand) = image(desired);
    let caps = &desired.caps;
    let payload = Payload {
        brand,
        image_uuid,
        alias: desired.name.as_str(),
        hostname: desired.name.as_str(),
        autoboot: true,
        max_physical_memory: caps.memory_mib,
        max_swap: caps.swap_mib,
        max_locked_memory: caps.locked_mib,
        cpu_cap: caps.cpu_percent,
        max_lwps: LWPS_MAX,
        quota: caps.quota_gib,
        limit_priv: "default",
        firewall_enabled: false,
        nics,
        filesystems: filesystems.into(),
        customer_metadata: (desired.service == ServiceKind::Smf)
            .then_some(Metadata { user_script }),
        tags: Tags { role: "zone-router" },
    };
    let mut text =
        serde_json::to_string_pretty(&payload).expect("plain structures of text and numbers");
    text.push('\n');
    Ok(text)
}

pub(crate) fn plan_destroy(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let Some(record) = &observed.record else { return Ok(plan) };
    if record.zone {
        for uuid in &observed.zones {
            plan.run("the zone goes", ["vmadm", "delete", uuid]);
        }
    }
    let mut rest = Record::default();
    for stub in record.links.iter().filter(|stub| observed.tags.contains_key(*stub)) {
        let mut users = observed.users.get(stub).into_iter().flatten();
        if let Some(user) = users.find(|uuid| !observed.zones.contains(uuid)) {
            plan.notes.push(format!("etherstub {stub} stays: zone {user} is attached to it"));
            rest.links.insert(stub.clone());
        } else {
            plan.run(format!("{stub}: the zone goes"), ["nictagadm", "delete", stub]);
        }
    }
    if rest.links.is_empty() {
        plan.push("the zone is gone", Action::Remove(file(desired, "vmadm.json")));
        Record::plan_remove(desired, &mut plan);
    } else {
        rest.plan_write(Some(record), desired, &mut plan);
    }
    Ok(plan)
}
