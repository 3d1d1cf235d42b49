//! The vocabulary that every other room speaks.
//!
//! A frame lives in a [`PacketBuf`]; [`parse`] turns its bytes into [`Parsed`] once, and nothing
//! downstream reads a header before that. Times are [`Instant`]s handed in by the caller: this crate
//! (like every core crate) never reads a clock. A packet that cannot go on has exactly one
//! [`DropReason`], and every reason has a sentence for the operator.
//!
//! Non-goals: no I/O, no allocation after a buffer is made, no policy.
//!
//! Limits: a frame is at most [`LARGE_FRAME_MAX`] bytes (one 64 KiB super-packet and its headers), a
//! batch at most [`BATCH_MAX`] packets.

mod address;
mod batch;
mod buf;
pub mod checksum;
mod crc32c;
mod endpoint;
pub mod fragment;
pub mod gso;
pub mod header;
pub mod icmp;
mod parse;
mod plain;
mod port_bitmap;
mod ranges;
mod reason;
pub mod reset;
mod segment;
mod time;

pub use address::{LinkId, MacAddr, MacWord, ParseMacError, WorkerId};
pub use batch::{BATCH_MAX, Batch};
pub use buf::{
    Gso, GsoKind, HEADROOM, Home, LARGE_FRAME_MAX, Offload, Offloads, PacketBuf, PartialChecksum,
    Pool, SMALL_FRAME_MAX,
};
pub use endpoint::{Endpoint, External, FlowKey, Internal, Protocol, Remote, Side};
pub use fragment::Fragment;
pub use parse::{Arp, Datagram, IcmpKind, L4, Parsed, SctpChunk, parse};
pub use plain::{Headers, Plain, TcpHeaders, UdpHeaders};
pub use port_bitmap::PortBitmap;
pub use ranges::{AddressSet, PortSet, RangeSet};
pub use reason::{DropReason, PuntReason};
pub use segment::Segment;
pub use time::Instant;
