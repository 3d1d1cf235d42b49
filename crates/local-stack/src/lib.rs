//! The router as a host: ARP, DHCP on both sides, DNS, ping.
//!
//! Everything that a worker punts ends here, and everything that the router says of its own begins here. One
//! [`LocalStack`] drives the machines of `forwarding`, `dhcp` and `dns` and smoltcp's endpoints, and joins them: a
//! lease becomes a DNS name, a WAN lease the addresses and upstream servers, a conflict probe an ARP sighting.
//!
//! ```text
//!   worker ──punt──► handle_punt ─┬─ ARP ──────► ArpMachine ─┐
//!                                 ├─ DHCP client ► Client ───┤
//!                                 ├─ DHCP server ► Server ───┼─► poll_store, poll_transmit, poll_event
//!                                 └─ IP ► Host ► Forwarder ──┘
//! ```
//!
//! Sans-IO (the contract is in `crates/README.md`): one `handle_*`, then drain `poll_store`, `poll_transmit` and
//! `poll_event` until each is empty. Records of `poll_store` must be durable before `poll_transmit` is drained.
//!
//! Limits: those of the machines, and the queues of [`Host`](host::Host) and its device. Threads: one.

mod device;
mod host;
mod settings;
mod stack;
mod unreachable;

pub use settings::{Settings, SettingsError};
pub use stack::{LinkCarrier, LocalStack, StackEvent, StoreRecord, Transmit};
