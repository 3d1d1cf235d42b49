//! The worker thread: links in, pipeline, links out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrayvec::ArrayVec;
use crossbeam::channel::{Receiver, Sender};
use link::{Link, LinkState};
use packet::{Batch, Instant, LinkId};
use pipeline::{Egress, LINKS_MAX, Snapshot, Worker};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::guard::FloodGuard;
use crate::pace::{Pace, REST};
use crate::shared::{Command, LinkEvent, Report, ShaperReport, Shared};

/// Longest sleep of an idle worker: sessions expire and carriers are noticed within it.
const IDLE_TICK: Duration = Duration::from_millis(500);

/// Every link is ready, as far as the worker knows.
const ALL: u32 = u32::MAX;

/// Opens a link again after it vanished.
pub type Reopen = fn(&str, LinkId) -> Result<Box<dyn Link>>;

/// A link, or the memory of one.
struct Port {
    name: String,
    link: Option<Box<dyn Link>>,
    state: LinkState,
}

/// Everything that the worker thread owns.
pub struct WorkerThread {
    ports: Vec<Port>,
    worker: Worker,
    egress: Egress,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    events: Sender<LinkEvent>,
    clock: Clock,
    reopen: Reopen,
    checked_at: Instant,
    guard: FloodGuard,
}

impl WorkerThread {
    /// Takes over the links, in the order of their ids.
    pub fn new(
        links: Vec<Box<dyn Link>>,
        worker: Worker,
        egress: Egress,
        shared: Arc<Shared>,
        mailbox: (Receiver<Command>, Sender<LinkEvent>),
        clock: Clock,
        reopen: Reopen,
    ) -> Self {
        let mut ports = Vec::with_capacity(links.len());
        for mut link in links {
            let (name, state) = (link.name().to_owned(), link.state());
            ports.push(Port { name, link: Some(link), state });
        }
        let (commands, events) = mailbox;
        let checked_at = clock.now();
        let guard = FloodGuard::new(checked_at);
        Self { ports, worker, egress, shared, commands, events, clock, reopen, checked_at, guard }
    }

    /// Runs until told to stop; a failure is reported to the control thread.
    pub fn run(mut self) {
        crate::priority::raise();
        if let Err(error) = self.forward() {
            // The control thread is the only one left to tell; if it is gone, so is the router.
            let _ = self.events.send(LinkEvent::Failed(format!("{error:#}")));
            self.wake_control();
        }
    }

    fn forward(&mut self) -> Result<()> {
        let mut batch = Batch::new();
        let mut pace = Pace::new(self.clock.now());
        let mut ready = ALL;
        loop {
            let now = self.clock.now();
            if !self.obey(now) {
                return Ok(());
            }
            let shared = Arc::clone(&self.shared);
            let snapshot = shared.snapshot.load();
            let received = self.receive(ready, &mut batch, &snapshot, now);
            let mut busy = self.worker.take_injected(&mut self.egress, &snapshot, now) > 0;
            self.worker.answer_unsolicited(&mut self.egress, &snapshot, now);
            self.egress.dequeue(now, &shared.counters);
            self.flush();
            busy |= self.worker.expire(&snapshot, now);
            if let Some(link) = &mut self.ports[LinkId::WAN.index()].link {
                let (guard, worker) = (&mut self.guard, &mut self.worker);
                guard.turn(&mut **link, worker, &snapshot, &shared.counters, now);
            }
            if shared.rings.has_punts() {
                self.wake_control();
            }
            if now.saturating_since(self.checked_at) >= IDLE_TICK {
                self.checked_at = now;
                self.check_links();
            }
            drop(snapshot);
            let timeout = if busy { Duration::ZERO } else { self.idle_time() };
            ready = if pace.rests(received, now) {
                self.shared.worker.wait(&[], timeout.min(REST)).context("rest")?;
                ALL
            } else {
                self.wait(timeout)?
            };
        }
    }

