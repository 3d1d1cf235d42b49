//! Memory that is shared with the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use libc::c_int;

/// Memory that is mapped until it is dropped.
pub(crate) struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this value like that of a `Box`; what is shared with the kernel are integers.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Memory of zeros.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Memory that the kernel has for a socket.
    pub(crate) fn of_socket(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        len: usize,
    ) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len, flags, socket.as_raw_fd(), page_offset)
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }

    fn map(len: usize, flags: c_int, fd: c_int, offset: u64) -> io::Result<Self> {
        let offset = libc::off64_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let address = unsafe {
            let read_write = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap64(ptr::null_mut(), len, read_write, flags, fd, offset)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { address, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping made at the start, to which no reference is left. Pages that
        // the kernel still reads it keeps itself.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}
