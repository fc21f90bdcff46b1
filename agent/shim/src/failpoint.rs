//! Points at which a test kills a program: on both sides of every write to disk, ledger, kernel and registry.
//!
//! [`fail_point!`](crate::fail_point) marks one; a name that [`NAMES`] does not list does not compile. All programs know
//! the same list, since all of them link this crate. A release build has no trace of it. In a development build two
//! variables of the environment are looked at, which agent, shim and runtime hand down to each other:
//!
//! - `EVENKEEL_FAIL_POINT=NAME@N:FILE` has the first process that comes to the point for the N-th time kill itself with
//!   SIGKILL. It makes FILE before, with its process id in it; once FILE is there nobody dies any more.
//! - `EVENKEEL_FAIL_POINT_TRACE=FILE` has a line added to FILE with the name of every point that is passed.

use std::ffi::OsString;

/// The variables by which a test arms a point.
const VARIABLES: [&str; 2] = ["EVENKEEL_FAIL_POINT", "EVENKEEL_FAIL_POINT_TRACE"];

/// Every point of all programs.
pub const NAMES: &[&str] = &[
    "lock.taken",
    "lock.written",
    "ledger.opened",
    "ledger.migrated",
    "ledger.writing",
    "ledger.written",
    "ledger.migrating",
    "pass.intended",
    "pass.ended",
    "pass.deleted",
    "pass.firewalled",
    "pass.begun",
    "step.deleted",
    "step.begun",
    "step.made",
    "agent.bound",
    "agent.pass",
    "agent.watching",
    "agent.listening",
    "agent.ending",
    "stop.noted",
    "layer.entry",
    "blob.fetched",
    "archive.copied",
    "store.flushed",
    "layer.begun",
    "layer.unpacked",
    "store.directory",
    "blob.begun",
    "layer.placing",
    "layer.placed",
    "layer.buried",
    "image.recorded",
    "image.unrecorded",
    "image.indexed",
    "store.cleared",
    "store.scratch",
    "blob.placed",
    "store.file.written",
    "store.file.placed",
    "registry.blob",
    "registry.chunk",
    "registry.document",
    "registry.login",
    "registry.digest",
    "registry.manifest",
    "store.blob.collected",
    "store.layer.collected",
    "rootfs.copied",
    "volume.made",
    "volume.owned",
    "volume.ready",
    "volume.buried",
    "volume.removed",
    "volume.copying",
    "volume.copied",
    "volume.filled",
    "endpoint.removed",
    "endpoint.link.removed",
    "endpoint.unsound.removed",
    "endpoint.made",
    "endpoint.end.set",
    "endpoint.set",
    "endpoint.addressed",
    "endpoint.route.removed",
    "endpoint.route.added",
    "firewall.loaded",
    "firewall.loading",
    "firewall.keeping",
    "link.address.removed",
    "link.address.added",
    "link.route.added",
    "namespace.pinned",
    "namespace.numbered",
    "namespace.up",
    "namespace.made",
    "namespace.directory",
    "namespace.file",
    "namespace.directory.bound",
    "namespace.unpinned",
    "namespace.file.removed",
    "namespace.directory.unmounted",
    "network.forwarding",
    "network.bridge.settled",
    "network.link.up",
    "network.link.addressed",
    "network.link.routed",
    "network.adopted",
    "network.link.removed",
    "network.parent.up",
    "network.link.made",
    "network.link.named",
    "network.route.removed",
    "network.route.added",
    "sysctl.written",
    "namespace.setting.written",
    "container.networked",
    "container.stopped",
    "container.removed",
    "cgroup.killed",
    "cgroup.limit",
    "container.limits",
    "container.reloaded",
    "container.state",
    "container.run",
    "container.overlay",
    "container.bundle",
    "container.shim.config",
    "container.file",
    "container.noted",
    "file.written",
    "file.placed",
    "mount.stage.made",
    "mount.stage.mounted",
    "mount.stage.detached",
    "container.shutdown",
    "container.shim.ended",
    "container.cgroup.removed",
    "container.runtime.forgotten",
    "container.unmounted",
    "container.rootfs.unmounted",
    "container.run.removed",
    "container.status.removed",
    "overlay.directory",
    "overlay.prepared",
    "container.shim.ready",
    "container.shim.roused",
    "container.started",
    "container.orphan.signalled",
    "shim.socket.removed",
    "shim.locked",
    "shim.log.written",
    "shim.log.opened",
    "shim.log.turning",
    "shim.listening",
    "shim.listening.again",
    "shim.detached",
    "shim.announced",
    "shim.status.written",
    "shim.status.placed",
    "shim.ended",
    "shim.probed",
    "shim.leaving",
    "shim.left",
    "shim.restarting",
    "shim.running",
    "shim.creating",
    "shim.created",
    "gate.opening",
    "gate.opened",
    "shim.started",
    "shim.deleted",
    "oci.directory",
    "oci.recorded",
    "oci.cgroup.made",
    "oci.gate.made",
    "oci.made",
    "oci.noted",
    "oci.executing",
    "oci.executed",
    "oci.cgroup.removed",
    "oci.directory.removed",
    "oci.file.written",
];

