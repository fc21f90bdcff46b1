//! Images: fetched from registries, archives and root file system tarballs, kept by digest, unpacked layer by layer.
//!
//! [`Store`] is the whole of it for the other modules. Every blob is hashed while it is written, every layer is compared
//! with its diff id before it gets its place, and a name is recorded last: a process killed at any instant leaves nothing
//! that the next one takes for complete. Which image a container wants is not decided here, nor is anything mounted.

mod archive;
mod blob;
mod compression;
mod error;
mod extract;
mod fetch;
mod follow;
#[cfg(test)]
mod fuzz;
mod layer;
mod layout;
mod manifest;
mod observe;
mod platform;
mod progress;
mod record;
mod registry;
mod remove;
mod rootfs;
mod source;
mod store;
mod tarball;
#[cfg(test)]
mod tests;
mod upstream;

pub use error::ImageError;
pub use extract::{EntryProblem, ExtractError};
pub use progress::{Event, Phase, Progress, Quiet};
pub use registry::{RegistryError, RegistrySettings};
pub use store::Store;
pub use tarball::TarError;
pub(crate) use upstream::deadline;
