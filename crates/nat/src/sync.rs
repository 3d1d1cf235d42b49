//! The one place that atomics come from, so that loom can take them over.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{
    AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

/// A size, or a small one under loom, which tells every atomic apart.
pub(crate) const fn sized(size: usize, under_loom: usize) -> usize {
    if cfg!(loom) { under_loom } else { size }
}

/// Runs a test in all interleavings with so many preemptions.
///
/// Loom remembers only the last access to an atomic. If a thread reads one before it writes it, loom forgets that
/// another read it earlier, and never lets that one read later: who only reads belongs in a spawned thread, which
/// runs after the first one has written.
#[cfg(test)]
#[cfg(loom)]
pub(crate) fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 10_000;
    model.check(test);
}