    /// Carries out commands; `false` if the last one was to stop.
    fn obey(&mut self, now: Instant) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Kill(id) => {
                    self.worker.kill(id, now);
                }
                Command::Shape(shapers) => {
                    self.egress.replace_shapers(shapers);
                }
                Command::Report(reply) => {
                    let report = self.report();
                    // Whoever asked may have given up.
                    let _ = reply.send(report);
                }
                Command::Stop => return false,
            }
        }
        true
    }

    /// Takes one batch from each link that is ready (bit by index) and sends what it became before the next, so that
    /// buffers stay few and warm. Whether anything came.
    fn receive(
        &mut self,
        ready: u32,
        batch: &mut Batch,
        snapshot: &Snapshot,
        now: Instant,
    ) -> bool {
        let mut has_received = false;
        for index in (0..self.ports.len()).filter(|index| ready >> index & 1 != 0) {
            let Some(link) = &mut self.ports[index].link else { continue };
            let received = link.recv(batch, self.egress.large_pool());
            if !batch.is_empty() {
                has_received = true;
                self.worker.receive(batch, &mut self.egress, snapshot, now);
                self.flush();
            }
            if let Err(error) = received {
                warn!(link = self.ports[index].name, %error, "receive failed");
                self.check_links();
            }
        }
        has_received
    }

    fn flush(&mut self) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let id = LinkId(index as u8);
            self.egress.flush(id, &self.shared.counters, |packets| match &mut port.link {
                Some(link) => {
                    let report = link.send(packets);
                    report.refused + report.would_block
                }
                None => packets.len(),
            });
        }
    }

    /// How long nothing is due, if no packet comes.
    fn idle_time(&self) -> Duration {
        let now = self.clock.now();
        let guard = self.guard.tick().map(|tick| now + tick);
        let due = [self.egress.poll_timeout(now), self.worker.poll_timeout(), guard];
        let due = due.into_iter().flatten().min().map(|at| at.saturating_since(now));
        due.map_or(IDLE_TICK, |due| due.min(IDLE_TICK))
    }

    /// Waits until something is to do; returns which links to receive from.
    fn wait(&mut self, timeout: Duration) -> Result<u32> {
        let mut indices = ArrayVec::<usize, LINKS_MAX>::new();
        let mut descriptors = ArrayVec::<_, LINKS_MAX>::new();
        let mut ready = 0;
        for (index, port) in self.ports.iter().enumerate() {
            let link = port.link.as_ref().filter(|_| port.state == LinkState::Up);
            match link.map(|link| link.poll_fd()) {
                Some(Some(descriptor)) => {
                    indices.push(index);
                    descriptors.push(descriptor);
                }
                // Only a look tells.
                Some(None) => ready |= 1 << index,
                None => {}
            }
        }
        let readable =
            self.shared.worker.wait(&descriptors, timeout).context("wait for the links")?;
        for (position, index) in indices.into_iter().enumerate() {
            ready |= (readable >> position & 1) << index;
        }
        Ok(ready)
    }

    fn wake_control(&self) {
        self.shared.control.wake();
    }

    /// Notices carriers that came or went, and opens links again that vanished.
    fn check_links(&mut self) {
        for index in 0..self.ports.len() {
            let id = LinkId(index as u8);
            let port = &mut self.ports[index];
            let state = match &mut port.link {
                Some(link) => link.state(),
                None => LinkState::Gone,
            };
            if state == LinkState::Gone {
                self.revive(index);
            }
            let port = &mut self.ports[index];
            if state != port.state {
                port.state = state;
                self.tell(LinkEvent::State(id, state));
            }
        }
    }

    fn revive(&mut self, index: usize) {
        let id = LinkId(index as u8);
        let port = &mut self.ports[index];
        port.link = None;
        let Ok(link) = (self.reopen)(&port.name, id) else { return };
        info!(link = port.name, "link is back");
        let event = LinkEvent::Reopened(id, link.mac(), link.mtu());
        port.link = Some(link);
        self.tell(event);
    }

    fn tell(&self, event: LinkEvent) {
        // A full mailbox means that the control thread is stuck; the next check tells again.
        if self.events.try_send(event).is_ok() {
            self.wake_control();
        }
    }

    fn report(&mut self) -> Report {
        let links = self.ports.iter_mut().map(|port| match &mut port.link {
            Some(link) => (port.state, link.counters()),
            None => (LinkState::Gone, link::LinkCounters::default()),
        });
        let links = links.collect();
        let shapers = self.egress.shapers_mut();
        let shaper = |shaper: &Option<qos::Shaper>| {
            shaper.as_ref().map(|shaper| ShaperReport {
                rate_bits_per_sec: shaper.rate().bits_per_sec(),
                backlog_bytes: shaper.backlog_bytes(),
                backlog_packets: shaper.backlog_packets(),
                stats: shaper.stats().clone(),
            })
        };
        Report { links, upload: shaper(&shapers.upload), download: shaper(&shapers.download) }
    }
}
