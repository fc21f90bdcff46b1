//! System call filters as the kernel takes them: compiled once for each policy, loaded in the container's process.
//!
//! libseccomp takes milliseconds for a policy of some hundred names, as long as everything else that a start costs. So
//! its program is kept at `<root>/.filters/`, which goes with a reboot, together with all that it was made from.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, ScmpVersion};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};

/// Size of `struct sock_filter` (linux/filter.h).
const INSTRUCTION: usize = 8;

/// Counted up where a policy compiles to another program than before: what was kept is then of no use.
const COMPILER: u32 = 3;
/// The level of `SCMP_FLTATR_CTL_OPTIMIZE` (seccomp_attr_set(3)) for a program that searches in few steps.
const SEARCH_TREE: u32 = 2;

/// Why a policy does not become a filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("{what}")]
    Refused {
        what: String,
        #[source]
        source: SeccompError,
    },
    #[error("{action} takes no error number {errno}")]
    Errno { action: LinuxSeccompAction, errno: u32 },
    #[error("the program cannot be read from libseccomp")]
    Export(#[source] io::Error),
}

/// A compiled policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    flags: libc::c_ulong,
    /// The newest native system call that the policy could name; those after it are answered with ENOSYS. `None` where the
    /// policy does not answer with an error what it does not name.
    newest: Option<u32>,
}

impl Filter {
    /// Compiles a policy, or takes what was compiled before.
    pub fn of(root: &Path, policy: &LinuxSeccomp) -> Result<Filter, FilterError> {
        let made_from = made_from(policy);
        let mut hasher = DefaultHasher::new();
        made_from.hash(&mut hasher);
        let directory = root.join(".filters");
        let path = directory.join(format!("{:016x}", hasher.finish()));
        let kept = || fs::read(&path).ok().and_then(|bytes| Filter::decode(&bytes, &made_from));
        if let Some(kept) = kept() {
            return Ok(kept);
        }
        // Containers that start side by side wait for the one that compiles; where there is no lock, each compiles.
        let lock = fs::create_dir_all(&directory).and_then(|()| fs::File::open(&directory));
        let _lock = lock.and_then(|file| file.lock().map(|()| file));
        if let Some(kept) = kept() {
            return Ok(kept);
        }
        let filter = Filter::compile(policy)?;
        // One that cannot be kept is compiled again.
        let _ = keep(&path, &filter.encode(&made_from));
        Ok(filter)
    }

    /// Gives the bytes of a kept filter: what it was made from, flags, newest call and length as text, then the program.
    fn encode(&self, made_from: &str) -> Vec<u8> {
        let newest = self.newest.map_or(-1, i64::from);
        let mut bytes = format!("{made_from}\n{} {newest} {}\n", self.flags, self.program.len()).into_bytes();
        bytes.extend(&self.program);
        bytes
    }

    /// Reads a kept filter; `None` where it is not whole or was made from something else.
    fn decode(bytes: &[u8], made_from: &str) -> Option<Filter> {
        let rest = bytes.strip_prefix(made_from.as_bytes())?.strip_prefix(b"\n")?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (numbers, program) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
        let mut numbers = numbers.split(' ');
        let flags = numbers.next()?.parse().ok()?;
        let newest = u32::try_from(numbers.next()?.parse::<i64>().ok()?).ok();
        let whole = numbers.next()?.parse() == Ok(program.len()) && !program.is_empty();
        whole.then(|| Filter { program: program.to_vec(), flags, newest })
    }

    fn compile(policy: &LinuxSeccomp) -> Result<Filter, FilterError> {
        let refused = |what: String| move |source| FilterError::Refused { what, source };
        let default = action(policy.default_action(), policy.default_errno_ret())?;
        let mut context = ScmpFilterContext::new(default).map_err(refused("the default action".to_owned()))?;
        // The kernel runs a new filter once for every system call, to note those that are always let through: a search tree takes
        // it half as long as a list. Before libseccomp 2.5 there is the list alone.
        let _ = context.set_ctl_optimize(SEARCH_TREE);
        for architecture in policy.architectures().iter().flatten() {
            let known = self::architecture(*architecture);
            context.add_arch(known).map_err(refused(format!("architecture {architecture}")))?;
        }
        for rule in policy.syscalls().iter().flatten() {
            let action = action(rule.action(), rule.errno_ret())?;
            if action == default {
                // libseccomp takes no rule that changes nothing.
                continue;
            }
            for name in rule.names() {
                // One that this release of libseccomp has no name for is newer; see `newest`.
                let Ok(call) = ScmpSyscall::from_name(name) else { continue };
                add(&mut context, action, call, rule).map_err(refused(format!("system call {name}")))?;
            }
        }
        let program = export(&context).map_err(FilterError::Export)?;
        let flags = policy.flags().iter().flatten().map(|flag| match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // Is about notifications, which no policy may have here.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        });
        let answers = policy.default_action() == LinuxSeccompAction::ScmpActErrno;
        Ok(Filter { program, flags: flags.fold(0, |all, flag| all | flag), newest: answers.then(newest_known) })
    }

    /// Puts the filter on the calling thread, and a second one that answers ENOSYS to system calls newer than libseccomp.
    ///
    /// Programs fall back from a new system call to an older one when it is ENOSYS, and fail when it is EPERM, which is
    /// what a list of allowed names says of every number that it has no name for.
    pub fn load(&self) -> io::Result<()> {
        let mut program: Vec<libc::sock_filter> = self.program.chunks_exact(INSTRUCTION).map(instruction).collect();
        let given = given(&mut program)?;
        // SAFETY: the program is valid for the length it states, and the kernel copies and checks it.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const given) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.newest.map_or(Ok(()), answer_unknown)
    }
}

/// States all that a compiled filter depends on, on one line.
fn made_from(policy: &LinuxSeccomp) -> String {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let library = ScmpVersion::current().map(|version| version.to_string());
    // A policy holds only what JSON takes.
    let policy = serde_json::to_string(policy).unwrap_or_default();
    let own = env!("CARGO_PKG_VERSION");
    format!("{own} {COMPILER} {} {} {policy}", kernel.unwrap_or_default(), library.unwrap_or_default())
}

/// Writes a file so that whoever reads it at the same time sees all of it or nothing.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(std::process::id().to_string());
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path)
}

