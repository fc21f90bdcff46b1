//! What the store knows of a name: which image it stands for, and what that image needs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use evenkeel_schema::{Digest, ImageConfig, ImageSource, Name, Platform};
use serde::{Deserialize, Serialize};

use super::manifest::Descriptor;

/// The annotation that names an image in `index.json` (OCI image spec, annotations).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The record of one name, `names/NAME.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub source: ImageSource,
    /// The platform that was asked for, not the one that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What the source gave: the digest of a manifest or index, of a configuration, or of a tarball.
    pub digest: Digest,
    /// The index that the manifest was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Descriptor>,
    pub manifest: Descriptor,
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<RecordedLayer>,
    /// What containers inherit, so that a look at the image reads one file.
    pub inherited: ImageConfig,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    /// The file it was made from, as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

/// One layer: the blob that it came as, and the digest of its uncompressed form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedLayer {
    pub blob: Descriptor,
    pub diff_id: Digest,
}

impl Record {
    /// Gives every blob that the image needs.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let layers = self.layers.iter().map(|layer| &layer.blob);
        self.index.iter().chain([&self.manifest, &self.config]).chain(layers)
    }

    /// Gives the image's line in `index.json`, under its name.
    pub fn index_entry(&self, name: &Name) -> serde_json::Value {
        serde_json::json!({
            "mediaType": self.manifest.media_type,
            "digest": self.manifest.digest,
            "size": self.manifest.size,
            "annotations": {REF_NAME: name},
        })
    }
}

/// Tells cheaply that a file is the same as before: any write to it moves one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    pub size: u64,
    pub modified: (i64, i64),
    pub changed: (i64, i64),
    pub device: u64,
    pub inode: u64,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Stamp {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}
