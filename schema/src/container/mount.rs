//! What is mounted into a container.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object::is_default;
use crate::{Bytes, Mode, Name, QuantityError};

/// One mount into the container, from exactly one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawMount", into = "RawMount")]
#[schemars(with = "RawMount")]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path in the container, as mountinfo writes it: one slash between parts, none at the end.
    pub target: String,
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    Volume(Name),
    /// An absolute path of the host; it must exist.
    Bind {
        path: PathBuf,
        idmap: Option<IdMap>,
    },
    Tmpfs {
        size: Option<Bytes>,
        mode: Option<Mode>,
    },
}

/// The fields as they stand in a manifest, before "exactly one source" was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    rename = "Mount",
    extend("oneOf" = [{ "required": ["volume"] }, { "required": ["bind"] }, { "required": ["tmpfs"] }])
)]
pub struct RawMount {
    /// The name of a Volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// An absolute path of the host; it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<PathBuf>,
    /// `true` for a file system in memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tmpfs: bool,
    /// Absolute path in the container.
    pub target: String,
    /// Nothing can be written below `target`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Size limit of a tmpfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Mode of a tmpfs's root. Default `"1777"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Owners on the host shown as other owners in the container (mount_setattr(2), MOUNT_ATTR_IDMAP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idmap: Option<IdMap>,
}

/// One owner and one group of the host, each shown as another in the container: `"HOST:CONTAINER"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdMap {
    /// Owner: `"HOST:CONTAINER"`.
    pub uid: IdPair,
    /// Default: the same as `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<IdPair>,
}

/// `"HOST:CONTAINER"`, both numeric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[0-9]+:[0-9]+$"))]
pub struct IdPair {
    pub host: u32,
    pub container: u32,
}

impl TryFrom<String> for IdPair {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        let pair =
            text.split_once(':').and_then(|(host, container)| Some((host.parse().ok()?, container.parse().ok()?)));
        match pair {
            Some((host, container)) => Ok(IdPair { host, container }),
            None => Err(QuantityError(format!(
                "`{text}` is not an id map: write HOST:CONTAINER in quotes, as \"1000:999\""
            ))),
        }
    }
}

impl From<IdPair> for String {
    fn from(pair: IdPair) -> String {
        format!("{}:{}", pair.host, pair.container)
    }
}

impl TryFrom<RawMount> for Mount {
    type Error = QuantityError;

    fn try_from(raw: RawMount) -> Result<Self, QuantityError> {
        let wrong = |text: &str| Err(QuantityError(text.to_owned()));
        let parts = || raw.target.split('/').filter(|part| !matches!(*part, "" | "."));
        if !raw.target.starts_with('/') || parts().any(|part| part == "..") || parts().next().is_none() {
            return wrong("`target` is an absolute path in the container, without `..`, and not `/` itself");
        }
        let target = parts().fold(String::new(), |target, part| target + "/" + part);
        let source = match (raw.volume, raw.bind, raw.tmpfs) {
            (Some(volume), None, false) => MountSource::Volume(volume),
            (None, Some(path), false) if path.is_absolute() => MountSource::Bind { path, idmap: raw.idmap.clone() },
            (None, Some(_), false) => return wrong("`bind` is an absolute path of the host"),
            (None, None, true) => MountSource::Tmpfs { size: raw.size, mode: raw.mode },
            (None, None, false) => return wrong("a mount needs one of `volume`, `bind` or `tmpfs: true`"),
            _ => return wrong("a mount has only one of `volume`, `bind` and `tmpfs`"),
        };
        if (raw.size.is_some() || raw.mode.is_some()) && !matches!(source, MountSource::Tmpfs { .. }) {
            return wrong("`size` and `mode` go with `tmpfs` only");
        }
        if raw.idmap.is_some() && !matches!(source, MountSource::Bind { .. }) {
            return wrong("`idmap` goes with `bind` only");
        }
        Ok(Mount { source, target, read_only: raw.read_only })
    }
}

impl From<Mount> for RawMount {
    fn from(mount: Mount) -> RawMount {
        let mut raw = RawMount {
            volume: None,
            bind: None,
            tmpfs: false,
            target: mount.target,
            read_only: mount.read_only,
            size: None,
            mode: None,
            idmap: None,
        };
        match mount.source {
            MountSource::Volume(name) => raw.volume = Some(name),
            MountSource::Bind { path, idmap } => (raw.bind, raw.idmap) = (Some(path), idmap),
            MountSource::Tmpfs { size, mode } => (raw.tmpfs, raw.size, raw.mode) = (true, size, mode),
        }
        raw
    }
}

#[cfg(test)]
mod tests;
