//! Starting containers, looking at them, and what their supervisors cost.

use std::fs;
use std::time::Instant;

use evenkeel_tests::Sandbox;

use crate::compare;
use crate::peers::{Conmon, Runc};

/// Containers that are started in one go.
const COUNT: usize = 20;

/// Compares the start of containers, a pass with nothing to do, and the supervisors' memory.
pub fn starts(sandbox: &Sandbox) {
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    // The image first, so that only the containers are measured.
    sandbox.apply();
    let document = |index| {
        format!(
            "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{index}}}\nspec:\n  image: busybox\n  \
             command: [sleep, \"100000\"]\n  stopSignal: KILL\n"
        )
    };
    sandbox.manifest("containers.yaml", &(0..COUNT).map(document).collect::<Vec<_>>().join("---\n"));
    let seconds = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };

    let ours = seconds(&|| drop(sandbox.apply()));
    let runc = Runc::prepare(sandbox, COUNT);
    compare(&format!("apply, {COUNT} new containers / runc run"), ours, Some(seconds(&|| runc.run_all())), "s");
    runc.delete_all();

    compare("apply, nothing to do", seconds(&|| drop(sandbox.apply())), None, "s");
    compare("drift", seconds(&|| drop(sandbox.evenkeel(&["drift"]).expect_code(0))), None, "s");

    let shims = (0..COUNT).map(|index| {
        let status = sandbox.paths().status(&format!("c{index}").parse().expect("a name"));
        let status = fs::read_to_string(status).expect("the status file");
        let status: serde_json::Value = serde_json::from_str(&status).expect("its JSON");
        proportional_set_size(status["shimPid"].as_u64().expect("the shim's process"))
    });
    let shims = shims.sum::<f64>() / COUNT as f64;
    let conmon = Conmon::find().map(|conmon| {
        let pids = conmon.run_all(&runc);
        let sizes = pids.iter().map(|pid| proportional_set_size(*pid)).sum::<f64>() / pids.len() as f64;
        runc.delete_all();
        sizes
    });
    compare("memory of a supervisor (PSS) / conmon", shims, conmon, "KiB");
}

/// Gives the proportional set size of a process in KiB (proc_pid_smaps(5)).
fn proportional_set_size(pid: u64) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process's memory");
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).expect("its proportional set size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
