//! Containers: from an image's layers and a manifest to a running process tree, and back to nothing.
//!
//! Each room has one matter: the overlay root, the bundle's parts, the cgroup, what the kernel says of the process. The
//! OCI runtime that carries out a bundle is a program (`evenkeel-oci`, runc, …), the supervisor that keeps it a
//! shim; networks and images are other modules'. Nothing here decides what is to be done.

pub mod bare_mounts;
pub mod bundle;
pub mod capabilities;
pub mod cgroup;
mod create;
pub mod created;
pub mod devices;
mod error;
mod exec;
pub mod files;
pub mod idmap;
pub mod inside;
pub mod logs;
pub mod mounts;
mod observe;
pub mod process;
mod remove;
pub mod rootfs;
mod rouse;
mod run;
pub mod seccomp;
pub mod shim;
mod shim_index;
pub mod user;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel_plan::{HostNames, ObservedImage};
use evenkeel_schema::{ContainerSpec, Name};

pub use error::{ContainerError, Failure};
pub use exec::ExecOptions;

use crate::volume::fill::FillLocks;
use crate::{Instance, Paths};
use shim_index::ShimIndex;

/// The OCI runtime that carries out bundles: a program and what comes before its verbs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeProgram {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

impl RuntimeProgram {
    /// The project's own runtime, `evenkeel-oci`, which lies beside this program.
    pub fn built_in() -> io::Result<RuntimeProgram> {
        // After an upgrade the kernel calls our own file deleted; its directory is still where the new runtime lies.
        Ok(RuntimeProgram::other(std::env::current_exe()?.with_file_name("evenkeel-oci")))
    }

    /// Another runtime, as runc.
    pub fn other(program: impl Into<PathBuf>) -> RuntimeProgram {
        RuntimeProgram { program: program.into(), arguments: Vec::new() }
    }
}

/// What a container is made from.
#[derive(Clone, Debug)]
pub struct NewContainer<'a> {
    pub name: &'a Name,
    pub spec: &'a ContainerSpec,
    pub image: &'a ObservedImage,
    /// The layers' directories, topmost first.
    pub lower: Vec<PathBuf>,
    pub network: NetworkJoin,
    /// Lines of its hosts file beyond loopback.
    pub hosts: &'a Arc<HostNames>,
}

/// The network that a container runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkJoin {
    Host,
    /// A pinned namespace.
    Namespace(PathBuf),
}

/// The containers of one root.
#[derive(Clone, Debug)]
pub struct Containers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    paths: Paths,
    instance: Instance,
    runtime: RuntimeProgram,
    shim: PathBuf,
    /// Keeps containers that are made side by side from filling one volume at the same time.
    filling: FillLocks,
    shims: ShimIndex,
    bare_mounts: bare_mounts::ForStarts,
}

impl Containers {
    /// Opens the containers of a root. Nothing is made or looked at yet.
    pub fn open(paths: &Paths, instance: &Instance, runtime: RuntimeProgram) -> Result<Containers, ContainerError> {
        Ok(Self::with_shim(paths, instance, runtime, shim::program().map_err(ContainerError::NoShim)?))
    }

    /// As [`Containers::open`], with a shim that does not lie beside this program.
    pub fn with_shim(paths: &Paths, instance: &Instance, runtime: RuntimeProgram, shim: PathBuf) -> Containers {
        Containers(Arc::new(Shared {
            paths: paths.clone(),
            instance: instance.clone(),
            runtime,
            shim,
            filling: FillLocks::default(),
            shims: ShimIndex::default(),
            bare_mounts: bare_mounts::ForStarts::default(),
        }))
    }

    /// Lists the containers that have a state directory.
    pub fn list(&self) -> Result<BTreeSet<Name>, ContainerError> {
        let path = self.0.paths.root().join("containers");
        let listed = || -> io::Result<BTreeSet<Name>> {
            let mut names = BTreeSet::new();
            for entry in fs::read_dir(&path)? {
                // What is no name is not ours.
                names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
            }
            Ok(names)
        };
        match listed() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            other => other.map_err(|source| ContainerError::List { path: path.clone(), source }),
        }
    }

    /// Does blocking work aside from the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &Name,
        work: impl FnOnce(&Shared, &Name) -> Result<T, ContainerError> + Send + 'static,
    ) -> Result<T, ContainerError> {
        let (shared, owned) = (Arc::clone(&self.0), name.clone());
        let done = tokio::task::spawn_blocking(move || work(&shared, &owned)).await;
        done.unwrap_or_else(|_| Err(ContainerError::of(name, Failure::Cancelled)))
    }
}

impl Shared {
    fn state(&self, name: &Name) -> PathBuf {
        self.paths.container_state(name)
    }

    fn run(&self, name: &Name) -> PathBuf {
        self.paths.container_run(name)
    }

    fn rootfs(&self, name: &Name) -> PathBuf {
        self.run(name).join("rootfs")
    }

    fn socket(&self, name: &Name) -> PathBuf {
        self.run(name).join("shim.sock")
    }

    fn shim_config(&self, name: &Name) -> PathBuf {
        self.run(name).join("shim.json")
    }

    /// The cgroup's path from the root of every hierarchy.
    fn cgroup_path(&self, name: &Name) -> PathBuf {
        Path::new("/").join(self.instance.as_str()).join(name.as_str())
    }

    /// Where runtimes keep their state of a container.
    fn runtime_state(&self, name: &Name) -> PathBuf {
        self.paths.runtime_state().join(name.as_str())
    }

    /// The command line of the runtime that has hold of a container: the one that made it, although another may have been
    /// set since, and the one that is set now for a container that no runtime knows.
    fn runtime_line_of(&self, name: &Name) -> Vec<String> {
        if !self.runtime_state(name).exists() {
            return self.runtime_line();
        }
        let config = std::fs::read(self.shim_config(name)).ok();
        let config = config.and_then(|text| serde_json::from_slice::<evenkeel_shim::Config>(&text).ok());
        let config = config.filter(|config| !config.runtime.is_empty());
        config.map_or_else(|| self.runtime_line(), |config| config.runtime)
    }

    /// The runtime's command line up to its verb.
    fn runtime_line(&self) -> Vec<String> {
        let program = self.runtime.program.to_string_lossy().into_owned();
        let root = self.paths.runtime_state().to_string_lossy().into_owned();
        [vec![program], self.runtime.arguments.clone(), vec!["--root".to_owned(), root]].concat()
    }
}
