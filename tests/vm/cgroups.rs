//! cgroup v2 with all its controllers, which few machines that build software have.

use evenkeel_tests::vm::{Init, Machine};

use crate::manifests::{self, BUSYBOX, DIRECTORY, documents, shell};
use crate::on_machine;

const CALM: &str = "/sys/fs/cgroup/evenkeel/calm";

/// A container that turns without end, within limits that it feels.
fn calm(memory: &str) -> String {
    let more = format!("resources: {{memory: {memory}, cpus: 0.2, pids: 20}}\nnetworkMode: none");
    shell("calm", "busybox", "while :; do :; done", &more)
}

fn write(machine: &mut Machine, calm: &str) {
    // What takes all memory it can get, and what starts as many processes as it can.
    let greedy = "resources: {memory: 32Mi}\nnetworkMode: none\nrestart: {policy: never}";
    let greedy = shell("greedy", "busybox", "exec tail /dev/zero", greedy);
    let forking = "(for i in $(seq 30); do sleep 10000 & done); echo the shell goes on; exec sleep 10000";
    let forking = shell("forking", "busybox", forking, "resources: {pids: 10}\nnetworkMode: none");
    machine.write(&format!("{DIRECTORY}/all.yaml"), &documents(&[BUSYBOX, calm, &greedy, &forking]));
}

/// What is killed at its start is a step that failed; nothing else may fail.
#[track_caller]
fn apply(machine: &mut Machine) {
    let run = machine.run(&format!("evenkeel apply -f {DIRECTORY}"));
    assert!(matches!(run.code, Some(0 | 1)), "{run}");
    let mut failed = run.stdout.lines().chain(run.stderr.lines()).filter(|line| line.starts_with("failed: "));
    assert!(failed.all(|line| line.contains("greedy")), "{run}");
}

fn pid(machine: &mut Machine) -> String {
    machine.sh(&format!("cat {CALM}/cgroup.procs")).stdout
}

#[test]
fn limits_are_in_force() {
    on_machine(Init::Busybox, "limits", |machine| {
        machine.sh("cat /sys/fs/cgroup/cgroup.controllers").says("cpu").says("memory").says("pids");
        write(machine, &calm("64Mi"));
        apply(machine);

        let files = format!("cd {CALM}; cat memory.max memory.swap.max cpu.max pids.max");
        assert_eq!(machine.sh(&files).stdout, "67108864\n0\n20000 100000\n20\n");
        let throttled = format!("grep nr_throttled {CALM}/cpu.stat");
        machine.eventually(&throttled, |run| (!run.stdout.ends_with(" 0\n")).then_some(()));

        // Ended by the kernel, and said so.
        machine.eventually("evenkeel ps; evenkeel status", |run| {
            let lines: Vec<&str> = run.stdout.lines().filter(|line| line.contains("greedy")).collect();
            (lines.len() == 2 && lines.iter().all(|line| line.contains("out of memory"))).then_some(())
        });

        let forking = "cat /sys/fs/cgroup/evenkeel/forking/pids.events; evenkeel logs forking";
        machine.eventually(forking, |run| {
            let refused = run.stdout.starts_with("max ") && !run.stdout.starts_with("max 0\n");
            (refused && run.stderr.contains("can't fork")).then_some(())
        });

        // Altered from outside: seen, and put right while the container runs.
        let before = pid(machine);
        machine.sh(&format!("cd {CALM}; echo 100M >memory.max; echo max >cpu.max; echo 33 >pids.max"));
        let drift = machine.run("evenkeel drift").expect_code(1);
        for field in ["resources.memory", "resources.cpus", "resources.pids"] {
            assert!(drift.stdout.contains(field), "{drift}");
        }
        apply(machine);
        assert_eq!(machine.sh(&files).stdout, "67108864\n0\n20000 100000\n20\n");
        machine.sh(&format!("echo 1M >{CALM}/memory.swap.max"));
        machine.run("evenkeel drift").expect_code(1).says("resources.memory.swap");
        apply(machine);
        assert_eq!(machine.sh(&files).stdout, "67108864\n0\n20000 100000\n20\n");

        write(machine, &calm("96Mi"));
        apply(machine);
        assert_eq!(machine.sh(&files).stdout, "100663296\n0\n20000 100000\n20\n");
        assert_eq!(pid(machine), before, "limits are changed without a restart");

        manifests::remove_all(machine);
        machine.sh("test ! -e /sys/fs/cgroup/evenkeel");
    });
}
