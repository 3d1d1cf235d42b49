//! Leases, runtime forwards and reservations on stable storage (redb).
//!
//! One file, `state.redb`, in the router's state directory. Whoever drives the machines gathers their records in
//! a [`Batch`] and [`Store::commit`]s it: one transaction, durable when the call returns. Only then may the
//! frames go out that promise what the records say (DS14). Many records in one batch cost as much as one.
//!
//! ```text
//!   Server::poll_store ─┐
//!   Client::poll_store ─┼─► Batch ─► commit (one fsync) ─► poll_transmit
//!   runtime forwards  ──┘
//! ```
//!
//! Values are JSON, so that a newer version can read what an older one wrote. A record that can't be
//! read is left out with a warning: a router with one lease less is better than no router.
//!
//! For the same reason a damaged file, or one with a newer schema, is moved aside and a fresh one begun;
//! [`Opened::moved_aside`] says so. Only what the operator must mend is an error: a directory that
//! can't be written, or a second router on the same state.
//!
//! What changes with packets and may not wait for a transaction is words in a file that is mapped into memory:
//! [`Store::open_words`].
//!
//! Non-goals: configuration (the operator's file), logs. Threads: one, the control loop; a commit blocks it for the time of
//! an fsync. The mapped words may be shared.
//!
//! Limits: 4 MiB of page cache.

mod batch;
mod error;
mod tables;
#[allow(unsafe_code, reason = "the one module that maps a file")]
mod words;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use dhcp::StoredLease;
use dhcp::server::{Reservation, StoredBinding};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
};
use serde::de::DeserializeOwned;

pub use batch::Batch;
pub use error::{AccessError, OpenError, Unusable};
pub use words::{MappedWords, OpenedWords, WordsError};

use tables::{BINDINGS, COUNTERS, META, RESERVATIONS, VALUES, WAN_LEASES};

/// The router's durable state.
pub struct Store {
    database: Database,
    path: PathBuf,
}

/// A store that was opened, and what that took.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Set if the file found could not be used: everything it held is forgotten until an operator
    /// looks at it.
    pub moved_aside: Option<MovedAside>,
}

/// A state file that could not be used.
#[derive(Debug)]
pub struct MovedAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Unusable,
}

impl Store {
    /// Opens the state in a directory, which is made if need be.
    ///
    /// # Errors
    /// If the directory can't be made or written, or another process uses the state.
    pub fn open(directory: &Path) -> Result<Opened, OpenError> {
        fs::create_dir_all(directory)
            .map_err(|source| OpenError::CreateDirectory { path: directory.to_owned(), source })?;
        let path = directory.join(FILE_NAME);
        match open_guarded(&path)? {
            Ok(store) => Ok(Opened { store, moved_aside: None }),
            Err(reason) => {
                let aside = move_aside(&path)?;
                tracing::warn!(path = %aside.display(), %reason, "state file moved aside");
                let moved_aside = Some(MovedAside { path: aside, reason });
                let store =
                    open_guarded(&path)?.map_err(|source| OpenError::Replace { path, source })?;
                Ok(Opened { store, moved_aside })
            }
        }
    }

    /// Stores all records of a batch in one transaction that is durable on return.
    ///
    /// # Errors
    /// If the disk is full or broken; nothing of the batch is stored then, and the next commit tries
    /// the file anew.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), AccessError> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.write(batch) {
            Err(redb::Error::PreviousIo) => {
                // The database refuses everything after an I/O error until it is opened again.
                self.reopen()?;
                self.write(batch).map_err(|source| self.failed(source))
            }
            result => result.map_err(|source| self.failed(source)),
        }
    }

    /// All bindings of a LAN, by address.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn bindings(&self, lan: &str) -> Result<Vec<StoredBinding>, AccessError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(BINDINGS)?;
            let mut bindings = Vec::new();
            for row in table.range((lan, u32::MIN)..=(lan, u32::MAX))? {
                bindings.extend(read_json("binding", row?.1.value()));
            }
            Ok(bindings)
        };
        read().map_err(|source| self.failed(source))
    }

    /// All runtime reservations of a LAN, by MAC address.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn reservations(&self, lan: &str) -> Result<Vec<Reservation>, AccessError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(RESERVATIONS)?;
            let mut reservations = Vec::new();
            for row in table.range((lan, [0; 6])..=(lan, [0xff; 6]))? {
                reservations.extend(read_json("reservation", row?.1.value()));
            }
            Ok(reservations)
        };
        read().map_err(|source| self.failed(source))
    }

    /// The lease of a WAN link.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn wan_lease(&self, link: &str) -> Result<Option<StoredLease>, AccessError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(WAN_LEASES)?;
            Ok(table.get(link)?.and_then(|value| read_json("WAN lease", value.value())))
        };
        read().map_err(|source| self.failed(source))
    }

    /// All values of a kind with their keys, by key; what they are is the caller's business.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn values<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<(String, T)>, AccessError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(VALUES)?;
            let mut values = Vec::new();
            for row in table.range((kind, "")..)? {
                let (key, value) = row?;
                let (row_kind, row_key) = key.value();
                if row_kind != kind {
                    break;
                }
                let value = read_json(kind, value.value());
                values.extend(value.map(|value| (row_key.to_owned(), value)));
            }
            Ok(values)
        };
        read().map_err(|source| self.failed(source))
    }

    /// A counter; 0 if it was never set.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn counter(&self, name: &str) -> Result<u64, AccessError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(COUNTERS)?;
            Ok(table.get(name)?.map_or(0, |value| value.value()))
        };
        read().map_err(|source| self.failed(source))
    }

    /// Adds one to a counter and returns it, durably: such as the epoch that a restart begins.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn increment(&mut self, name: &str) -> Result<u64, AccessError> {
        let next = self.counter(name)?.saturating_add(1);
        let mut batch = Batch::new();
        batch.set_counter(name, next);
        self.commit(&batch)?;
        Ok(next)
    }

    /// Opens words that outlive this process however it ends, beside the state file; zeroes if there are
    /// none yet. A file that does not hold so many words of this format is moved aside.
    ///
    /// The store keeps a second router off them.
    ///
    /// # Errors
    /// If the file can't be made, for instance because the disk is full, or can't be mapped.
    pub fn open_words(
        &self,
        name: &str,
        format: u64,
        words: usize,
    ) -> Result<OpenedWords, WordsError> {
        words::open(&self.path.with_file_name(name), format, words)
    }

    /// The state file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all tables and returns the schema found, which is ours if there was none.
    fn prepare(&self) -> Result<u64, AccessError> {
        let write = || -> Result<u64, redb::Error> {
            let transaction = self.database.begin_write()?;
            let found = {
                let mut meta = transaction.open_table(META)?;
                let found = meta.get(SCHEMA_KEY)?.map_or(SCHEMA, |value| value.value());
                meta.insert(SCHEMA_KEY, found)?;
                found
            };
            if found <= SCHEMA {
                tables::create(&transaction)?;
            }
            transaction.commit()?;
            Ok(found)
        };
        write().map_err(|source| self.failed(source))
    }

    fn write(&self, batch: &Batch) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        batch.apply(&transaction)?;
        transaction.commit()?;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), AccessError> {
        // The old handle holds the lock on the file, so something else must take its place first.
        let placeholder = Builder::new()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .map_err(|source| self.failed(source.into()))?;
        self.database = placeholder;
        self.database = builder().open(&self.path).map_err(|source| self.failed(source.into()))?;
        Ok(())
    }

    fn failed(&self, source: redb::Error) -> AccessError {
        AccessError { path: self.path.clone(), source: Box::new(source) }
    }
}

