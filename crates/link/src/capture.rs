//! Links made of captures: one that plays a file, one that records what passes.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use packet::{Batch, LinkId, MacAddr, PacketBuf, Pool};

use crate::encapsulation::to_ethernet;
use crate::pcap_file::{CaptureWriter, Direction, Frames, read_frames};
use crate::{CaptureError, Link, LinkCounters, LinkState, Offloads, SendReport};

/// MTU of a [`PcapLink`]: captures hold super-packets and jumbo frames, and nothing is really sent.
const PCAP_MTU: usize = 65_535;

/// A link that receives the frames of a capture file, as fast as it is asked, and records what is sent.
pub struct PcapLink {
    name: String,
    id: LinkId,
    mac: MacAddr,
    frames: Frames,
    ended: bool,
    frame: Vec<u8>,
    timestamp: Duration,
    sent: Option<CaptureWriter<Box<dyn Write + Send>>>,
    counters: LinkCounters,
}

impl PcapLink {
    /// Opens a capture; what is sent is discarded until [`Self::record_to`].
    ///
    /// # Errors
    /// As [`read_frames`].
    pub fn open(path: &Path, id: LinkId, mac: MacAddr) -> Result<Self, CaptureError> {
        let frames = read_frames(path)?;
        Ok(Self {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            id,
            mac,
            frames,
            ended: false,
            frame: Vec::new(),
            timestamp: Duration::ZERO,
            sent: None,
            counters: LinkCounters::default(),
        })
    }

    /// Records what is sent from now on as pcapng, with the time of the frame received last.
    ///
    /// # Errors
    /// If `writer` fails.
    pub fn record_to(&mut self, writer: Box<dyn Write + Send>) -> io::Result<()> {
        self.sent = Some(CaptureWriter::new(writer, &self.name)?);
        Ok(())
    }

    /// Reads the next frame into `self.frame`; `false` at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        let Some(captured) = self.frames.next() else {
            self.ended = true;
            return Ok(false);
        };
        let captured = captured.map_err(io::Error::other)?;
        self.timestamp = captured.timestamp;
        to_ethernet(captured.link_type, &captured.data, &mut self.frame)
            .map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
        Ok(true)
    }
}

impl Link for PcapLink {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn mtu(&self) -> usize {
        PCAP_MTU
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    /// # Errors
    /// For a frame whose link-layer type is not supported ([`io::ErrorKind::Unsupported`], the next call
    /// goes on behind it), and where the file is damaged (its end).
    fn recv(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<usize> {
        let before = batch.len();
        while batch.room() > 0 && !self.ended {
            let Some(mut buffer) = pool.take() else { break };
            match self.next_frame() {
                Ok(true) if buffer.copy_from(&self.frame) => {
                    buffer.ingress = self.id;
                    self.counters.count_received(buffer.len());
                    batch.push(buffer);
                }
                Ok(true) => {
                    self.counters.rx_oversized += 1;
                    pool.put(buffer);
                }
                Ok(false) => pool.put(buffer),
                Err(error) => {
                    pool.put(buffer);
                    return Err(error);
                }
            }
        }
        Ok(batch.len() - before)
    }

    fn send(&mut self, packets: &[PacketBuf]) -> SendReport {
        let mut report = SendReport::default();
        for packet in packets {
            let recorded = self.offloads().allow(packet.offload)
                && self.sent.as_mut().is_none_or(|writer| {
                    writer.write(self.timestamp, Direction::Outbound, packet.frame()).is_ok()
                });
            if recorded {
                report.sent += 1;
                self.counters.tx_bytes += packet.len() as u64;
            } else {
                report.refused += 1;
            }
        }
        self.counters.count_send(report);
        report
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&mut self) -> LinkCounters {
        self.counters
    }

    /// Gone at the end of the file.
    fn state(&mut self) -> LinkState {
        if self.ended { LinkState::Gone } else { LinkState::Up }
    }
}

/// Records what passes a link as pcapng.
///
/// A failing writer ends the recording, never the traffic.
pub struct CaptureLink<L, W: Write> {
    inner: L,
    recording: Option<CaptureWriter<W>>,
    now: Box<dyn FnMut() -> Duration + Send>,
}

impl<L: Link, W: Write + Send> CaptureLink<L, W> {
    /// Wraps a link; `now` tells the time since 1970 and is asked once per batch.
    ///
    /// # Errors
    /// If `writer` fails.
    pub fn new(
        inner: L,
        writer: W,
        now: impl FnMut() -> Duration + Send + 'static,
    ) -> io::Result<Self> {
        let recording = Some(CaptureWriter::new(writer, inner.name())?);
        Ok(Self { inner, recording, now: Box::new(now) })
    }

    /// The wrapped link.
    pub fn inner_mut(&mut self) -> &mut L {
        &mut self.inner
    }

