//! How much processor time the planner takes for a thousand containers: to be made, in sync, and damaged.

use std::fmt::Write;
use std::time::Duration;

use evenkeel_manifests::load;
use evenkeel_plan::{Desired, Options, Plan, Sight, plan};
use evenkeel_tests::Sandbox;
use evenkeel_tests::model::{Host, settled};

const CONTAINERS: usize = 1000;
const NETWORKS: usize = 10;

/// Prints the least time of several, since only other load adds to it.
pub fn times(_: &Sandbox) {
    let spread = desired(|container| container % NETWORKS);
    let together = desired(|_| 0);
    for (title, desired) in [("spread over ten networks", spread), ("all on one network", together)] {
        println!("{CONTAINERS} containers, {title}");
        let bare = Host::bare();
        let first = measure("  everything is to be made", &desired, &bare);
        let mut host = bare;
        host.apply(&desired, &first);
        assert!(settled(&measure("  everything is in sync", &desired, &host)));
        for sight in host.observed.containers.values_mut() {
            let Sight::Found { observed, .. } = sight else { continue };
            observed.interfaces.iter_mut().flatten().for_each(|interface| interface.addresses.clear());
        }
        measure("  every address was deleted", &desired, &host);
    }
}

fn measure(title: &str, desired: &Desired, host: &Host) -> Plan {
    let observed = host.observe(desired);
    let (mut best, mut result) = (None, Plan::default());
    for _ in 0..15 {
        let start = processor_time();
        result = plan(desired, &observed, &Options::default());
        let took = processor_time() - start;
        best = Some(best.map_or(took, |best: Duration| best.min(took)));
    }
    println!("{title:<32}{:>8.1} ms", best.unwrap_or_default().as_secs_f64() * 1000.0);
    result
}

/// Gives the time that this process had a processor, which other load does not change (`schedstat` in proc(5)).
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("the kernel counts processor time");
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number is nanoseconds"))
}

fn desired(network_of: impl Fn(usize) -> usize) -> Desired {
    let mut text =
        String::from("apiVersion: evenkeel/v1\nkind: Image\nmetadata: {name: app}\nspec: {archive: /srv/app.tar}\n");
    for network in 0..NETWORKS {
        let _ = writeln!(
            text,
            "---\napiVersion: evenkeel/v1\nkind: Network\nmetadata: {{name: net{network}}}\n\
             spec: {{driver: bridge, subnets: [{{subnet: 10.{network}.0.0/16}}]}}"
        );
    }
    for container in 0..CONTAINERS {
        let _ = writeln!(
            text,
            "---\napiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{container}}}\n\
             spec: {{image: app, networks: [{{name: net{}}}], ports: [\"{}:80\"], resources: {{memory: 64Mi}}}}",
            network_of(container),
            10_000 + container
        );
    }
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file can be made");
    std::fs::write(file.path(), text).expect("the temporary file can be written");
    let loaded = load(file.path());
    assert!(!loaded.has_errors(), "{}", evenkeel_manifests::render(&loaded.problems, false));
    loaded.desired
}
