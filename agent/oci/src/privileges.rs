//! Who a process is and what it may do: user, groups, capabilities, the filter of system calls.
//!
//! The order of the steps is the point. A filter that comes without `no_new_privs` takes CAP_SYS_ADMIN (seccomp(2)) and so comes
//! first; the bounding set can be narrowed only with CAP_SETPCAP, groups and user changed only with the rights of root; a
//! change of user drops what was not asked to be kept (capabilities(7)).

use std::io;

use evenkeel_plan::capability_mask;
use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets as ThreadSets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::bundle::ProcessSpec;
use super::seccomp::Filter;

/// A user with groups and the mask of file modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: u32,
}

/// The sets of capabilities(7), bit by number. One that a bundle leaves out is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

impl CapabilitySets {
    pub fn of(capabilities: &LinuxCapabilities) -> CapabilitySets {
        let mask = |set: &Option<Capabilities>| {
            let names: Vec<String> = set.iter().flatten().map(ToString::to_string).collect();
            capability_mask(names.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name)))
        };
        CapabilitySets {
            bounding: mask(capabilities.bounding()),
            effective: mask(capabilities.effective()),
            permitted: mask(capabilities.permitted()),
            inheritable: mask(capabilities.inheritable()),
            ambient: mask(capabilities.ambient()),
        }
    }
}

/// Makes the calling process the user it is to be, with no more than the rights it is to have. The error says which step failed.
pub fn give_up(process: &ProcessSpec, filter: Option<&Filter>) -> Result<(), (&'static str, io::Error)> {
    let step = |what: &'static str| move |errno: rustix::io::Errno| (what, io::Error::from(errno));
    let load = || filter.map_or(Ok(()), Filter::load).map_err(|error| ("seccomp filter", error));
    if process.no_new_privileges {
        set_no_new_privs(true).map_err(step("no_new_privs"))?;
    } else {
        load()?;
    }
    if let Some(sets) = &process.capabilities {
        bound(sets.bounding).map_err(step("capabilities"))?;
        set_keep_capabilities(true).map_err(step("capabilities"))?;
    }
    become_user(&process.user).map_err(step("user"))?;
    if let Some(sets) = &process.capabilities {
        set_keep_capabilities(false).map_err(step("capabilities"))?;
        set(sets).map_err(step("capabilities"))?;
    }
    if process.no_new_privileges { load() } else { Ok(()) }
}

/// Every capability that the kernel may know: those beyond its last are refused as invalid.
fn every() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

fn bound(mask: u64) -> rustix::io::Result<()> {
    for capability in every().filter(|capability| mask & capability.bits() == 0) {
        match remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn become_user(user: &User) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn set(sets: &CapabilitySets) -> rustix::io::Result<()> {
    let typed = CapabilitySet::from_bits_retain;
    let own = ThreadSets {
        effective: typed(sets.effective),
        permitted: typed(sets.permitted),
        inheritable: typed(sets.inheritable),
    };
    set_capabilities(None, own)?;
    clear_ambient_capability_set()?;
    for capability in every().filter(|capability| sets.ambient & capability.bits() != 0) {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
