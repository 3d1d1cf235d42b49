//! The router as a host, in virtual time and without an operating system.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod frames;
mod peer;
mod rig;

mod addresses;
mod arp_and_ping;
mod leases;
mod names;
mod names_tcp;
mod neighbours;
mod random;
mod reload;
mod wan;
