//! Messages on a byte stream: two octets of length, then the message (RFC 1035 §4.2.2).

use crate::wire::MESSAGE_MAX;

/// Octets that wait for their message to be complete, at most: one message of any size.
pub const FRAMER_BYTES_MAX: usize = 2 + MESSAGE_MAX;

/// Cuts a byte stream into messages.
///
/// **Shape**: `push` what arrived, then `pop` until nothing comes. At most [`FRAMER_BYTES_MAX`]
/// octets are held; `push` says how many it took, the rest belongs back into the socket.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Octets at the front of `buffer` that were popped.
    taken: usize,
}

impl Framer {
    /// Makes a framer at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes octets from the stream and returns how many; fewer than given if the buffer is full,
    /// which it cannot be after `pop` returned nothing.
    pub fn push(&mut self, octets: &[u8]) -> usize {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let taken = octets.len().min(FRAMER_BYTES_MAX - self.buffer.len());
        self.buffer.extend_from_slice(&octets[..taken]);
        taken
    }

    /// Returns the next complete message, without its length.
    pub fn pop(&mut self) -> Option<&[u8]> {
        let start = self.taken + 2;
        let prefix = self.buffer.get(self.taken..start)?;
        let end = start + usize::from(u16::from_be_bytes([prefix[0], prefix[1]]));
        let message = self.buffer.get(start..end)?;
        self.taken = end;
        Some(message)
    }

    /// True if the stream may end here: no message is incomplete.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.taken
    }
}

/// Appends `message` with its length to `out`, so that both leave in one write (RFC 7766 §8).
///
/// # Panics
/// If the message is longer than [`MESSAGE_MAX`]; none that the forwarder hands out is.
pub fn frame(message: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(message.len()).expect("a DNS message has at most 65535 octets");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dn18_messages_come_out_whole_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        frame(b"first", &mut stream);
        frame(b"", &mut stream);
        frame(b"second", &mut stream);
        for cut in 1..stream.len() {
            let mut framer = Framer::new();
            let mut messages = Vec::new();
            for part in stream.chunks(cut) {
                assert_eq!(framer.push(part), part.len());
                while let Some(message) = framer.pop() {
                    messages.push(message.to_vec());
                }
            }
            assert_eq!(messages, [&b"first"[..], b"", b"second"]);
            assert!(framer.is_empty());
        }
    }

    #[test]
    fn longest_message_fits_and_nothing_more_is_held() {
        let mut framer = Framer::new();
        assert_eq!(framer.push(&[0xff; FRAMER_BYTES_MAX + 9]), FRAMER_BYTES_MAX);
        assert_eq!(framer.push(b"x"), 0);
        assert_eq!(framer.pop().map(<[u8]>::len), Some(MESSAGE_MAX));
        assert_eq!(framer.push(b"x"), 1);
        assert!(!framer.is_empty());
    }
}
