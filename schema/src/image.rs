//! Images: where the file system and configuration of containers come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::QuantityError;

/// An image, by exactly one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawImageSpec", into = "RawImageSpec")]
#[schemars(with = "RawImageSpec")]
pub struct ImageSpec {
    pub source: ImageSource,
    /// The digest that the source must have: of the manifest or index for a registry or an archive.
    pub digest: Option<Digest>,
    pub pull: PullPolicy,
    /// Which image of an index to take. Default: this machine's.
    pub platform: Option<Platform>,
    /// Speak HTTP instead of HTTPS to the registry. Loopback registries are tried with it anyway.
    pub insecure: bool,
}

/// Where an image comes from. Relative paths are relative to the manifest's directory and made absolute by the loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageSource {
    /// A registry reference, as `docker.io/library/postgres:16` or `host:5000/name@sha256:…`.
    Registry(String),
    /// A `docker save` archive, an OCI archive, or an OCI layout directory.
    Archive(PathBuf),
    /// A tarball of a root file system, with the configuration it lacks.
    Rootfs { path: PathBuf, config: ImageConfig },
}

/// The fields as they stand in a manifest, before "exactly one source" was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    rename = "ImageSpec",
    extend("oneOf" = [{ "required": ["reference"] }, { "required": ["archive"] }, { "required": ["rootfs"] }])
)]
pub struct RawImageSpec {
    /// A registry reference, as `docker.io/library/postgres:16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// A `docker save` archive, an OCI archive or an OCI layout directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<PathBuf>,
    /// A tarball of a root file system, plain or compressed with gzip or zstd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<PathBuf>,
    /// The image configuration that a `rootfs` lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ImageConfig>,
    /// The digest that the source must have: of the manifest or index for a registry or an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// When a registry is asked.
    #[serde(default)]
    pub pull: PullPolicy,
    /// Which image of an index to take. Default: this machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Speak HTTP instead of HTTPS to the registry. Loopback registries are tried with it anyway.
    #[serde(default, skip_serializing_if = "crate::object::is_default")]
    pub insecure: bool,
}

impl TryFrom<RawImageSpec> for ImageSpec {
    type Error = QuantityError;

    fn try_from(raw: RawImageSpec) -> Result<Self, QuantityError> {
        let wrong = |text: &str| Err(QuantityError(text.to_owned()));
        let has_config = raw.config.is_some();
        let source = match (raw.reference, raw.archive, raw.rootfs) {
            (Some(reference), None, None) => ImageSource::Registry(reference),
            (None, Some(path), None) => ImageSource::Archive(path),
            (None, None, Some(path)) => ImageSource::Rootfs { path, config: raw.config.unwrap_or_default() },
            (None, None, None) => return wrong("an image needs one of `reference`, `archive` or `rootfs`"),
            _ => return wrong("an image has only one of `reference`, `archive` and `rootfs`"),
        };
        if has_config && !matches!(source, ImageSource::Rootfs { .. }) {
            return wrong("`config` goes with `rootfs` only: other images carry their own");
        }
        Ok(ImageSpec { source, digest: raw.digest, pull: raw.pull, platform: raw.platform, insecure: raw.insecure })
    }
}

impl From<ImageSpec> for RawImageSpec {
    fn from(spec: ImageSpec) -> RawImageSpec {
        let (reference, archive, rootfs, config) = match spec.source {
            ImageSource::Registry(reference) => (Some(reference), None, None, None),
            ImageSource::Archive(path) => (None, Some(path), None, None),
            ImageSource::Rootfs { path, config } => (None, None, Some(path), Some(config)),
        };
        RawImageSpec {
            reference,
            archive,
            rootfs,
            config,
            digest: spec.digest,
            pull: spec.pull,
            platform: spec.platform,
            insecure: spec.insecure,
        }
    }
}

/// What a container of the image does when its manifest says nothing else (OCI image spec, `config`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageConfig {
    /// Program and first arguments, kept when a container states `args`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the whole command without an entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Absolute path of the directory that the command starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What asks the main process to end. Default `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<crate::Signal>,
    /// Free text of the image's maker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// When a registry is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PullPolicy {
    /// When the store does not hold the image.
    #[default]
    Missing,
    /// At every pass, and once a minute at most: a moved tag is a new image.
    Always,
    /// Never: the store must hold it.
    Never,
}

/// A content digest, `sha256:` and 64 hexadecimal digits (OCI image spec, descriptor).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^sha256:[0-9a-f]{64}$"))]
pub struct Digest(String);

impl Digest {
    /// Gives the digest as text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Gives the 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl TryFrom<String> for Digest {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(Digest(text));
        }
        Err(QuantityError(format!("`{text}` is not a digest: write sha256: and 64 hexadecimal digits")))
    }
}

impl FromStr for Digest {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Digest::try_from(text.to_owned())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Operating system, architecture and variant, written `linux/arm64/v8` (OCI image spec, `platform`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[^/]+/[^/]+(/[^/]+)?$"))]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl TryFrom<String> for Platform {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        let parts: Vec<&str> = text.split('/').collect();
        let platform = |os: &str, architecture: &str, variant: Option<&str>| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        };
        match parts.as_slice() {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() => Ok(platform(os, architecture, None)),
            [os, architecture, variant] if !os.is_empty() && !architecture.is_empty() && !variant.is_empty() => {
                Ok(platform(os, architecture, Some(variant)))
            }
            _ => Err(QuantityError(format!("`{text}` is not a platform: write OS/ARCHITECTURE, as linux/arm64"))),
        }
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> String {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}
