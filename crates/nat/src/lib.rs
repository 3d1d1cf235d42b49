//! NAT44: mappings, filtering, sessions, ports, timeouts, ICMP errors, hairpinning, port forwards.
//!
//! # Theory of operation
//!
//! The words are those of RFC 4787: an *internal* endpoint speaks with *remote* ones and is known
//! to them by its *external* endpoint. A [`Policy`] says what may be; two shared tables say what
//! is:
//!
//! - **Mappings**: internal ↔ external endpoint, per protocol, whatever the remote endpoint (EIM;
//!   RFC 2663 calls this a binding). Inserting the external key *if absent* is the allocation of
//!   the port, so no two internal endpoints ever share one. A [`Forward`] is a mapping that exists
//!   without an entry, and so is each port of a 1:1 address ([`Static`]).
//! - **Sessions**: mapping × remote endpoint. One entry, two keys, one cache line per direction
//!   that holds the compiled rewrite: [`Flow`]. Side 0 is the direction of the first packet.
//!
//! ```text
//!               side 0 key           rewritten to         side 1 key           rewritten to
//!   outbound    A > R    inside      E > R                R > E    outside     R > A
//!   inbound     R > E    outside     R > A                A > R    inside      E > R
//!   hairpin     A > E2   inside      E > B                B > E    inside      E2 > A
//!   routed      A > B    inside      A > B                B > A    inside      B > A
//!   exempt      A > R    inside      A > R                R > A    outside     R > A
//! ```
//!
//! Side 1's key is side 0's translated packet reversed, and its rewrite the original packet
//! reversed. So translating back is a look-up like any other, a hairpin costs one look-up, and an
//! ICMP error finds its session by reversing what it embeds ([`Tables::translate_error`]).
//!
//! **Fast path**, per packet and free of this crate's tables but one line: look [`SessionKey`] up
//! in [`Tables::sessions`], compare [`Flow::generation`] with the policy's, ask [`expects`] about a
//! reset, [`Flow::apply`], [`Flow::touch`] or [`touch_tcp`]. **Slow path**, for the first packet of a session:
//! [`Tables::resolve_external`] if it is addressed to the external address, then [`Engine::open`].
//! **Upkeep**: [`Engine::expire`] once per batch.
//!
//! **Lifetimes.** Only packets from inside refresh, resets and ICMP errors among them do not
//! (RFC 7857 §7, §7.1). Sessions end by time ([`Timeouts`]), by
//! [`Engine::kill`], or when a new policy contradicts them ([`Engine::revalidate`]). A mapping ends
//! with its last session, then rests for two minutes: its port goes to no other endpoint. Nothing
//! that is alive is ever evicted: when something is full, the new flow is refused.
//!
//! **Filtering.** A session admits its remote endpoint; nothing else is needed for
//! [`Filtering::AddressAndPortDependent`]. For [`Filtering::AddressDependent`] a third small table
//! counts the sessions between an external endpoint and a remote address; it follows the sessions
//! that are opened while the LAN has this filtering. A hairpin is filtered like a packet from
//! outside, with the sender's external endpoint as remote (REQ-9a). If it is refused, its session
//! is kept as the sender's half, so that two hosts that send to each other's external endpoint
//! meet, as they would across the Internet.
//!
//! A session from outside that nobody answered does not keep the mapping that let it in, and at
//! most a quarter of the sessions may be such. No host may have more than half of the sessions, or
//! what [`Policy::sessions_per_host_max`] says; those that strangers open leave it a quarter of
//! that for its own.
//!
//! **TCP.** From outside the third segment of a handshake opens a session; the first two pass by a
//! note ([`Tables::entry`], [`Tables::answer`], `handshake.rs`). From inside a SYN opens one, and
//! also a segment of a connection under way: after a restart connections from inside live on if
//! port preservation gives them the external port that they had. A reset must be one that its
//! receiver expects ([`expects`], RFC 7857 §2.2 says that this has to be verified): else it is not
//! of the connection, is dropped and changes nothing.
//!
//! **Addresses.** All flows of a host share one external address: its 1:1 address, or the one that
//! [`Pool`] pairs it with. The router itself uses the interface's own. An [`Exemption`] takes flows
//! out of the translation; their answers come back by the session, and by nothing else.
//!
//! **Other protocols.** UDP-Lite is treated as UDP. SCTP has mappings too, but only with the port
//! that the host chose, and TCP's lifetimes. GRE, IPIP and 6in4 have no ports: a session is an
//! internal host × a remote one (× GRE's key), and one host at a time has it. Of ESP, what comes in
//! is learnt, see `esp`. None of these four comes in unasked
//! but to a 1:1 address, and none hairpins.
//!
//! **Change of address.** A mapping belongs to the external address it was made under. Under a
//! policy that gives its host another one its sessions are found void on their next packet and
//! opened anew under the new address; those that stay silent expire.
//!
//! **Crash.** A [`PortJournal`] in memory that outlives the router says whose each port is. For two
//! minutes after a start the ports that were taken before go to nobody but their last holders, who
//! get them back first: a connection from before goes on, and no other host inherits its packets.
//!
//! **Threads.** One [`Engine`] per worker; sans-IO, no locks, no allocation after [`Tables::new`].
//! Anyone reads. Entries are inserted and removed by the worker that owns their slot; others change
//! counts and flags in them, each a single atomic word. A session that another worker's packet
//! shows to be void is condemned, and removed by its owner.
//!
//! **Limits.** Sessions: as many as the tables were made for. Mappings: every port of the addresses
//! that they were made for, and of one more. Mappings, sessions and new sessions per second of a
//! host: see [`Policy`], over 16,384 hosts. Handshakes from outside: 98,304, the newer overwrites
//! the older. ESP associations toward one peer: 64, one host's 32. Addresses: [`POOL_MAX`],
//! [`STATICS_MAX`]. Forwards: [`FORWARDS_MAX`]. Exemptions: [`EXEMPTIONS_MAX`]. Work per new flow:
//! about a thousand ports looked at, and that only when nearly all are taken.
//!
//! **From outside**, what a packet reaches is asked in this order: a forward, for the sources that it
//! names; the host of a 1:1 address; a mapping, by the filtering of its LAN; the DMZ host of the
//! interface's own address, if there is one, unless the router itself owns the port.
//!
//! Non-goals: ALGs (RFC 4787 REQ-10), port overloading, fragments (put together by `pipeline`),
//! anti-spoofing and policy between zones (`firewall`), generating ICMP errors (`pipeline`).

