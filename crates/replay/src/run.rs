//! One capture through one router.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use config::Config;
use link::{CaptureWriter, CapturedFrame, Direction, NotEthernet, read_frames, to_ethernet};
use packet::header::{destination_mac, ethernet, put_macs, source_mac};
use packet::{Batch, Instant, LARGE_FRAME_MAX, LinkId, PacketBuf};
use pipeline::lan_id;
use serde::Serialize;

use crate::census::Census;
use crate::router::{BATCH_SPAN, Router, START, Stock, station};
use crate::tally::{Run, Tally};

/// Virtual time between two loops over a capture.
const LOOP_GAP: Duration = Duration::from_secs(1);

/// Where frames arrive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// On the first LAN.
    Lan,
    /// On the WAN.
    Wan,
}

impl Side {
    fn link(self) -> LinkId {
        match self {
            Self::Lan => lan_id(0),
            Self::Wan => LinkId::WAN,
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

/// A capture, and how to replay it.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The file.
    pub path: &'a Path,
    /// Where its frames arrive.
    pub from: Side,
    /// How often they do.
    pub loops: u32,
}

/// Replays captures one by one.
pub struct Replay {
    config: Option<Config>,
    stock: Option<Stock>,
    out: Option<CaptureWriter<Box<dyn Write>>>,
}

impl Replay {
    /// Without a configuration each capture gets one that suits it. What leaves is written to `out`.
    #[must_use]
    pub fn new(config: Option<Config>, out: Option<CaptureWriter<Box<dyn Write>>>) -> Self {
        Self { config, stock: None, out }
    }

    /// Writes out what `out` still holds.
    ///
    /// # Errors
    /// If that fails.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.out.as_mut().map_or(Ok(()), CaptureWriter::flush)
    }

    /// Replays a capture from one side on a fresh router.
    ///
    /// # Errors
    /// If the file is no capture, or `out` can't be written. A capture that ends early is replayed as far as it
    /// goes, and its run says so.
    pub fn run(&mut self, job: Job<'_>) -> Result<Run> {
        let context = || job.path.display().to_string();
        let capture = Capture::read(job.path)?;
        let made;
        let config = match &self.config {
            Some(config) => config,
            None => {
                made = capture.census().config(job.from).with_context(context)?;
                &made
            }
        };
        let links = 1 + config.lans.len();
        let stock = self.stock.take().unwrap_or_else(|| Stock::new(links));
        let router = Router::new(config, stock, START).with_context(context)?;
        let mut pass =
            Pass { router, tally: capture.tally(job.loops), out: &mut self.out, error: None };
        let end = (0..job.loops).fold(START, |now, _| pass.play(&capture, job.from.link(), now));
        pass.drain(end, capture.last());
        let Pass { router, mut tally, error, .. } = pass;
        tally.finish(&router);
        // Buffers that are lost must not be blamed on the next capture.
        self.stock = (router.buffers_out() == 0).then(|| router.into_stock());
        if let Some(error) = error {
            return Err(error).context("--out");
        }
        let capture_name = job.path.display().to_string();
        Ok(Run { capture: capture_name, from: job.from, tally, damaged: capture.damaged })
    }
}

/// The frames of a file that a router can be given.
struct Capture {
    frames: Vec<(Duration, Vec<u8>)>,
    skipped: Vec<String>,
    damaged: Option<String>,
}

impl Capture {
    fn read(path: &Path) -> Result<Self> {
        let mut capture = Self { frames: Vec::new(), skipped: Vec::new(), damaged: None };
        for captured in read_frames(path)? {
            match captured {
                Ok(captured) => capture.push(&captured),
                Err(error) => capture.damaged = Some(error.to_string()),
            }
        }
        Ok(capture)
    }

