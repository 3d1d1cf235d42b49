//! A set of ports.

/// Which of the 65,536 ports are meant, a bit for each.
#[derive(Clone, PartialEq, Eq)]
pub struct PortBitmap {
    words: Box<[u64; Self::WORDS]>,
}

impl PortBitmap {
    /// Length in words: bit `port % 64` of word `port / 64` stands for `port`.
    pub const WORDS: usize = 65_536 / 64;

    /// No port.
    #[must_use]
    pub fn new() -> Self {
        Self { words: Box::new([0; Self::WORDS]) }
    }

    /// Says whether a port is in the set from now on.
    pub fn put(&mut self, port: u16, is_in: bool) {
        let (word, bit) = (usize::from(port) / 64, 1 << (port % 64));
        if is_in {
            self.words[word] |= bit;
        } else {
            self.words[word] &= !bit;
        }
    }

    /// Whether a port is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.words[usize::from(port) / 64] >> (port % 64) & 1 != 0
    }

    /// The bits.
    #[must_use]
    pub fn words(&self) -> &[u64; Self::WORDS] {
        &self.words
    }
}

impl Default for PortBitmap {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for PortBitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..=u16::MAX).filter(|port| self.contains(*port))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_in_until_it_is_taken_out() {
        let mut set = PortBitmap::new();
        for port in [0, 63, 64, 65_535] {
            assert!(!set.contains(port));
            set.put(port, true);
            assert!(set.contains(port));
        }
        assert_eq!(format!("{set:?}"), "{0, 63, 64, 65535}");
        set.put(64, false);
        assert_eq!(format!("{set:?}"), "{0, 63, 65535}");
    }
}