/// Opens a file that may be damaged in a way that the database meets with a panic. A build that unwinds
/// catches it; one that aborts leaves a mark behind, and after some such starts the file is given up.
fn open_guarded(path: &Path) -> Result<Result<Store, Unusable>, OpenError> {
    let mark = path.with_extension("redb.opening");
    let crashes = fs::metadata(&mark).map_or(0, |mark| mark.len());
    if crashes >= CRASHES_MAX {
        remove_mark(&mark);
        return Ok(Err(Unusable::Crashes));
    }
    if let Err(error) = fs::write(&mark, vec![b'.'; crashes as usize + 1]) {
        tracing::warn!(path = %mark.display(), %error, "mark can't be written");
    }
    let opened = catch_unwind(AssertUnwindSafe(|| open_checked(path)));
    remove_mark(&mark);
    opened.unwrap_or(Ok(Err(Unusable::Crashes)))
}

fn remove_mark(mark: &Path) {
    if let Err(error) = fs::remove_file(mark) {
        tracing::warn!(path = %mark.display(), %error, "mark can't be removed");
    }
}

/// Opens a file and looks at all of it once: later reads then can't meet a damaged page.
fn open_checked(path: &Path) -> Result<Result<Store, Unusable>, OpenError> {
    let mut database = match builder().create(path) {
        Ok(database) => database,
        Err(error) => return judge(path, error).map(Err),
    };
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => tracing::warn!(path = %path.display(), "state file repaired"),
        Err(error) => return judge(path, error).map(Err),
    }
    let store = Store { database, path: path.to_owned() };
    match store.prepare() {
        Ok(found) if found > SCHEMA => Ok(Err(Unusable::NewerSchema { found, known: SCHEMA })),
        Ok(_) => Ok(Ok(store)),
        Err(source) => Err(OpenError::Prepare { path: path.to_owned(), source }),
    }
}

/// Tells a file that can be replaced from a fault that the operator must mend.
fn judge(path: &Path, error: DatabaseError) -> Result<Unusable, OpenError> {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => Err(OpenError::InUse { path }),
        DatabaseError::Storage(StorageError::Io(ref io))
            if !matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Err(OpenError::Open { path, source: error })
        }
        error => Ok(Unusable::Damaged(error)),
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Renames an unusable file to a name that no earlier one has, the last such name being used again.
fn move_aside(path: &Path) -> Result<PathBuf, OpenError> {
    let aside = |number: u32| path.with_extension(format!("redb.damaged-{number}"));
    let free = (1..ASIDE_MAX).map(aside).find(|candidate| !candidate.exists());
    let target = free.unwrap_or_else(|| aside(ASIDE_MAX));
    fs::rename(path, &target)
        .map_err(|source| OpenError::MoveAside { path: path.to_owned(), source })?;
    Ok(target)
}

fn read_json<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::warn!(what, %error, "stored record can't be read"))
        .ok()
}

const FILE_NAME: &str = "state.redb";
const SCHEMA_KEY: &str = "schema";
/// Version of the tables. A change of JSON inside them needs no new one.
const SCHEMA: u64 = 1;
/// All leases of a /24 fit many times over; redb's own default of 1 GiB is for databases.
const CACHE_BYTES: usize = 4 << 20;
/// Starts that may end while the file is being opened before it is given up: one is a power cut, two are bad
/// luck.
const CRASHES_MAX: u64 = 3;
/// Damaged files kept; a disk that damages each new one must not fill up with them.
const ASIDE_MAX: u32 = 5;
