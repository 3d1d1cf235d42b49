//! One capture through one router.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use config::Config;
use link::CaptureWriter;
use packet::{Batch, Instant, LinkId};
use pipeline::lan_id;
use serde::{Serialize, Serializer};

use crate::capture::{Capture, Checksums};
use crate::cast::Inside;
use crate::census::{Census, rewriting_config};
use crate::record::Recorder;
use crate::router::{BATCH_SPAN, Event, Router, START, Stock};
use crate::stage::{Stage, address_to_router};
use crate::tally::{Cost, Run, Tally};

/// Virtual time between two loops over a capture.
const LOOP_GAP: Duration = Duration::from_secs(1);

/// What makes two replays equal, unless another number is asked for.
pub const SEED_DEFAULT: u64 = 0x7265_706c_6179;

/// Why a frame is not given to the router when one side alone is asked for.
const OTHER_SIDE: &str = "sent by the other side";

/// Where frames arrive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// On the first LAN.
    Lan,
    /// On the WAN.
    Wan,
}

impl Side {
    pub(crate) fn link(self) -> LinkId {
        match self {
            Self::Lan => lan_id(0),
            Self::Wan => LinkId::WAN,
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Lan => Self::Wan,
            Self::Wan => Self::Lan,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
        })
    }
}

/// How the frames of a capture come to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// All on one side and with the addresses that they have.
    All(Side),
    /// Each where its sender belongs, with addresses of the router's networks.
    Rewritten {
        /// Who is on the LAN.
        inside: Inside,
        /// The senders of one side alone, if so.
        only: Option<Side>,
    },
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(side) | Self::Rewritten { only: Some(side), .. } => side.fmt(f),
            Self::Rewritten { only: None, .. } => f.write_str("both"),
        }
    }
}

impl Serialize for Arrival {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A capture, and how to replay it.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The file.
    pub path: &'a Path,
    /// How its frames arrive.
    pub arrival: Arrival,
    /// How often they do.
    pub loops: u32,
}

/// Reads a clock, in whatever it counts.
pub type Clock = Box<dyn FnMut() -> u64>;

/// Returns when so much time has passed since the replay of a capture began; zero says that it begins now.
pub type Pace = Box<dyn FnMut(Duration)>;

/// Replays captures one by one.
pub struct Replay {
    config: Option<Config>,
    checksums: Checksums,
    seed: u64,
    stock: Option<Stock>,
    recorder: Recorder,
    clock: Option<Clock>,
    pace: Option<Pace>,
}

impl Replay {
    /// Without a configuration each capture gets one that suits it. What becomes of the frames is written to `out`.
    #[must_use]
    pub fn new(config: Option<Config>, out: Option<CaptureWriter<Box<dyn Write>>>) -> Self {
        let recorder = Recorder::new(out);
        Self {
            config,
            checksums: Checksums::AsCaptured,
            seed: SEED_DEFAULT,
            stock: None,
            recorder,
            clock: None,
            pace: None,
        }
    }

    /// With captures whose checksums are treated so.
    #[must_use]
    pub fn with_checksums(self, checksums: Checksums) -> Self {
        Self { checksums, ..self }
    }

    /// With another seed of the router's hashes and ports.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Measures what the packet path costs.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Waits before each batch until it is due.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { pace: Some(pace), ..self }
    }

    /// Writes out what `out` still holds.
    ///
    /// # Errors
    /// If that fails.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.recorder.finish()
    }

    /// Replays a capture on a fresh router.
    ///
    /// # Errors
    /// If the file is no capture, or `out` can't be written. A capture that ends early is replayed as far as it
    /// goes, and its run says so; likewise one whose link-layer type is not supported.
    pub fn run(&mut self, job: Job<'_>) -> Result<Run> {
        let context = || job.path.display().to_string();
        let capture = Capture::read(job.path, self.checksums)?;
        let made;
        let config = match (&self.config, job.arrival) {
            (Some(config), _) => config,
            (None, Arrival::All(side)) => {
                made = Census::of(capture.ethernet()).config(side).with_context(context)?;
                &made
            }
            (None, Arrival::Rewritten { .. }) => {
                made = rewriting_config().with_context(context)?;
                &made
            }
        };
        let links = 1 + config.lans.len();
        let stock = self.stock.take().unwrap_or_else(|| Stock::new(links));
        let router = Router::new(config, stock, self.seed, START).with_context(context)?;
        let way = match job.arrival {
            Arrival::All(side) => Way::All(side),
            Arrival::Rewritten { inside, only } => {
                let stage = Stage::new(capture.ethernet(), inside, config, router.snapshot());
                Way::Rewritten { stage, only }
            }
        };
        let mut pass = Pass {
            router,
            way,
            tally: capture.tally(job.loops),
            ticks: 0,
            arrived: Vec::new(),
            origin: capture.origin(),
            recorder: &mut self.recorder,
            clock: &mut self.clock,
            pace: &mut self.pace,
        };
        if let Some(pace) = pass.pace {
            pace(Duration::ZERO);
        }
        let end = (0..job.loops).fold(START, |now, _| pass.play(&capture, now));
        pass.advance(end, Instant::NEVER);
        let Pass { router, mut tally, ticks, .. } = pass;
        tally.finish(&router);
        // Buffers that are lost must not be blamed on the next capture.
        self.stock = (router.buffers_out() == 0).then(|| router.into_stock());
        if let Some(error) = self.recorder.take_error() {
            return Err(error).context("--out");
        }
        Ok(Run {
            capture: job.path.display().to_string(),
            from: job.arrival,
            cost: self.clock.as_ref().and_then(|_| Cost::of(ticks, tally.frames)),
            tally,
            unsupported: capture.unsupported(job.path),
            damaged: capture.damaged,
        })
    }
}

