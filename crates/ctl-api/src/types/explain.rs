//! What would become of a packet.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use ipnet::Ipv4Net;
use packet::MacAddr;
use packet::header::tcp;
use serde::{Deserialize, Serialize};

use super::{Direction, Flow, ShaperDirection, Transport, mac, serde_as_text};

/// Most bytes of a frame that is asked about: as long as any IP packet, behind an Ethernet header.
pub const FRAME_BYTES_MAX: usize = 65_535 + 14;

/// Asks what would become of a packet: either one described by `protocol`, `source` and `destination`,
/// or `frame`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Where it comes from: a link, a LAN, `wan`, or `router` for its own. Left out, the LAN that the source is
    /// of, or the WAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// TCP, UDP or ICMP; other protocols only as a frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Transport>,
    /// Who sends it; of ICMP, an address and perhaps an identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PacketEnd>,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<PacketEnd>,
    /// TCP flags; left out: `syn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<TcpFlags>,
    /// An Ethernet frame in hexadecimal; a station address of zeroes stands for the router's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
}

/// A packet to be explained, complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// See [`ExplainRequest::from`].
    pub from: Option<String>,
    /// The packet.
    pub packet: Asked,
}

/// A packet, described or whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A TCP segment with these flags.
    Tcp(SocketAddrV4, SocketAddrV4, TcpFlags),
    /// A UDP datagram.
    Udp(SocketAddrV4, SocketAddrV4),
    /// An ICMP echo request with this identifier.
    Icmp(Ipv4Addr, Ipv4Addr, u16),
    /// A frame.
    Frame(Vec<u8>),
}

/// Why a request does not describe a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuestionError {
    /// Neither the one nor the other way, or both.
    #[error("give protocol, source and destination, or a frame")]
    Form,
    /// An endpoint of TCP or UDP without a port.
    #[error("TCP and UDP need a port on both ends")]
    Port,
    /// Flags of something else than TCP.
    #[error("only TCP has flags")]
    Flags,
    /// A protocol without a short form.
    #[error("packets of {0} can only be given as a frame")]
    Protocol(Transport),
    /// Not hexadecimal.
    #[error("the frame is not an even number of hexadecimal digits")]
    Hex,
    /// Beyond [`FRAME_BYTES_MAX`].
    #[error("a frame has at most {FRAME_BYTES_MAX} bytes")]
    TooLong,
}

impl ExplainRequest {
    /// The packet that is asked about.
    ///
    /// # Errors
    /// If the fields do not describe one.
    pub fn question(self) -> Result<Question, QuestionError> {
        let Self { from, protocol, source, destination, flags, frame } = self;
        let packet = match (protocol, source, destination, frame) {
            (None, None, None, Some(frame)) if flags.is_none() => Asked::Frame(bytes(&frame)?),
            (Some(protocol), Some(source), Some(destination), None) => {
                described(protocol, (source, destination), flags)?
            }
            _ => return Err(QuestionError::Form),
        };
        Ok(Question { from, packet })
    }
}

