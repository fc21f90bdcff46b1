//! Runs a command on a kernel that lacks something: system calls that fail for it and for all that it starts.
//!
//! `evenkeel-test-without CALL[,CALL]... COMMAND [ARGUMENT]...`: CALL is a name of the table below. A filter of seccomp(2)
//! answers as a kernel answers that was built without the call, or that knows no such operation.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::libc;

/// A call, the first argument for which it fails (any where none is named), and with what.
type Lack = (libc::c_long, Option<u32>, i32);

fn lacks(name: &str) -> Option<Vec<Lack>> {
    Some(match name {
        "acct" => vec![(libc::SYS_acct, None, libc::ENOSYS)],
        "mount_setattr" => vec![(libc::SYS_mount_setattr, None, libc::ENOSYS)],
        "openat2" => vec![(libc::SYS_openat2, None, libc::ENOSYS)],
        // PR_GET_SECCOMP and PR_SET_SECCOMP: without CONFIG_SECCOMP there is no such operation.
        "seccomp" => vec![
            (libc::SYS_seccomp, None, libc::ENOSYS),
            (libc::SYS_prctl, Some(21), libc::EINVAL),
            (libc::SYS_prctl, Some(22), libc::EINVAL),
        ],
        _ => return None,
    })
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(names), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: evenkeel-test-without CALL[,CALL]... COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let names = names.into_string().expect("names of calls");
    let lacks: Vec<Lack> = names
        .split(',')
        .flat_map(|name| lacks(name).unwrap_or_else(|| panic!("no call is known as `{name}`")))
        .collect();
    install(&lacks);
    let error = Command::new(&program).args(arguments).exec();
    panic!("{}: {error}", program.display());
}

/// Puts the filter in force for this process and all that come of it.
fn install(lacks: &[Lack]) {
    // Offsets in struct seccomp_data: the call's number, and the lower half of its first argument.
    const NUMBER: u32 = 0;
    const ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let skip_unless = |k: u32, jf: u8| {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        libc::sock_filter { code, jt: 0, jf, k }
    };
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let answer = |value| statement(libc::BPF_RET | libc::BPF_K, value);
    let mut program = Vec::new();
    for (call, argument, error) in lacks {
        let refused = answer(libc::SECCOMP_RET_ERRNO | error.unsigned_abs());
        program.push(load(NUMBER));
        let call = u32::try_from(*call).expect("calls have small numbers");
        match argument {
            None => program.extend([skip_unless(call, 1), refused]),
            Some(argument) => {
                program.extend([skip_unless(call, 3), load(ARGUMENT), skip_unless(*argument, 1), refused]);
            }
        }
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let length = u16::try_from(program.len()).expect("a short program");
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the program and its length are valid for the call, which copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    assert_eq!(result, 0, "seccomp(2): {}", std::io::Error::last_os_error());
}