mod bonds;
mod engine;
mod errors;
mod esp;
mod exempt;
mod flow;
mod foresee;
mod forwards;
mod handshake;
mod hosts;
#[cfg(all(test, loom))]
mod interleavings;
mod journal;
mod mapping;
mod plan;
mod policy;
mod pool;
mod ports;
mod quota;
mod sharing;
mod state;
mod statics;
mod sync;
mod tables;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod tick;
mod upkeep;
mod window;

pub use engine::{Engine, OpenRequest, Revalidation, Room, Standing, Translation, standing};
pub use errors::PendingError;
pub use esp::is_answer;
pub use exempt::{EXEMPTIONS_MAX, Exemption};
pub use flow::{Direction, Flow, NextHop};
pub use foresee::Foreseen;
pub use forwards::{FORWARDS_MAX, Forward, ForwardError, Forwards, Hairpin};
pub use handshake::{Accepted, Entry, Relay};
pub use journal::{JournalWords, PortJournal};
pub use plan::Origin;
pub use policy::{
    Dmz, DmzEcho, Filtering, HostFilterings, Policy, ProtocolQuotas, Rate, ReservedPorts, Timeouts,
};
pub use pool::{POOL_MAX, Pool, Pooling};
pub use state::{State, expects, touch_sctp, touch_tcp};
pub use statics::{Inbound, STATICS_MAX, Static, StaticError, Statics};
pub use tables::{SessionHit, SessionId, SessionInfo, SessionKey, Sizes, Stats, Tables};
