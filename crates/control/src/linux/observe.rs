//! What a Linux host has, read from `ip -j`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use packet::MacAddr;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::service::{self, ServiceSeen};
use crate::DesiredZone;
use crate::host::{Host, ObserveError, query, read};
use crate::record::Record;
use crate::step::shell_line;

/// Where the identity of the installation is kept (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// The state of a Linux host, as far as a zone is concerned.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    /// Identity of the installation, if it has one.
    pub machine: Option<String>,
    /// What was made for the zone before.
    pub record: Option<Record>,
    /// Links outside the zone.
    pub links: Vec<LinkSeen>,
    /// The zone, if it exists.
    pub zone: Option<ZoneSeen>,
    /// The service.
    pub service: ServiceSeen,
}

impl Observed {
    /// A host of which only the NICs are known, with the MTU of each.
    pub(crate) fn with_nics(nics: impl Iterator<Item = (String, u16)>) -> Self {
        let nic = |(name, mtu): (String, u16)| LinkSeen {
            name,
            mtu: u32::from(mtu),
            is_up: true,
            ipv6_automatic: Some(true),
            ..LinkSeen::default()
        };
        let service = ServiceSeen { systemd: true, ..ServiceSeen::default() };
        Self { links: nics.map(nic).collect(), service, ..Self::default() }
    }
}

/// A network namespace.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ZoneSeen {
    /// Its links.
    pub links: Vec<LinkSeen>,
    /// Names of links to which the kernel holds an address.
    pub addressed: BTreeSet<String>,
    /// Kernel settings: path below `/proc/sys/net` and value; absent where the kernel has none.
    pub settings: BTreeMap<String, String>,
}

/// A link.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LinkSeen {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind (`veth`, `bridge`, `vlan`, `macvlan`); empty for hardware.
    pub kind: String,
    /// Administratively up.
    pub is_up: bool,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Hardware address.
    pub mac: Option<MacAddr>,
    /// Bridge that it is a port of.
    pub master: Option<String>,
    /// Alias text.
    pub alias: Option<String>,
    /// Lower link or peer in the same namespace, by name.
    pub lower: Option<String>,
    /// Lower link or peer in another namespace, by index there.
    pub lower_index: Option<u32>,
    /// Whether the kernel would give it an IPv6 address by itself; `None` without IPv6.
    pub ipv6_automatic: Option<bool>,
    /// VLAN of a `vlan` link.
    pub vlan: Option<u16>,
    /// Mode of a `macvlan` link.
    pub mode: Option<String>,
}

#[derive(Deserialize)]
struct RawLink {
    ifindex: u32,
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    mtu: u32,
    address: Option<String>,
    master: Option<String>,
    ifalias: Option<String>,
    link: Option<String>,
    link_index: Option<u32>,
    inet6_addr_gen_mode: Option<String>,
    #[serde(default)]
    linkinfo: RawInfo,
}

#[derive(Deserialize, Default)]
struct RawInfo {
    #[serde(default)]
    info_kind: String,
    #[serde(default)]
    info_data: RawData,
}

#[derive(Deserialize, Default)]
struct RawData {
    id: Option<serde_json::Value>,
    mode: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawNetns {
    name: String,
}

#[derive(Deserialize)]
struct RawAddresses {
    ifname: String,
    #[serde(default)]
    addr_info: Vec<serde_json::Value>,
}

impl From<RawLink> for LinkSeen {
    fn from(raw: RawLink) -> Self {
        let RawInfo { info_kind, info_data } = raw.linkinfo;
        let is_vlan = info_kind == "vlan";
        Self {
            index: raw.ifindex,
            name: raw.ifname,
            is_up: raw.flags.iter().any(|flag| flag == "UP"),
            mtu: raw.mtu,
            mac: raw.address.and_then(|text| text.parse().ok()),
            master: raw.master,
            alias: raw.ifalias,
            lower: raw.link,
            lower_index: raw.link_index,
            ipv6_automatic: raw.inet6_addr_gen_mode.map(|mode| mode != "none"),
            vlan: info_data
                .id
                .filter(|_| is_vlan)
                .and_then(|id| id.as_u64())
                .and_then(|id| u16::try_from(id).ok()),
            mode: info_data.mode.and_then(|mode| mode.as_str().map(str::to_owned)),
            kind: info_kind,
        }
    }
}

/// Reads what the plan for `desired` depends on. Changes nothing.
pub(crate) fn observe(
    desired: &DesiredZone,
    host: &mut dyn Host,
) -> Result<Observed, ObserveError> {
    let zone_name = desired.name.as_str();
    let zones: Vec<RawNetns> = json(host, &["ip", "-j", "netns", "list"])?;
    let exists = zones.iter().any(|zone| zone.name == zone_name);
    let zone = if exists { Some(observe_zone(desired, host)?) } else { None };
    let machine = read(host, Path::new(MACHINE_ID))?;
    Ok(Observed {
        machine: machine.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()),
        record: Record::observe(desired, host)?,
        links: links(host, &["ip", "-j", "-d", "link", "show"])?,
        service: service::observe(desired, zone.is_some(), host)?,
        zone,
    })
}