/// How frames come to the router, and what that takes.
enum Way {
    All(Side),
    Rewritten { stage: Stage, only: Option<Side> },
}

/// A frame as the router was given it, and when.
struct Arrived {
    time: Instant,
    frame: Vec<u8>,
}

/// A router, and what is noted of what passes it.
struct Pass<'a> {
    router: Router,
    way: Way,
    tally: Tally,
    ticks: u64,
    /// The batch, if it is recorded.
    arrived: Vec<Arrived>,
    /// When the capture began, since 1970.
    origin: Duration,
    recorder: &'a mut Recorder,
    clock: &'a mut Option<Clock>,
    pace: &'a mut Option<Pace>,
}

impl Pass<'_> {
    /// Lets every frame arrive, the first at `begin`; says when the next loop begins.
    fn play(&mut self, capture: &Capture, begin: Instant) -> Instant {
        let origin = capture.origin();
        let mut batch = Batch::new();
        let (mut now, mut opened) = (begin, begin);
        for (timestamp, frame) in &capture.frames {
            let side = match self.side_of(frame) {
                Ok(side) => side,
                Err(why) => {
                    self.tally.skip(why, 1);
                    continue;
                }
            };
            // Some captures go back in time; the router's clock does not.
            let time = now.max(begin + timestamp.saturating_sub(origin));
            let is_other_link =
                batch.packets().first().is_some_and(|first| first.ingress != side.link());
            let is_over = time.saturating_since(opened) > BATCH_SPAN;
            if batch.room() == 0 || is_other_link || is_over {
                self.receive(&mut batch, now);
                self.advance(now, time);
                opened = time;
            }
            now = time;
            self.take(&mut batch, frame, side, now);
        }
        self.receive(&mut batch, now);
        let next = now + LOOP_GAP;
        self.advance(now, next);
        next
    }

    /// Where a frame arrives, or why it does not.
    fn side_of(&self, frame: &[u8]) -> Result<Side, &'static str> {
        match &self.way {
            Way::All(side) => Ok(*side),
            Way::Rewritten { stage, only } => {
                let side = stage.side_of(frame)?;
                if only.is_none_or(|only| only == side) { Ok(side) } else { Err(OTHER_SIDE) }
            }
        }
    }

    /// Adds a frame to the batch, as the router's neighbour on that side would send it.
    fn take(&mut self, batch: &mut Batch, frame: &[u8], side: Side, now: Instant) {
        let mut packet = self.router.pool().take().expect("a batch is smaller than the pool");
        let fits = packet.copy_from(frame);
        debug_assert!(fits, "longer frames were skipped");
        packet.ingress = side.link();
        match &mut self.way {
            Way::All(side) => address_to_router(packet.frame_mut(), *side),
            Way::Rewritten { stage, .. } => {
                stage.put_on(packet.frame_mut(), side, self.router.snapshot());
            }
        }
        self.tally.frames += 1;
        self.tally.bytes += packet.len() as u64;
        if self.recorder.is_on() {
            self.arrived.push(Arrived { time: now, frame: packet.frame().to_vec() });
        }
        batch.push(packet);
    }

    fn receive(&mut self, batch: &mut Batch, now: Instant) {
        let Some(first) = batch.packets().first() else { return };
        let ingress = first.ingress;
        if let Some(pace) = self.pace {
            pace(now.saturating_since(START));
        }
        let begun = self.clock.as_mut().map(|clock| clock());
        self.router.judge(batch, now);
        let ended = self.clock.as_mut().map(|clock| clock());
        // Two processors' counters may differ by a little.
        let ticks = begun.zip(ended).map(|(begun, ended)| ended.saturating_sub(begun));
        self.ticks += ticks.unwrap_or(0);
        for (Arrived { time, frame }, verdict) in self.arrived.drain(..).zip(self.router.verdicts())
        {
            let time = self.origin + time.saturating_since(START);
            self.recorder.judged(&self.router, (ingress, &frame), verdict, time);
        }
        let Self { router, tally, recorder, origin, .. } = self;
        let time = *origin + now.saturating_since(START);
        router.settle(now, &mut |router, event| note(router, event, time, tally, recorder));
        if let Way::Rewritten { stage, .. } = &mut self.way {
            stage.look(&mut self.router);
        }
    }

    /// Lets leave what is due before `end`.
    fn advance(&mut self, now: Instant, end: Instant) {
        let Self { router, tally, recorder, origin, .. } = self;
        router.advance(now, end, &mut |router, due, event| {
            note(router, event, *origin + due.saturating_since(START), tally, recorder);
        });
    }
}

/// Counts and records what happened.
fn note(
    router: &Router,
    event: Event<'_>,
    time: Duration,
    tally: &mut Tally,
    recorder: &mut Recorder,
) {
    match event {
        Event::Judged(ingress, frame, verdict) => {
            recorder.judged(router, (ingress, frame), verdict, time);
        }
        Event::Sent(packet) => {
            tally.sent += 1;
            tally.sent_bytes += packet.len() as u64;
            recorder.sent(router, packet, time);
        }
    }
}
