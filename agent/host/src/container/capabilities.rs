//! Capabilities of a container in the form of the OCI runtime specification. Which ones is `evenkeel-plan`'s to say.

use std::collections::BTreeSet;
use std::fs;

use evenkeel_plan::{capability_names, effective_capabilities};
use evenkeel_schema::Security;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// Lists the capabilities that this process can give, which is its bounding set (capabilities(7)).
pub fn available() -> Capabilities {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX);
    typed(&capability_names(mask))
}

/// Gives a container's capability sets: inheritable and ambient stay empty, as Docker has them since 20.10.14.
///
/// `ALL` gives what the host has to give; a capability that is named and not to be had is kept, so that the runtime
/// refuses it by its name.
pub fn of_container(security: &Security, available: &Capabilities) -> LinuxCapabilities {
    let named: BTreeSet<&str> = security.cap_add.iter().map(|capability| capability.as_str()).collect();
    let mut wanted = typed(&effective_capabilities(security));
    if named.contains("ALL") {
        let by_name = typed(&named.into_iter().filter(|name| *name != "ALL").collect());
        wanted.retain(|capability| available.contains(capability) || by_name.contains(capability));
    }
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(wanted.clone()));
    sets.set_effective(Some(wanted.clone()));
    sets.set_permitted(Some(wanted));
    sets.set_inheritable(Some(Capabilities::new()));
    sets.set_ambient(Some(Capabilities::new()));
    sets
}

fn typed(names: &BTreeSet<&str>) -> Capabilities {
    names.iter().filter_map(|name| name.parse::<Capability>().ok()).collect()
}

#[cfg(test)]
mod tests;
