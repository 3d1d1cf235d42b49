//! Capture files: frames out of pcap and pcapng, frames into pcapng.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgBlock, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, PcapError, TsResolution};

use crate::encapsulation::LinkType;

/// First four bytes of a pcapng file: the type of a section header block.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Resolution of pcapng timestamps where the interface does not say: microseconds.
const PCAPNG_RESOLUTION_DEFAULT: u8 = 6;

/// Resolution that we write: nanoseconds.
const PCAPNG_RESOLUTION_WRITTEN: u8 = 9;

/// Why a capture file can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file can't be opened.
    #[error("open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is neither pcap nor pcapng, or damaged from here on.
    #[error("{} is not a whole pcap or pcapng file: frame {frame}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the frame that can't be read, from 1; 0 for the file's header.
        frame: u64,
        /// What is wrong.
        source: PcapError,
    },
}

/// A frame as it was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedFrame {
    /// Time of the capture since 1970.
    pub timestamp: Duration,
    /// What the data begins with.
    pub link_type: LinkType,
    /// Length of the frame on the wire in bytes; more than the data if the capture was cut short.
    pub wire_len: u32,
    /// The bytes captured.
    pub data: Vec<u8>,
}

/// The frames of a capture file, in order; ends after the first error.
pub struct Frames {
    reader: Option<Reader>,
    path: PathBuf,
    frame: u64,
}

enum Reader {
    Pcap(PcapReader<File>),
    PcapNg(PcapNgReader<File>),
}

/// Opens a pcap or pcapng file, whichever it is.
///
/// # Errors
/// If it can't be opened, or its header is of neither format.
pub fn read_frames(path: &Path) -> Result<Frames, CaptureError> {
    let failed = |source| CaptureError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = Vec::new();
    (&file).take(4).read_to_end(&mut magic).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let reader = if magic == PCAPNG_MAGIC {
        PcapNgReader::new(file).map(Reader::PcapNg)
    } else {
        PcapReader::new(file).map(Reader::Pcap)
    };
    let damaged = |source| CaptureError::Damaged { path: path.to_owned(), frame: 0, source };
    Ok(Frames { reader: Some(reader.map_err(damaged)?), path: path.to_owned(), frame: 0 })
}

impl Iterator for Frames {
    type Item = Result<CapturedFrame, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.reader.as_mut()? {
            Reader::Pcap(reader) => next_of_pcap(reader),
            Reader::PcapNg(reader) => next_of_pcapng(reader),
        }?;
        self.frame += 1;
        Some(next.map_err(|source| {
            self.reader = None;
            CaptureError::Damaged { path: self.path.clone(), frame: self.frame, source }
        }))
    }
}

fn next_of_pcap(reader: &mut PcapReader<File>) -> Option<Result<CapturedFrame, PcapError>> {
    let header = reader.header();
    // The raw packet: the checked one refuses frames whose original is longer than the snap length.
    let packet = reader.next_raw_packet()?;
    Some(packet.map(|packet| {
        let nanos = match header.ts_resolution {
            TsResolution::MicroSecond => u64::from(packet.ts_frac) * 1000,
            TsResolution::NanoSecond => u64::from(packet.ts_frac),
        };
        CapturedFrame {
            timestamp: Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(nanos),
            link_type: LinkType(header.datalink.into()),
            wire_len: packet.orig_len,
            data: packet.data.into_owned(),
        }
    }))
}

fn next_of_pcapng(reader: &mut PcapNgReader<File>) -> Option<Result<CapturedFrame, PcapError>> {
    loop {
        let block = match reader.next_block()? {
            Ok(block) => block.into_owned(),
            Err(error) => return Some(Err(error)),
        };
        let (interface, ticks, wire_len, data) = match block {
            // The reader takes the ticks of any resolution for nanoseconds.
            Block::EnhancedPacket(b) => {
                (b.interface_id, Some(b.timestamp.as_nanos() as u64), b.original_len, b.data)
            }
            Block::Packet(b) => (b.interface_id.into(), Some(b.timestamp), b.original_len, b.data),
            Block::SimplePacket(b) => (0, None, b.original_len, b.data),
            _ => continue,
        };
        let Some(interface) = reader.interfaces().get(interface as usize) else {
            return Some(Err(PcapError::InvalidInterfaceId(interface)));
        };
        return Some(Ok(CapturedFrame {
            timestamp: ticks.map_or(Duration::ZERO, |ticks| timestamp(interface, ticks)),
            link_type: LinkType(interface.linktype.into()),
            wire_len,
            data: data.into_owned(),
        }));
    }
}

/// Turns an interface's ticks into time.
fn timestamp(interface: &InterfaceDescriptionBlock<'_>, ticks: u64) -> Duration {
    let mut resolution = PCAPNG_RESOLUTION_DEFAULT;
    let mut offset = 0;
    for option in &interface.options {
        match option {
            InterfaceDescriptionOption::IfTsResol(value) => resolution = *value,
            InterfaceDescriptionOption::IfTsOffset(seconds) => offset = *seconds,
            _ => {}
        }
    }
    let ticks_per_second = if resolution & 0x80 == 0 {
        10u128.checked_pow(resolution.into())
    } else {
        1u128.checked_shl((resolution & 0x7f).into())
    };
    // A finer resolution than the arithmetic can hold leaves less than a second of time anyway.
    let nanos = u128::from(ticks)
        .checked_mul(1_000_000_000)
        .zip(ticks_per_second)
        .map_or(0, |(nanos, per_second)| nanos / per_second);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds.saturating_add(offset), (nanos % 1_000_000_000) as u32)
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Received by us.
    Inbound,
    /// Sent by us.
    Outbound,
}

