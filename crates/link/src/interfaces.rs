//! Which links the system has, and why one can't be opened.

use std::io;
use std::net::IpAddr;

use packet::MacAddr;
use pnet::datalink;

/// A network interface of this system (of this network namespace or zone).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address, if it has one.
    pub mac: Option<MacAddr>,
    /// The addresses that the kernel has on it, with prefix lengths in bits.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Whether it is set up.
    pub is_up: bool,
    /// Whether it is a loopback interface.
    pub is_loopback: bool,
}

/// Lists the interfaces of this system.
#[must_use]
pub fn interfaces() -> Vec<Interface> {
    datalink::interfaces().into_iter().map(Interface::from).collect()
}

impl From<datalink::NetworkInterface> for Interface {
    fn from(found: datalink::NetworkInterface) -> Self {
        Self {
            mac: found.mac.map(|mac| MacAddr(mac.octets())),
            addresses: found.ips.iter().map(|ip| (ip.ip(), ip.prefix())).collect(),
            is_up: found.is_up(),
            is_loopback: found.is_loopback(),
            name: found.name,
        }
    }
}

impl Interface {
    /// The first address that makes the kernel a host on this link.
    ///
    /// An IPv6 link-local address does not count: every link has one until IPv6 is switched off.
    #[must_use]
    pub fn kernel_address(&self) -> Option<(IpAddr, u8)> {
        let counts = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        self.addresses.iter().copied().find(|(address, _)| counts(address))
    }
}

/// Finds the interface to open and checks that the kernel is no host on it.
pub(crate) fn find(link: &str) -> Result<datalink::NetworkInterface, OpenError> {
    let found = datalink::interfaces().into_iter().find(|interface| interface.name == link);
    let interface = found.ok_or_else(|| OpenError::NotFound { link: link.to_owned() })?;
    match Interface::from(interface.clone()).kernel_address() {
        Some((address, prefix_len)) => {
            Err(OpenError::KernelAddress { link: link.to_owned(), address, prefix_len })
        }
        None => Ok(interface),
    }
}

/// Why a link can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such link.
    #[error("link {link} does not exist; create it or correct its name in the configuration")]
    NotFound {
        /// The link's name.
        link: String,
    },
    /// The kernel has an address on the link and would answer beside the router.
    #[error(
        "link {link} has the kernel address {address}/{prefix_len}, but the router owns the link: \
         remove it with `ip addr del {address}/{prefix_len} dev {link}`"
    )]
    KernelAddress {
        /// The link's name.
        link: String,
        /// The first such address.
        address: IpAddr,
        /// Its prefix length in bits.
        prefix_len: u8,
    },
    /// The process may not open raw links.
    #[error("no permission to open link {link}: raw frames need CAP_NET_RAW or root")]
    Permission {
        /// The link's name.
        link: String,
    },
    /// The link does not carry Ethernet frames.
    #[error("link {link} does not carry Ethernet frames")]
    NotEthernet {
        /// The link's name.
        link: String,
    },
    /// The operating system refused a step.
    #[error("link {link}: {step}: {source}")]
    System {
        /// The link's name.
        link: String,
        /// What was tried.
        step: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    /// The error of a step that the system refused.
    pub(crate) fn system(link: &str, step: &'static str, source: impl Into<io::Error>) -> Self {
        let (link, source) = (link.to_owned(), source.into());
        match source.kind() {
            io::ErrorKind::PermissionDenied => OpenError::Permission { link },
            _ => OpenError::System { link, step, source },
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn interface(addresses: &[&str]) -> Interface {
        Interface {
            name: "wan0".to_owned(),
            mac: None,
            addresses: addresses.iter().map(|text| (text.parse().unwrap(), 24)).collect(),
            is_up: true,
            is_loopback: false,
        }
    }

    #[test]
    fn an_ipv6_link_local_address_does_not_make_the_kernel_a_host() {
        assert_eq!(interface(&["fe80::1"]).kernel_address(), None);
        let global = ("2001:db8::1".parse().unwrap(), 24);
        assert_eq!(interface(&["fe80::1", "2001:db8::1"]).kernel_address(), Some(global));
    }

    #[test]
    fn the_error_for_a_kernel_address_says_how_to_remove_it() {
        let (address, prefix_len) = interface(&["10.0.0.1"]).kernel_address().unwrap();
        let error = OpenError::KernelAddress { link: "lan0".to_owned(), address, prefix_len };
        assert!(error.to_string().contains("`ip addr del 10.0.0.1/24 dev lan0`"));
    }
}