    fn push(&mut self, captured: &CapturedFrame) {
        let mut frame = Vec::new();
        match to_ethernet(captured.link_type, &captured.data, &mut frame) {
            Ok(()) if frame.len() <= LARGE_FRAME_MAX => {
                self.frames.push((captured.timestamp, frame));
            }
            Ok(()) => self.skipped.push("longer than a packet can be".into()),
            Err(NotEthernet::LinkType(kind)) => {
                self.skipped.push(format!("link-layer type {} is not supported", kind.0));
            }
            Err(NotEthernet::Payload(kind)) => {
                self.skipped.push(format!("link-layer type {} without IP", kind.0));
            }
        }
    }

    fn census(&self) -> Census {
        let mut census = Census::default();
        self.frames.iter().for_each(|(_, frame)| census.count(frame));
        census
    }

    fn last(&self) -> Duration {
        self.frames.last().map_or(Duration::ZERO, |(timestamp, _)| *timestamp)
    }

    fn tally(&self, loops: u32) -> Tally {
        let mut tally = Tally::default();
        for reason in &self.skipped {
            *tally.skipped.entry(reason.clone()).or_default() += u64::from(loops);
        }
        tally
    }
}

/// A router, and what is noted of what passes it.
struct Pass<'a> {
    router: Router,
    tally: Tally,
    out: &'a mut Option<CaptureWriter<Box<dyn Write>>>,
    error: Option<anyhow::Error>,
}

impl Pass<'_> {
    /// Lets every frame arrive on `ingress`, the first at `begin`; says when the next loop begins.
    fn play(&mut self, capture: &Capture, ingress: LinkId, begin: Instant) -> Instant {
        let origin = capture.frames.first().map_or(Duration::ZERO, |(timestamp, _)| *timestamp);
        let mut batch = Batch::new();
        let (mut now, mut opened) = (begin, begin);
        for (timestamp, frame) in &capture.frames {
            // Some captures go back in time; the router's clock does not.
            let time = now.max(begin + timestamp.saturating_sub(origin));
            if batch.room() == 0 || time.saturating_since(opened) > BATCH_SPAN {
                self.receive(&mut batch, now, *timestamp);
                opened = time;
            }
            now = time;
            let mut packet = self.router.pool().take().expect("a batch is smaller than the pool");
            let fits = packet.copy_from(frame);
            debug_assert!(fits, "longer frames were skipped");
            packet.ingress = ingress;
            address_to_router(packet.frame_mut(), ingress);
            self.tally.frames += 1;
            self.tally.bytes += packet.len() as u64;
            batch.push(packet);
        }
        self.receive(&mut batch, now, capture.last());
        now + LOOP_GAP
    }

    fn receive(&mut self, batch: &mut Batch, now: Instant, timestamp: Duration) {
        let Self { router, tally, out, error } = self;
        router.receive(batch, now, &mut |router, packet| {
            note_sent(router, packet, timestamp, tally, out, error);
        });
    }

    fn drain(&mut self, now: Instant, timestamp: Duration) {
        let Self { router, tally, out, error } = self;
        router.drain(now, &mut |router, packet| {
            note_sent(router, packet, timestamp, tally, out, error);
        });
    }
}

/// Counts and records a frame that left; after a failure nothing more is recorded.
fn note_sent(
    router: &Router,
    packet: &PacketBuf,
    timestamp: Duration,
    tally: &mut Tally,
    out: &mut Option<CaptureWriter<Box<dyn Write>>>,
    error: &mut Option<anyhow::Error>,
) {
    tally.sent += 1;
    tally.sent_bytes += packet.len() as u64;
    let (Some(writer), None) = (out, &error) else { return };
    let (from, to) = (router.link_name(packet.ingress), router.link_name(packet.egress));
    let comment = if packet.ingress == packet.egress {
        format!("reply on {to}")
    } else {
        format!("forward {from} > {to}")
    };
    let written = writer.write_commented(timestamp, Direction::Outbound, packet.frame(), &comment);
    *error = written.err().map(anyhow::Error::from);
}

/// A capture was made at some other station; frames for it are to be for the router.
fn address_to_router(frame: &mut [u8], ingress: LinkId) {
    if frame.len() >= ethernet::LEN && !destination_mac(frame).is_group() {
        let source = source_mac(frame);
        put_macs(frame, station(ingress), source);
    }
}
