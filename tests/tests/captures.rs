//! Real traffic, the odd and the broken included, through the packet path from both sides.
//!
//! The captures lie beside the workspace, not in it; where they are is said by `ZONE_ROUTER_CAPTURES`, or they
//! are looked for in `../shared/captures`. Without them there is nothing to test.

use std::path::PathBuf;

use replay::{Arrival, Job, Replay, Side, Tally, captures};

fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/captures");
    let folder =
        std::env::var_os("ZONE_ROUTER_CAPTURES").map_or_else(|| beside.into(), PathBuf::from);
    folder.is_dir().then_some(folder)
}

#[test]
fn every_frame_of_every_capture_is_accounted_for_from_both_sides() {
    let Some(folder) = folder() else {
        println!("no captures beside the workspace; nothing to replay");
        return;
    };
    let mut replay = Replay::new(None, None);
    let mut total = Tally::default();
    for path in captures(&[folder]).expect("the folder can be read") {
        for from in [Side::Lan, Side::Wan] {
            let run = replay.run(Job { path: &path, arrival: Arrival::All(from), loops: 2 });
            let run = run.unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(run.tally.violation(), None, "{} from {from}", path.display());
            total.add(&run.tally);
        }
    }
    println!("{total}");
    assert!(total.forwarded > 0 && total.replied > 0 && !total.punted.is_empty(), "{total}");
}
