//! What a router may let out on its WAN: nothing that is not translated, ever.

use std::net::Ipv4Addr;

use packet::header::{ethernet, ipv4, u16_at};

/// Looks at every frame that leaves on a WAN.
#[derive(Debug, Default)]
pub struct WanWatch {
    /// The address that the WAN had last.
    last: Option<Ipv4Addr>,
    /// Addresses that are the router's as well while it has that.
    further: Vec<Ipv4Addr>,
    strays: Vec<Stray>,
}

/// A packet that must not have left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stray {
    /// Its source.
    pub source: Ipv4Addr,
    /// The WAN's address at that moment.
    pub wan: Option<Ipv4Addr>,
}

impl WanWatch {
    /// Says which addresses are the router's besides its link's own.
    pub fn know(&mut self, further: Vec<Ipv4Addr>) {
        self.further = further;
    }

    /// Takes note of a frame that leaves while the WAN has this address: its source must be that or a further one, or
    /// the frame be of the router's own DHCP client, which speaks from no address, and gives a lease back from the address that it
    /// had.
    pub fn look(&mut self, frame: &[u8], wan: Option<Ipv4Addr>) {
        self.last = wan.or(self.last);
        let Some(source) = source(frame) else { return };
        let is_last_word = Some(source) == self.last || source.is_unspecified();
        let is_ours = Some(source) == wan || wan.is_some() && self.further.contains(&source);
        if !(is_ours || is_dhcp(frame) && is_last_word) {
            self.strays.push(Stray { source, wan });
        }
    }

    /// Adds what an earlier router let out.
    pub(crate) fn extend(&mut self, earlier: WanWatch) {
        self.strays.extend(earlier.strays);
    }

    /// What must not have left so far.
    #[must_use]
    pub fn strays(&self) -> &[Stray] {
        &self.strays
    }
}

/// The source of an IPv4 packet, read without the parser of those who are watched.
fn source(frame: &[u8]) -> Option<Ipv4Addr> {
    let header = frame.get(ethernet::LEN..ethernet::LEN + ipv4::LEN_MIN)?;
    let octets: [u8; 4] = *header[ipv4::SOURCE..].first_chunk()?;
    (u16_at(frame, ethernet::ETHERTYPE) == ethernet::IPV4).then(|| octets.into())
}

/// Whether a frame is a datagram from a DHCP client to a server.
fn is_dhcp(frame: &[u8]) -> bool {
    const UDP: u8 = 17;
    const PORTS: [u8; 4] = [0, 68, 0, 67];
    let packet = &frame[ethernet::LEN..];
    let options = usize::from(packet[0] & 0xf) * 4;
    packet[ipv4::PROTOCOL] == UDP && packet.get(options..options + 4) == Some(&PORTS)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    const OLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
    const NONE: [Ipv4Addr; 0] = [];
    const LAN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn udp(source: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source.octets(), [203, 0, 113, 7], 64)
            .udp(ports.0, ports.1)
            .write(&mut frame, b"payload")
            .unwrap();
        frame
    }

    fn strays(seen: &[(Vec<u8>, Option<Ipv4Addr>)]) -> Vec<Ipv4Addr> {
        let mut watch = WanWatch::default();
        seen.iter().for_each(|(frame, wan)| watch.look(frame, *wan));
        watch.strays().iter().map(|stray| stray.source).collect()
    }

    #[test]
    fn a_packet_from_inside_or_of_a_former_address_is_a_stray() {
        let flow = (5000, 53);
        assert_eq!(strays(&[(udp(WAN, flow), Some(WAN)), (udp(LAN, flow), Some(WAN))]), [LAN]);
        assert_eq!(strays(&[(udp(OLD, flow), Some(OLD)), (udp(OLD, flow), Some(WAN))]), [OLD]);
        assert_eq!(strays(&[(udp(OLD, flow), Some(OLD)), (udp(OLD, flow), None)]), [OLD]);
        let nobody = Ipv4Addr::UNSPECIFIED;
        assert_eq!(strays(&[(udp(nobody, flow), None)]), [nobody]);
    }

    #[test]
    fn further_addresses_are_the_routers_while_the_wan_has_its_own() {
        let mut watch = WanWatch::default();
        watch.know(vec![OLD]);
        watch.look(&udp(OLD, (5000, 53)), Some(WAN));
        assert!(watch.strays().is_empty());
        watch.look(&udp(OLD, (5000, 53)), None);
        assert_eq!(watch.strays().len(), 1);
    }

    #[test]
    fn the_routers_own_dhcp_is_not() {
        let dhcp = (68, 67);
        let nobody = Ipv4Addr::UNSPECIFIED;
        assert_eq!(strays(&[(udp(nobody, dhcp), None), (udp(nobody, dhcp), Some(WAN))]), NONE);
        assert_eq!(strays(&[(udp(OLD, dhcp), Some(OLD)), (udp(OLD, dhcp), None)]), NONE);
        assert_eq!(strays(&[(udp(LAN, dhcp), Some(WAN))]), [LAN]);
    }

    #[test]
    fn arp_is_not_looked_at_and_short_frames_are_no_matter() {
        let mut arp = udp(LAN, (1, 2));
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(strays(&[(arp, Some(WAN)), (vec![8; 20], Some(WAN)), (vec![], None)]), NONE);
    }
}
