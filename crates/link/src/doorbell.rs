//! Waking a thread that polls a pipe, at one system call for a burst.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};

/// Says whether a byte is in a pipe, or about to be; the pipe is the caller's.
///
/// What is handed over before a [`ring`](Self::ring) is seen after the [`quiet`](Self::quiet) that ends it, or the
/// pipe is readable then.
#[derive(Debug, Default)]
pub struct Doorbell {
    rung: AtomicBool,
}

impl Doorbell {
    /// Has `write` make the pipe readable, unless an earlier ring did and nobody answered it yet.
    pub fn ring(&self, write: impl FnOnce()) {
        // AcqRel: pairs with that of `quiet`. If that comes later it sees this ring, and what was handed over
        // before it, although another one wrote the byte.
        if !self.rung.swap(true, Ordering::AcqRel) {
            write();
        }
    }

    /// Has `drain` empty the pipe; then it is time to look at what was handed over.
    pub fn quiet(&self, drain: impl FnOnce()) {
        // Cleared after reading: a byte written in between would be drained with the flag left set, and no later
        // ring would write. One that comes before this finds the flag set and writes nothing, but what it
        // announces is looked at next. A swap, not a store: only what read a ring is sure to see what came
        // before it.
        drain();
        self.rung.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod interleavings {
    use std::sync::Arc;

    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    /// What rings, and what it has to tell. The pipe orders nothing here, though the system's does.
    #[derive(Default)]
    struct Door {
        bell: Doorbell,
        pipe: AtomicUsize,
        told: [AtomicUsize; 2],
    }

    impl Door {
        fn tell(&self, who: usize, what: usize) {
            self.told[who].store(what, Ordering::Relaxed);
            self.bell.ring(|| {
                self.pipe.fetch_add(1, Ordering::Relaxed);
            });
        }

        fn is_readable(&self) -> bool {
            self.pipe.fetch_add(0, Ordering::Relaxed) > 0
        }

        fn hear(&self) -> [usize; 2] {
            self.bell.quiet(|| {
                self.pipe.swap(0, Ordering::Relaxed);
            });
            [0, 1].map(|who| self.told[who].load(Ordering::Relaxed))
        }
    }

    /// Lets two tell something, one of them twice, while `listen` says what it has heard; at the end that is all, or
    /// the pipe is readable.
    fn explore(listen: fn(&Door) -> [usize; 2]) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let door = Arc::new(Door::default());
            let [first, second] = [(); 2].map(|()| Arc::clone(&door));
            let first = thread::spawn(move || {
                first.tell(0, 1);
                first.tell(0, 2);
            });
            let second = thread::spawn(move || second.tell(1, 1));
            let heard = listen(&door);
            first.join().unwrap();
            second.join().unwrap();
            assert!(heard == [2, 1] || door.is_readable(), "{heard:?} of [2, 1]");
        });
    }

    #[test]
    fn no_ring_is_lost_on_a_thread_that_answers_when_the_pipe_is_readable() {
        explore(|door| {
            let mut heard = [0; 2];
            for _ in 0..2 {
                if door.is_readable() {
                    heard = door.hear();
                }
            }
            heard
        });
    }

    #[test]
    fn no_ring_is_lost_on_a_thread_that_looks_unasked() {
        explore(|door| {
            door.hear();
            door.hear()
        });
    }
}