    fn record(&mut self, direction: Direction, packets: &[PacketBuf]) {
        let Some(writer) = &mut self.recording else { return };
        if packets.is_empty() {
            return;
        }
        let now = (self.now)();
        let result =
            packets.iter().try_for_each(|packet| writer.write(now, direction, packet.frame()));
        if let Err(error) = result.and_then(|()| writer.flush()) {
            tracing::warn!(link = self.inner.name(), %error, "the recording ends here");
            self.recording = None;
        }
    }
}

impl<L: Link, W: Write + Send> Link for CaptureLink<L, W> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn mac(&self) -> MacAddr {
        self.inner.mac()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn recv(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<usize> {
        let before = batch.len();
        let result = self.inner.recv(batch, pool);
        self.record(Direction::Inbound, &batch.packets()[before..]);
        result
    }

    /// Records what was tried, also what was then refused.
    fn send(&mut self, packets: &[PacketBuf]) -> SendReport {
        let report = self.inner.send(packets);
        self.record(Direction::Outbound, &packets[..packets.len() - report.would_block]);
        report
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }

    fn counters(&mut self) -> LinkCounters {
        self.inner.counters()
    }

    fn state(&mut self) -> LinkState {
        self.inner.state()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::encapsulation::LinkType;
    use crate::pcap_file::CapturedFrame;
    use crate::{MemoryEnd, MemoryLink};
    use pcap_file::DataLink;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

    fn packet(fill: u8) -> PacketBuf {
        let mut packet = PacketBuf::small();
        assert!(packet.copy_from(&[fill; 60]));
        packet
    }

    fn read(path: &Path) -> Vec<CapturedFrame> {
        read_frames(path).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_recording_plays_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let end = |name| MemoryEnd::new(name, LinkId(2), MacAddr::ZERO);
        let (a, mut b) = MemoryLink::pair(end("a"), end("b"));
        let mut a = CaptureLink::new(a, file.reopen().unwrap(), || Duration::from_secs(5)).unwrap();
        let (mut batch, mut pool) = (Batch::new(), Pool::small(8));
        assert_eq!(a.send(&[packet(1)]).sent, 1);
        assert_eq!(b.send(&[packet(2), packet(3)]).sent, 2);
        assert_eq!(a.recv(&mut batch, &mut pool).unwrap(), 2);
        batch.recycle(&mut pool);

        let mut played = PcapLink::open(file.path(), LinkId(9), MacAddr::ZERO).unwrap();
        assert_eq!(played.recv(&mut batch, &mut pool).unwrap(), 3);
        let seen: Vec<_> = batch.packets().iter().map(|p| (p.frame()[0], p.ingress)).collect();
        assert_eq!(seen, [(1, LinkId(9)), (2, LinkId(9)), (3, LinkId(9))]);
        assert_eq!(played.recv(&mut batch, &mut pool).unwrap(), 0);
        assert_eq!(played.state(), LinkState::Gone);
        assert_eq!(read(file.path())[0].timestamp, Duration::from_secs(5));
    }

    #[test]
    fn what_a_played_link_sends_is_recorded_at_the_time_of_the_capture() {
        let (input, output) =
            (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let time = Duration::new(77, 5);
        let mut writer = CaptureWriter::new(input.reopen().unwrap(), "x").unwrap();
        writer.write(time, Direction::Inbound, &[1; 60]).unwrap();
        let mut link = PcapLink::open(input.path(), LinkId::WAN, MacAddr::ZERO).unwrap();
        link.record_to(Box::new(output.reopen().unwrap())).unwrap();
        let (mut batch, mut pool) = (Batch::new(), Pool::small(2));
        assert_eq!(link.recv(&mut batch, &mut pool).unwrap(), 1);
        assert_eq!(link.send(batch.packets()).sent, 1);
        let frames = read(output.path());
        assert_eq!((frames[0].timestamp, frames[0].data.as_slice()), (time, &[1; 60][..]));
        assert_eq!(frames[0].link_type, LinkType::ETHERNET);
    }

    #[test]
    fn a_link_type_that_is_not_supported_is_said_once_per_frame() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let header = PcapHeader { datalink: DataLink::IEEE802_11, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(file.reopen().unwrap(), header).unwrap();
        for _ in 0..2 {
            writer.write_packet(&PcapPacket::new(Duration::ZERO, 60, &[0; 60])).unwrap();
        }
        let mut link = PcapLink::open(file.path(), LinkId::WAN, MacAddr::ZERO).unwrap();
        let (mut batch, mut pool) = (Batch::new(), Pool::small(2));
        for _ in 0..2 {
            let error = link.recv(&mut batch, &mut pool).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().contains("105"), "{error}");
        }
        assert_eq!(link.recv(&mut batch, &mut pool).unwrap(), 0);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn a_recording_that_fails_does_not_stop_the_traffic() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let end = |name| MemoryEnd::new(name, LinkId(2), MacAddr::ZERO);
        let (a, mut b) = MemoryLink::pair(end("a"), end("b"));
        let mut a = CaptureLink::new(a, Full(200), || Duration::ZERO).unwrap();
        let (mut batch, mut pool) = (Batch::new(), Pool::small(8));
        for fill in 0..5 {
            assert_eq!(a.send(&[packet(fill)]).sent, 1);
        }
        assert_eq!(b.recv(&mut batch, &mut pool).unwrap(), 5);
    }
}
