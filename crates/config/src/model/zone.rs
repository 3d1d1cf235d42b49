//! The zone that the router lives in, as `routerctl zone` builds it.

use std::path::PathBuf;

use packet::MacAddr;
use serde::Serialize;

/// The zone (network namespace on Linux) and what it is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Zone {
    /// Name of the zone; `alias` and `hostname` on SmartOS.
    pub name: String,
    /// Which tools build it.
    pub platform: Platform,
    /// What kind of zone; absent on Linux.
    pub brand: Option<Brand>,
    /// UUID of the image, in lower case; SmartOS needs one before it can create the zone.
    pub image_uuid: Option<String>,
    /// Parent folder of the zone path; unused on Linux and SmartOS.
    pub path: PathBuf,
    /// Folder of the global zone that holds the programs; mounted read-only in the zone.
    pub install: PathBuf,
    /// What the zone may use.
    pub caps: ZoneCaps,
    /// The WAN link, then the LAN links in file order, then any further ones; `name` is unique.
    pub links: Vec<ZoneLink>,
    /// Names of etherstubs (bridges on Linux) to create when they are not there, without
    /// duplicates.
    pub etherstubs: Vec<String>,
}

impl Zone {
    /// Whether `over` names one of the zone's etherstubs rather than a device or tag of the host.
    #[must_use]
    pub fn is_etherstub(&self, over: &str) -> bool {
        self.etherstubs.iter().any(|stub| stub == over)
    }
}

/// Which tools build a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// `ip netns`, bridges and veth pairs.
    Linux,
    /// `dladm`, `zonecfg` and `zoneadm`.
    Illumos,
    /// `nictagadm` and `vmadm`.
    Smartos,
}

impl Platform {
    /// Every platform.
    pub const ALL: [Platform; 3] = [Platform::Linux, Platform::Illumos, Platform::Smartos];

    /// The word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Platform::Linux => "linux",
            Platform::Illumos => "illumos",
            Platform::Smartos => "smartos",
        }
    }
}

/// What kind of zone it is; only native brands can run the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Brand {
    /// OmniOS: shares `/usr`, `/lib` and `/sbin` with the global zone.
    Sparse,
    /// OmniOS: a package image that follows the global zone's.
    Lipkg,
    /// OmniOS: a package image of its own.
    Ipkg,
    /// OmniOS: sparse, with pkgsrc.
    Pkgsrc,
    /// OmniOS: a foreign illumos image.
    Illumos,
    /// SmartOS: with the usual services.
    Joyent,
    /// SmartOS: with next to no services.
    JoyentMinimal,
}

impl Brand {
    /// Every brand.
    pub const ALL: [Brand; 7] = [
        Brand::Sparse,
        Brand::Lipkg,
        Brand::Ipkg,
        Brand::Pkgsrc,
        Brand::Illumos,
        Brand::Joyent,
        Brand::JoyentMinimal,
    ];

    /// The word that the file and the tools use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Brand::Sparse => "sparse",
            Brand::Lipkg => "lipkg",
            Brand::Ipkg => "ipkg",
            Brand::Pkgsrc => "pkgsrc",
            Brand::Illumos => "illumos",
            Brand::Joyent => "joyent",
            Brand::JoyentMinimal => "joyent-minimal",
        }
    }

    /// The platform that has this brand.
    #[must_use]
    pub fn platform(self) -> Platform {
        match self {
            Brand::Joyent | Brand::JoyentMinimal => Platform::Smartos,
            Brand::Sparse | Brand::Lipkg | Brand::Ipkg | Brand::Pkgsrc | Brand::Illumos => {
                Platform::Illumos
            }
        }
    }
}

/// What the zone may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ZoneCaps {
    /// Physical memory in MiB.
    pub memory_mib: u32,
    /// Swap in MiB; at least the physical memory.
    pub swap_mib: u32,
    /// Memory that may be locked, in MiB; at most the physical memory.
    pub locked_mib: u32,
    /// CPU time in hundredths of one CPU.
    pub cpu_percent: u32,
    /// Disk in GiB.
    pub quota_gib: u32,
}

/// A vNIC of the zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneLink {
    /// Its name, as `wan.link` and `lan.link` say it. SmartOS calls them `net0`, `net1` … in order.
    pub name: String,
    /// What it is created over: an etherstub of the zone, or a device (SmartOS: nic tag) of the
    /// host.
    pub over: String,
    /// Its MAC address; absent: the platform chooses.
    #[serde(serialize_with = "super::option_as_text")]
    pub mac: Option<MacAddr>,
    /// The VLAN whose frames it sees, untagged; absent: none.
    pub vlan: Option<u16>,
    /// Largest IP packet in bytes; always set explicitly (an etherstub would give 9000).
    pub mtu: u16,
}
