//! The real packet path against the plain model, under random operations.

use proptest::prelude::*;

/// Bytes of as many operations as one run takes.
const BYTES_MAX: usize = 6 * sim::lockstep::OPERATIONS_MAX;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_translator_does_what_the_model_says(
        operations in prop::collection::vec(any::<u8>(), 2..BYTES_MAX),
    ) {
        sim::lockstep::run(&operations);
    }
}
