//! The container's cgroup from the runtime's side: made with its limits and device rules, and joined.
//!
//! Where hierarchies are and what a limit is written to, `evenkeel_host` knows; this is about the making, and about
//! joining without the kernel's lock over all processes, which a write of another process's id takes and which costs
//! milliseconds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use evenkeel_host::container::cgroup::{Cgroup, CgroupError, Hierarchies};
use evenkeel_host::container::devices::{self, DevicesError};
use evenkeel_schema::Resources;
use evenkeel_shim::cgroup::oom_kills;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{CWD, Mode, OFlags, openat};

/// The container's cgroup.
#[derive(Clone, Debug)]
pub struct OwnCgroup {
    cgroup: Cgroup,
    pub directories: Directories,
}

/// A cgroup's directory in each hierarchy.
#[derive(Clone, Debug)]
pub enum Directories {
    /// cgroup v2 alone.
    Unified { root: PathBuf, directory: PathBuf },
    /// Hierarchies of their own for controllers.
    Separate(Vec<HierarchyDirectory>),
}

/// A cgroup's directory in one hierarchy of cgroup v1.
#[derive(Clone, Debug)]
pub struct HierarchyDirectory {
    /// Where the hierarchy is mounted.
    pub hierarchy: PathBuf,
    pub directory: PathBuf,
    /// `memory`, `name=systemd`, …
    pub controllers: Vec<String>,
}

/// The cgroup could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
}

impl OwnCgroup {
    /// Finds the directories of the cgroup at a path that is absolute from the root of every hierarchy. Nothing is made yet.
    pub fn of_host(path: &Path) -> Result<OwnCgroup, CgroupError> {
        let hierarchies = Hierarchies::of_host()?;
        let directories = Directories::of(&hierarchies, path.strip_prefix("/").unwrap_or(path));
        Ok(OwnCgroup { cgroup: Cgroup::new(hierarchies, path), directories })
    }

    /// Makes the cgroup, or completes one that is there, with limits and device rules.
    pub fn make(&self, path: &Path, resources: &Resources, rules: &[LinuxDeviceCgroup]) -> Result<(), MakeError> {
        match &self.directories {
            Directories::Unified { root, directory } => {
                make_unified(root, directory)?;
                if !rules.is_empty() {
                    devices::restrict(path, rules)?;
                }
            }
            Directories::Separate(all) => {
                for own in all {
                    make_separate(&own.hierarchy, &own.directory, own.has("cpuset"))?;
                    if own.has("devices") && !rules.is_empty() {
                        write_rules(&own.directory, rules)?;
                    }
                }
            }
        }
        // A new one has no limits.
        if *resources == Resources::default() {
            return Ok(());
        }
        Ok(self.cgroup.set_limits(resources)?)
    }

    /// Opens what [`crate::process::clone`] puts a new process into: the directory of cgroup v2.
    pub fn to_clone_into(&self) -> io::Result<Option<OwnedFd>> {
        match &self.directories {
            Directories::Unified { directory, .. } => open_directory(directory).map(Some),
            Directories::Separate(_) => Ok(None),
        }
    }

    /// Opens what [`join`] writes to: the `tasks` of each hierarchy of cgroup v1.
    pub fn to_join(&self) -> Result<Vec<File>, MakeError> {
        let Directories::Separate(all) = &self.directories else { return Ok(Vec::new()) };
        let open = |own: &HierarchyDirectory| {
            let path = own.directory.join("tasks");
            OpenOptions::new().write(true).open(&path).map_err(|source| MakeError::File { path, source })
        };
        all.iter().map(open).collect()
    }

    /// Tells whether the kernel ended a process of the cgroup for want of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        oom_kills(&self.cgroup.directories()) > 0
    }
}

impl Directories {
    fn of(hierarchies: &Hierarchies, path: &Path) -> Directories {
        let controllers = match hierarchies {
            Hierarchies::Unified(root) => {
                return Directories::Unified { root: root.clone(), directory: root.join(path) };
            }
            Hierarchies::Separate { controllers, .. } => controllers,
        };
        let mut all: Vec<HierarchyDirectory> = Vec::new();
        for (controller, hierarchy) in controllers {
            match all.iter_mut().find(|own| own.hierarchy == *hierarchy) {
                Some(own) => own.controllers.push(controller.clone()),
                None => all.push(HierarchyDirectory {
                    hierarchy: hierarchy.clone(),
                    directory: hierarchy.join(path),
                    controllers: vec![controller.clone()],
                }),
            }
        }
        Directories::Separate(all)
    }
}

