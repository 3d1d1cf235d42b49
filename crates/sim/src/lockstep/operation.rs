//! What may happen, and how bytes say it.

use packet::{Endpoint, Protocol};

use super::{FILTERINGS, HOSTS, PORTS, REMOTE_PORTS, REMOTES};
use crate::fuzz::Input;
use crate::model::{Filtering, Segment};

/// One thing that happens. Indices are those of the tables in [`super`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// A host sends from one of its ports to a remote endpoint.
    Out { protocol: Protocol, host: usize, port: usize, remote: Endpoint, segment: Segment },
    /// A remote endpoint sends to an external one, which `to` names.
    In { protocol: Protocol, remote: Endpoint, to: u16, segment: Segment },
    /// A host sends to an external endpoint, which `to` names.
    Hairpin { protocol: Protocol, host: usize, port: usize, to: u16, segment: Segment },
    /// Another packet of a session that there is.
    Along { session: usize, side: usize, segment: Segment },
    /// An ICMP error about a packet of a session that there is.
    Error { session: usize, side: usize, error: Error },
    /// Nothing happens for so many steps.
    Wait(u32),
    /// Another filtering, other forwards (a bit mask).
    Reload { filtering: [Filtering; 2], forwards: u8 },
    /// The WAN gets its other address.
    NewAddress,
}

/// An ICMP error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Error {
    /// Type and code.
    pub(super) kind: (u8, u8),
    /// It comes from a router on the way, not from whom the packet was for.
    pub(super) from_the_middle: bool,
    /// Only eight bytes of the transport header are inside (RFC 792).
    pub(super) is_short: bool,
}

const PROTOCOLS: [Protocol; 4] = [Protocol::Udp, Protocol::Tcp, Protocol::Icmp, Protocol::Udp];

/// What a first packet may be; mostly what opens a session.
const SEGMENTS: [Segment; 8] = [
    Segment::Syn,
    Segment::Syn,
    Segment::Syn,
    Segment::Syn,
    Segment::Ack,
    Segment::Fin,
    Segment::SynAck,
    Segment::Reset,
];

/// Around every lifetime and rest, in steps of ten seconds.
const WAITS: [u32; 8] = [1, 3, 6, 7, 12, 13, 25, 745];

/// Port, protocol and host unreachable, administratively prohibited, fragmentation needed, TTL exceeded,
/// reassembly time exceeded, parameter problem.
const ERRORS: [(u8, u8); 8] = [(3, 3), (3, 2), (3, 1), (3, 13), (3, 4), (11, 0), (11, 1), (12, 0)];

impl Operation {
    /// Reads an operation, and whether a step passes after it.
    ///
    /// **Shape**: a byte whose low four bits say what happens and whose highest bit, if set, that no time passes;
    /// then up to five bytes, each an index into a table.
    pub(super) fn read(input: &mut Input<'_>) -> (Self, bool) {
        let what = input.u8();
        let operation = match what & 15 {
            0..=3 => {
                let (protocol, segment) = sort(input);
                let (host, port) = (index(input, HOSTS.len()), index(input, PORTS.len()));
                Self::Out { protocol, host, port, remote: remote(input), segment }
            }
            4 | 5 => {
                let (protocol, segment) = sort(input);
                // Half of what comes unasked looks like the answer to a ping.
                let segment = match protocol {
                    Protocol::Icmp if input.u8() & 1 == 0 => Segment::Reply,
                    _ => segment,
                };
                Self::In { protocol, remote: remote(input), to: input.u16(), segment }
            }
            6 | 7 => {
                let (protocol, segment) = sort(input);
                let (host, port) = (index(input, HOSTS.len()), index(input, PORTS.len()));
                Self::Hairpin { protocol, host, port, to: input.u16(), segment }
            }
            8..=10 => {
                let (session, side) = (input.u8().into(), index(input, 2));
                Self::Along { session, side, segment: input.pick(&SEGMENTS) }
            }
            11 => {
                let (session, side, how) = (input.u8().into(), index(input, 2), input.u8());
                let kind = input.pick(&ERRORS);
                let (from_the_middle, is_short) = (how & 1 == 0, how & 2 == 0);
                Self::Error { session, side, error: Error { kind, from_the_middle, is_short } }
            }
            12 | 13 => Self::Wait(input.pick(&WAITS)),
            14 => {
                let filtering = [input.pick(&FILTERINGS), input.pick(&FILTERINGS)];
                Self::Reload { filtering, forwards: input.u8() & 15 }
            }
            _ => Self::NewAddress,
        };
        (operation, what & 0x80 == 0)
    }
}

fn sort(input: &mut Input<'_>) -> (Protocol, Segment) {
    let protocol = input.pick(&PROTOCOLS);
    let segment = input.pick(&SEGMENTS);
    (protocol, if protocol == Protocol::Tcp { segment } else { Segment::Query })
}

fn index(input: &mut Input<'_>, len: usize) -> usize {
    usize::from(input.u8()) % len
}

fn remote(input: &mut Input<'_>) -> Endpoint {
    let which = usize::from(input.u8());
    let port = REMOTE_PORTS[which / REMOTES.len() % REMOTE_PORTS.len()];
    Endpoint::new(REMOTES[which % REMOTES.len()], port)
}
