//! DHCP messages: dhcproto's fixed header and encoder, with an option reader that survives hostile input.
//!
//! dhcproto stops at the first option that it cannot read, does not look into `sname` and `file`, and
//! asserts lengths in debug builds. A client with a host name in Latin-1 must still get an address, so
//! options are gathered here as raw bytes, joined (RFC 3396), and each accessor judges one alone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Decodable, Encodable, Encoder};
use ipnet::Ipv4Net;
use packet::MacAddr;

use crate::frame::MESSAGE_MAX;

/// An option given by number, for what no typed setting covers (DC16, DS18).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawOption {
    /// Option code (RFC 2132), 1 to 254.
    pub code: u8,
    /// Its data, at most 255 bytes.
    pub data: Vec<u8>,
}

/// Which side a message comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Request,
    Reply,
}

/// A received message over Ethernet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    pub op: Op,
    pub kind: MessageType,
    pub xid: u32,
    pub broadcast: bool,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: MacAddr,
    pub options: Options,
}

/// Reads a message; `None` if it is not DHCP over Ethernet.
pub(crate) fn decode(payload: &[u8]) -> Option<Received> {
    let (fixed, options) = payload.split_at_checked(OPTIONS_AT)?;
    if fixed[MAGIC_AT..] != MAGIC {
        return None;
    }
    let header = Message::from_bytes(fixed).ok()?;
    let op = match header.opcode() {
        Opcode::BootRequest => Op::Request,
        Opcode::BootReply => Op::Reply,
        Opcode::Unknown(_) => return None,
    };
    if header.htype() != HType::Eth || header.hlen() != 6 {
        return None;
    }
    let options = Options::gather(options, &fixed[FILE_AT..MAGIC_AT], &fixed[SNAME_AT..FILE_AT]);
    let &[kind] = options.bytes(OptionCode::MessageType)? else { return None };
    Some(Received {
        op,
        kind: kind.into(),
        xid: header.xid(),
        broadcast: header.flags().broadcast(),
        ciaddr: header.ciaddr(),
        yiaddr: header.yiaddr(),
        giaddr: header.giaddr(),
        chaddr: MacAddr(header.chaddr().try_into().ok()?),
        options,
    })
}

/// Encodes a message, padded to the smallest BOOTP message; `None` if it exceeds [`MESSAGE_MAX`].
pub(crate) fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(MESSAGE_MAX);
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    if bytes.len() < MESSAGE_MIN {
        bytes.resize(MESSAGE_MIN, 0);
    }
    (bytes.len() <= MESSAGE_MAX).then_some(bytes)
}

/// Starts a message of one kind with all addresses zero.
pub(crate) fn start(op: Op, kind: MessageType, xid: u32, chaddr: MacAddr) -> Message {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, zero, zero, zero, zero, &chaddr.0);
    message.set_opcode(match op {
        Op::Request => Opcode::BootRequest,
        Op::Reply => Opcode::BootReply,
    });
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message
}

/// Adds options given by number, but never over one that the machine itself has set.
pub(crate) fn add_raw(message: &mut Message, raw: &[RawOption]) {
    for option in raw {
        let code = OptionCode::from(option.code);
        let reserved = matches!(code, OptionCode::Pad | OptionCode::End);
        if !reserved && !message.opts().contains(code) {
            let unknown = UnknownOption::new(code, option.data.clone());
            message.opts_mut().insert(DhcpOption::Unknown(unknown));
        }
    }
}

