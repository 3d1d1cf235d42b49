//! What the fuzz targets run: each a function of bytes that must return, whatever the bytes are.
//!
//! `fuzz/fuzz_targets` hands these functions what the fuzzer makes up; `tests/tests/corpus.rs` hands them the
//! committed corpus. A function asserts more than "no panic" wherever the machine promises more.

mod errors;
mod fragments;
mod leases;
mod names;
mod path;
mod wire;

use std::net::Ipv4Addr;

use ::config::ReportStyle;
use local_stack::Settings;
use packet::MacAddr;

pub use errors::icmp_error;
pub use fragments::fragments;
pub use leases::{dhcp_client, dhcp_server};
pub use names::{dns_query, dns_upstream};
pub use path::packet_path;
pub use wire::parse_frame;

/// A target: its name, which is that of its corpus folder, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("parse_frame", parse_frame),
    ("packet_path", packet_path),
    ("nat", nat),
    ("icmp_error", icmp_error),
    ("fragments", fragments),
    ("dhcp_server", dhcp_server),
    ("dhcp_client", dhcp_client),
    ("dns_query", dns_query),
    ("dns_upstream", dns_upstream),
    ("config", config),
];

/// Steps that one input may take: enough for every dialogue of the machines, and few enough for thousands of
/// inputs a second.
const STEPS_MAX: usize = 64;

/// Reads a configuration; what passes must also suit the router's own stack, and what does not must be explained.
///
/// # Panics
/// If a file is refused without a reason.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ::config::parse("fuzzed.toml", text) {
        Ok(config) => {
            let links = config.lans.len() + 1;
            let macs = (0..links).map(|link| router_mac(link as u8)).collect();
            let _ = Settings::new(&config, macs);
        }
        Err(error) => assert!(!error.report(ReportStyle::Plain).is_empty()),
    }
}

/// Runs operations on the packet path and on the model; see [`crate::lockstep`].
///
/// # Panics
/// If they disagree.
pub fn nat(data: &[u8]) {
    crate::lockstep::run(data);
}

/// The router's own station on a link.
fn router_mac(link: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, link])
}

/// The station with an address.
fn station(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([6, 0, a, b, c, d])
}

/// The bytes of an input, taken from the front; those beyond the end are zero.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [first, rest @ ..] = self.0 else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// The next bytes, as many as the two before them say and there are.
    fn chunk(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16()).min(self.0.len());
        let (chunk, rest) = self.0.split_at(len);
        self.0 = rest;
        chunk
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.u8()) % from.len()]
    }
}
