//! Waiting for descriptors, a deadline, or another thread.
//!
//! `poll` and a pipe: the same on every Unix, level-triggered, and for a handful of descriptors as fast as
//! anything that has to be registered first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use link::Doorbell;
use pipeline::LINKS_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// Wakes one waiting thread from any other.
pub struct Waker {
    read: OwnedFd,
    write: OwnedFd,
    bell: Doorbell,
}

impl Waker {
    /// Makes a waker.
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        Ok(Self { read, write, bell: Doorbell::default() })
    }

    /// Ends the other thread's wait, now or the next one.
    pub fn wake(&self) {
        // A full pipe holds a wake-up already.
        self.bell.ring(|| {
            let _ = rustix::io::write(&self.write, &[1]);
        });
    }

    /// The end that signals write to; [`rustix::io::write`] to it wakes as [`Self::wake`] does.
    pub fn signal_fd(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }

    /// Waits until a descriptor is readable, the time is over, or the thread is woken; bit `i` of the result says that
    /// there is something to read, or to learn, from descriptor `i`.
    pub fn wait(&self, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<u32> {
        const { assert!(LINKS_MAX <= u32::BITS as usize, "a bit for each descriptor") };
        const DESCRIPTORS_MAX: usize = LINKS_MAX + 1;
        let mut fds = ArrayVec::<PollFd<'_>, DESCRIPTORS_MAX>::new();
        fds.push(PollFd::new(&self.read, PollFlags::IN));
        fds.extend(
            descriptors
                .iter()
                .take(LINKS_MAX)
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)),
        );
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().contains(PollFlags::IN) {
            let mut drained = [0; 64];
            self.bell
                .quiet(|| while matches!(rustix::io::read(&self.read, &mut drained), Ok(64)) {});
        }
        let ready = fds.iter().skip(1).map(|fd| u32::from(!fd.revents().is_empty()));
        Ok(ready.enumerate().fold(0, |bits, (index, bit)| bits | bit << index))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_wake_up_before_the_wait_ends_it_at_once() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.wake();
        waker.wait(&[], Duration::from_secs(3600)).unwrap();
    }

    #[test]
    fn a_wait_says_which_descriptor_there_is_something_to_read_from() {
        let waker = Waker::new().unwrap();
        let [quiet, ready] = [Waker::new().unwrap(), Waker::new().unwrap()];
        let descriptors = [quiet.read.as_fd(), ready.read.as_fd()];
        assert_eq!(waker.wait(&descriptors, Duration::ZERO).unwrap(), 0);
        ready.wake();
        assert_eq!(waker.wait(&descriptors, Duration::from_secs(3600)).unwrap(), 0b10);
    }

    #[test]
    fn a_wake_up_from_another_thread_ends_the_wait() {
        let waker = std::sync::Arc::new(Waker::new().unwrap());
        let other = std::sync::Arc::clone(&waker);
        let thread = std::thread::spawn(move || other.wake());
        waker.wait(&[], Duration::from_secs(3600)).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn wake_ups_that_meet_the_end_of_a_wait_do_not_silence_later_ones() {
        let wakers = std::sync::Arc::new([Waker::new().unwrap(), Waker::new().unwrap()]);
        let turns = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let play = |player: usize| {
            let (wakers, turns) = (std::sync::Arc::clone(&wakers), std::sync::Arc::clone(&turns));
            move || loop {
                let turn = turns.load(Ordering::Acquire);
                if turn >= 20_000 {
                    return wakers[1 - player].wake();
                }
                if turn as usize % 2 == player {
                    turns.store(turn + 1, Ordering::Release);
                    wakers[1 - player].wake();
                    wakers[1 - player].wake();
                } else {
                    wakers[player].wait(&[], Duration::from_secs(3600)).unwrap();
                }
            }
        };
        let other = std::thread::spawn(play(1));
        play(0)();
        other.join().unwrap();
    }
}
