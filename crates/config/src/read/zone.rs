//! `[zone]`

use std::ops::Range;
use std::path::PathBuf;

use packet::MacAddr;

use crate::defaults;
use crate::document::{At, Problems, Section};
use crate::fault::Fault;
use crate::model::{Brand, Platform, Wan, Zone, ZoneCaps, ZoneLink};
use crate::read::UsedLink;
use crate::{name, suggest, value};

/// Reads the zone and attaches each of `links`: as the file says, else by default.
pub(crate) fn zone(
    mut section: Section<'_>,
    wan: Option<&Wan>,
    links: &[UsedLink],
) -> Option<Zone> {
    let name = section.required("name", "router", name::zone);
    section.require("platform", "platform = \"smartos\"");
    let platform = section.choice("platform", &Platform::ALL, Platform::as_str);
    let brand = section.choice("brand", &Brand::ALL, Brand::as_str);
    let image = section.text("image_uuid", name::uuid);
    let path =
        section.text("path", |text| value::path(text, defaults::PATH_MAX, defaults::ZONE_PATH));
    let install =
        section.text("install", |text| value::path(text, defaults::PATH_MAX, defaults::INSTALL));
    let caps = caps(&mut section);
    let stubs = section.sections("etherstub", defaults::ETHERSTUBS_MAX);
    let parts = section.sections("link", defaults::LANS_MAX + 1);
    let (problems, at) = (section.problems, section.at.clone());
    let foreign = image.as_ref().zip(platform.as_ref());
    if let Some((image, platform)) = foreign.filter(|(_, p)| p.value != Platform::Smartos) {
        let platform = platform.value.as_str();
        problems.note(&image.at, Fault::WrongPlatform { key: "image_uuid", platform });
    }
    section.finish();
    let (name, platform) = (name?.value, platform?.value);

    let brand = check_brand(brand, platform, problems);
    let mut etherstubs = etherstubs(stubs, platform);
    let written = written_links(parts, platform, wan, links, problems);
    let links = attach(links, written, wan, platform, &mut etherstubs, (problems, &at))?;
    Some(Zone {
        name,
        platform,
        brand,
        image_uuid: image.map(|image| image.value),
        path: path.map_or_else(|| PathBuf::from(defaults::ZONE_PATH), |path| path.value),
        install: install.map_or_else(|| default_install(platform), |path| path.value),
        caps,
        links,
        etherstubs,
    })
}

fn default_install(platform: Platform) -> PathBuf {
    PathBuf::from(match platform {
        Platform::Linux | Platform::Illumos => defaults::INSTALL,
        Platform::Smartos => defaults::INSTALL_SMARTOS,
    })
}

fn check_brand(brand: Option<At<Brand>>, platform: Platform, problems: &Problems) -> Option<Brand> {
    let default = match platform {
        Platform::Linux => None,
        Platform::Illumos => Some(defaults::BRAND_ILLUMOS),
        Platform::Smartos => Some(defaults::BRAND_SMARTOS),
    };
    let Some(brand) = brand else { return default };
    if brand.value.platform() == platform {
        return Some(brand.value);
    }
    let here: Vec<&str> =
        Brand::ALL.iter().filter(|b| b.platform() == platform).map(|b| b.as_str()).collect();
    let remedy = match here[..] {
        [] => "take `brand` out".to_owned(),
        _ => format!("use {}", here.join(", ")),
    };
    let (brand_name, platform) = (brand.value.as_str(), platform.as_str());
    problems.note(&brand.at, Fault::BrandOfOther { brand: brand_name, platform, remedy });
    None
}

fn caps(section: &mut Section<'_>) -> ZoneCaps {
    let mut read = |key, min, max, why| {
        let number = section.number(key, min..=max, why);
        number.and_then(|At { value, at }| u32::try_from(value).ok().map(|value| At { value, at }))
    };
    let memory_max = defaults::MEMORY_MIB_MAX;
    let memory = read("memory_mib", defaults::MEMORY_MIB_MIN, memory_max, "routerd needs 64 MiB");
    let swap = read("swap_mib", defaults::SWAP_MIB_MIN, memory_max, "SmartOS wants 256 MiB");
    let locked = read("locked_mib", 1, memory_max, "routerd locks its packet buffers");
    let why = "100 is one CPU";
    let cpu_percent = read("cpu_percent", 1, defaults::CPU_PERCENT_MAX, why);
    let quota = read("quota_gib", 1, defaults::QUOTA_GIB_MAX, "logs and state need 1 GiB");
    let memory_mib = memory.map_or(defaults::MEMORY_MIB, |memory| memory.value);
    if let Some(swap) = swap.as_ref().filter(|swap| swap.value < memory_mib) {
        let fault = Fault::CapOrder { key: "swap_mib", bound: "least", example: memory_mib };
        section.problems.note(&swap.at, fault);
    }
    if let Some(locked) = locked.as_ref().filter(|locked| locked.value > memory_mib) {
        let fault = Fault::CapOrder { key: "locked_mib", bound: "most", example: memory_mib };
        section.problems.note(&locked.at, fault);
    }
    ZoneCaps {
        memory_mib,
        swap_mib: swap.map_or(memory_mib.saturating_mul(2).max(256), |swap| swap.value),
        locked_mib: locked.map_or(memory_mib / 2, |locked| locked.value),
        cpu_percent: cpu_percent.map_or(defaults::CPU_PERCENT, |percent| percent.value),
        quota_gib: quota.map_or(defaults::QUOTA_GIB, |quota| quota.value),
    }
}

