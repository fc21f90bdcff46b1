//! What a hundred idle containers cost: memory of everything that supervises them, and the agent's time on the processor.

use std::fs;
use std::time::Duration;

use evenkeel_tests::{Sandbox, ask, eventually};

use crate::containers::{COUNT, declare};
use crate::peers::Docker;
use crate::told;

/// What shims keep for the first ten seconds of a run is gone by then.
const SETTLE: Duration = Duration::from_secs(12);
/// Two looks of the timer, each a whole one, are in it.
const WATCHED: Duration = Duration::from_secs(125);
/// `sysconf(_SC_CLK_TCK)` of every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

const OURS: [&str; 2] = ["evenkeel", "evenkeel-shim"];
/// The names as far as the kernel keeps them.
const DOCKERS: [&str; 4] = ["dockerd", "containerd", "containerd-shim", "docker-proxy"];

/// Prints proportional set sizes and the agent's share of one core.
pub fn costs(sandbox: &Sandbox) {
    declare(sandbox, COUNT);
    let agent = sandbox.agent(&[]);
    eventually("all containers run", || {
        let running = processes(&["sleep"]).len();
        if running == COUNT { Ok(()) } else { Err(format!("{running} run")) }
    });
    std::thread::sleep(SETTLE);
    let before = seconds(agent.pid());
    std::thread::sleep(WATCHED);
    let share = (seconds(agent.pid()) - before) / WATCHED.as_secs_f64();
    let (all, shims) = (memory(&OURS), memory(&OURS[1..]));
    println!("agent with {COUNT} idle containers");
    println!("  processor                 {:>10.3} % of one core over {} s", share * 100.0, WATCHED.as_secs());
    println!("  memory, agent             {:>10.2} MiB", all - shims);
    println!("  memory, a shim            {:>10.3} MiB", shims / COUNT as f64);
    println!("  memory, agent and shims   {all:>10.2} MiB");
    assert!(agent.terminate().success(), "the agent ends as asked");
    sandbox.withdraw("containers.yaml");
    sandbox.apply();

    let Some(docker) = told(Docker::start(sandbox)) else { return };
    let Some(project) = told(docker.compose_project(COUNT)) else { return };
    docker.compose_up(&project);
    std::thread::sleep(SETTLE);
    let docker_all = memory(&DOCKERS);
    println!("  memory, docker's programs {docker_all:>10.2} MiB   ratio {:.3}", all / docker_all);
    docker.compose_down(&project);
}

/// Lists the processes of these names in the sandbox.
fn processes(names: &[&str]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pids.filter(|pid| names.contains(&name(pid).trim())).collect()
}

/// Sums the proportional set sizes of the processes of these names, in MiB.
fn memory(names: &[&str]) -> f64 {
    let size = |pid: &u32| -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let pids = processes(names);
    assert!(!pids.is_empty(), "none of {names:?} runs");
    pids.iter().filter_map(size).sum::<f64>() / 1024.0
}

/// Gives the time that a process was on a processor.
fn seconds(pid: u32) -> f64 {
    ask::processor_ticks(pid) as f64 / TICKS_PER_SECOND
}
