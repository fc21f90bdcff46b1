//! Volumes: directories that evenkeel makes, owns and keeps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Mode, Owner};

/// A managed directory under the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeSpec {
    /// Owner and group of the directory itself, as numbers. Default `"0:0"`.
    #[serde(default = "root_owner")]
    pub owner: Owner,
    /// Mode of the directory itself. Default `"0755"`.
    #[serde(default = "default_mode")]
    pub mode: Mode,
}

impl Default for VolumeSpec {
    fn default() -> Self {
        VolumeSpec { owner: root_owner(), mode: default_mode() }
    }
}

fn root_owner() -> Owner {
    Owner { uid: 0, gid: 0 }
}

fn default_mode() -> Mode {
    Mode(0o755)
}
