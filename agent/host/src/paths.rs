//! Where everything lies, and by which name this root is known on the host.

use std::path::{Path, PathBuf};

use evenkeel_schema::Name;
use sha2::{Digest, Sha256};

/// The state directory of an installation without `--root`.
pub const DEFAULT_ROOT: &str = "/var/lib/evenkeel";
/// The run directory of an installation without `--run`.
pub const DEFAULT_RUN: &str = "/run/evenkeel";

/// The state directory (survives a reboot) and the run directory (does not).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    run: PathBuf,
}

impl Paths {
    /// Takes both directories, absolute.
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Paths { root: root.into(), run: run.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The lock that whoever changes this root holds, flock(2).
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The SQLite file with ledger, leases, overrides and drift history.
    pub fn database(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// The image store: an OCI image layout.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// One unpacked directory per layer, by diff id.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub fn volume(&self, name: &Name) -> PathBuf {
        self.root.join("volumes").join(name.as_str())
    }

    /// A container's lasting files: `created.json`, `upper/`, `work/`, `logs/`.
    pub fn container_state(&self, name: &Name) -> PathBuf {
        self.root.join("containers").join(name.as_str())
    }

    /// A container's bundle and what goes with a boot: `config.json`, `rootfs/`, `shim.json`, `shim.sock`, `hosts`, …
    pub fn container_run(&self, name: &Name) -> PathBuf {
        self.run.join("containers").join(name.as_str())
    }

    /// The status files of all shims, in one directory that can be watched.
    pub fn statuses(&self) -> PathBuf {
        self.run.join("status")
    }

    pub fn status(&self, name: &Name) -> PathBuf {
        self.statuses().join(format!("{name}.json"))
    }

    /// The pinned network namespaces.
    pub fn network_namespaces(&self) -> PathBuf {
        self.run.join("netns")
    }

    pub fn network_namespace(&self, name: &Name) -> PathBuf {
        self.network_namespaces().join(name.as_str())
    }

    /// The runtime's own state (`--root` of the OCI runtime command line).
    pub fn runtime_state(&self) -> PathBuf {
        self.run.join("oci")
    }

    /// The firewall table as it was listed last.
    pub fn kept_firewall(&self) -> PathBuf {
        self.run.join("firewall.json")
    }

    /// The running agent's socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }
}

/// The short name of a root, part of every mark on the host, so that two roots never take each other's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    /// Names a root: `evenkeel` for the default one, `evenkeel-` and eight hexadecimal digits of its path's digest otherwise.
    pub fn of(paths: &Paths) -> Self {
        if paths.root() == Path::new(DEFAULT_ROOT) {
            return Instance("evenkeel".to_owned());
        }
        let digest = Sha256::digest(paths.root().as_os_str().as_encoded_bytes());
        Instance(format!("evenkeel-{}", hex::encode(&digest[..4])))
    }

    /// Tells whether a text is the name of any root.
    pub fn is_name(text: &str) -> bool {
        match text.strip_prefix("evenkeel") {
            Some("") => true,
            Some(rest) => rest
                .strip_prefix('-')
                .is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())),
            None => false,
        }
    }

    /// Gives the name: of the nftables table, of the cgroup parent, and before the colon of every link's alias.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Gives the alias that marks a link as belonging to an object: `evenkeel:network/mynet`.
    pub fn mark(&self, key: &evenkeel_schema::Key) -> String {
        format!("{}:{key}", self.0)
    }
}
