//! The cgroup of one container, on cgroup v1, hybrid and v2 hosts: where it is, its limits, its processes, its end.
//!
//! The runtime makes it; this looks at it, changes limits while the container runs, and removes what is left. Nothing
//! is remembered: the mounted hierarchies are read from `/proc/self/mountinfo` (cgroups(7)).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel_plan::{ObservedLimits, ObservedSwap};
use evenkeel_schema::{MilliCpus, Resources};
use evenkeel_shim::cgroup::CgroupDirectory;
use evenkeel_shim::fail_point;
use rustix::fs::{FsWord, statfs};

use super::process;
use crate::mountinfo::{MountTable, MountTableError};

/// Where hierarchies are mounted, as every runtime expects.
const ROOT: &str = "/sys/fs/cgroup";
/// The magic number of cgroup v2 (statfs(2)).
const UNIFIED_MAGIC: FsWord = 0x6367_7270;
/// The limit of swap on cgroup v2, and of memory and swap together on v1; not there on a kernel that counts no swap.
const UNIFIED_SWAP: &str = "memory.swap.max";
const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";
/// The period of processor quotas in microseconds, the kernel's default.
pub const CPU_PERIOD: u64 = 100_000;
/// How long killed processes may take to leave their cgroup.
const PATIENCE: Duration = Duration::from_secs(10);

/// An error of the cgroup file system.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cgroup {path}: processes do not end: {pids:?}")]
    Busy { path: PathBuf, pids: BTreeSet<u32> },
    #[error("{path}: `{text}` is not a number")]
    Number { path: PathBuf, text: String },
    #[error("the host has no `{controller}` cgroup controller, which `resources.{field}` needs")]
    NoController { controller: &'static str, field: &'static str },
    #[error(transparent)]
    Mounts(#[from] MountTableError),
}

/// The hierarchies that are mounted on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchies {
    /// cgroup v2 alone, at `/sys/fs/cgroup`.
    Unified(PathBuf),
    /// One hierarchy per controller (or per group of controllers), by controller; and v2 without controllers beside them.
    Separate { controllers: Vec<(String, PathBuf)>, unified: Option<PathBuf> },
}

impl Hierarchies {
    /// Reads the hierarchies of this host, and of its mounts no more than it takes to find them.
    pub fn of_host() -> Result<Hierarchies, CgroupError> {
        if statfs(ROOT).is_ok_and(|root| root.f_type == UNIFIED_MAGIC) {
            return Ok(Hierarchies::Unified(ROOT.into()));
        }
        // One line for each hierarchy that the kernel has (cgroups(7)): number, controllers, path.
        let path = Path::new("/proc/self/cgroup");
        let text = fs::read_to_string(path).map_err(|source| CgroupError::File { path: path.to_owned(), source })?;
        let mut wanted: BTreeSet<&str> = text.lines().filter_map(|line| line.split(':').nth(1)).collect();
        let mounts = MountTable::of_self_until(|mount| {
            match mount.fs_type.as_str() {
                "cgroup2" => {
                    wanted.remove("");
                }
                "cgroup" => wanted.retain(|controllers| {
                    let has = |controller| mount.super_options.split(',').any(|option| option == controller);
                    !controllers.split(',').all(has)
                }),
                _ => {}
            }
            wanted.is_empty()
        })?;
        Ok(Self::of_mounts(&mounts))
    }

    /// Tells whether a limit of swap can be set. On cgroup v2 only a cgroup that is there can tell: nothing is claimed.
    pub fn limit_swap(&self) -> bool {
        match self {
            Hierarchies::Unified(_) => true,
            Hierarchies::Separate { controllers, .. } => {
                let memory = controllers.iter().find(|(name, _)| name == "memory");
                memory.is_some_and(|(_, root)| root.join(MEMORY_AND_SWAP).exists())
            }
        }
    }

