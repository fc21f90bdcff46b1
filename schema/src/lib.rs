//! What a manifest may say: the types of the manifest language `evenkeel/v1`.
//!
//! A value of these types is well-formed by itself: sizes, addresses, ports and modes are parsed once, here.
//! What needs more than one object (references, overlaps, duplicates) is judged by `evenkeel-manifests`;
//! nothing here reads a file. Defaults are part of the version: they change only with `apiVersion`.

mod container;
mod image;
mod json_schema;
mod name;
mod network;
mod object;
mod quantity;
mod reference;
mod volume;

pub use container::*;
pub use image::*;
pub use json_schema::json_schemas;
pub use name::*;
pub use network::*;
pub use object::*;
pub use quantity::*;
pub use reference::*;
pub use volume::*;

/// The one `apiVersion` that this release reads.
pub const API_VERSION: &str = "evenkeel/v1";