/// The options of a message: for each code all its bytes, joined in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Joins the options field with `file` and `sname` if option 52 says that they hold options
    /// (RFC 2131 §4.1, RFC 3396 §5).
    fn gather(field: &[u8], file: &[u8], sname: &[u8]) -> Self {
        let mut options = Self::default();
        options.append(field);
        let overload = match options.bytes(OptionCode::OptionOverload) {
            Some(&[overload]) => overload,
            _ => 0,
        };
        if overload & 1 != 0 {
            options.append(file);
        }
        if overload & 2 != 0 {
            options.append(sname);
        }
        options
    }

    fn append(&mut self, mut field: &[u8]) {
        while let Some((&code, rest)) = field.split_first() {
            field = rest;
            match code {
                PAD => continue,
                END => return,
                _ => {}
            }
            let Some((&len, rest)) = field.split_first() else { return };
            let Some((data, rest)) = rest.split_at_checked(usize::from(len)) else { return };
            self.0.entry(code).or_default().extend_from_slice(data);
            field = rest;
        }
    }

    /// The bytes of an option, if it was there.
    pub fn bytes(&self, code: OptionCode) -> Option<&[u8]> {
        self.0.get(&u8::from(code)).map(Vec::as_slice)
    }

    pub fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.bytes(code)?.try_into().ok()?;
        Some(octets.into())
    }

    /// The addresses in a list option, without impossible ones, at most [`LIST_MAX`].
    pub fn addresses(&self, code: OptionCode) -> Vec<Ipv4Addr> {
        let bytes = self.bytes(code).unwrap_or_default();
        let all = bytes.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets));
        all.filter(|address| is_host(*address)).take(LIST_MAX).collect()
    }

    pub fn seconds(&self, code: OptionCode) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(code)?.try_into().ok()?))
    }

    pub fn number16(&self, code: OptionCode) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(code)?.try_into().ok()?))
    }

    /// Printable text without the trailing NULs that some senders add.
    pub fn text(&self, code: OptionCode) -> Option<String> {
        let text = std::str::from_utf8(self.bytes(code)?).ok()?.trim_end_matches('\0');
        let printable = !text.is_empty() && !text.chars().any(char::is_control);
        printable.then(|| text.to_owned())
    }

    /// Whether the client asks for an option; a client without a list gets everything.
    pub fn requests(&self, code: OptionCode) -> bool {
        self.bytes(OptionCode::ParameterRequestList)
            .is_none_or(|list| list.contains(&u8::from(code)))
    }

    /// Routes of option 121 with zeroed host bits (RFC 3442); `None` if absent or malformed, for a
    /// route list must not be taken in part.
    pub fn classless_routes(&self) -> Option<Vec<(Ipv4Net, Ipv4Addr)>> {
        let mut bytes = self.bytes(OptionCode::ClasslessStaticRoute)?;
        let mut routes = Vec::new();
        while let Some((&width, rest)) = bytes.split_first() {
            let (significant, rest) = rest.split_at_checked(usize::from(width).div_ceil(8))?;
            let (gateway, rest) = rest.split_first_chunk::<4>()?;
            let mut octets = [0; 4];
            octets.get_mut(..significant.len())?.copy_from_slice(significant);
            let destination = Ipv4Net::new(octets.into(), width).ok()?.trunc();
            if routes.len() < ROUTES_MAX {
                routes.push((destination, Ipv4Addr::from(*gateway)));
            }
            bytes = rest;
        }
        (!routes.is_empty()).then_some(routes)
    }
}

/// Whether an address can be that of a station on a network.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