fn described(
    protocol: Transport,
    (source, destination): (PacketEnd, PacketEnd),
    flags: Option<TcpFlags>,
) -> Result<Asked, QuestionError> {
    if flags.is_some() && protocol != Transport::Tcp {
        return Err(QuestionError::Flags);
    }
    let ends = || source.socket().zip(destination.socket()).ok_or(QuestionError::Port);
    match protocol {
        Transport::Tcp => {
            ends().map(|(source, to)| Asked::Tcp(source, to, flags.unwrap_or_default()))
        }
        Transport::Udp => ends().map(|(source, to)| Asked::Udp(source, to)),
        Transport::Icmp => {
            let id = source.port.or(destination.port).unwrap_or(1);
            Ok(Asked::Icmp(source.address, destination.address, id))
        }
        other => Err(QuestionError::Protocol(other)),
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>, QuestionError> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| c.to_digit(16).map(|digit| digit as u8).ok_or(QuestionError::Hex))
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() {
        return Err(QuestionError::Hex);
    }
    if pairs.len() > FRAME_BYTES_MAX {
        return Err(QuestionError::TooLong);
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// An address, and a port if there is one: `10.0.0.7` or `10.0.0.7:40000`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketEnd {
    /// The address.
    pub address: Ipv4Addr,
    /// The port; of ICMP, the identifier.
    pub port: Option<u16>,
}

impl PacketEnd {
    fn socket(self) -> Option<SocketAddrV4> {
        self.port.filter(|port| *port != 0).map(|port| SocketAddrV4::new(self.address, port))
    }
}

/// Not an address, with or without a port.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an address like 10.0.0.7 or 10.0.0.7:443")]
pub struct ParseEndError(String);

impl FromStr for PacketEnd {
    type Err = ParseEndError;

    fn from_str(text: &str) -> Result<Self, ParseEndError> {
        let wrong = |_| ParseEndError(text.to_owned());
        match text.split_once(':') {
            None => Ok(Self { address: text.parse().map_err(wrong)?, port: None }),
            Some(_) => {
                let socket: SocketAddrV4 = text.parse().map_err(wrong)?;
                Ok(Self { address: *socket.ip(), port: Some(socket.port()) })
            }
        }
    }
}

impl fmt::Display for PacketEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.address),
            None => self.address.fmt(f),
        }
    }
}

serde_as_text!(PacketEnd);

/// Flags of a TCP segment: `syn`, `syn,ack`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpFlags(pub u8);

/// Every flag with its name.
const FLAGS: [(&str, u8); 4] =
    [("syn", tcp::SYN), ("ack", tcp::ACK), ("fin", tcp::FIN), ("rst", tcp::RST)];

impl Default for TcpFlags {
    fn default() -> Self {
        Self(tcp::SYN)
    }
}

/// Not a list of flags.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a flag; they are syn, ack, fin and rst, with commas between")]
pub struct ParseFlagsError(String);

impl FromStr for TcpFlags {
    type Err = ParseFlagsError;

    fn from_str(text: &str) -> Result<Self, ParseFlagsError> {
        let one = |word: &str| {
            let known = FLAGS.iter().find(|(name, _)| *name == word);
            known.map(|(_, bit)| *bit).ok_or_else(|| ParseFlagsError(word.to_owned()))
        };
        text.split(',').map(one).try_fold(0, |flags, bit| bit.map(|bit| flags | bit)).map(Self)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = FLAGS.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(name, _)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

serde_as_text!(TcpFlags);

/// What would become of a packet, and why. What does not apply is `null`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The link that it comes from, or `router`.
    pub from: String,
    /// The packet as the router reads it.
    pub packet: Option<PacketFacts>,
    /// Its flow: `none`, `known`, `opens`, `pending` (a handshake from outside that is not through), `about`
    /// (it is an ICMP error about a packet of one).
    pub flow: String,
    /// The direction of the flow that it opens or belongs to.
    pub direction: Option<Direction>,
    /// The session, if it is there already.
    pub session: Option<Flow>,
    /// What its addresses become.
    pub translation: Option<TranslationFacts>,
    /// What allowed or refused it.
    pub decided_by: Option<DecidedBy>,
    /// The way that it takes.
    pub route: Option<RouteFacts>,
    /// The MSS that it promises, and what that becomes.
    pub mss: Option<[u16; 2]>,
    /// It leaves in fragments of at most so many bytes.
    pub fragment_bytes_max: Option<u16>,
    /// Where it queues.
    pub queue: Option<QueueFacts>,
    /// `forward`, `reply`, `reset`, `punt`, `resolve`, `hold` or `drop`.
    pub verdict: String,
    /// Stable name of the reason, as in `drops` (or why it is punted).
    pub reason: Option<String>,
    /// The verdict in a sentence.
    pub sentence: String,
}

/// A packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PacketFacts {
    /// Transport protocol.
    pub protocol: Transport,
    /// Source; the port of an ICMP query is its identifier.
    pub source: SocketAddrV4,
    /// Destination.
    pub destination: SocketAddrV4,
}

