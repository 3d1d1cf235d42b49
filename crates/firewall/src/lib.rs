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
//! * [`Rule`]: exceptions in the operator's order, by protocol, port and address; the first that matches decides.
//!
//! Non-goals: no state (that is `nat`'s filtering), no logging.
//!
//! Limits: both tables are as large as the configuration makes them: a scan over the subnets of all
//! links, and a square of zones of which there are at most 257.
//!
//! Threads: immutable once built; part of the snapshot that workers read.

mod address;
mod rule;
mod zone;

pub use address::{AddressPolicy, LinkPolicy, Role};
pub use rule::{FirstPacket, Rule, first_match};
pub use zone::{Action, Zone, ZonePolicy};
