//! The default system call policy: Docker's published rules, evaluated for one container on one host.
//!
//! The rules are data, `seccomp-default.json`: what is let through, each with the capability, architecture or kernel it
//! depends on. Whatever no rule names is refused with EPERM. docs/decisions/0009 says where the rules come from.

use std::collections::BTreeMap;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Deserialize;

const RULES: &str = include_str!("seccomp-default.json");

/// What is refused is refused with this.
const EPERM: u32 = libc::EPERM.unsigned_abs();

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    /// By this program's architecture: the ones that its processes may use, the native one first.
    architectures: BTreeMap<String, Vec<Arch>>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    names: Vec<String>,
    #[serde(default)]
    when: When,
    argument: Option<Argument>,
    /// Refused with this, instead of let through.
    errno: Option<u32>,
}

/// What must hold for a rule to count; what is not stated holds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct When {
    capability: Option<String>,
    without_capability: Option<String>,
    architectures: Option<Vec<String>>,
    other_architectures_than: Option<Vec<String>>,
    /// This kernel or a later one.
    kernel: Option<(u32, u32)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: usize,
    test: Test,
    value: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Test {
    Less,
    Equal,
    Greater,
    NoBitsOf,
}

/// The host that a policy is evaluated for.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// As `std::env::consts::ARCH` has it.
    pub architecture: &'a str,
    /// Major and minor version.
    pub kernel: (u32, u32),
}

impl Machine<'static> {
    /// Describes this host.
    pub fn this() -> Self {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy().into_owned();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Machine { architecture: std::env::consts::ARCH, kernel }
    }
}

/// Gives the policy for a container with these capabilities.
pub fn default_policy(capabilities: &Capabilities, machine: Machine<'_>) -> Result<LinuxSeccomp, OciSpecError> {
    let policy: Policy = serde_json::from_str(RULES)?;
    let rules = policy.rules.iter().filter(|rule| applies(&rule.when, capabilities, machine));
    let seccomp = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .syscalls(rules.map(typed).collect::<Result<Vec<_>, _>>()?);
    match policy.architectures.get(machine.architecture) {
        Some(architectures) => seccomp.architectures(architectures.clone()).build(),
        // The native one alone.
        None => seccomp.build(),
    }
}

fn applies(when: &When, capabilities: &Capabilities, machine: Machine<'_>) -> bool {
    let has = |name: &String| name.parse::<Capability>().is_ok_and(|capability| capabilities.contains(&capability));
    let is_here = |names: &Vec<String>| names.iter().any(|name| name == machine.architecture);
    when.capability.as_ref().is_none_or(has)
        && !when.without_capability.as_ref().is_some_and(has)
        && when.architectures.as_ref().is_none_or(is_here)
        && !when.other_architectures_than.as_ref().is_some_and(is_here)
        && when.kernel.is_none_or(|kernel| machine.kernel >= kernel)
}

fn typed(rule: &Rule) -> Result<LinuxSyscall, OciSpecError> {
    let action = if rule.errno.is_some() { LinuxSeccompAction::ScmpActErrno } else { LinuxSeccompAction::ScmpActAllow };
    let mut syscall = LinuxSyscallBuilder::default().names(rule.names.clone()).action(action);
    if let Some(errno) = rule.errno {
        syscall = syscall.errno_ret(errno);
    }
    if let Some(argument) = &rule.argument {
        let typed = LinuxSeccompArgBuilder::default().index(argument.index);
        let typed = match argument.test {
            Test::Less => typed.op(LinuxSeccompOperator::ScmpCmpLt).value(argument.value),
            Test::Equal => typed.op(LinuxSeccompOperator::ScmpCmpEq).value(argument.value),
            Test::Greater => typed.op(LinuxSeccompOperator::ScmpCmpGt).value(argument.value),
            // The argument, masked with `value`, is `value_two`.
            Test::NoBitsOf => typed.op(LinuxSeccompOperator::ScmpCmpMaskedEq).value(argument.value).value_two(0u64),
        };
        syscall = syscall.args(vec![typed.build()?]);
    }
    syscall.build()
}

#[cfg(test)]
mod tests;
