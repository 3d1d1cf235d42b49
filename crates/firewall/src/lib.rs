//! Policy: which LAN may open sessions where, and which source addresses may arrive on which link.
//!
//! Two questions, both pure and both cheap enough to ask per packet, though a packet of an
//! established flow needs neither:
//!
//! * [`AddressPolicy`]: can a packet with these addresses have arrived on this link at all?
//!   Martians (RFC 1812 §5.3.7), spoofed sources (RFC 2827), land, directed broadcasts (RFC 2644).
//! * [`ZonePolicy`]: may this zone open a session to that one? By default a LAN may reach the WAN
//!   and the router, but no other LAN, and the WAN reaches nobody; a forward is an exception that
//!   `nat` knows of and asks for itself.
//!
//! What is for the router's own machines is taken out before: ARP, and DHCP with its source of
//! 0.0.0.0 and its broadcasts. What the router injects itself never arrived on a link, so it isn't
//! asked about.
//!
//! * [`Rules`]: exceptions in the operator's order, by zones, protocol, ports, addresses and code point; the first
//!   that matches decides. Only the rules of the zone that a flow comes from are looked at.
//! * [`Bogons`]: what the Internet does not carry, so that it comes from no honest sender there and is not sent
//!   there (RFC 6890). Private space is no bogon on a WAN that is private itself.
//!
//! Non-goals: no state (that is `nat`'s filtering; rates and counts are the pipeline's), no logging.
//!
//! Limits: all tables are as large as the configuration makes them: a scan over the subnets of all
//! links, a square of zones of which there are at most 257, and rules between the first 32 of them.
//!
//! Threads: immutable once built; part of the snapshot that workers read.

mod address;
mod bogon;
mod rule;
mod zone;

pub use address::{AddressPolicy, LinkPolicy, Role};
pub use bogon::Bogons;
pub use rule::{DscpSet, FirstPacket, Match, ProtocolSet, Rule, RuleAction, Rules, ZoneSet};
pub use zone::{Action, Zone, ZonePolicy};
