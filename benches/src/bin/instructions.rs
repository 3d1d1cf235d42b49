//! One workload of the packet path, for callgrind to count the instructions of.
//!
//! `instructions NAME` runs it and prints how many packets passed in `Rig::pass`, which is what is to be counted.
//! Nothing in it depends on the time or on chance.

use std::process::ExitCode;

use benches::{BATCH, Mix, Random, Rig, Scale, Traffic, Way};

/// Packets of a workload: so many that a batch more or less in which upkeep falls due does not show.
const PACKETS: usize = 32 * 1024;
const FLOWS: usize = 1_000;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let passed = match name.as_str() {
        "outbound" => known_flows(Mix::Small, false, Way::Outbound, BATCH),
        "inbound" => known_flows(Mix::Small, false, Way::Inbound, BATCH),
        "batch_1" => known_flows(Mix::Small, false, Way::Outbound, 1),
        "imix" => known_flows(Mix::Imix, false, Way::Outbound, BATCH),
        "shaped" => known_flows(Mix::Small, true, Way::Outbound, BATCH),
        "new_session" => new_sessions(1),
        "new_session_of_32" => new_sessions(32),
        _ => {
            eprintln!("no workload is called {name:?}");
            return ExitCode::FAILURE;
        }
    };
    println!("{passed}");
    ExitCode::SUCCESS
}

fn known_flows(mix: Mix, shaped: bool, way: Way, batch: usize) -> usize {
    let mut rig = Rig::new(&Scale { shaped, ..Scale::of(2 * FLOWS) });
    let (mut traffic, mut random) = (Traffic::new(mix), Random::new(1));
    rig.open(&mut traffic, 0..FLOWS);
    (0..PACKETS / batch)
        .map(|_| {
            rig.load(&mut traffic, way, batch, || random.below(FLOWS));
            rig.pass()
        })
        .sum()
}

fn new_sessions(addresses: usize) -> usize {
    let mut rig = Rig::new(&Scale { addresses, ..Scale::of(2 * PACKETS) });
    let (mut traffic, mut numbers) = (Traffic::new(Mix::Small), 0..PACKETS);
    (0..PACKETS / BATCH)
        .map(|_| {
            rig.load(&mut traffic, Way::Outbound, BATCH, || numbers.next().expect("one a packet"));
            rig.pass()
        })
        .sum()
}
