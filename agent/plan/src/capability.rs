//! The capabilities a container's processes may have: Docker's default set, and what a manifest makes of it.
//!
//! Data and set arithmetic only. Which process really has which capability is read from the kernel elsewhere.

use std::collections::BTreeSet;

use evenkeel_schema::{CAPABILITIES, Security};

/// What a container may do when its manifest says nothing: Docker's default set, by name without `CAP_`.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// Lists the capabilities of a container: the default set less `capDrop`, with `capAdd` on top.
///
/// `ALL` means what it means to Docker: `capDrop: [ALL]` starts from nothing, `capAdd: [ALL]` gives every
/// capability but those that `capDrop` names one by one.
pub fn effective_capabilities(security: &Security) -> BTreeSet<&'static str> {
    let names = |list: &[evenkeel_schema::Capability], name: &str| list.iter().any(|one| one.as_str() == name);
    let (drop, add) = (&security.cap_drop, &security.cap_add);
    let has = |name: &&str| {
        let default = DEFAULT_CAPABILITIES.contains(name) && !names(drop, "ALL") && !names(drop, name);
        default || names(add, name) || (names(add, "ALL") && !names(drop, name))
    };
    CAPABILITIES.into_iter().filter(has).collect()
}

/// Gives the set as the kernel writes it, bit by capability number (`CapBnd` in proc(5)).
pub fn capability_mask<'a>(capabilities: impl IntoIterator<Item = &'a str>) -> u64 {
    let number = |name: &str| CAPABILITIES.iter().position(|one| *one == name);
    capabilities.into_iter().filter_map(number).fold(0, |mask, bit| mask | 1 << bit)
}

/// Names the bits of a set of the kernel's; bits without a known name are left out.
pub fn capability_names(mask: u64) -> BTreeSet<&'static str> {
    let set = |bit: usize| mask & (1 << bit) != 0;
    CAPABILITIES.into_iter().enumerate().filter(|(bit, _)| set(*bit)).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests;
