//! Why the state can't be used.

use std::io;
use std::path::PathBuf;

use redb::DatabaseError;

/// What is wrong with a state file.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is not a database, or pages in it are damaged.
    #[error("the file is damaged")]
    Damaged(#[source] DatabaseError),
    /// Reading it ends the process.
    #[error("the file is damaged so that reading it crashes")]
    Crashes,
    /// A newer version of the router wrote it.
    #[error("the file has schema {found}, this version reads up to {known}")]
    NewerSchema {
        /// Schema of the file.
        found: u64,
        /// Newest schema of this version.
        known: u64,
    },
}

/// The state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be made.
    #[error("create state directory {}", path.display())]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has the file open.
    #[error("{} is in use: is another routerd running?", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read or written.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the database said.
        source: DatabaseError,
    },
    /// A damaged file can't be moved out of the way.
    #[error("move {} aside", path.display())]
    MoveAside {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A fresh file in place of one moved aside is unusable too.
    #[error("replace {}", path.display())]
    Replace {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Unusable,
    },
    /// The first transaction failed.
    #[error("prepare {}", path.display())]
    Prepare {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: AccessError,
    },
}

/// A transaction failed; nothing of it is stored.
#[derive(Debug, thiserror::Error)]
#[error("access {}", path.display())]
pub struct AccessError {
    /// The file.
    pub path: PathBuf,
    /// What the database said.
    pub source: Box<redb::Error>,
}
