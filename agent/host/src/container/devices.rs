//! Which devices a container may use: the rules, and on cgroup v2 the program that keeps them.
//!
//! cgroup v1 has a controller that takes the rules as text. cgroup v2 has none; it runs a BPF program of type
//! `BPF_PROG_TYPE_CGROUP_DEVICE` at every mknod(2) and open(2) of a device, and without one everything is allowed.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::cgroup::{CgroupError, Hierarchies};

/// The rules could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    #[error("device rules of cgroup {path}")]
    Cgroup {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the kernel refused the program of the device rules")]
    Load(#[source] io::Error),
    #[error("a device rule for type `{0}`")]
    Type(&'static str),
    #[error(transparent)]
    Hierarchies(#[from] CgroupError),
}

/// Gives the rules of every container: nothing but the harmless devices, and making device nodes that then cannot be opened.
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    let rule = |allow, typ, numbers: (Option<i64>, Option<i64>), access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow);
        rule.set_typ(typ);
        rule.set_major(numbers.0);
        rule.set_minor(numbers.1);
        rule.set_access(Some(access.to_owned()));
        rule
    };
    let mut rules = vec![
        rule(false, None, (None, None), "rwm"),
        rule(true, Some(C), (None, None), "m"),
        rule(true, Some(B), (None, None), "m"),
    ];
    // null, zero, full, random, urandom, tty, console, ptmx, pts (the kernel's admin-guide/devices.txt).
    let characters = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(characters.map(|(major, minor)| rule(true, Some(C), (Some(major), Some(minor)), "rwm")));
    rules.push(rule(true, Some(C), (Some(136), None), "rwm"));
    rules
}

/// Puts rules in force for a cgroup where the host has cgroup v2; elsewhere the runtime wrote them to the controller.
pub fn restrict(cgroup: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), DevicesError> {
    let Hierarchies::Unified(root) = Hierarchies::of_host()? else { return Ok(()) };
    let directory = root.join(cgroup.strip_prefix("/").unwrap_or(cgroup));
    attach(&directory, &program(rules)?)
}

/// One instruction of the kernel's BPF machine (linux/bpf.h, `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones (on little-endian machines).
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        let registers =
            if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
        Instruction { code, registers, offset, immediate }
    }
}

const LOAD_WORD: u8 = 0x61;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const COPY_32: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Registers: the answer, the context, and the parts of the request.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Writes the program: the last rule that fits decides, as in the v1 controller; without one the answer is no.
pub fn program(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Instruction>, DevicesError> {
    // struct bpf_cgroup_dev_ctx: access_type (access in the high half, type in the low one), major, minor.
    let mut program = vec![
        Instruction::new(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        Instruction::new(COPY_32, ACCESS, TYPE, 0, 0),
        Instruction::new(AND_32, TYPE, 0, 0, 0xffff),
        Instruction::new(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let block = block(rule)?;
        let always = block.len() == 2;
        program.extend(block);
        if always {
            // The kernel refuses a program with instructions that are never reached.
            return Ok(program);
        }
    }
    program.push(Instruction::new(SET, ANSWER, 0, 0, 0));
    program.push(Instruction::new(EXIT, 0, 0, 0, 0));
    Ok(program)
}

/// The instructions of one rule: every test that fails jumps behind its end.
fn block(rule: &LinuxDeviceCgroup) -> Result<Vec<Instruction>, DevicesError> {
    let mut tests: Vec<Vec<Instruction>> = Vec::new();
    let typ = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(1),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(2),
        LinuxDeviceType::P => return Err(DevicesError::Type("p")),
    };
    if let Some(typ) = typ {
        tests.push(vec![Instruction::new(JUMP_NOT_EQUAL, TYPE, 0, 0, typ)]);
    }
    let access = rule.access().as_deref().unwrap_or("rwm");
    let bit = |letter, bit| if access.contains(letter) { bit } else { 0 };
    let mask = bit('m', 1) | bit('r', 2) | bit('w', 4);
    if mask != 7 {
        let masked = [Instruction::new(COPY_32, SCRATCH, ACCESS, 0, 0), Instruction::new(AND_32, SCRATCH, 0, 0, mask)];
        // Allowed is what is wholly within the rule, denied what has any part in it.
        let fits = match rule.allow() {
            true => Instruction::new(JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0, 0),
            false => Instruction::new(JUMP_EQUAL, SCRATCH, 0, 0, 0),
        };
        tests.push([masked.as_slice(), &[fits]].concat());
    }
    // A negative number stands for every one.
    for (number, register) in [(rule.major(), MAJOR), (rule.minor(), MINOR)] {
        if let Some(number) = number.and_then(|number| i32::try_from(number).ok()).filter(|number| *number >= 0) {
            tests.push(vec![Instruction::new(JUMP_NOT_EQUAL, register, 0, 0, number)]);
        }
    }
    let mut block: Vec<Instruction> = tests.concat();
    block.push(Instruction::new(SET, ANSWER, 0, 0, i32::from(rule.allow())));
    block.push(Instruction::new(EXIT, 0, 0, 0, 0));
    let length = block.len();
    for (index, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER | JUMP_EQUAL) {
            // A block has some ten instructions.
            instruction.offset = (length - index - 1) as i16;
        }
    }
    Ok(block)
}

/// The part of `union bpf_attr` for loading, as of Linux 4.15; the kernel takes what is missing as zero.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

fn attach(directory: &Path, program: &[Instruction]) -> Result<(), DevicesError> {
    const LOAD: libc::c_int = 5;
    const ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE_PROGRAM: u32 = 15;
    const CGROUP_DEVICE_ATTACH: u32 = 6;
    const ALLOW_MULTIPLE: u32 = 2;
    let failed = |source| DevicesError::Cgroup { path: directory.to_owned(), source };
    let cgroup = File::open(directory).map_err(failed)?;
    let load = Load {
        program_type: CGROUP_DEVICE_PROGRAM,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the pointers in it outlive the call, and the size is that of the structure.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const load, size_of::<Load>()) };
    if loaded < 0 {
        return Err(DevicesError::Load(io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    let attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: CGROUP_DEVICE_ATTACH,
        flags: ALLOW_MULTIPLE,
    };
    // SAFETY: as above. The cgroup holds the program from then on.
    let attached = unsafe { libc::syscall(libc::SYS_bpf, ATTACH, &raw const attach, size_of::<Attach>()) };
    if attached < 0 { Err(failed(io::Error::last_os_error())) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
