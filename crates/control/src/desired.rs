//! What the operator wants to exist.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use config::{Brand, ZoneCaps};
use packet::MacAddr;

/// A zone for the router, with its links.
///
/// Everything here can be written down without looking at the host; whether the host has room for it
/// is for [`crate::plan`] to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DesiredZone {
    /// Name of the zone (network namespace on Linux).
    pub name: ZoneName,
    /// What kind of host it lives on.
    pub platform: Platform,
    /// The router's links: WAN first, then the LANs in the order of the configuration.
    pub links: Vec<DesiredLink>,
    /// Switches inside the host that are made for the links (bridges on Linux).
    pub etherstubs: Vec<LinkName>,
    /// `routerd` on the host; in a folder `bin` that illumos zones see as `/opt/zone-router/bin`.
    pub binary: PathBuf,
    /// `routerctl` on the host, for a unit that makes the links again after a restart.
    pub routerctl: PathBuf,
    /// The configuration that `routerd` will read.
    pub config: PathBuf,
    /// Folder for the record of what was made, logs and process ids.
    pub state: PathBuf,
    /// How `routerd` is kept running.
    pub service: ServiceKind,
    /// What the zone may use; no bound on Linux, where the service manager has its own.
    pub caps: ZoneCaps,
}

/// The kind of host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Platform {
    /// Network namespaces, bridges, veth pairs, macvlan.
    Linux,
    /// OmniOS and its like: `dladm`, `zonecfg`, `zoneadm`.
    Illumos {
        /// Folder under which zones are installed.
        zones: PathBuf,
        /// What kind of zone.
        brand: Brand,
    },
    /// `nictagadm` and `vmadm`.
    Smartos {
        /// UUID of the image that the zone is made from.
        image: ImageUuid,
        /// What kind of zone.
        brand: Brand,
    },
}

/// Who starts `routerd` and looks after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceKind {
    /// Nobody: links only; a service that was set up before is left as it is.
    None,
    /// Started once in the background, with a file for its process id and one for its log.
    Process,
    /// A systemd unit.
    Systemd,
    /// The service management facility of the zone.
    Smf,
}

/// A link of the router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DesiredLink {
    /// Its name as the router sees it.
    pub name: LinkName,
    /// What it is attached to.
    pub over: Attachment,
    /// Its hardware address; derived from host, zone and link, or left to the host, if absent.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// VLAN on the lower link; frames are untagged on the router's.
    pub vlan: Option<VlanId>,
}

/// What a link is attached to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// A switch that the plan makes.
    Etherstub(LinkName),
    /// Something that the host has: a NIC (a NIC tag on SmartOS), shared with the host, or on Linux a
    /// bridge that somebody else made.
    Existing(HostLink),
}

impl Attachment {
    /// Name of what is below the link.
    #[must_use]
    pub fn lower(&self) -> &str {
        match self {
            Self::Etherstub(stub) => stub.as_str(),
            Self::Existing(link) => link.as_str(),
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etherstub(stub) => write!(f, "etherstub {stub}"),
            Self::Existing(link) => write!(f, "{link}"),
        }
    }
}

/// The text is not a name of the kind that is wanted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct NameError {
    text: String,
    wanted: &'static str,
}

/// Declares a name: text that is checked once.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $check:ident, $wanted:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { text: text.to_owned(), wanted: $wanted })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

names! {
    /// Name of a link that we make, valid on every platform: 3 to 15 letters, digits and `_`, a letter
    /// first, ending in a number without leading zeros (`dladm` refuses others, and 15 is what `ifreq`
    /// holds).
    LinkName: is_link_name,
        "a link name: 3 to 15 letters, digits or _, a letter first, a number last (wan0)";
    /// Name of a link that exists on the host, as the host's kernel allows it.
    HostLink: is_host_link, "the name of a link: 1 to 15 characters without / or space";
    /// Name of a zone: letters, digits, `-` and `_`, a letter first, at most 32.
    ZoneName: is_zone_name,
        "a zone name: 1 to 32 letters, digits, - or _, a letter first, not 'global'";
    /// UUID of a SmartOS image.
    ImageUuid: is_uuid, "an image UUID";
}

fn is_link_name(text: &str) -> bool {
    let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = &text[stem.len()..];
    (3..=15).contains(&text.len())
        && stem.starts_with(|c: char| c.is_ascii_alphabetic())
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && (number == "0" || (!number.is_empty() && !number.starts_with('0')))
}

fn is_host_link(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"/:'\"\\".contains(&b))
        && !text.starts_with('-')
        && text != "."
        && text != ".."
}

fn is_zone_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && text != "global"
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|b| b.is_ascii_hexdigit())
}

/// A VLAN identifier, 1 to 4094.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanId(u16);

impl VlanId {
    /// The VLAN with this number, or `None` if there is none (IEEE 802.1Q: 0 and 4095 are reserved).
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (1..=4094).contains(&number).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_are_those_that_every_platform_takes() {
        for name in ["wan0", "lan10", "zrstub0", "zr_stub7", "a1b2", "net0"] {
            assert!(name.parse::<LinkName>().is_ok(), "{name}");
        }
        for name in [
            "wan",
            "lan01",
            "zr-stub0",
            "0wan0",
            "_wan0",
            "w0",
            "",
            "007",
            "wan00",
            "l.an0",
            "aaaaaaaaaaaaaaa0",
        ] {
            assert!(name.parse::<LinkName>().is_err(), "{name}");
        }
    }

    #[test]
    fn names_that_a_shell_or_path_could_misread_are_refused() {
        for name in ["", "-x", "a/b", "a b", "..", "sixteen-letters-", "a'b"] {
            assert!(name.parse::<HostLink>().is_err(), "{name}");
        }
        for name in ["", "-x", "a/b", "a b", "global", "7up", "a.b"] {
            assert!(name.parse::<ZoneName>().is_err(), "{name}");
        }
        assert!("enp3s0.20".parse::<HostLink>().is_ok());
        assert!("router-2".parse::<ZoneName>().is_ok());
    }

    #[test]
    fn image_uuids_have_five_groups_of_hex() {
        assert!("00000000-0000-4000-8000-000000000000".parse::<ImageUuid>().is_ok());
        assert!("00000000-0000-4000-8000-00000000000g".parse::<ImageUuid>().is_err());
        assert!("00000000".parse::<ImageUuid>().is_err());
    }
}
