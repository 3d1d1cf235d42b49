//! A capture file in memory, as the router can be given it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use link::{CapturedFrame, LinkType, NotEthernet, read_frames, to_ethernet};
use packet::LARGE_FRAME_MAX;

use crate::seal::seal;
use crate::tally::Tally;

/// What is done about the checksums of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksums {
    /// They stay as they were captured.
    AsCaptured,
    /// They become what they would have been on the wire.
    Fixed,
}

/// The frames of a file that a router can be given.
#[derive(Default)]
pub(crate) struct Capture {
    /// Ethernet frames with the times of their capture since 1970, in the order of the file.
    pub(crate) frames: Vec<(Duration, Vec<u8>)>,
    /// How many frames were left out, by why.
    skipped: BTreeMap<String, u64>,
    /// Where the file ends early, if it does.
    pub(crate) damaged: Option<String>,
    /// A link-layer type that is not supported, if the file has one.
    unsupported: Option<LinkType>,
}

impl Capture {
    pub(crate) fn read(path: &Path, checksums: Checksums) -> Result<Self> {
        let mut capture = Self::default();
        for captured in read_frames(path)? {
            match captured {
                Ok(captured) => capture.push(&captured),
                Err(error) => capture.damaged = Some(error.to_string()),
            }
        }
        if checksums == Checksums::Fixed {
            capture.frames.iter_mut().for_each(|(_, frame)| seal(frame));
        }
        Ok(capture)
    }

    fn push(&mut self, captured: &CapturedFrame) {
        let mut frame = Vec::new();
        let why = match to_ethernet(captured.link_type, &captured.data, &mut frame) {
            Ok(()) if frame.len() <= LARGE_FRAME_MAX => {
                self.frames.push((captured.timestamp, frame));
                return;
            }
            Ok(()) => "longer than a packet can be".into(),
            Err(NotEthernet::LinkType(kind)) => {
                self.unsupported = Some(kind);
                format!("link-layer type {kind} is not supported")
            }
            Err(NotEthernet::Payload(kind)) => format!("link-layer type {kind} without IP"),
        };
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Why there is nothing to replay, and what helps, if that is because of the link-layer type.
    pub(crate) fn unsupported(&self, path: &Path) -> Option<String> {
        let kind = self.unsupported.filter(|_| self.frames.is_empty())?;
        Some(format!(
            "{}: link-layer type {kind} is not supported, so none of its frames can be replayed; capture on an \
             Ethernet, Wi-Fi, PPP, cooked or raw IP interface, or take the IP packets out of the file with a tool \
             that knows the type, and write them as raw IP (link-layer type 101)",
            path.display()
        ))
    }

    /// The frames alone.
    pub(crate) fn ethernet(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.frames.iter().map(|(_, frame)| frame.as_slice())
    }

    /// A tally of what is left out in so many loops.
    pub(crate) fn tally(&self, loops: u32) -> Tally {
        let mut tally = Tally::default();
        for (why, count) in &self.skipped {
            tally.skip(why, count * u64::from(loops));
        }
        tally
    }

    /// When the first frame was captured.
    pub(crate) fn origin(&self) -> Duration {
        self.frames.first().map_or(Duration::ZERO, |(timestamp, _)| *timestamp)
    }
}
