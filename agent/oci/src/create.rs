//! `create`: everything up to the command, which then waits for `start`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use evenkeel_host::container::bare_mounts;
use evenkeel_host::container::process::start_time;
use evenkeel_schema::Signal;
use evenkeel_shim::fail_point;
use evenkeel_shim::process::{ExitStatus, wait};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::mkfifo;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::OciError;
use super::arguments::Create;
use super::bundle::{Bundle, load};
use super::cgroup::OwnCgroup;
use super::init::Init;
use super::process::{Reports, Verdict, clone, reports};
use super::record::{ContainerDirectory, Record};
use super::rootfs::copy_of;
use super::seccomp::Filter;

pub fn create(root: &Path, arguments: &Create) -> Result<(), OciError> {
    let container = ContainerDirectory::new(root, &arguments.id)?;
    if container.read_record()?.is_some_and(|record| record.process.is_some()) {
        return Err(OciError::Exists { id: container.id });
    }
    // What an earlier call that was killed left.
    container.sweep()?;
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| OciError::File { path, source }
    };
    umask(Mode::from_bits_truncate(0o022));
    let directory = arguments.bundle.canonicalize().map_err(file(&arguments.bundle))?;
    let spec = load(&directory.join("config.json"))?;
    let bundle = Bundle::of(&directory, &spec, &container.id)?;
    let filter = bundle.process.seccomp.as_ref().map(|policy| Filter::of(root, policy)).transpose();
    let filter = filter.map_err(|source| OciError::Filter { id: container.id.clone(), source })?;

    std::fs::create_dir_all(&container.path).map_err(file(&container.path))?;
    fail_point!("oci.directory");
    let mut record = Record {
        bundle: directory,
        cgroup: bundle.cgroup.clone(),
        process: None,
        version: bundle.version.clone(),
        annotations: spec.annotations().clone().unwrap_or_default(),
        created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
    };
    // Before the deed, so that a half-made container can be swept away.
    container.write_record(&record)?;
    fail_point!("oci.recorded");
    let made = make(&container, &bundle, filter.as_ref()).and_then(|mut made| {
        fail_point!("oci.made");
        record.process = Some((made.pid, start_time(made.pid.unsigned_abs()).unwrap_or_default()));
        // While it is at its mounts.
        container.write_record(&record)?;
        if let Some(path) = &arguments.pid_file {
            std::fs::write(path, made.pid.to_string()).map_err(file(path))?;
        }
        fail_point!("oci.noted");
        made.wait(&container)
    });
    if made.is_err() {
        // The first error is the one to tell; what cannot be swept now, `delete` sweeps.
        let _ = container.sweep();
    }
    made
}

/// A container's first process on its way to its command.
struct Made {
    pid: i32,
    reports: Reports,
    cgroup: OwnCgroup,
}

fn make(container: &ContainerDirectory, bundle: &Bundle, filter: Option<&Filter>) -> Result<Made, OciError> {
    let system = |what| {
        let id = container.id.clone();
        move |source: io::Error| OciError::System { id, what, source }
    };
    let in_cgroup = |source| OciError::MakeCgroup { id: container.id.clone(), source };
    let cgroup = OwnCgroup::of_host(&bundle.cgroup).map_err(|source| in_cgroup(source.into()))?;
    cgroup.make(&bundle.cgroup, &bundle.resources, &bundle.devices).map_err(in_cgroup)?;
    fail_point!("oci.cgroup.made");
    let tasks = cgroup.to_join().map_err(in_cgroup)?;
    let into = cgroup.to_clone_into().map_err(system("cannot open its cgroup"))?;

    let path = container.gate();
    let file = |source: io::Error| OciError::File { path: path.clone(), source };
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| file(errno.into()))?;
    fail_point!("oci.gate.made");
    let gate = OpenOptions::new().read(true).write(true).open(&path).map_err(file)?;
    if let Some(network) = &bundle.network {
        let namespace = File::open(network).map_err(|source| OciError::File { path: network.clone(), source })?;
        // With this process, which has nothing more to do with a network: what it clones is there from the start.
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|errno| OciError::File { path: network.clone(), source: errno.into() })?;
    }
    let failed = |message| OciError::Process { message, exit_status: None };
    // By their paths on the host, and so before this process goes where not all of its mounts are.
    let rootfs = copy_of(&bundle.rootfs, true);
    let rootfs = rootfs.map_err(|error| failed(format!("mount {}: {error}", bundle.rootfs.display())))?;
    let bound = bundle.mounts.iter().map(|mount| mount.open().map_err(|error| failed(mount.failed(&error))));
    let bound = bound.collect::<Result<Vec<_>, OciError>>()?;
    let bare_mounts = std::env::var(bare_mounts::VARIABLE).ok().and_then(|variable| bare_mounts::open(&variable));
    if let Some(namespace) = bare_mounts {
        // Where it cannot be entered, every mount of the host is copied.
        let _ = setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS);
    }
    let (reports, reporter) = reports().map_err(system("cannot make a pipe"))?;
    let init = Init { bundle, cgroup: &cgroup, tasks, filter, rootfs, bound, gate, reporter };
    let pid = clone(bundle.namespaces, into.as_ref().map(AsFd::as_fd), || init.run())
        .map_err(system("cannot clone a process into new namespaces"))?;
    Ok(Made { pid, reports, cgroup })
}

impl Made {
    /// Waits until nothing but the command is left to be done.
    fn wait(&mut self, container: &ContainerDirectory) -> Result<(), OciError> {
        let waited = self.reports.wait_until_ready();
        let waited = waited.map_err(|source| OciError::System {
            id: container.id.clone(),
            what: "cannot hear from its process",
            source,
        })?;
        waited.map_err(|verdict| explain(&container.id, self.pid, verdict, &self.cgroup))
    }
}

/// Puts into words why a process did not come to its command.
pub fn explain(id: &str, pid: i32, verdict: Verdict, cgroup: &OwnCgroup) -> OciError {
    match verdict {
        Verdict::Failed { status, message } => {
            OciError::Process { message, exit_status: (status > 1).then_some(status) }
        }
        Verdict::Silent => {
            let how = match wait(pid.unsigned_abs()) {
                Ok(ExitStatus::Signaled(_)) if cgroup.ran_out_of_memory() => {
                    return OciError::OutOfMemory { id: id.to_owned() };
                }
                Ok(ExitStatus::Signaled(signal)) => format!("signal {}", Signal(signal)),
                Ok(ExitStatus::Exited(status)) => format!("exit status {status}"),
                Err(_) => "it is gone".to_owned(),
            };
            OciError::Silent { id: id.to_owned(), how }
        }
    }
}
