use super::*;

/// Runs a program as the kernel would, for the instructions that are used.
fn allows(program: &[Instruction], typ: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [access << 16 | typ, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0usize;
    loop {
        let Instruction { code, registers: both, offset, immediate } = program[at];
        let (destination, source) = (usize::from(both & 0xf), usize::from(both >> 4));
        let jump = match code {
            LOAD_WORD => {
                registers[destination] = u64::from(context[offset as usize / 4]);
                false
            }
            AND_32 => {
                registers[destination] &= immediate as u64;
                false
            }
            SHIFT_RIGHT_32 => {
                registers[destination] >>= immediate;
                false
            }
            COPY_32 => {
                registers[destination] = registers[source];
                false
            }
            SET => {
                registers[destination] = immediate as u64;
                false
            }
            JUMP_NOT_EQUAL => registers[destination] != immediate as u64,
            JUMP_NOT_EQUAL_REGISTER => registers[destination] != registers[source],
            JUMP_EQUAL => registers[destination] == immediate as u64,
            EXIT => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        };
        at += 1 + if jump { usize::try_from(offset).unwrap() } else { 0 };
    }
}

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

#[test]
fn the_default_rules_let_nodes_be_made_and_only_harmless_ones_be_opened() {
    let program = program(&default_rules()).unwrap();
    assert!(allows(&program, CHARACTER, READ | WRITE, 1, 3), "/dev/null");
    assert!(allows(&program, CHARACTER, READ | WRITE, 136, 7), "a terminal");
    assert!(allows(&program, BLOCK, MAKE, 8, 0), "mknod of a disk");
    assert!(!allows(&program, BLOCK, READ, 8, 0), "reading a disk");
    assert!(!allows(&program, BLOCK, READ | MAKE, 8, 0));
    assert!(!allows(&program, CHARACTER, READ, 1, 1), "/dev/mem");
    assert!(!allows(&program, CHARACTER, READ, 10, 200), "/dev/net/tun");
}

#[test]
fn the_last_rule_that_fits_decides() {
    let mut rules = default_rules();
    let mut deny = rules[3].clone();
    deny.set_allow(false);
    deny.set_access(Some("w".to_owned()));
    rules.push(deny);
    let program = program(&rules).unwrap();
    assert!(allows(&program, CHARACTER, READ, 1, 3));
    assert!(!allows(&program, CHARACTER, READ | WRITE, 1, 3));
}

#[test]
fn no_rules_are_no_devices() {
    assert!(!allows(&program(&[]).unwrap(), CHARACTER, READ, 1, 3));
}

/// Against the kernel, which verifies the program and then asks it: cgroup v2 keeps device rules on hybrid hosts too.
#[test]
fn the_kernel_takes_the_program_and_keeps_the_rules() {
    let Some(root) = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"]
        .iter()
        .find(|file| Path::new(file).exists())
        .and_then(|file| Path::new(file).parent())
    else {
        panic!("this host has no cgroup v2 mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified");
    };
    let directory = root.join(format!("evenkeel-unit-devices-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let attached = attach(&directory, &program(&default_rules()).unwrap());
    let script = format!(
        "echo $$ >{}/cgroup.procs; head -c1 /dev/zero >/dev/null && echo zero; \
         head -c1 /dev/kmsg >/dev/null 2>&1 || echo no kmsg",
        directory.display()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output();
    let removed = std::fs::remove_dir(&directory);
    attached.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), "zero\nno kmsg\n");
    removed.unwrap();
}