    /// Finds the hierarchies among the mounts. Of several mounts on one place the last one is seen.
    pub fn of_mounts(mounts: &MountTable) -> Hierarchies {
        let root = mounts.at(Path::new(ROOT));
        if root.is_some_and(|mount| mount.fs_type == "cgroup2") {
            return Hierarchies::Unified(ROOT.into());
        }
        let mut controllers: Vec<(String, PathBuf)> = Vec::new();
        let mut unified = None;
        for mount in mounts.iter().filter(|mount| mount.mount_point.starts_with(ROOT) && mount.root == Path::new("/")) {
            match mount.fs_type.as_str() {
                "cgroup2" => unified = Some(mount.mount_point.clone()),
                "cgroup" => {
                    let options = mount.super_options.split(',');
                    let names = options.filter(|option| option.starts_with("name=") || is_controller(option));
                    for name in names {
                        if !controllers.iter().any(|(known, _)| known == name) {
                            controllers.push((name.to_owned(), mount.mount_point.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        Hierarchies::Separate { controllers, unified }
    }
}

fn is_controller(option: &str) -> bool {
    const CONTROLLERS: [&str; 14] = [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "debug",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
    ];
    CONTROLLERS.contains(&option) || option == "rdma"
}

/// One container's cgroup: the same path in every hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: PathBuf,
}

impl Cgroup {
    /// Names the cgroup at a path, absolute from the root of every hierarchy (`linux.cgroupsPath`).
    pub fn of_host(path: &Path) -> Result<Cgroup, CgroupError> {
        Ok(Cgroup::new(Hierarchies::of_host()?, path))
    }

    /// As [`Cgroup::of_host`], with the hierarchies known.
    pub fn new(hierarchies: Hierarchies, path: &Path) -> Cgroup {
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        Cgroup { hierarchies, path }
    }

    /// Lists the controllers' directories.
    pub fn directories(&self) -> Vec<CgroupDirectory> {
        let of = |controller, root: &Path| CgroupDirectory { controller, path: root.join(&self.path) };
        match &self.hierarchies {
            Hierarchies::Unified(root) => vec![of(None, root)],
            Hierarchies::Separate { controllers, .. } => {
                controllers.iter().map(|(name, root)| of(Some(name.clone()), root)).collect()
            }
        }
    }

    /// Lists every directory that the cgroup may have, each once.
    fn everywhere(&self) -> BTreeSet<PathBuf> {
        let mut all: BTreeSet<PathBuf> = self.directories().into_iter().map(|directory| directory.path).collect();
        if let Hierarchies::Separate { unified: Some(root), .. } = &self.hierarchies {
            all.insert(root.join(&self.path));
        }
        all
    }

    fn directory(&self, controller: &'static str, field: &'static str) -> Result<PathBuf, CgroupError> {
        match &self.hierarchies {
            Hierarchies::Unified(root) => Ok(root.join(&self.path)),
            Hierarchies::Separate { controllers, .. } => controllers
                .iter()
                .find(|(name, _)| name == controller)
                .map(|(_, root)| root.join(&self.path))
                .ok_or(CgroupError::NoController { controller, field }),
        }
    }

    fn unified(&self) -> bool {
        matches!(self.hierarchies, Hierarchies::Unified(_))
    }

    /// Reads the limits; `None` where there is no cgroup. A controller that the host lacks limits nothing.
    pub fn limits(&self) -> Result<Option<ObservedLimits>, CgroupError> {
        if !self.directories().iter().any(|directory| directory.path.is_dir()) {
            return Ok(None);
        }
        let mut limits = ObservedLimits::default();
        if let Ok(memory) = self.directory("memory", "memory") {
            let name = if self.unified() { "memory.max" } else { "memory.limit_in_bytes" };
            limits.memory = read_number(&memory.join(name))?.filter(|bytes| *bytes < UNLIMITED_MEMORY);
            limits.swap = self.swap(&memory, limits.memory)?;
        }
        if let Ok(pids) = self.directory("pids", "pids") {
            limits.pids = read_number(&pids.join("pids.max"))?;
        }
        if let Ok(cpu) = self.directory("cpu", "cpus") {
            limits.cpus = match self.unified() {
                true => match read(&cpu.join("cpu.max"))? {
                    Some(text) => unified_cpus(&cpu.join("cpu.max"), &text)?,
                    None => None,
                },
                false => {
                    let quota = read_number(&cpu.join("cpu.cfs_quota_us"))?;
                    let period = read_number(&cpu.join("cpu.cfs_period_us"))?.filter(|period| *period > 0);
                    quota.map(|quota| share(quota, period.unwrap_or(CPU_PERIOD)))
                }
            };
        }
        Ok(Some(limits))
    }

    /// Reads how much swap may be used; cgroup v1 limits it together with the memory.
    fn swap(&self, directory: &Path, memory: Option<u64>) -> Result<ObservedSwap, CgroupError> {
        let name = if self.unified() { UNIFIED_SWAP } else { MEMORY_AND_SWAP };
        let file = directory.join(name);
        Ok(match read(&file)?.as_deref() {
            None => ObservedSwap::Unaccounted,
            Some("max") => ObservedSwap::Unlimited,
            Some(_) => match read_number(&file)? {
                Some(bytes) if self.unified() => ObservedSwap::Limited(bytes),
                Some(both) if both < UNLIMITED_MEMORY => {
                    ObservedSwap::Limited(both.saturating_sub(memory.unwrap_or(0)))
                }
                _ => ObservedSwap::Unlimited,
            },
        })
    }

    /// Writes the limits; what has none is unlimited. Memory that is limited has no swap beside it: the limit would be none.
    pub fn set_limits(&self, resources: &Resources) -> Result<(), CgroupError> {
        let needed = |set: bool, directory: Result<PathBuf, CgroupError>| match directory {
            Ok(directory) if directory.is_dir() || set => Ok(Some(directory)),
            Ok(_) => Ok(None),
            Err(error) if set => Err(error),
            Err(_) => Ok(None),
        };
        let memory = resources.memory.map(|bytes| bytes.0.to_string());
        if let Some(directory) = needed(memory.is_some(), self.directory("memory", "memory"))? {
            match self.unified() {
                true => {
                    set(&directory.join("memory.max"), memory.as_deref().unwrap_or("max"))?;
                    set_if_there(&directory.join(UNIFIED_SWAP), memory.as_ref().map_or("max", |_| "0"))?;
                }
                false => set_memory_v1(&directory, memory.as_deref().unwrap_or("-1"))?,
            }
        }
        let pids = resources.pids.map(|pids| pids.to_string());
        if let Some(directory) = needed(pids.is_some(), self.directory("pids", "pids"))? {
            set(&directory.join("pids.max"), pids.as_deref().unwrap_or("max"))?;
        }
        let quota = resources.cpus.map(quota);
        if let Some(directory) = needed(quota.is_some(), self.directory("cpu", "cpus"))? {
            if self.unified() {
                let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                set(&directory.join("cpu.max"), &format!("{quota} {CPU_PERIOD}"))?;
            } else {
                set(&directory.join("cpu.cfs_period_us"), &CPU_PERIOD.to_string())?;
                set(&directory.join("cpu.cfs_quota_us"), &quota.map_or("-1".to_owned(), |quota| quota.to_string()))?;
            }
        }
        Ok(())
    }

    /// Counts the tasks as the pids controller does; without one, the processes. `None` where there is no cgroup.
    pub fn count(&self) -> Result<Option<u64>, CgroupError> {
        if let Ok(directory) = self.directory("pids", "pids")
            && let Some(number) = read_number(&directory.join("pids.current"))?
        {
            return Ok(Some(number));
        }
        match self.everywhere().iter().any(|directory| directory.is_dir()) {
            true => Ok(Some(self.processes()?.len() as u64)),
            false => Ok(None),
        }
    }

    /// Lists the processes in the cgroup and all below it.
    pub fn processes(&self) -> Result<BTreeSet<u32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for directory in self.everywhere() {
            collect(&directory, &mut pids)?;
        }
        Ok(pids)
    }

    /// Sends a signal to every process. One that ends meanwhile is no error.
    pub fn signal(&self, signal: i32) -> Result<(), CgroupError> {
        self.signal_listed(&self.processes()?, signal);
        Ok(())
    }

    /// Kills every process and removes the cgroup from all hierarchies, and its parent where that is empty then.
    pub fn kill_and_remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let own = std::process::id();
        let mut pause = Duration::from_millis(1);
        loop {
            // Again and again: what forks while it is killed leaves children that were in no list yet.
            let mut pids = self.processes()?;
            let is_inside = pids.remove(&own);
            if is_inside || !self.kill_at_once() {
                self.signal_listed(&pids, libc::SIGKILL);
            }
            fail_point!("cgroup.killed");
            let gone = self.everywhere().iter().map(|directory| remove_tree(directory)).collect::<io::Result<Vec<_>>>();
            match gone {
                Ok(_) => break,
                Err(_) if Instant::now() < deadline => std::thread::sleep(pause),
                Err(source) if pids.is_empty() => return Err(CgroupError::File { path: self.path.clone(), source }),
                Err(_) => return Err(CgroupError::Busy { path: self.path.clone(), pids }),
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        let parent_is_ours = self.path.components().count() > 1;
        for parent in self.everywhere().iter().filter_map(|directory| directory.parent()).filter(|_| parent_is_ours) {
            // Not empty while other containers run.
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }

    /// Has the kernel kill all that is in the cgroup, and tells whether it does so: on cgroup v2, since Linux 5.14.
    fn kill_at_once(&self) -> bool {
        self.unified()
            && self.everywhere().iter().all(|directory| fs::write(directory.join("cgroup.kill"), "1").is_ok())
    }

    /// Sends a signal to processes that were listed in the cgroup.
    ///
    /// A number may have passed to another process since: each process is held while it is asked where it is.
    fn signal_listed(&self, pids: &BTreeSet<u32>, signal: i32) {
        for pid in pids {
            if let Ok(Some(pidfd)) = process::open(*pid)
                && self.holds(*pid)
            {
                // It may have ended since it was listed.
                let _ = process::send(&pidfd, signal);
            }
        }
    }

    /// Tells whether a process is in the cgroup or below it, in any hierarchy.
    fn holds(&self, pid: u32) -> bool {
        let inner = format!("/{}/", self.path.display());
        // number:controllers:path, the path from the root of the hierarchy (cgroups(7)).
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| format!("{path}/").contains(&inner))
    }
}

/// cgroup v1 says "no limit" with the highest multiple of the page size that fits; any machine has less.
const UNLIMITED_MEMORY: u64 = 1 << 60;

/// Gives the quota of a share of processors, in microseconds per [`CPU_PERIOD`].
pub fn quota(cpus: MilliCpus) -> u64 {
    cpus.0.saturating_mul(CPU_PERIOD) / 1000
}

fn share(quota: u64, period: u64) -> MilliCpus {
    MilliCpus(quota.saturating_mul(1000).saturating_add(period / 2) / period)
}

fn unified_cpus(path: &Path, text: &str) -> Result<Option<MilliCpus>, CgroupError> {
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| CgroupError::Number { path: path.to_owned(), text: text.to_owned() })
    };
    match text.split_once(' ').unwrap_or((text, "100000")) {
        ("max", _) => Ok(None),
        (quota, period) => Ok(Some(share(number(quota)?, number(period)?.max(1)))),
    }
}

/// The limit of memory is never above that of memory and swap together: it is lowered first, and raised last.
fn set_memory_v1(directory: &Path, limit: &str) -> Result<(), CgroupError> {
    let both = directory.join(MEMORY_AND_SWAP);
    let memory = directory.join("memory.limit_in_bytes");
    if fs::write(&memory, limit).is_err() {
        set_if_there(&both, "-1")?;
    }
    set(&memory, limit)?;
    set_if_there(&both, limit)
}

/// Writes a file that only a kernel which counts swap has.
fn set_if_there(path: &Path, value: &str) -> Result<(), CgroupError> {
    match set(path, value) {
        Err(CgroupError::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn read(path: &Path) -> Result<Option<String>, CgroupError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        // ENODEV: the cgroup was removed while its file was open.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(source) => Err(CgroupError::File { path: path.to_owned(), source }),
    }
}

/// Reads a number; `None` for `max`, `-1` and for a file that is not there.
fn read_number(path: &Path) -> Result<Option<u64>, CgroupError> {
    match read(path)?.as_deref() {
        None | Some("max" | "-1") => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(CgroupError::Number { path: path.to_owned(), text: text.to_owned() }),
        },
    }
}

fn set(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(path, value).map_err(|source| CgroupError::File { path: path.to_owned(), source })?;
    fail_point!("cgroup.limit");
    Ok(())
}

fn collect(directory: &Path, pids: &mut BTreeSet<u32>) -> Result<(), CgroupError> {
    let Some(text) = read(&directory.join("cgroup.procs"))? else { return Ok(()) };
    // 0 stands for a process of another PID namespace, which cannot be named from here.
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    for child in subdirectories(directory).map_err(|source| CgroupError::File { path: directory.to_owned(), source })? {
        collect(&child, pids)?;
    }
    Ok(())
}

fn subdirectories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a cgroup and those below it; none is no error.
fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in subdirectories(directory)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
