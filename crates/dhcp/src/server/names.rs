//! Host names that clients give themselves, made fit for DNS (DS21, DS22).

use std::net::Ipv4Addr;

use dhcproto::v4::OptionCode;
use hashbrown::HashMap;

use crate::message::Options;

/// The names in use and the address each belongs to.
#[derive(Debug, Default)]
pub(super) struct Names {
    owners: HashMap<String, Ipv4Addr>,
}

impl Names {
    /// Gives `address` the name, or the name with a number if another address has it.
    pub fn claim(&mut self, wanted: &str, address: Ipv4Addr) -> Option<String> {
        let numbered = (2..=DUPLICATES_MAX).map(|number| {
            let suffix = format!("-{number}");
            let stem = &wanted[..wanted.len().min(LABEL_MAX - suffix.len())];
            format!("{stem}{suffix}")
        });
        let name = std::iter::once(wanted.to_owned())
            .chain(numbered)
            .find(|name| self.owners.get(name).is_none_or(|owner| *owner == address))?;
        self.owners.insert(name.clone(), address);
        Some(name)
    }

    /// Frees a name, if the address is its owner.
    pub fn release(&mut self, name: &str, address: Ipv4Addr) {
        if self.owners.get(name) == Some(&address) {
            self.owners.remove(name);
        }
    }
}

/// The name a client gives itself: in option 81 (RFC 4702), else in option 12.
pub(super) fn name_of(options: &Options) -> Option<String> {
    let fqdn = options.bytes(OptionCode::ClientFQDN).and_then(first_label_of_fqdn);
    fqdn.or_else(|| options.bytes(OptionCode::Hostname)).and_then(clean)
}

/// Makes a host name of text from anywhere: its first label in lower case, with spaces and underscores as
/// hyphens, without other characters; `None` if nothing is left or the name means something else.
pub(super) fn clean(text: &[u8]) -> Option<String> {
    let first = text.split(|byte| *byte == b'.' || *byte == 0).next()?;
    let letters = first.iter().filter_map(|byte| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' => Some(char::from(*byte)),
        b'A'..=b'Z' => Some(char::from(byte.to_ascii_lowercase())),
        b' ' | b'_' => Some('-'),
        _ => None,
    });
    let kept: String = letters.skip_while(|letter| *letter == '-').take(LABEL_MAX).collect();
    let name = kept.trim_end_matches('-');
    (!name.is_empty() && !RESERVED.contains(&name)).then(|| name.to_owned())
}

/// The first label of option 81, in wire or in ASCII form as its E bit says (RFC 4702 §2).
fn first_label_of_fqdn(bytes: &[u8]) -> Option<&[u8]> {
    let (&[flags, _, _], name) = bytes.split_first_chunk::<3>()?;
    if flags & FQDN_ENCODED == 0 {
        return (!name.is_empty()).then_some(name);
    }
    let (&len, label) = name.split_first()?;
    let label = label.get(..usize::from(len))?;
    (!label.is_empty()).then_some(label)
}

/// The E bit of option 81.
pub(super) const FQDN_ENCODED: u8 = 0x04;
/// Longest label in DNS (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;
/// Most hosts with one name; the next has none.
const DUPLICATES_MAX: u32 = 99;
/// Names that no host may take: proxy discovery and the loopback name (RFC 6761).
const RESERVED: [&str; 3] = ["wpad", "localhost", "isatap"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ds21_names_are_cleaned_or_refused() {
        for (text, expected) in [
            ("Anna's Phone", Some("annas-phone")),
            ("web.example.org", Some("web")),
            ("_tv_", Some("tv")),
            ("käse", Some("kse")),
            ("WPAD", None),
            ("localhost", None),
            ("...", None),
            ("", None),
            ("--", None),
        ] {
            assert_eq!(clean(text.as_bytes()).as_deref(), expected, "{text:?}");
        }
        assert_eq!(clean(&[b'x'; 200]).unwrap().len(), 63);
    }

    #[test]
    fn ds21_a_second_host_of_the_same_name_gets_a_number() {
        let mut names = Names::default();
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        assert_eq!(names.claim("tv", a).as_deref(), Some("tv"));
        assert_eq!(names.claim("tv", b).as_deref(), Some("tv-2"));
        assert_eq!(names.claim("tv", a).as_deref(), Some("tv"));
        names.release("tv", b);
        names.release("tv", a);
        assert_eq!(names.claim("tv", b).as_deref(), Some("tv"));
    }

    #[test]
    fn ds22_option_81_is_read_in_both_encodings() {
        assert_eq!(first_label_of_fqdn(b"\x04\0\0\x03web\x04home\0"), Some(&b"web"[..]));
        assert_eq!(first_label_of_fqdn(b"\x00\0\0web.home"), Some(&b"web.home"[..]));
        for bad in [&b""[..], b"\x04\0\0", b"\x04\0\0\x05web", b"\x04\0\0\0", b"\0\0\0"] {
            assert_eq!(first_label_of_fqdn(bad), None);
        }
    }
}
