//! Development only: virtual links and clock, seeded faults, a reference model of NAT.

pub mod fuzz;