impl HierarchyDirectory {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Joins the cgroups with the calling thread, which must be the only one of its process.
///
/// "0" in `tasks` stands for the caller, for whom nothing else has to be held up.
pub fn join(tasks: &[File]) -> io::Result<()> {
    tasks.iter().try_for_each(|mut file| file.write_all(b"0"))
}

/// Opens the cgroup v2 directory that a process is in, by its own word. For a container that made cgroups of its own: the kernel lets
/// nothing join one that has others below.
pub fn unified_of(pid: u32) -> io::Result<OwnedFd> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(io::ErrorKind::NotFound)?;
    open_directory(&Path::new("/sys/fs/cgroup").join(path))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn make_unified(root: &Path, directory: &Path) -> Result<(), MakeError> {
    let names = directory.strip_prefix(root).unwrap_or(directory);
    let mut above = root.to_owned();
    for name in names {
        hand_down(&above)?;
        above.push(name);
        make_directory(&above)?;
    }
    Ok(())
}

/// Lets the cgroups below have every controller that this one has (`cgroup.subtree_control`).
fn hand_down(directory: &Path) -> Result<(), MakeError> {
    let controllers = read(&directory.join("cgroup.controllers"))?;
    let path = directory.join("cgroup.subtree_control");
    let handed_down = read(&path)?;
    // A write waits for the removal of other cgroups, also where it changes nothing.
    let is_handed_down = |name: &&str| handed_down.split_whitespace().any(|other| other == *name);
    let missing = controllers.split_whitespace().filter(|name| !is_handed_down(name));
    let missing: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if missing.is_empty() || fs::write(&path, missing.join(" ")).is_ok() {
        return Ok(());
    }
    // One of them refuses, as `cpu` does beside real-time processes; a limit that then has no file is told by its name.
    for one in missing {
        let _ = fs::write(&path, one);
    }
    Ok(())
}

/// Makes a cgroup in a hierarchy of cgroup v1, and what is missing above it, which is seldom anything.
fn make_separate(hierarchy: &Path, directory: &Path, has_sets: bool) -> Result<(), MakeError> {
    let parent = directory.parent().filter(|_| directory != hierarchy);
    let is_new = match (fs::create_dir(directory), parent) {
        (Ok(()), _) => true,
        (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => false,
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make_separate(hierarchy, parent, has_sets)?;
            make_directory(directory)?;
            true
        }
        (Err(source), _) => return Err(MakeError::File { path: directory.to_owned(), source }),
    };
    if has_sets {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fill_set(hierarchy, directory, file, is_new)?;
        }
    }
    Ok(())
}

/// Has a set of processors or memory nodes be what it is above, where it is empty: nothing can join that (cpusets(7)). Gives what
/// it is.
///
/// One above may be empty too, left so by a call that was killed.
fn fill_set(hierarchy: &Path, directory: &Path, file: &str, is_new: bool) -> Result<String, MakeError> {
    let path = directory.join(file);
    let own = if is_new { String::new() } else { read(&path)? };
    match directory.parent() {
        Some(parent) if own.trim().is_empty() && directory != hierarchy => {
            let above = fill_set(hierarchy, parent, file, false)?;
            fs::write(&path, above.trim()).map_err(|source| MakeError::File { path, source })?;
            Ok(above)
        }
        _ => Ok(own),
    }
}

fn make_directory(path: &Path) -> Result<(), MakeError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(MakeError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, MakeError> {
    fs::read_to_string(path).map_err(|source| MakeError::File { path: path.to_owned(), source })
}

/// Writes device rules to the controller of cgroup v1, in their order: each write is one.
fn write_rules(directory: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), MakeError> {
    let open = |name: &str| {
        let path = directory.join(name);
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(MakeError::File { path, source }),
        }
    };
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    for rule in rules {
        let (path, mut file) = if rule.allow() { (&allow.0, &allow.1) } else { (&deny.0, &deny.1) };
        let written = file.write_all(rule_text(rule).as_bytes());
        written.map_err(|source| MakeError::File { path: path.clone(), source })?;
    }
    Ok(())
}

/// Writes a rule as the controller reads it: `c 1:3 rwm`. A negative number stands for every one, and so does none.
fn rule_text(rule: &LinuxDeviceCgroup) -> String {
    let number = |number: Option<i64>| match number {
        Some(number @ 0..) => number.to_string(),
        _ => "*".to_owned(),
    };
    let typ = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::B => "b",
        LinuxDeviceType::C | LinuxDeviceType::U => "c",
        LinuxDeviceType::A | LinuxDeviceType::P => "a",
    };
    let access = rule.access().as_deref().unwrap_or("rwm");
    format!("{typ} {}:{} {access}", number(rule.major()), number(rule.minor()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_in_the_controllers_words() {
        let texts: Vec<String> = devices::default_rules().iter().map(rule_text).collect();
        assert_eq!(texts[..4], ["a *:* rwm", "c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(texts.last().map(String::as_str), Some("c 136:* rwm"));
    }
}
