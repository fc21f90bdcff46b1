//! Rights of a container's processes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::QuantityError;
use crate::object::is_default;

/// Rights of the container's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// Nothing can be written outside of mounts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only_rootfs: bool,
    /// Capabilities taken from the default set: names without `CAP_`, or `ALL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<Capability>,
    /// Capabilities added after `capDrop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<Capability>,
    /// No program gains rights by set-user-ID bits or file capabilities (prctl(2), PR_SET_NO_NEW_PRIVS).
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_new_privileges: bool,
    /// Which system calls are let through.
    #[serde(default, skip_serializing_if = "is_default")]
    pub seccomp: SeccompPolicy,
}

/// Which system calls are let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SeccompPolicy {
    /// Docker's default policy.
    #[default]
    Default,
    /// Every system call.
    Unconfined,
}

impl SeccompPolicy {
    /// Gives the word of the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            SeccompPolicy::Default => "default",
            SeccompPolicy::Unconfined => "unconfined",
        }
    }
}

/// A capability of capabilities(7) by its name without `CAP_`, or `ALL`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Capability(String);

/// Every capability, by the number the kernel gives it (include/uapi/linux/capability.h).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// Gives the name without `CAP_`, in capitals.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Capability {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" || CAPABILITIES.contains(&bare) {
            return Ok(Capability(bare.to_owned()));
        }
        Err(QuantityError(format!(
            "`{text}` is not a capability: write a name of capabilities(7), as NET_ADMIN, or ALL"
        )))
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> String {
        capability.0
    }
}