fn observe_zone(desired: &DesiredZone, host: &mut dyn Host) -> Result<ZoneSeen, ObserveError> {
    let zone = desired.name.as_str();
    let links = links(host, &["ip", "-n", zone, "-j", "-d", "link", "show"])?;
    let addresses: Vec<RawAddresses> = json(host, &["ip", "-n", zone, "-j", "addr", "show"])?;
    let addressed = addresses.into_iter().filter(|link| !link.addr_info.is_empty());
    Ok(ZoneSeen {
        addressed: addressed.map(|link| link.ifname).collect(),
        settings: settings(desired, host)?,
        links,
    })
}

/// Reads kernel settings of the zone; those that the kernel does not have are left out.
fn settings(
    desired: &DesiredZone,
    host: &mut dyn Host,
) -> Result<BTreeMap<String, String>, ObserveError> {
    let zone = desired.name.as_str();
    let mut argv: Vec<String> =
        ["ip", "netns", "exec", zone, "grep", "-Hs", ""].map(str::to_owned).to_vec();
    argv.extend(super::settings(desired).into_iter().map(|(path, _)| format!("{SYSCTL}{path}")));
    let command = shell_line(&argv);
    // Exit status 2 only says that a file is missing; what counts is that one is there.
    let output = host.run(&argv).map_err(|error| ObserveError::Command {
        command: command.clone(),
        failure: error.into(),
    })?;
    let values: BTreeMap<String, String> = output
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix(SYSCTL)?.split_once(':'))
        .map(|(path, value)| (path.to_owned(), value.to_owned()))
        .collect();
    if values.contains_key(super::IP_FORWARD) {
        return Ok(values);
    }
    let detail = format!("no {SYSCTL}{}; {}", super::IP_FORWARD, output.stderr.trim());
    Err(ObserveError::Unexpected { command, detail })
}

/// Where the kernel shows the settings of the reader's network namespace.
pub(super) const SYSCTL: &str = "/proc/sys/net/";

fn links(host: &mut dyn Host, argv: &[&str]) -> Result<Vec<LinkSeen>, ObserveError> {
    Ok(json::<Vec<RawLink>>(host, argv)?.into_iter().map(LinkSeen::from).collect())
}

/// Runs a command that prints JSON; some versions of `ip` print nothing for an empty list.
fn json<T: DeserializeOwned + Default>(
    host: &mut dyn Host,
    argv: &[&str],
) -> Result<T, ObserveError> {
    let text = query(host, argv)?;
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(&text).map_err(|error| ObserveError::Unexpected {
        command: argv.join(" "),
        detail: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_iproute2_prints_them() {
        let text = r#"[{"ifindex":3,"link_index":2,"ifname":"r-lan0","flags":["BROADCAST","UP"],
            "mtu":1400,"master":"zrstub0","address":"02:00:00:00:00:01","ifalias":"zone-router:r",
            "linkinfo":{"info_kind":"veth","info_slave_kind":"bridge"},
            "inet6_addr_gen_mode":"none","link_netnsid":0},
            {"ifindex":4,"link":"eth1","ifname":"r-wan0","flags":[],"mtu":1500,"address":"2:0:0:0:0:1",
            "linkinfo":{"info_kind":"vlan","info_data":{"protocol":"802.1Q","id":20,"flags":[]}}}]"#;
        let links: Vec<RawLink> = serde_json::from_str(text).unwrap();
        let [veth, vlan]: [LinkSeen; 2] =
            links.into_iter().map(LinkSeen::from).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((veth.kind.as_str(), veth.lower_index, veth.is_up), ("veth", Some(2), true));
        assert_eq!(veth.master.as_deref(), Some("zrstub0"));
        assert_eq!(veth.ipv6_automatic, Some(false));
        assert_eq!((vlan.vlan, vlan.lower.as_deref()), (Some(20), Some("eth1")));
        assert_eq!(vlan.ipv6_automatic, None);
    }
}
