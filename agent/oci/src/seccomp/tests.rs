//! That a kept filter is the compiled one, and is taken for nothing else. What it does is tested in
//! `tests/host/containers/confinement.rs`.

use evenkeel_host::container::seccomp::{Machine, default_policy};
use oci_spec::runtime::Capabilities;

use super::*;

fn policy(names: &str) -> LinuxSeccomp {
    let json = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{ "names": [names], "action": "SCMP_ACT_ALLOW" }],
    });
    serde_json::from_value(json).expect("a policy")
}

/// Names the files of kept filters.
fn kept(root: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(root.join(".filters")).expect("the directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_filter_is_compiled_once_for_each_policy() {
    let root = tempfile::tempdir().expect("a directory");
    let first = Filter::of(root.path(), &policy("read")).expect("a filter");
    assert!(!first.program.is_empty() && first.program.len().is_multiple_of(INSTRUCTION));
    assert_eq!(first.flags, libc::SECCOMP_FILTER_FLAG_LOG);
    assert_eq!(first.newest, Some(newest_known()));
    // What is kept is taken: a mark in it comes back.
    let [path] = kept(root.path()).try_into().expect("one file");
    let mut bytes = fs::read(&path).expect("the file");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&path, bytes).expect("the file");
    assert_ne!(Filter::of(root.path(), &policy("read")).expect("a filter"), first);
    assert_ne!(Filter::of(root.path(), &policy("write")).expect("a filter").program, first.program);
    assert_eq!(kept(root.path()).len(), 2);
}

#[test]
fn one_that_is_not_whole_or_of_another_policy_is_compiled_again() {
    let root = tempfile::tempdir().expect("a directory");
    let first = Filter::of(root.path(), &policy("read")).expect("a filter");
    let [path] = kept(root.path()).try_into().expect("one file");
    let whole = fs::read(&path).expect("the file");
    for length in [0, 10, whole.len() - INSTRUCTION] {
        fs::write(&path, &whole[..length]).expect("the file");
        assert_eq!(Filter::of(root.path(), &policy("read")).expect("a filter"), first);
        assert_eq!(fs::read(&path).expect("the file"), whole);
    }
    fs::write(&path, first.encode(&made_from(&policy("write")))).expect("the file");
    assert_eq!(Filter::of(root.path(), &policy("read")).expect("a filter"), first);
    assert_eq!(fs::read(&path).expect("the file"), whole);
}

/// Runs a program for a system call, as the kernel does; of the instructions it knows those that libseccomp writes.
fn decide(program: &[u8], number: u32, argument: u64) -> u32 {
    // struct seccomp_data: number, architecture, instruction pointer and six arguments, here the same one.
    let mut data = vec![number, native_architecture(), 0, 0];
    data.extend([argument as u32, (argument >> 32) as u32].repeat(6));
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let libc::sock_filter { code, jt, jf, k } = instruction(&program[at * INSTRUCTION..]);
        let jump = |test: bool| usize::from(if test { jt } else { jf });
        at += 1;
        match u32::from(code) {
            libc::BPF_RET => return k,
            code if code == libc::BPF_LD | libc::BPF_ABS => accumulator = data[k as usize / 4],
            code if code == libc::BPF_ALU | libc::BPF_AND => accumulator &= k,
            code if code == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
            code if code == libc::BPF_JMP | libc::BPF_JEQ => at += jump(accumulator == k),
            code if code == libc::BPF_JMP | libc::BPF_JGT => at += jump(accumulator > k),
            code if code == libc::BPF_JMP | libc::BPF_JGE => at += jump(accumulator >= k),
            other => panic!("instruction {other:#x}"),
        }
    }
}

#[test]
fn the_default_policy_decides_as_its_rules_say() {
    let policy = default_policy(&Capabilities::new(), Machine::this()).expect("a policy");
    let program = Filter::compile(&policy).expect("a filter").program;
    let refused = |errno: Option<u32>| libc::SECCOMP_RET_ERRNO | errno.unwrap_or(libc::EPERM.unsigned_abs());
    let fits = |rule: &LinuxSyscall, argument: u64| {
        rule.args().iter().flatten().all(|test| match (test.op(), test.value()) {
            (LinuxSeccompOperator::ScmpCmpLt, value) => argument < value,
            (LinuxSeccompOperator::ScmpCmpEq, value) => argument == value,
            (LinuxSeccompOperator::ScmpCmpGt, value) => argument > value,
            (LinuxSeccompOperator::ScmpCmpMaskedEq, mask) => argument & mask == 0,
            (other, _) => panic!("{other}"),
        })
    };
    let mut let_through = 0;
    for number in 0..=newest_known() {
        let Ok(name) = ScmpSyscall::from(number.cast_signed()).get_name() else { continue };
        for argument in [0, 8, 0x0002_0000, 0xffff_ffff, 40, 41, 1 << 40, 0x1000_0000, 0x0200_0000] {
            let mut rules = policy.syscalls().iter().flatten().filter(|rule| rule.names().contains(&name));
            let expected = match rules.find(|rule| fits(rule, argument)) {
                Some(rule) if rule.action() == LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
                Some(rule) => refused(rule.errno_ret()),
                None => refused(policy.default_errno_ret()),
            };
            assert_eq!(decide(&program, number, argument), expected, "{name}({argument:#x})");
            let_through += u32::from(expected == libc::SECCOMP_RET_ALLOW);
        }
    }
    assert!(let_through > 1000);
}