fn export(context: &ScmpFilterContext) -> io::Result<Vec<u8>> {
    let mut file = fs::File::from(memfd_create(c"evenkeel-filter", MFdFlags::MFD_CLOEXEC)?);
    context.export_bpf(&file).map_err(io::Error::other)?;
    file.flush()?;
    file.rewind()?;
    let mut program = Vec::new();
    file.read_to_end(&mut program)?;
    Ok(program)
}

/// Adds one rule. An argument that is tested twice makes two rules, as runc has it: libseccomp takes one test each.
fn add(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    call: ScmpSyscall,
    rule: &LinuxSyscall,
) -> Result<(), SeccompError> {
    let Some(arguments) = rule.args() else { return context.add_rule(action, call).map(drop) };
    let tests: Vec<(usize, ScmpArgCompare)> = arguments
        .iter()
        .map(|argument| {
            // There are six arguments; libseccomp refuses what is beyond.
            let index = u32::try_from(argument.index()).unwrap_or(u32::MAX);
            let (test, datum) = comparison(argument);
            (argument.index(), ScmpArgCompare::new(index, test, datum))
        })
        .collect();
    let twice = tests.iter().enumerate().any(|(at, (index, _))| tests[..at].iter().any(|(other, _)| other == index));
    let tests: Vec<ScmpArgCompare> = tests.into_iter().map(|(_, test)| test).collect();
    if twice {
        return tests.iter().try_for_each(|test| context.add_rule_conditional(action, call, &[*test]).map(drop));
    }
    context.add_rule_conditional(action, call, &tests).map(drop)
}

/// Gives a test and what is tested for. Where bits are, `value` is the mask and `valueTwo` what they are to be, as runc has it.
fn comparison(argument: &LinuxSeccompArg) -> (ScmpCompareOp, u64) {
    let test = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            return (ScmpCompareOp::MaskedEqual(argument.value()), argument.value_two().unwrap_or(0));
        }
    };
    (test, argument.value())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, FilterError> {
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    let wrong = |_| FilterError::Errno { action, errno };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::try_from(errno).map_err(wrong)?),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(u16::try_from(errno).map_err(wrong)?),
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
    })
}

fn architecture(architecture: Arch) -> ScmpArch {
    match architecture {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

/// The highest native system call number that libseccomp has a name for.
fn newest_known() -> u32 {
    (0..1024).rev().find(|number| ScmpSyscall::from(*number).get_name().is_ok()).unwrap_or(1024).unsigned_abs()
}

fn answer_unknown(newest: u32) -> io::Result<()> {
    // The layout of struct seccomp_data: nr at 0, arch at 4.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    /// Set in the numbers of the x32 ABI, which are not newer for it.
    const X32: u32 = 0x4000_0000;
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let jump = |test, value, yes, no| statement(libc::BPF_JMP | test | libc::BPF_K, yes, no, value);
    let answer = |value| statement(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let errno = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let mut program = [
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, native_architecture(), 0, 4),
        load(NUMBER),
        jump(libc::BPF_JGE, X32, 2, 0),
        jump(libc::BPF_JGT, newest, 0, 1),
        answer(errno),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let given = given(&mut program)?;
    // By prctl(2), which policies let through more often than seccomp(2).
    // SAFETY: the program is valid for the length it states, and the kernel copies and checks it.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const given) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn given(program: &mut [libc::sock_filter]) -> io::Result<libc::sock_fprog> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(libc::sock_fprog { len, filter: program.as_mut_ptr() })
}

fn statement(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Reads one `struct sock_filter` as libseccomp writes it, in the machine's own byte order.
fn instruction(bytes: &[u8]) -> libc::sock_filter {
    let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
    let k = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    libc::sock_filter { code, jt: bytes[2], jf: bytes[3], k }
}

/// AUDIT_ARCH_* of linux/audit.h; 0, which no call bears, where it is not known here.
fn native_architecture() -> u32 {
    match std::env::consts::ARCH {
        "x86_64" => 0xc000_003e,
        "aarch64" => 0xc000_00b7,
        "riscv64" => 0xc000_00f3,
        "powerpc64" if cfg!(target_endian = "little") => 0xc000_0015,
        "s390x" => 0x8000_0016,
        "loongarch64" => 0xc000_0102,
        "arm" => 0x4000_0028,
        "x86" => 0x4000_0003,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
