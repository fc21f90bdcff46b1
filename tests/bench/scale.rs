//! A thousand containers on one bridge beside a hundred: what one of them costs more.

use std::time::{Duration, Instant};

use evenkeel_tests::Sandbox;

/// Numbers of containers that are compared; the first is the measure.
const COUNTS: [usize; 2] = [100, 1000];
const DEEDS: [&str; 3] = ["from nothing", "nothing to do", "away again"];

/// Makes each number of containers, passes over them with nothing to do, and takes them away.
pub fn thousand(sandbox: &Sandbox) {
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    sandbox.manifest(
        "network.yaml",
        "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: lan}\nspec: {driver: bridge, subnets: [{subnet: \
         10.87.0.0/16}]}\n",
    );
    // Image and network first, so that only containers are measured.
    sandbox.apply();
    let measured = COUNTS.map(|count| (count, measure(sandbox, count)));
    println!("containers with a published port on one bridge, for each");
    for (deed, name) in DEEDS.iter().enumerate() {
        for (count, times) in &measured {
            let each = |count: usize, time: Duration| time.as_secs_f64() * 1e3 / count as f64;
            let one = each(*count, times[deed]);
            let ratio = one / each(measured[0].0, measured[0].1[deed]);
            println!("  {:<40} {one:>10.2} ms   ratio {ratio:.2}", format!("{name}, {count}"));
        }
    }
}

fn measure(sandbox: &Sandbox, count: usize) -> [Duration; 3] {
    let container = |index: usize| {
        format!(
            "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{index}}}\nspec:\n  image: busybox\n  command: \
             [/bin/sleep, \"100000\"]\n  stopSignal: KILL\n  networks: [{{name: lan}}]\n  ports: [\"{}:80\"]\n",
            20_000 + index
        )
    };
    let apply = || {
        let start = Instant::now();
        sandbox.apply();
        start.elapsed()
    };
    sandbox.manifest("containers.yaml", &(0..count).map(container).collect::<Vec<_>>().join("---\n"));
    let (made, idle) = (apply(), apply());
    sandbox.withdraw("containers.yaml");
    [made, idle, apply()]
}
