//! Manifests, indexes and configurations as OCI and Docker (schema 2) write them.
//!
//! Only what is needed of them is read; all else stays in the blobs as it came.

use std::collections::BTreeMap;

use evenkeel_schema::{Digest, ImageConfig, Platform};
use serde::{Deserialize, Serialize};

use super::ImageError;

/// The longest manifest, index or configuration that is read into memory, as registries have it.
pub const DOCUMENT_LIMIT: usize = 4 << 20;
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Points to a blob (OCI image spec, descriptor).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    /// Other places to get it from, for layers that may not be redistributed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes bytes at hand.
    pub fn of(media_type: &str, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// The platform of an index's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlatform {
    pub architecture: String,
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl From<DescriptorPlatform> for Platform {
    fn from(platform: DescriptorPlatform) -> Platform {
        let variant = platform.variant.filter(|variant| !variant.is_empty());
        Platform { os: platform.os, architecture: platform.architecture, variant }
    }
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Index(Vec<Descriptor>),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Parses a manifest or index. `what` names it in errors.
    pub fn parse(bytes: &[u8], what: &str) -> Result<Document, ImageError> {
        let raw: RawDocument =
            serde_json::from_slice(bytes).map_err(|source| ImageError::Json { what: what.to_owned(), source })?;
        let unfit =
            |media_type: &str| ImageError::MediaType { what: what.to_owned(), media_type: media_type.to_owned() };
        if raw.schema_version != 2 {
            return Err(unfit(&format!("docker schema {} (only schema 2 and OCI are supported)", raw.schema_version)));
        }
        let media_type = raw.media_type.unwrap_or_default();
        // A document that could be read as both is an attack on whoever reads it the other way.
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) if ["", OCI_INDEX, DOCKER_LIST].contains(&media_type.as_str()) => {
                Ok(Document::Index(manifests))
            }
            (None, Some(config), Some(layers))
                if ["", OCI_MANIFEST, DOCKER_MANIFEST].contains(&media_type.as_str()) =>
            {
                if let Some(layer) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
                    return Err(unfit(&layer.media_type));
                }
                Ok(Document::Manifest { config, layers })
            }
            _ => Err(unfit(if media_type.is_empty() { "none that is known" } else { &media_type })),
        }
    }
}

fn is_layer(media_type: &str) -> bool {
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    known.iter().any(|prefix| media_type.starts_with(prefix)) && !media_type.ends_with("+encrypted")
}

/// Gives the bytes of a manifest for an image that came without one. The same image gives the same bytes.
pub fn write_manifest(config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// An image's configuration (OCI image spec, config).
#[derive(Clone, Debug, Deserialize)]
pub struct ConfigFile {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub variant: Option<String>,
    #[serde(default)]
    config: Option<RawConfig>,
    rootfs: RawRootfs,
}

#[derive(Clone, Debug, Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    env: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    entrypoint: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    cmd: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
}

impl ConfigFile {
    /// Parses a configuration. `what` names it in errors.
    pub fn parse(bytes: &[u8], what: &str) -> Result<ConfigFile, ImageError> {
        serde_json::from_slice(bytes).map_err(|source| ImageError::Json { what: what.to_owned(), source })
    }

    /// Gives the digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    pub fn platform(&self) -> Platform {
        let variant = self.variant.clone().filter(|variant| !variant.is_empty());
        Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant }
    }

    /// Gives what containers inherit. Empty texts mean the same as none.
    pub fn inherited(&self) -> ImageConfig {
        let raw = self.config.clone().unwrap_or_default();
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let pair = |line: &String| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            (key.to_owned(), value.to_owned())
        };
        ImageConfig {
            entrypoint: raw.entrypoint,
            cmd: raw.cmd,
            env: raw.env.iter().map(pair).collect(),
            user: text(raw.user),
            working_dir: text(raw.working_dir),
            // A signal that this kernel does not know is as good as none: SIGTERM is sent.
            stop_signal: text(raw.stop_signal).and_then(|signal| signal.parse().ok()),
            labels: raw.labels,
        }
    }
}

/// Gives the bytes of a configuration for a root file system that came without one. Nothing in it depends on when or
/// where it is written.
pub fn write_config(config: &ImageConfig, platform: &Platform, diff_id: &Digest) -> Vec<u8> {
    let raw = RawConfig {
        user: config.user.clone(),
        env: config.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.map(|signal| signal.to_string()),
    };
    let mut file = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": raw,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    if let Some(variant) = &platform.variant {
        file["variant"] = variant.as_str().into();
    }
    file.to_string().into_bytes()
}

/// Reads `null` as nothing: Go writes empty lists so.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