/// Fixed part of a message, up to and with the magic cookie (RFC 2131 §2).
const OPTIONS_AT: usize = 240;
const MAGIC_AT: usize = 236;
const FILE_AT: usize = 108;
const SNAME_AT: usize = 44;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const END: u8 = 255;
/// Smallest BOOTP message; some relays drop shorter ones (RFC 1542 §2.1).
const MESSAGE_MIN: usize = 300;
/// Most servers kept of one list option: nobody asks a ninth.
pub(crate) const LIST_MAX: usize = 8;
/// Most routes taken from one lease; a home provider sends two or three.
pub(crate) const ROUTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A minimal reply with the given options field.
    fn payload(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS_AT];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[MAGIC_AT..].copy_from_slice(&MAGIC);
        bytes.extend_from_slice(options);
        bytes
    }

    #[test]
    fn dc18_options_in_sname_and_file_are_read_and_joined() {
        let mut bytes = payload(&[53, 1, 5, 52, 1, 3, 15, 2, b'a', b'b', 255]);
        bytes[FILE_AT..FILE_AT + 5].copy_from_slice(&[15, 2, b'c', b'd', 255]);
        bytes[SNAME_AT..SNAME_AT + 7].copy_from_slice(&[0, 54, 4, 10, 0, 0, 1]);
        let message = decode(&bytes).unwrap();
        assert_eq!(message.options.text(OptionCode::DomainName).as_deref(), Some("abcd"));
        let server = message.options.address(OptionCode::ServerIdentifier);
        assert_eq!(server, Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn dc17_a_long_option_121_is_concatenated_and_host_bits_are_zeroed() {
        let mut options = vec![53, 1, 5, 121, 6, 24, 10, 7, 7, 10, 0, 42, 4, 1, 2, 3, 4, 121, 8];
        options.extend_from_slice(&[0, 1, 17, 172, 16, 255, 10, 0]);
        options.extend_from_slice(&[121, 2, 0, 9, 255]);
        let routes = decode(&payload(&options)).unwrap().options.classless_routes().unwrap();
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(routes[0], ("10.7.7.0/24".parse().unwrap(), gateway));
        assert_eq!(routes[1], ("172.16.128.0/17".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 9)));
    }

    #[test]
    fn a_malformed_option_121_is_ignored_as_a_whole() {
        for routes in [&[33, 1, 2, 3, 4, 5, 1, 1, 1, 1][..], &[24, 10, 0, 0, 1, 1], &[0, 1, 1, 1]] {
            let mut options = vec![53, 1, 5, 121, routes.len() as u8];
            options.extend_from_slice(routes);
            assert_eq!(decode(&payload(&options)).unwrap().options.classless_routes(), None);
        }
    }

    #[test]
    fn an_unreadable_host_name_does_not_hide_later_options() {
        let bytes = payload(&[53, 1, 1, 12, 2, 0xff, 0xfe, 50, 4, 10, 0, 0, 7, 255]);
        let options = decode(&bytes).unwrap().options;
        assert_eq!(options.text(OptionCode::Hostname), None);
        let requested = options.address(OptionCode::RequestedIpAddress);
        assert_eq!(requested, Some(Ipv4Addr::new(10, 0, 0, 7)));
    }

    #[test]
    fn bootp_wrong_cookies_and_other_hardware_are_not_dhcp_over_ethernet() {
        let good = payload(&[53, 1, 1, 255]);
        assert!(decode(&good).is_some());
        assert!(decode(&payload(&[255])).is_none());
        for (at, value) in [(0, 3), (1, 6), (2, 17), (MAGIC_AT, 0)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(decode(&bad).is_none(), "byte {at} = {value}");
        }
    }

    #[test]
    fn messages_are_padded_to_the_bootp_minimum_and_refused_beyond_the_maximum() {
        let mut message = start(Op::Request, MessageType::Discover, 7, MacAddr([2; 6]));
        assert_eq!(encode(&message).unwrap().len(), MESSAGE_MIN);
        let raw = |code| RawOption { code, data: vec![0; 255] };
        add_raw(&mut message, &[raw(60), raw(77)]);
        assert!(encode(&message).is_none());
    }

    #[test]
    fn dc16_options_by_number_are_sent_but_never_replace_the_machines_own() {
        let mut message = start(Op::Request, MessageType::Discover, 7, MacAddr([2; 6]));
        let vendor = RawOption { code: 60, data: b"vendor".to_vec() };
        add_raw(&mut message, &[vendor, RawOption { code: 53, data: vec![7] }]);
        let read = decode(&encode(&message).unwrap()).unwrap();
        assert_eq!(read.kind, MessageType::Discover);
        assert_eq!(read.options.bytes(OptionCode::ClassIdentifier), Some(&b"vendor"[..]));
    }

    proptest! {
        #[test]
        fn random_options_never_panic(options in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = payload(&[53, 1, 5]);
            bytes.extend_from_slice(&options);
            let message = decode(&bytes);
            if let Some(message) = message {
                let _ = message.options.classless_routes();
                let _ = message.options.addresses(OptionCode::Router);
                let _ = message.options.text(OptionCode::Hostname);
            }
        }

        #[test]
        fn random_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = decode(&bytes);
        }
    }
}
