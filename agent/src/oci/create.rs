//! `create`: everything up to the command, which then waits for `start`.

use std::path::Path;

use evenkeel_host::container::devices;
use evenkeel_host::container::process::start_time;
use evenkeel_shim::fail_point;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::runtime::{Box as ConsoleSize, Spec};
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::stat::{Mode, umask};

use super::OciError;
use super::adapt::adapt;
use super::arguments::Create;
use super::executor::{Confined, Confinement, Window};
use super::filter::Filter;
use super::record::{Place, Record, write_json};
use super::report::Report;

pub fn create(root: &Path, arguments: &Create, report: &Report) -> Result<(), OciError> {
    let place = Place::new(root, &arguments.id)?;
    if place.state.exists() {
        return Err(OciError::Exists { id: place.id });
    }
    // What an earlier call that was killed left, before libcontainer knew of the container or after it forgot it.
    place.sweep()?;
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| OciError::File { path, source }
    };
    let bundle = arguments.bundle.canonicalize().map_err(file(&arguments.bundle))?;
    let config = bundle.join("config.json");
    let mut spec = Spec::load(&config).map_err(|source| OciError::Bundle { path: config.clone(), source })?;
    spec.canonicalize_rootfs(&bundle).map_err(|source| OciError::Bundle { path: config.clone(), source })?;
    let (adapted, confinement) = adapt(&config, &spec)?;
    let filter = compile(root, &place.id, &confinement)?;
    inherit_nothing(&place.id)?;

    let cgroup = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    // libcontainer's own default for a bundle that names none.
    let cgroup = cgroup.unwrap_or_else(|| format!(":youki:{}", place.id).into());
    std::fs::create_dir_all(&place.bundle).map_err(file(&place.bundle))?;
    fail_point!("oci.directory");
    let mut record = Record { bundle, cgroup, process: None };
    // Before the deed, so that a half-made container can be swept away.
    place.write_record(&record)?;
    fail_point!("oci.recorded");
    let adapted_path = place.bundle.join("config.json");
    write_json(&adapted_path, &adapted)?;
    fail_point!("oci.adapted");

    let window = adapted.process().as_ref().and_then(|process| process.console_size()).map(window_of);
    let made = build(root, arguments, &place, Confined { confinement, filter, report: report.clone(), window });
    let result = made.map_err(|source| explain(&place.id, source, report)).and_then(|pid| {
        fail_point!("oci.made");
        record.process = Some((pid, start_time(pid.unsigned_abs()).unwrap_or_default()));
        place.write_record(&record)?;
        fail_point!("oci.noted");
        restrict_devices(&place.id, &spec, &record.cgroup)
    });
    if result.is_err() {
        // The first error is the one to tell; what cannot be swept now, `delete` sweeps.
        let _ = place.sweep();
    }
    result
}

fn build(root: &Path, arguments: &Create, place: &Place, executor: Confined) -> Result<i32, Box<LibcontainerError>> {
    let container = ContainerBuilder::new(place.id.clone(), SyscallType::default())
        .with_root_path(root)?
        .with_pid_file(arguments.pid_file.as_ref())?
        .with_console_socket(arguments.console_socket.as_ref())
        .with_executor(executor)
        .as_init(&place.bundle)
        .with_systemd(false)
        .with_detach(true)
        .with_no_pivot(arguments.no_pivot)
        .build()?;
    Ok(container.pid().map_or(0, |pid| pid.as_raw()))
}

/// Gives the compiled policy of a confinement. In this process: a cloned one would keep nothing.
pub fn compile(root: &Path, id: &str, confinement: &Confinement) -> Result<Option<Filter>, OciError> {
    let filter = confinement.seccomp.as_ref().map(|policy| Filter::of(root, policy)).transpose();
    filter.map_err(|source| OciError::Filter { id: id.to_owned(), source })
}

/// Reads a terminal's size out of a bundle; libcontainer takes no notice of it.
pub fn window_of(size: ConsoleSize) -> Window {
    let number = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    Window { rows: number(size.height()), columns: number(size.width()) }
}

/// Gives up what libcontainer would hand down from this process: supplementary groups and the file mode mask.
pub fn inherit_nothing(id: &str) -> Result<(), OciError> {
    umask(Mode::from_bits_truncate(0o022));
    nix::unistd::setgroups(&[]).map_err(|errno| OciError::System {
        id: id.to_owned(),
        what: "cannot drop supplementary groups",
        source: errno.into(),
    })
}

/// Puts the device rules in force on cgroup v2, where they are a program of ours (libcontainer leaves them out).
fn restrict_devices(id: &str, spec: &Spec, cgroup: &Path) -> Result<(), OciError> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let Some(rules) = resources.and_then(|resources| resources.devices().as_deref()).filter(|rules| !rules.is_empty())
    else {
        return Ok(());
    };
    devices::restrict(cgroup, rules).map_err(|source| OciError::Devices { id: id.to_owned(), source })
}

/// Says why libcontainer failed, in the executor's words where it was the command.
pub fn explain(id: &str, source: Box<LibcontainerError>, report: &Report) -> OciError {
    let words = report.read();
    match words.verdict {
        Some((status, message)) => OciError::Process { message, exit_status: (status > 1).then_some(status) },
        None => {
            let detail = words.logged.unwrap_or_else(|| "failed".to_owned());
            OciError::Container { id: id.to_owned(), detail, source }
        }
    }
}