/// Marks a point, whose name is a literal that [`NAMES`] lists.
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {{
        const _: () = assert!($crate::failpoint::is_listed($name), "the point is not listed in `failpoint::NAMES`");
        #[cfg(debug_assertions)]
        $crate::failpoint::pass($name);
    }};
}

/// Tells whether a name is in the list.
pub const fn is_listed(name: &str) -> bool {
    let mut at = 0;
    while at < NAMES.len() {
        if is_same(NAMES[at].as_bytes(), name.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Gives the variables that a program hands down to one that it starts with an empty environment.
pub fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let handed_down = VARIABLES.into_iter().filter(|_| cfg!(debug_assertions));
    handed_down.filter_map(|name| Some((name, std::env::var_os(name)?)))
}

#[cfg(debug_assertions)]
pub use armed::pass;

#[cfg(debug_assertions)]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::VARIABLES;

    /// What the environment asks for.
    struct Armed {
        kill: Option<Kill>,
        trace: Option<PathBuf>,
    }

    struct Kill {
        name: String,
        /// The passing that kills, counted from 1.
        at: u64,
        passed: AtomicU64,
        file: PathBuf,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Passes a point: does not return where it is the one to die at.
    pub fn pass(name: &str) {
        let armed = ARMED.get_or_init(Armed::from_environment);
        if let Some(path) = &armed.trace {
            let line = format!("{name}\n");
            // One write: several processes add to the file.
            let opened = OpenOptions::new().append(true).create(true).open(path);
            let _ = opened.and_then(|mut file| file.write_all(line.as_bytes()));
        }
        if let Some(kill) = armed.kill.as_ref().filter(|kill| kill.name == name)
            && kill.passed.fetch_add(1, Ordering::SeqCst) + 1 == kill.at
        {
            die(&kill.file);
        }
    }

    impl Armed {
        fn from_environment() -> Armed {
            let [kill, trace] = VARIABLES;
            let kill = std::env::var(kill).ok().and_then(|text| Kill::parse(&text));
            Armed { kill, trace: std::env::var_os(trace).map(PathBuf::from) }
        }
    }

    impl Kill {
        fn parse(text: &str) -> Option<Kill> {
            let (point, file) = text.split_once(':')?;
            let (name, at) = point.split_once('@')?;
            Some(Kill {
                name: name.to_owned(),
                at: at.parse().ok()?,
                passed: AtomicU64::new(0),
                file: PathBuf::from(file),
            })
        }
    }

    fn die(file: &Path) {
        let Ok(mut file) = OpenOptions::new().write(true).create_new(true).open(file) else { return };
        let _ = writeln!(file, "{}", std::process::id());
        // SAFETY: kill(2) with our own id; nothing after it runs.
        unsafe { libc::kill(std::process::id().cast_signed(), libc::SIGKILL) };
    }
}
