//! What is written to `--out`: every frame that leaves, and every frame that does not, with why.

use std::io::{self, Write};
use std::time::Duration;

use link::{CaptureWriter, Direction};
use packet::{LinkId, PacketBuf};
use pipeline::Verdict;

use crate::router::Router;

/// Writes frames as pcapng; after a failure it writes no more.
#[derive(Default)]
pub(crate) struct Recorder {
    writer: Option<CaptureWriter<Box<dyn Write>>>,
    error: Option<io::Error>,
}

impl Recorder {
    pub(crate) fn new(writer: Option<CaptureWriter<Box<dyn Write>>>) -> Self {
        Self { writer, error: None }
    }

    /// Whether anything is written at all.
    pub(crate) fn is_on(&self) -> bool {
        self.writer.is_some() && self.error.is_none()
    }

    /// The failure that ended the writing, once.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().inspect(|_| self.writer = None)
    }

    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), CaptureWriter::flush)
    }

    /// A frame that left.
    pub(crate) fn sent(&mut self, router: &Router, packet: &PacketBuf, time: Duration) {
        if !self.is_on() {
            return;
        }
        let (from, to) = (router.link_name(packet.ingress), router.link_name(packet.egress));
        let comment = if packet.ingress == packet.egress {
            format!("reply on {to}")
        } else {
            format!("forward {from} > {to}")
        };
        self.write(time, Direction::Outbound, packet.frame(), &comment);
    }

    /// A frame as it arrived. Of those that leave, nothing is written here: they are when they do.
    pub(crate) fn judged(
        &mut self,
        router: &Router,
        (ingress, frame): (LinkId, &[u8]),
        verdict: Verdict,
        time: Duration,
    ) {
        let on = router.link_name(ingress);
        let comment = match verdict {
            Verdict::Forward(_) | Verdict::Reply(_) | Verdict::Reset | Verdict::Resolve(..) => {
                return;
            }
            Verdict::Punt(reason) => {
                format!("punt {} on {on}: {}", reason.name(), reason.sentence())
            }
            Verdict::Hold => format!("hold on {on}: A fragment waits for the rest of its packet."),
            Verdict::Drop(reason) => {
                format!("drop {} on {on}: {}", reason.name(), reason.sentence())
            }
        };
        self.write(time, Direction::Inbound, frame, &comment);
    }

    fn write(&mut self, time: Duration, direction: Direction, frame: &[u8], comment: &str) {
        let Some(writer) = self.writer.as_mut().filter(|_| self.error.is_none()) else { return };
        self.error = writer.write_commented(time, direction, frame, comment).err();
    }
}
