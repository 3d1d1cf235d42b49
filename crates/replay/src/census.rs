//! A configuration that suits a capture.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use config::Config;
use packet::{Offload, Parsed, parse};

use crate::run::Side;

/// LANs and WANs to fall back to, so that one of each is free whatever the capture holds.
const LANS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(192, 168, 77, 0)];
const WANS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 2), Ipv4Addr::new(203, 0, 113, 2)];

/// Who speaks in a capture, and to whom.
#[derive(Default)]
pub(crate) struct Census {
    sources: BTreeMap<Ipv4Addr, u64>,
    destinations: BTreeMap<Ipv4Addr, u64>,
}

impl Census {
    pub(crate) fn of<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut census = Self::default();
        frames.for_each(|frame| census.count(frame));
        census
    }

    fn count(&mut self, frame: &[u8]) {
        let (source, destination) = match parse(frame, Offload::NONE) {
            Ok(Parsed::Ipv4(datagram)) => (datagram.source.address, datagram.destination.address),
            Ok(Parsed::Fragment(fragment)) => (fragment.source, fragment.destination),
            Ok(Parsed::Arp(_)) | Err(_) => return,
        };
        *self.sources.entry(source).or_default() += 1;
        *self.destinations.entry(destination).or_default() += 1;
    }

    /// A configuration in which most frames of the capture find their way if they arrive on `side`.
    pub(crate) fn config(&self, side: Side) -> Result<Config> {
        let first = match side {
            Side::Lan => self.home().map(|home| (subnet(home), WANS[0])),
            Side::Wan => most(&self.destinations, |_| true).map(|ours| (LANS[0], ours)),
        };
        let fallbacks = LANS.iter().flat_map(|lan| WANS.iter().map(move |wan| (*lan, *wan)));
        let beside = first.into_iter().flat_map(|(lan, wan)| match side {
            Side::Lan => WANS.map(|wan| (lan, wan)),
            Side::Wan => LANS.map(|lan| (lan, wan)),
        });
        // The configuration's own checks say which pair overlaps or holds what no link may have.
        let mut made = beside.chain(fallbacks).map(|(lan, wan)| {
            config::parse("the configuration made for the capture", &text(side, lan, wan))
        });
        made.find_map(Result::ok).context("no configuration suits the capture")
    }

    /// The host that most packets come from, preferably one with a private address.
    fn home(&self) -> Option<Ipv4Addr> {
        most(&self.sources, |address| address.is_private())
            .or_else(|| most(&self.sources, |_| true))
    }
}

/// The most frequent of those wanted; of equals the lowest.
fn most(counts: &BTreeMap<Ipv4Addr, u64>, wanted: impl Fn(&Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let wanted = counts.iter().filter(|(address, _)| wanted(address));
    wanted.rev().max_by_key(|(_, count)| **count).map(|(address, _)| *address)
}

fn subnet(host: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = host.octets();
    Ipv4Addr::new(a, b, c, 0)
}

fn neighbour(address: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, if d == last { last - 1 } else { last })
}

/// A configuration for a capture whose hosts are given addresses anyway: its LAN has room for many.
pub(crate) fn rewriting_config() -> Result<Config> {
    let text = links((LANS[0], 16), WANS[0]);
    config::parse("the configuration made for rewriting", &text)
        .ok()
        .context("the configuration made for rewriting is none")
}

/// A router between a LAN and a WAN.
fn links((lan, lan_prefix): (Ipv4Addr, u8), wan: Ipv4Addr) -> String {
    let router = neighbour(lan, 254);
    let gateway = neighbour(wan, 254);
    format!(
        r#"
[wan]
link = "wan0"
bogons = "pass"
mode = "static"
address = "{wan}/24"
gateway = "{gateway}"

[[lan]]
name = "lan"
link = "lan0"
address = "{router}/{lan_prefix}"
filtering = "endpoint-independent"
"#
    )
}

fn text(side: Side, lan: Ipv4Addr, wan: Ipv4Addr) -> String {
    let links = links((lan, 24), wan);
    let host = neighbour(lan, 10);
    // What arrives from outside is to go somewhere; the ports of DHCP and below stay the router's.
    let forward =
        format!("[[forward]]\nprotocol = \"both\"\nport = \"69-65535\"\nto = \"{host}\"\n");
    match side {
        Side::Lan => links,
        Side::Wan => links + &forward,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(pairs: &[([u8; 4], [u8; 4])]) -> Census {
        let mut census = Census::default();
        for (source, destination) in pairs {
            let mut frame = Vec::new();
            etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4(*source, *destination, 64)
                .udp(1000, 2000)
                .write(&mut frame, b"x")
                .unwrap();
            census.count(&frame);
        }
        census
    }

    #[test]
    fn the_lan_is_where_the_private_sources_are() {
        let census = census(&[
            ([203, 0, 113, 5], [192, 168, 1, 7]),
            ([203, 0, 113, 5], [192, 168, 1, 7]),
            ([192, 168, 1, 7], [203, 0, 113, 5]),
        ]);
        let config = census.config(Side::Lan).unwrap();
        assert!(config.lans[0].subnet().contains(&Ipv4Addr::new(192, 168, 1, 7)));
    }

    #[test]
    fn the_wan_address_is_what_most_packets_are_for() {
        let census = census(&[
            ([203, 0, 113, 5], [10, 0, 0, 7]),
            ([203, 0, 113, 5], [10, 0, 0, 7]),
            ([10, 0, 0, 7], [203, 0, 113, 5]),
        ]);
        let config = census.config(Side::Wan).unwrap();
        let config::WanMode::Static { address, .. } = config.wan.mode else { panic!() };
        assert_eq!(address.addr(), Ipv4Addr::new(10, 0, 0, 7));
    }

    #[test]
    fn any_capture_has_a_configuration() {
        let strange = [[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [198, 51, 100, 2]];
        for address in strange {
            for side in [Side::Lan, Side::Wan] {
                census(&[(address, address)]).config(side).unwrap();
            }
        }
        Census::default().config(Side::Lan).unwrap();
    }
}
