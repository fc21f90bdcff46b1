//! A bundle as libcontainer should get it, and what the executor then does instead.
//!
//! libcontainer drops capabilities before its caller's code runs, fails on a working directory that is missing, and
//! runs `exec`ed processes without any system call filter. So those three are taken out of what it gets and handed to
//! the [`Confinement`] of the executor, for the first process and further ones alike.

use std::path::Path;

use evenkeel_host::container::capabilities::available;
use libcontainer::oci_spec::runtime::{
    Capabilities, LinuxCapabilities, LinuxSeccomp, LinuxSeccompAction, Process, Spec,
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
    let (given, confinement) = split(process, linux.seccomp().clone());
    let mut linux = linux.clone();
    linux.set_seccomp(None);
    let mut adapted = spec.clone();
    adapted.set_process(Some(given));
    adapted.set_linux(Some(linux));
    Ok((adapted, confinement))
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