fn etherstubs(sections: Vec<Section<'_>>, platform: Platform) -> Vec<String> {
    let mut stubs: Vec<String> = Vec::new();
    for mut section in sections {
        let problems = section.problems;
        let name = section.required("name", "zrstub0", |t| name::created_link(t, platform));
        section.finish();
        let Some(name) = name else { continue };
        if stubs.contains(&name.value) {
            let section = "zone.etherstub";
            problems.note(&name.at, Fault::DuplicateZonePart { name: name.value, section });
        } else {
            stubs.push(name.value);
        }
    }
    stubs
}

/// A `[[zone.link]]` as written.
struct WrittenLink {
    name: String,
    at: Range<usize>,
    over: Option<String>,
    mac: Option<MacAddr>,
    vlan: Option<u16>,
    mtu: Option<u16>,
}

fn written_links(
    sections: Vec<Section<'_>>,
    platform: Platform,
    wan: Option<&Wan>,
    links: &[UsedLink],
    problems: &Problems,
) -> Vec<WrittenLink> {
    let mut written: Vec<WrittenLink> = Vec::new();
    for section in sections {
        let Some(link) = written_link(section, platform, wan) else { continue };
        if !links.iter().any(|used| used.name == link.name) {
            let names: Vec<&str> = links.iter().map(|used| used.name.as_str()).collect();
            let remedy = suggest::word(&link.name, &names);
            problems.note(&link.at, Fault::ZoneLinkUnused { link: link.name.clone(), remedy });
        }
        if let Some(earlier) = written.iter().find(|earlier| earlier.name == link.name) {
            let see = (&earlier.at, "first used here");
            let fault = Fault::DuplicateZonePart { name: link.name.clone(), section: "zone.link" };
            problems.note_both(&link.at, see, fault);
            continue;
        }
        written.push(link);
    }
    written
}

fn written_link(
    mut section: Section<'_>,
    platform: Platform,
    wan: Option<&Wan>,
) -> Option<WrittenLink> {
    let name = section.required("name", "lan0", name::link);
    let over = section.text("over", |text| name::over(text, platform));
    let mac = section.text("mac", value::mac);
    let vlan = section.number_u16("vlan", 1..=defaults::VLAN_MAX, "0 and 4095 are reserved");
    let range = defaults::MTU_MIN..=defaults::MTU_MAX;
    let mtu = section.number_u16("mtu", range, "every host takes 576, an etherstub 9000");
    let problems = section.problems;
    section.finish();
    let name = name?;
    if let Some(wan) = wan.filter(|wan| wan.link == name.value) {
        check_wan_link(wan, mac.as_ref(), mtu.as_ref(), problems);
    }
    Some(WrittenLink {
        name: name.value,
        at: name.at,
        over: over.map(|over| over.value),
        mac: mac.map(|mac| mac.value),
        vlan: vlan.map(|vlan| vlan.value),
        mtu: mtu.map(|mtu| mtu.value),
    })
}

/// What `[wan]` says holds for its vNIC too.
fn check_wan_link(
    wan: &Wan,
    mac: Option<&At<MacAddr>>,
    mtu: Option<&At<u16>>,
    problems: &Problems,
) {
    if let (Some(mac), Some(other)) = (mac, wan.mac)
        && mac.value != other
    {
        problems.note(&mac.at, Fault::MacDiffers { other });
    }
    if let (Some(mtu), Some(other)) = (mtu, wan.mtu)
        && mtu.value < other
    {
        problems.note(&mtu.at, Fault::MtuBelowWan { mtu: mtu.value, other });
    }
}

/// Attaches every link of the router, WAN first.
fn attach(
    links: &[UsedLink],
    written: Vec<WrittenLink>,
    wan: Option<&Wan>,
    platform: Platform,
    etherstubs: &mut Vec<String>,
    (problems, zone_at): (&Problems, &Range<usize>),
) -> Option<Vec<ZoneLink>> {
    let mut attached: Vec<ZoneLink> = Vec::new();
    let mut complete = true;
    for link in links {
        if let Err(fault) = name::created_link(&link.name, platform) {
            problems.note(&link.at, fault);
        }
        let given = written.iter().find(|written| written.name == link.name);
        let over =
            given.and_then(|given| given.over.clone()).or_else(|| default_over(link, platform));
        let Some(over) = over else {
            problems.note(zone_at, Fault::WanLinkDetached { link: link.name.clone() });
            complete = false;
            continue;
        };
        if over.starts_with(defaults::ETHERSTUB_PREFIX) && !etherstubs.contains(&over) {
            etherstubs.push(over.clone());
        }
        let wan = wan.filter(|_| link.lan.is_none());
        let attachment = ZoneLink {
            name: link.name.clone(),
            over,
            mac: given.and_then(|given| given.mac).or(wan.and_then(|wan| wan.mac)),
            vlan: given.and_then(|given| given.vlan),
            mtu: given
                .and_then(|given| given.mtu)
                .or(wan.and_then(|wan| wan.mtu))
                .unwrap_or(defaults::MTU),
        };
        let same =
            |other: &&ZoneLink| other.over == attachment.over && other.vlan == attachment.vlan;
        if let Some(other) = attached.iter().find(same) {
            let fault = Fault::SharedNetwork {
                link: link.name.clone(),
                other: other.name.clone(),
                over: attachment.over.clone(),
            };
            problems.note(given.map_or(&link.at, |given| &given.at), fault);
        }
        attached.push(attachment);
    }
    complete.then_some(attached)
}

/// The WAN has a default on SmartOS only; each LAN gets an etherstub of its own.
fn default_over(link: &UsedLink, platform: Platform) -> Option<String> {
    match (link.lan, platform) {
        (Some(index), _) => Some(format!("{}{index}", defaults::ETHERSTUB_PREFIX)),
        (None, Platform::Smartos) => Some(defaults::SMARTOS_WAN_TAG.to_owned()),
        (None, Platform::Linux | Platform::Illumos) => None,
    }
}
