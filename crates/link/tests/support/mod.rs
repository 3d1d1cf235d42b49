//! What the tests of real links share.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use etherparse::PacketBuilder;
use link::{Link, SendReport};
use packet::{Batch, Offload, PacketBuf, Pool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a frame may take that is known to come.
const FRAME_DEADLINE: Duration = Duration::from_secs(5);

/// Waits for something to receive; `false` after `timeout`.
pub fn wait_readable(links: &[&dyn Link], timeout: Duration) -> bool {
    let fds: Vec<_> = links.iter().map(|link| link.poll_fd().unwrap()).collect();
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    poll(&mut polled, Some(&Timespec::try_from(timeout).unwrap())).unwrap() > 0
}

/// Receives until a frame satisfies `wanted`; only that one is then in the batch.
pub fn recv_until<'a>(
    link: &mut dyn Link,
    batch: &'a mut Batch,
    pool: &mut Pool,
    wanted: impl Fn(&PacketBuf) -> bool,
) -> &'a PacketBuf {
    loop {
        assert!(wait_readable(&[link], FRAME_DEADLINE), "the frame did not come");
        link.recv(batch, pool).unwrap();
        let packets: Vec<_> = batch.drain().collect();
        for packet in packets {
            if batch.is_empty() && wanted(&packet) {
                batch.push(packet);
            } else {
                pool.put(packet);
            }
        }
        if !batch.is_empty() {
            return &batch.packets()[0];
        }
    }
}

/// Every frame that comes until the link was quiet for `silence`.
pub fn recv_all(link: &mut dyn Link, silence: Duration) -> Vec<Vec<u8>> {
    let (mut batch, mut pool, mut frames) = (Batch::new(), Pool::large(64), Vec::new());
    while wait_readable(&[link], silence) {
        link.recv(&mut batch, &mut pool).unwrap();
        frames.extend(batch.packets().iter().map(|packet| packet.frame().to_vec()));
        batch.recycle(&mut pool);
    }
    frames
}

/// Sends one frame.
pub fn send_one(link: &mut dyn Link, frame: &[u8], offload: Offload) -> SendReport {
    let mut packet = PacketBuf::large();
    assert!(packet.copy_from(frame));
    packet.offload = offload;
    link.send(&[packet])
}

/// Source and destination address of an IPv4 frame.
pub fn ipv4_of(frame: &[u8]) -> ([u8; 4], [u8; 4]) {
    let address = |at: usize| frame[at..at + 4].try_into().unwrap();
    (address(26), address(30))
}

/// A host made of a link: 10.0.0.1, which answers pings.
pub struct Station<L> {
    link: L,
}

impl<L: Link> Station<L> {
    pub fn new(link: L) -> Self {
        Self { link }
    }

    pub fn into_link(self) -> L {
        self.link
    }

    /// Lets 10.0.0.2 in `peer` ping us once; whether the answer arrived.
    pub fn answers_ping_of(&mut self, peer: &lab::Namespace) -> bool {
        let mut ping = peer.spawn(["ping", "-c", "1", "-W", "5", "10.0.0.1"]).unwrap();
        let (mut batch, mut pool) = (Batch::new(), Pool::large(8));
        let is_ping = |packet: &PacketBuf| packet.frame()[23] == 1 && packet.frame()[34] == 8;
        let question = recv_until(&mut self.link, &mut batch, &mut pool, is_ping).frame();
        let (source, destination) = ipv4_of(question);
        let macs = (question[6..12].try_into().unwrap(), self.link.mac().0);
        let id = u16::from_be_bytes([question[38], question[39]]);
        let sequence = u16::from_be_bytes([question[40], question[41]]);
        let builder = PacketBuilder::ethernet2(macs.1, macs.0)
            .ipv4(destination, source, 64)
            .icmpv4_echo_reply(id, sequence);
        let mut answer = Vec::new();
        builder.write(&mut answer, &question[42..]).unwrap();
        assert_eq!(send_one(&mut self.link, &answer, Offload::NONE).sent, 1);
        ping.wait(FRAME_DEADLINE * 2).unwrap().success()
    }
}

/// A thread that copies every frame of one link to the other, both ways.
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Forwarder {
    pub fn start(mut a: impl Link + 'static, mut b: impl Link + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut batch, mut pool, mut largest) = (Batch::new(), Pool::large(64), 0);
            while !stopped.load(Ordering::Relaxed) {
                wait_readable(&[&a, &b], Duration::from_millis(50));
                forward(&mut a, &mut b, &mut batch, &mut pool, &mut largest);
                forward(&mut b, &mut a, &mut batch, &mut pool, &mut largest);
            }
            println!("{:?}\n{:?}", a.counters(), b.counters());
            largest
        });
        Self { stop, thread }
    }

    /// Ends the thread; returns the length of the largest frame that it saw.
    pub fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn forward(
    from: &mut dyn Link,
    to: &mut dyn Link,
    batch: &mut Batch,
    pool: &mut Pool,
    largest: &mut usize,
) {
    from.recv(batch, pool).unwrap();
    *largest = batch.packets().iter().map(PacketBuf::len).fold(*largest, usize::max);
    to.send(batch.packets());
    batch.recycle(pool);
}
