//! Words in a file that is mapped into memory: what is stored there outlives the process at once,
//! whatever ends it, for it is the system's page cache that holds it.
//!
//! ```text
//!   page 0     format, number of words after this page
//!   page 1..   words, native byte order
//! ```
//!
//! The file is written in full when it is made, so that a store never meets a full disk. After a crash of the
//! machine it holds what the system had written back by then; nothing here waits for the disk.
//!
//! The only `unsafe` of this crate.

use std::ffi::c_void;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Words that are in a file as well.
pub struct MappedWords {
    /// Start of the mapping, page 0 included.
    base: NonNull<c_void>,
    bytes: usize,
}

/// Words that were opened, and what that took.
pub struct OpenedWords {
    /// The words.
    pub words: MappedWords,
    /// Set if the file found could not be used: what it held is forgotten.
    pub moved_aside: Option<PathBuf>,
}

/// The words could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("map {}", path.display())]
pub struct WordsError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Opens a file of so many words, or makes one of zeroes. One that is no such file is moved aside.
pub(crate) fn open(path: &Path, format: u64, words: usize) -> Result<OpenedWords, WordsError> {
    let failed = |source| WordsError { path: path.to_owned(), source };
    let is_usable = match read_header(path) {
        Ok(found) => found == [format, words as u64] && length(path) == Some(bytes_of(words)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path, format, words).map_err(failed)?;
            true
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(failed(error)),
    };
    let mut moved_aside = None;
    if !is_usable {
        // The last one is kept: it is of no use but to look at.
        let aside = path.with_added_extension("damaged");
        fs::rename(path, &aside).map_err(failed)?;
        make(path, format, words).map_err(failed)?;
        moved_aside = Some(aside);
    }
    let words = map(path, bytes_of(words)).map_err(failed)?;
    Ok(OpenedWords { words, moved_aside })
}

fn read_header(path: &Path) -> io::Result<[u64; 2]> {
    let mut header = [0; 16];
    File::open(path)?.read_exact(&mut header)?;
    let (words, _) = header.as_chunks::<8>();
    Ok([u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])])
}

fn length(path: &Path) -> Option<usize> {
    usize::try_from(fs::metadata(path).ok()?.len()).ok()
}

/// Makes the file under another name first: one that bears the name is whole.
fn make(path: &Path, format: u64, words: usize) -> io::Result<()> {
    let unfinished = path.with_added_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    let mut page = vec![0; PAGE];
    page[..8].copy_from_slice(&format.to_ne_bytes());
    page[8..16].copy_from_slice(&(words as u64).to_ne_bytes());
    file.write_all(&page)?;
    page.fill(0);
    for written in (PAGE..bytes_of(words)).step_by(PAGE) {
        file.write_all(&page[..PAGE.min(bytes_of(words) - written)])?;
    }
    file.sync_all()?;
    fs::rename(unfinished, path)
}

fn map(path: &Path, bytes: usize) -> io::Result<MappedWords> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let (access, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: no address is asked for, so the system chooses one where nothing is.
    let base = unsafe { mmap(ptr::null_mut(), bytes, access, shared, &file, 0) }?;
    let base = NonNull::new(base).ok_or(io::ErrorKind::InvalidData)?;
    Ok(MappedWords { base, bytes })
}

fn bytes_of(words: usize) -> usize {
    PAGE + words * size_of::<AtomicU64>()
}

impl AsRef<[AtomicU64]> for MappedWords {
    fn as_ref(&self) -> &[AtomicU64] {
        let words = (self.bytes - PAGE) / size_of::<AtomicU64>();
        // SAFETY: `bytes` are mapped at `base` until drop, at the start of a page, so aligned; any bytes
        // make an `AtomicU64`, and only such accesses are made, here and by whoever else maps the
        // file. If somebody cuts the file short meanwhile, an access ends the process (SIGBUS); it
        // never reads other memory.
        unsafe { slice::from_raw_parts(self.base.byte_add(PAGE).cast().as_ptr(), words) }
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: these bytes were mapped by `map` and are unmapped here only; every reference to
        // them borrowed `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "it was mapped");
    }
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for MappedWords {}
// SAFETY: what is shared are atomics.
unsafe impl Sync for MappedWords {}

impl std::fmt::Debug for MappedWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedWords").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What the header takes: the smallest page there is, and a multiple of the alignment of words.
const PAGE: usize = 4096;
