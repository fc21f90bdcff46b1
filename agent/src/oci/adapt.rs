//! A bundle as libcontainer should get it, and what the executor then does instead.
//!
//! libcontainer drops capabilities before its caller's code runs, fails on a working directory that is missing, and
//! runs `exec`ed processes without any system call filter. So those three are taken out of what it gets and handed to
//! the [`Confinement`] of the executor, for the first process and further ones alike. What it would leave out without a
//! word is brought into a form that it carries out, or refused. docs/decisions/0008 lists it all.

use std::path::Path;

use evenkeel_host::container::capabilities::available;
use evenkeel_host::container::cgroup::Hierarchies;
use libcontainer::oci_spec::runtime::{
    Capabilities, LinuxCapabilities, LinuxSeccomp, LinuxSeccompAction, Mount, Process, Spec,
};

use super::OciError;
use super::executor::Confinement;

/// Takes a process apart into what libcontainer sets up and what the executor does.
pub fn split(process: &Process, seccomp: Option<LinuxSeccomp>) -> (Process, Confinement) {
    let confinement = Confinement {
        cwd: process.cwd().clone(),
        capabilities: process.capabilities().as_ref().map(complete),
        no_new_privileges: process.no_new_privileges() == Some(true),
        seccomp,
    };
    let mut given = process.clone();
    given.set_cwd("/".into());
    given.set_capabilities(None);
    // `Some(false)` would make libcontainer load a filter after it gave up the right to.
    given.set_no_new_privileges(process.no_new_privileges().filter(|set| *set));
    (given, confinement)
}

/// Gives the bundle for libcontainer, and the executor's part. Refuses what neither would do.
pub fn adapt(path: &Path, spec: &Spec) -> Result<(Spec, Confinement), OciError> {
    let missing = |field| OciError::MissingField { path: path.to_owned(), field };
    let unsupported = |what: String| OciError::BundleUnsupported { path: path.to_owned(), what };
    let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
    let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(missing("process.args"));
    }
    if process.selinux_label().as_ref().is_some_and(|label| !label.is_empty()) {
        return Err(unsupported("process.selinuxLabel".to_owned()));
    }
    if let Some(seccomp) = linux.seccomp() {
        let notifies = |action: LinuxSeccompAction| action == LinuxSeccompAction::ScmpActNotify;
        let rules = seccomp.syscalls().iter().flatten();
        if notifies(seccomp.default_action()) || rules.into_iter().any(|rule| notifies(rule.action())) {
            return Err(unsupported("SCMP_ACT_NOTIFY in linux.seccomp".to_owned()));
        }
    }
    if let Some(capabilities) = process.capabilities() {
        let available = available();
        let asked = [capabilities.effective(), capabilities.permitted(), capabilities.ambient()];
        let lacking = asked.into_iter().flatten().flatten().find(|capability| !available.contains(capability));
        if let Some(capability) = lacking {
            return Err(unsupported(format!("capability {capability}, which this host does not give,")));
        }
    }
    if spec.hooks().as_ref().is_some_and(|hooks| hooks.poststop().as_ref().is_some_and(|hooks| !hooks.is_empty())) {
        return Err(unsupported("hooks.poststop".to_owned()));
    }
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let (given, confinement) = split(process, linux.seccomp().clone());
    let mut linux = linux.clone();
    linux.set_seccomp(None);
    linux.set_rootfs_propagation(propagation(linux.rootfs_propagation().as_deref(), mounts).map_err(unsupported)?);
    if mounts.iter().any(|mount| mount.typ().as_deref() == Some("cgroup") && has_option(mount, "ro")) {
        let hierarchies = Hierarchies::of_host().map_err(|source| OciError::Hierarchies { source })?;
        let mut paths = linux.readonly_paths().clone().unwrap_or_default();
        paths.extend(read_only_cgroups(&hierarchies));
        linux.set_readonly_paths(Some(paths));
    }
    let mut adapted = spec.clone();
    adapted.set_process(Some(given));
    adapted.set_linux(Some(linux));
    Ok((adapted, confinement))
}

fn has_option(mount: &Mount, wanted: &str) -> bool {
    mount.options().iter().flatten().any(|option| option == wanted)
}

/// Gives the propagation for the whole of the container's mounts: libcontainer takes no notice of a single mount's.
fn propagation(stated: Option<&str>, mounts: &[Mount]) -> Result<Option<String>, String> {
    let asked = |option: &str| mounts.iter().find(|mount| has_option(mount, option));
    for option in ["shared", "rshared", "slave", "rslave", "unbindable", "runbindable"] {
        if let Some(mount) = asked(option) {
            return Err(format!("mount {}: the option `{option}`", mount.destination().display()));
        }
    }
    Ok(match stated {
        // Its own default would let what the host mounts later appear in the container.
        None | Some("rprivate") => Some("private".to_owned()),
        Some("rslave") => Some("slave".to_owned()),
        Some("rshared") => Some("shared".to_owned()),
        Some(other) => Some(other.to_owned()),
    })
}

/// Lists the places of cgroup v1 in the container: libcontainer mounts them writable whatever the bundle says, and a
/// container could lift its own limits. The directory that holds them comes first, since that copies what is below.
fn read_only_cgroups(hierarchies: &Hierarchies) -> Vec<String> {
    let Hierarchies::Separate { controllers, .. } = hierarchies else { return Vec::new() };
    let places = controllers.iter().filter_map(|(_, place)| Some((place.parent()?, place.as_path())));
    let mut paths: Vec<String> = Vec::new();
    for place in places.flat_map(|(parent, place)| [parent, place]) {
        let place = place.to_string_lossy().into_owned();
        if !paths.contains(&place) {
            paths.push(place);
        }
    }
    paths
}

/// States every set: one that is left out would stay as the caller of the runtime has it.
fn complete(capabilities: &LinuxCapabilities) -> LinuxCapabilities {
    let or_empty = |set: &Option<Capabilities>| Some(set.clone().unwrap_or_default());
    let mut all = capabilities.clone();
    all.set_bounding(or_empty(capabilities.bounding()));
    all.set_effective(or_empty(capabilities.effective()));
    all.set_permitted(or_empty(capabilities.permitted()));
    all.set_inheritable(or_empty(capabilities.inheritable()));
    all.set_ambient(or_empty(capabilities.ambient()));
    all
}
