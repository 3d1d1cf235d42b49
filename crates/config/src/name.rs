//! Which names are legal.

use crate::fault::Fault;
use crate::model::Platform;

/// Reads a host name: one label (RFC 1123 §2.1), lowered.
pub(crate) fn host(text: &str) -> Result<String, Fault> {
    let name = text.to_ascii_lowercase();
    if is_label(&name) && name != "localhost" {
        Ok(name)
    } else {
        Err(Fault::HostName { given: text.to_owned() })
    }
}

/// Reads a domain name (RFC 1035 §2.3.4), lowered and without a dot at the end.
pub(crate) fn domain(text: &str) -> Result<String, Fault> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let looks_like_address = name.parse::<std::net::Ipv4Addr>().is_ok();
    let legal = name.len() <= DOMAIN_LEN_MAX
        && name.split('.').all(is_label)
        && name != "localhost"
        && !looks_like_address;
    if legal { Ok(name) } else { Err(Fault::DomainName { given: text.to_owned() }) }
}

/// Reads the name of a LAN.
pub(crate) fn lan(text: &str) -> Result<String, Fault> {
    let legal = text.len() <= LAN_NAME_LEN_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !["wan", "router", "anywhere"].contains(&text);
    if legal { Ok(text.to_owned()) } else { Err(Fault::LanName { given: text.to_owned() }) }
}

/// Reads the name of a link: any that Linux allows and no tool trips over; which ones `platform`
/// allows is checked when the file says it.
pub(crate) fn link(text: &str) -> Result<String, Fault> {
    if is_interface(text) {
        Ok(text.to_owned())
    } else {
        Err(Fault::LinkName { given: text.to_owned() })
    }
}

/// Checks the name of a link that `platform` creates: on illumos and SmartOS a letter first, a
/// number without leading zero last.
pub(crate) fn created_link(text: &str, platform: Platform) -> Result<String, Fault> {
    let given = text.to_owned();
    match platform {
        Platform::Linux if is_interface(text) => Ok(given),
        Platform::Linux => Err(Fault::LinkName { given }),
        Platform::Illumos | Platform::Smartos if is_portable(text) => Ok(given),
        Platform::Illumos | Platform::Smartos => {
            Err(Fault::PortableLinkName { given, platform: platform.as_str() })
        }
    }
}

/// Reads the name of what a vNIC is created over.
pub(crate) fn over(text: &str, platform: Platform) -> Result<String, Fault> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let long = text.len() > DLADM_NAME_LEN_MAX;
    let (legal, example) = match platform {
        Platform::Linux => (is_interface(text), "eth1"),
        Platform::Illumos => (
            !long
                && text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.bytes().all(|b| word(b) || b == b'.')
                && ends_in_plain_number(text),
            "igb0",
        ),
        Platform::Smartos => {
            (!long && !text.is_empty() && text.bytes().all(|b| word(b) || b == b'/'), "external")
        }
    };
    let fault = || Fault::Over { given: text.to_owned(), platform: platform.as_str(), example };
    if legal { Ok(text.to_owned()) } else { Err(fault()) }
}

/// Reads the name of a zone.
pub(crate) fn zone(text: &str) -> Result<String, Fault> {
    let legal = (1..=ZONE_NAME_LEN_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && text != "global"
        && !text.starts_with("SUNW");
    if legal { Ok(text.to_owned()) } else { Err(Fault::ZoneName { given: text.to_owned() }) }
}

/// Reads a UUID, lowered.
pub(crate) fn uuid(text: &str) -> Result<String, Fault> {
    let parts: Vec<&str> = text.split('-').collect();
    let legal = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
    if legal { Ok(text.to_ascii_lowercase()) } else { Err(Fault::Uuid { given: text.to_owned() }) }
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_LEN_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_interface(text: &str) -> bool {
    (1..=LINK_NAME_LEN_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn is_portable(text: &str) -> bool {
    (3..=LINK_NAME_LEN_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && ends_in_plain_number(text)
}

fn ends_in_plain_number(text: &str) -> bool {
    let number = &text[text.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    !number.is_empty() && (number == "0" || !number.starts_with('0'))
}

/// Longest label (RFC 1035 §2.3.4).
const LABEL_LEN_MAX: usize = 63;
/// Longest name as text: 255 bytes on the wire with the first length and the root (RFC 1035
/// §2.3.4).
const DOMAIN_LEN_MAX: usize = 253;
/// Longest name of a LAN: it is a label of metrics and a column of tables.
const LAN_NAME_LEN_MAX: usize = 32;
/// Longest name of an interface: 16 bytes with the NUL in `ifreq`.
const LINK_NAME_LEN_MAX: usize = 15;
/// Longest name of an illumos data link: 32 bytes with the NUL.
const DLADM_NAME_LEN_MAX: usize = 31;
/// Longest name of a zone: 64 bytes with the NUL.
const ZONE_NAME_LEN_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_one_label_in_lower_case() {
        assert_eq!(host("Web-1").as_deref(), Ok("web-1"));
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "a.b", "a b", "a_b", "localhost", "ü", &long] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn domains_lose_case_and_the_last_dot() {
        assert_eq!(domain("Home.ARPA.").as_deref(), Ok("home.arpa"));
        let long = vec!["a"; 128].join(".");
        for bad in ["", ".", "a..b", ".a", "10.0.0.1", "localhost", &long] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn portable_links_end_in_a_number_without_leading_zero() {
        for good in ["wan0", "lan10", "zrstub0", "a_b2", "net4294"] {
            assert!(created_link(good, Platform::Illumos).is_ok(), "{good}");
        }
        for bad in ["wan", "lan01", "zr-stub0", "0wan0", "a0", "a.b0", "sixteen_letters0"] {
            assert!(created_link(bad, Platform::Smartos).is_err(), "{bad}");
        }
    }

    #[test]
    fn linux_links_are_free_up_to_fifteen_bytes() {
        for good in ["wan", "br-lan", "eth0.20", "enp0s31f6"] {
            assert!(created_link(good, Platform::Linux).is_ok(), "{good}");
        }
        for bad in ["", ".", "a/b", "a b", "-a", "sixteen_letters0", "a\n"] {
            assert!(created_link(bad, Platform::Linux).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_links_attach_to_follows_the_platform() {
        assert!(over("external", Platform::Smartos).is_ok());
        assert!(over("external", Platform::Illumos).is_err());
        assert!(over("igb0", Platform::Illumos).is_ok());
        assert!(over("br-lan", Platform::Smartos).is_err());
    }

    #[test]
    fn the_global_zone_is_not_ours_to_name() {
        assert!(zone("router.1").is_ok());
        for bad in ["", "global", "SUNWx", "-a", "a/b"] {
            assert!(zone(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_uuid_has_five_groups() {
        let image = "00000000-0000-4000-8000-00000000000A";
        assert_eq!(uuid(image), Ok(image.to_ascii_lowercase()));
        assert!(uuid("00000000-0000-4000-8000").is_err());
    }
}
