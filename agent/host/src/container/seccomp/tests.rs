use super::*;

const X86: Machine<'static> = Machine { architecture: "x86_64", kernel: (6, 1) };

fn rules<'a>(policy: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
    let all = policy.syscalls().as_ref().unwrap();
    all.iter().filter(|rule| rule.names().iter().any(|other| other == name)).collect()
}

fn policy(capabilities: &[Capability], machine: Machine<'_>) -> LinuxSeccomp {
    default_policy(&capabilities.iter().copied().collect(), machine).unwrap()
}

#[test]
fn what_no_rule_names_is_refused_with_eperm() {
    let policy = policy(&[], X86);
    assert_eq!(policy.default_action(), LinuxSeccompAction::ScmpActErrno);
    assert_eq!(policy.default_errno_ret(), Some(1));
    for name in ["keyctl", "add_key", "userfaultfd", "kexec_load", "swapon", "nfsservctl", "io_uring_setup"] {
        assert!(rules(&policy, name).is_empty(), "{name}");
    }
    assert_eq!(rules(&policy, "read").len(), 1);
}

#[test]
fn capabilities_open_what_depends_on_them() {
    for (capability, name) in [
        (Capability::SysAdmin, "mount"),
        (Capability::SysAdmin, "setns"),
        (Capability::SysTime, "settimeofday"),
        (Capability::SysModule, "init_module"),
        (Capability::SysChroot, "chroot"),
        (Capability::Syslog, "syslog"),
    ] {
        assert!(rules(&policy(&[], X86), name).is_empty(), "{name} without");
        assert_eq!(rules(&policy(&[capability], X86), name).len(), 1, "{name} with");
    }
}

#[test]
fn clone_may_make_no_namespaces_without_sys_admin() {
    let without = policy(&[], X86);
    let [clone] = rules(&without, "clone")[..] else { panic!("not one rule") };
    let [argument] = clone.args().as_deref().unwrap() else { panic!("not one argument") };
    // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET together (linux/sched.h).
    assert_eq!((argument.index(), argument.value(), argument.value_two()), (0, 0x7e02_0000, Some(0)));
    let [clone3] = rules(&without, "clone3")[..] else { panic!("not one rule") };
    assert_eq!((clone3.action(), clone3.errno_ret()), (LinuxSeccompAction::ScmpActErrno, Some(38)));
    let with = policy(&[Capability::SysAdmin], X86);
    assert!(rules(&with, "clone").iter().chain(&rules(&with, "clone3")).all(|rule| rule.args().is_none()));
}

#[test]
fn architectures_and_kernels_have_rules_of_their_own() {
    let arm = policy(&[], Machine { architecture: "aarch64", ..X86 });
    assert_eq!(arm.architectures().as_deref(), Some([Arch::ScmpArchAarch64, Arch::ScmpArchArm].as_slice()));
    assert!(rules(&arm, "arch_prctl").is_empty());
    assert_eq!(rules(&policy(&[], X86), "arch_prctl").len(), 1);
    assert_eq!(rules(&policy(&[], X86), "ptrace").len(), 1);
    assert!(rules(&policy(&[], Machine { kernel: (4, 7), ..X86 }), "ptrace").is_empty());
    assert_eq!(policy(&[], Machine { architecture: "other", ..X86 }).architectures(), &None);
}

#[test]
fn this_host_has_a_kernel() {
    assert!(Machine::this().kernel >= (4, 0));
}
