//! What can go wrong with an image.

use std::io;
use std::path::PathBuf;

use evenkeel_schema::{Digest, Name, Platform};
use thiserror::Error;

use super::extract::ExtractError;
use super::registry::RegistryError;
use super::tarball::TarError;
use crate::mountinfo::MountTableError;

/// Why an image could not be fetched, kept or removed.
#[derive(Debug, Error)]
pub enum ImageError {
    #[error("could not {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Registry(#[from] Box<RegistryError>),
    #[error("{path} is not an image archive: it holds neither index.json (OCI) nor manifest.json (docker save)")]
    NotAnArchive { path: PathBuf },
    #[error("{path} is not a tar archive")]
    Tar { path: PathBuf, source: TarError },
    #[error("{path} is a {compression} archive that cannot be decompressed")]
    Compression { path: PathBuf, compression: &'static str, source: io::Error },
    #[error("{path} lacks {member}, which its manifest names")]
    MissingMember { path: PathBuf, member: String },
    #[error("{path} has more than {limit} members, which no image archive has")]
    TooManyMembers { path: PathBuf, limit: usize },
    #[error("{member} of {path} is longer than {limit} bytes, which no manifest or configuration is")]
    LongDocument { path: PathBuf, member: String, limit: usize },
    #[error("{member} of {path} is no file in that directory; links may not lead out of it")]
    NotInside { path: PathBuf, member: String },
    #[error("{path} holds {count} images: pin one with `digest`, or save them one by one ({found})")]
    SeveralImages { path: PathBuf, count: usize, found: String },
    #[error("{path} is neither a file nor a directory")]
    NotAFile { path: PathBuf },
    #[error("{path} changed while it was read")]
    Changed { path: PathBuf },
    #[error("{what} is not valid JSON of its kind")]
    Json { what: String, source: serde_json::Error },
    #[error("{what} has the media type {media_type}, which is no container image")]
    MediaType { what: String, media_type: String },
    #[error("{what} has the digest {digest}: only sha256 is supported")]
    DigestAlgorithm { what: String, digest: String },
    #[error("{source_name} has no image for {wanted}; it has {found}")]
    NoPlatform { source_name: String, wanted: Platform, found: String },
    #[error("{source_name} is an image for {found}, not for {wanted}")]
    WrongPlatform { source_name: String, wanted: Platform, found: String },
    #[error("{source_name} has {layers} layers, but its configuration names {diff_ids}")]
    LayerCount { source_name: String, layers: usize, diff_ids: usize },
    #[error("{what} of {source_name} has the digest {found} instead of {wanted}: it was damaged or tampered with")]
    DigestMismatch { what: String, source_name: String, wanted: Digest, found: Digest },
    #[error("{what} of {source_name} is {found} bytes long instead of {wanted}")]
    SizeMismatch { what: String, source_name: String, wanted: u64, found: u64 },
    #[error("{source_name} has the digest {found}, but the manifest of image {name} pins {wanted}")]
    PinMismatch { name: Name, source_name: String, wanted: Digest, found: Digest },
    #[error("layer {layer} cannot be unpacked in {directory}")]
    Layer { layer: Digest, directory: PathBuf, source: ExtractError },
    #[error(
        "layer {layer} unpacks to the diff id {found} instead of {wanted}: its configuration and its content disagree"
    )]
    DiffId { layer: Digest, wanted: Digest, found: Digest },
    #[error("image {name} is not in the store{}, and `pull: never` forbids to fetch it", because(.reason))]
    NotInStore { name: Name, reason: String },
    #[error("the record {path} cannot be understood")]
    Record { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Mounts(#[from] MountTableError),
    #[error("reading the image was cancelled")]
    Cancelled,
}

impl ImageError {
    /// Tells whether the file system had no room: no blocks, no inodes, or no quota.
    pub(super) fn is_out_of_space(&self) -> bool {
        let first: &(dyn std::error::Error + 'static) = self;
        let causes = std::iter::successors(Some(first), |error| error.source());
        let mut kinds = causes.filter_map(|error| Some(error.downcast_ref::<io::Error>()?.kind()));
        kinds.any(|kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Says on which path an operation failed, for `map_err`.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ImageError {
        let path = path.into();
        move |source| ImageError::Io { action, path, source }
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" as its manifest wants it ({reason})") }
}