/// Writes Ethernet frames of one link as pcapng, with nanosecond timestamps.
pub struct CaptureWriter<W: Write> {
    writer: PcapNgWriter<W>,
}

impl<W: Write> CaptureWriter<W> {
    /// Writes the file's header; `link` is the name that readers show.
    ///
    /// # Errors
    /// If `writer` fails.
    pub fn new(writer: W, link: &str) -> io::Result<Self> {
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(link)),
                InterfaceDescriptionOption::IfTsResol(PCAPNG_RESOLUTION_WRITTEN),
            ],
        };
        let mut writer = PcapNgWriter::new(writer).map_err(io_error)?;
        writer.write_block(&interface.into_block()).map_err(io_error)?;
        Ok(Self { writer })
    }

    /// Writes one frame; `timestamp` is the time since 1970.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn write(
        &mut self,
        timestamp: Duration,
        direction: Direction,
        frame: &[u8],
    ) -> io::Result<()> {
        self.write_with(timestamp, frame, vec![flags(direction)])
    }

    /// Writes one frame with a comment that readers show beside it.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn write_commented(
        &mut self,
        timestamp: Duration,
        direction: Direction,
        frame: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        let comment = EnhancedPacketOption::Comment(Cow::Borrowed(comment));
        self.write_with(timestamp, frame, vec![comment, flags(direction)])
    }

    fn write_with(
        &mut self,
        timestamp: Duration,
        frame: &[u8],
        options: Vec<EnhancedPacketOption<'_>>,
    ) -> io::Result<()> {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp,
            original_len: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            data: Cow::Borrowed(frame),
            options,
        };
        self.writer.write_block(&block.into_block()).map(|_| ()).map_err(io_error)
    }

    /// Writes out what the writer still holds.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

/// The option that says which way a frame went.
fn flags(direction: Direction) -> EnhancedPacketOption<'static> {
    EnhancedPacketOption::Flags(match direction {
        Direction::Inbound => 1,
        Direction::Outbound => 2,
    })
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

    const TIME: Duration = Duration::new(1_700_000_000, 123_456_789);

    fn read_all(path: &Path) -> Vec<CapturedFrame> {
        read_frames(path).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_is_written_as_pcapng_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = CaptureWriter::new(file.reopen().unwrap(), "wan0").unwrap();
        for len in [60, 61, 65_550] {
            writer.write(TIME, Direction::Outbound, &vec![7; len]).unwrap();
        }
        writer.flush().unwrap();
        let frames = read_all(file.path());
        assert_eq!(frames.iter().map(|f| f.data.len()).collect::<Vec<_>>(), [60, 61, 65_550]);
        for frame in frames {
            assert_eq!((frame.timestamp, frame.link_type), (TIME, LinkType::ETHERNET));
            assert_eq!(frame.wire_len as usize, frame.data.len());
        }
    }

    #[test]
    fn pcap_of_both_resolutions_is_read() {
        for (ts_resolution, expected) in [
            (TsResolution::NanoSecond, TIME),
            (TsResolution::MicroSecond, Duration::new(1_700_000_000, 123_456_000)),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let header =
                PcapHeader { ts_resolution, datalink: DataLink::RAW, ..PcapHeader::default() };
            let mut writer = PcapWriter::with_header(file.reopen().unwrap(), header).unwrap();
            writer.write_packet(&PcapPacket::new(TIME, 100, &[0x45; 40])).unwrap();
            let frames = read_all(file.path());
            assert_eq!(frames.len(), 1);
            assert_eq!((frames[0].timestamp, frames[0].wire_len), (expected, 100));
            assert_eq!(frames[0].data, [0x45; 40]);
        }
    }

    #[test]
    fn pcapng_ticks_are_of_the_resolution_that_the_interface_says() {
        let interface = |options| InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options,
        };
        let resolution = |value| interface(vec![InterfaceDescriptionOption::IfTsResol(value)]);
        let half = Duration::from_millis(1500);
        assert_eq!(timestamp(&interface(vec![]), 1_500_000), half);
        assert_eq!(timestamp(&resolution(3), 1500), half);
        assert_eq!(timestamp(&resolution(0x80 | 10), 1536), half);
        assert_eq!(timestamp(&resolution(0x7f), 1536), Duration::ZERO);
        let offset = interface(vec![InterfaceDescriptionOption::IfTsOffset(10)]);
        assert_eq!(timestamp(&offset, 1_500_000), half + Duration::from_secs(10));
    }

    #[test]
    fn a_file_that_is_no_capture_is_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'x'; 64]).unwrap();
        let error = read_frames(file.path()).err().unwrap().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
        assert!(matches!(read_frames(Path::new("no-such.pcap")), Err(CaptureError::Open { .. })));
    }

    #[test]
    fn a_file_that_breaks_off_gives_its_whole_frames_and_one_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = CaptureWriter::new(file.reopen().unwrap(), "wan0").unwrap();
        for _ in 0..3 {
            writer.write(TIME, Direction::Inbound, &[7; 60]).unwrap();
        }
        let len = file.as_file().metadata().unwrap().len();
        file.as_file().set_len(len - 10).unwrap();
        let read: Vec<_> = read_frames(file.path()).unwrap().collect();
        assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    }
}
