//! What can go wrong with a layer's archive.

use std::io;

use thiserror::Error;

use crate::image::tarball::TarError;

/// Why a layer could not be unpacked.
#[derive(Debug, Error)]
pub enum ExtractError {
    #[error("the archive cannot be read after entry {after:?}")]
    Archive { after: String, source: TarError },
    #[error("entry {path:?} cannot be unpacked")]
    Entry { path: String, source: EntryProblem },
    #[error("the data after the archive's end cannot be read")]
    Trailing(#[source] io::Error),
    #[error("more than {limit} bytes follow the archive's end")]
    TrailingTooLong { limit: u64 },
    #[error("the layer cannot be decompressed")]
    Compression(#[source] io::Error),
}

/// Why one entry could not be unpacked.
#[derive(Debug, Error)]
pub enum EntryProblem {
    #[error("its path leads out of the layer with `..`")]
    ParentComponent,
    #[error("its path holds a NUL byte")]
    NulByte,
    #[error("the layer has more than {limit} entries")]
    TooManyEntries { limit: u64 },
    #[error("the layer unpacks to more than {limit} bytes")]
    TooManyBytes { limit: u64 },
    #[error("it is {size} bytes long, more than {limit}")]
    TooLong { size: u64, limit: u64 },
    #[error("its directory {link:?} is a symbolic link to nothing")]
    DanglingParent { link: String },
    #[error("it lies below a whiteout")]
    BelowWhiteout,
    #[error("a whiteout names no file")]
    EmptyWhiteout,
    #[error("a whiteout cannot be a link")]
    WhiteoutLink,
    #[error("it is a link to nothing")]
    EmptyTarget,
    #[error("it is a hard link to {target:?}, which this layer does not hold")]
    MissingTarget { target: String },
    #[error("it is a hard link to {target:?}, which is a directory or a whiteout")]
    BadTarget { target: String },
    #[error("the layer's own root is no directory")]
    RootKind,
    #[error("its owner {id} is out of range")]
    Owner { id: u64 },
    #[error("could not {action}")]
    System { action: &'static str, source: io::Error },
    #[error("its data cannot be read")]
    Data(#[source] io::Error),
    #[error("could not set its attribute {attribute}")]
    Attribute { attribute: String, source: io::Error },
}

impl EntryProblem {
    /// Says what was attempted, for `map_err`.
    pub(super) fn system(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> EntryProblem {
        move |error| EntryProblem::System { action, source: error.into() }
    }
}