/// The endpoints that a packet leaves with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TranslationFacts {
    /// Its source address.
    pub source: Ipv4Addr,
    /// Its source port; `null` if a new mapping draws it.
    pub source_port: Option<u16>,
    /// Its destination.
    pub destination: SocketAddrV4,
    /// Where the external source of a new flow comes from: `bound` (a forward or 1:1 address, or a protocol
    /// without ports), `mapping` (one that is there), `preserved`, `former` (a new mapping with the
    /// host's own port, or the one it had before a restart), `drawn` (a new one with a port by chance).
    pub origin: Option<String>,
}

/// What decided whether a flow may be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecidedBy {
    /// `rule`, `policy` (no rule matched, the default between zones), `translation` (no rule matched, a
    /// forward or mapping leads inside).
    pub by: String,
    /// The rule's place in the file, from 1.
    pub rule: Option<u64>,
    /// The rule's name.
    pub name: Option<String>,
}

/// The way that a packet takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteFacts {
    /// The prefix of the route.
    pub prefix: Option<Ipv4Net>,
    /// The link that it leaves by.
    pub link: String,
    /// Whom it is handed to.
    pub next_hop: Ipv4Addr,
    /// The station; `null` while nobody knows it.
    #[serde(with = "maybe_mac")]
    pub mac: Option<MacAddr>,
}

/// A queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueFacts {
    /// Which way.
    pub direction: ShaperDirection,
    /// Whether that way is shaped.
    pub shaped: bool,
    /// The inside host that it is queued for.
    pub host: Option<Ipv4Addr>,
}

mod maybe_mac {
    use packet::MacAddr;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "super::mac")] MacAddr);

    pub fn serialize<S: Serializer>(mac: &Option<MacAddr>, to: S) -> Result<S::Ok, S::Error> {
        mac.map(Text).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MacAddr>, D::Error> {
        Ok(Option::<Text>::deserialize(from)?.map(|text| text.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> ExplainRequest {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_described_packet_is_a_syn_unless_said_otherwise() {
        let text =
            r#"{"protocol":"tcp","source":"10.0.0.7:40000","destination":"203.0.113.10:443""#;
        let (source, to) = ("10.0.0.7:40000".parse().unwrap(), "203.0.113.10:443".parse().unwrap());
        let packet = |json: &str| request(json).question().unwrap().packet;
        assert_eq!(packet(&format!("{text}}}")), Asked::Tcp(source, to, TcpFlags(tcp::SYN)));
        let flags = TcpFlags(tcp::SYN | tcp::ACK);
        assert_eq!(
            packet(&format!(r#"{text},"flags":"syn,ack"}}"#)),
            Asked::Tcp(source, to, flags)
        );
        assert_eq!(flags.to_string(), "syn,ack");
    }

    #[test]
    fn a_frame_is_read_with_and_without_separators() {
        let packet = |hex: &str| {
            let request = ExplainRequest { frame: Some(hex.into()), ..Default::default() };
            request.question().map(|question| question.packet)
        };
        assert_eq!(packet("02:0a FF"), Ok(Asked::Frame(vec![2, 10, 255])));
        assert_eq!(packet("020"), Err(QuestionError::Hex));
        assert_eq!(packet(""), Err(QuestionError::Hex));
        assert_eq!(packet("zz"), Err(QuestionError::Hex));
        assert_eq!(packet(&"00".repeat(FRAME_BYTES_MAX + 1)), Err(QuestionError::TooLong));
    }

    #[test]
    fn what_describes_no_packet_is_refused_with_the_reason() {
        let question = |json: &str| request(json).question().unwrap_err();
        assert_eq!(question(r#"{"protocol":"udp","source":"10.0.0.7:1"}"#), QuestionError::Form);
        let ends = r#""source":"10.0.0.7","destination":"203.0.113.10:53""#;
        let with = |protocol: &str| question(&format!(r#"{{"protocol":"{protocol}",{ends}}}"#));
        assert_eq!(with("udp"), QuestionError::Port);
        assert_eq!(with("gre"), QuestionError::Protocol(Transport::Gre));
        let flags = format!(r#"{{"protocol":"icmp",{ends},"flags":"syn"}}"#);
        assert_eq!(question(&flags), QuestionError::Flags);
        assert!("10.0.0.7:".parse::<PacketEnd>().is_err());
        assert!("syn,urgent".parse::<TcpFlags>().is_err());
    }
}
