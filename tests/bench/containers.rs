//! Starting one container, and a hundred on one bridge, beside peers. What supervisors cost is `shim-memory.sh`.

use std::time::{Duration, Instant};

use evenkeel_tests::Sandbox;

use crate::execs::Execs;
use crate::peers::{COMMAND, Docker, Missing, Podman, Raw, Runc};
use crate::{Figures, told};

/// Times that each is measured, taking turns, so that a slow moment of the machine meets all of them.
const ROUNDS: usize = 11;
/// Times that the slow peers are measured.
const SLOW_ROUNDS: usize = 5;

/// Containers on the one bridge.
pub const COUNT: usize = 100;

/// Compares the start of one container, with and without a network.
pub fn one(sandbox: &Sandbox) {
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    sandbox.manifest("network.yaml", &network());
    // Image and network first, so that only the container is measured.
    sandbox.apply();
    let raw = Raw::prepare(sandbox);
    let runc = told(Runc::prepare(sandbox, 1));
    let podman = told(Podman::prepare(sandbox));
    let docker = told(Docker::start(sandbox));
    let execs = Execs::watch(sandbox, COMMAND[0]);
    // Until the process runs, and until who started it returns.
    let (mut runs, mut returns) = (Figures::default(), Figures::default());
    let mut add = |what, start: &mut dyn FnMut()| {
        let mut returned = Duration::ZERO;
        runs.add(what, execs.time(|| returned = timed(start)));
        returns.add(what, returned);
    };
    for round in 0..ROUNDS {
        let mut started = None;
        add("raw system calls", &mut || started = Some(raw.start_one()));
        drop(started);
        for (what, networks) in [(OURS, ""), (OURS_ON_BRIDGE, "networks: [{name: lan}]")] {
            sandbox.manifest("containers.yaml", &container(0, networks));
            add(what, &mut || drop(sandbox.apply()));
            sandbox.withdraw("containers.yaml");
            sandbox.apply();
        }
        if let Some(runc) = &runc {
            add("runc run --detach", &mut || runc.run_detached(0));
            runc.delete(0);
        }
        if round >= SLOW_ROUNDS {
            continue;
        }
        if let Some(podman) = &podman {
            add("podman run --detach", &mut || podman.run_detached("one", &[]));
            podman.remove(&["one"]);
        }
        if let Some(docker) = &docker {
            add("docker run --detach", &mut || docker.run_detached("one", &[]));
            docker.remove(&["one"]);
            add("docker run --detach --network none", &mut || docker.run_detached("one", &["--network=none"]));
            docker.remove(&["one"]);
        }
    }
    runs.print("one container, until its process runs", OURS);
    returns.print("one container, until the command returns", OURS);
}

const OURS: &str = "evenkeel apply";
const OURS_ON_BRIDGE: &str = "evenkeel apply, on a bridge";

/// Compares a hundred containers on one bridge from nothing, then a pass with nothing to do.
pub fn hundred(sandbox: &Sandbox) {
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    sandbox.apply();
    let raw = Raw::prepare(sandbox);
    let mut figures = Figures::default();
    let mut idle = Figures::default();
    for _ in 0..3 {
        let (took, started) = raw.start_on_bridge(COUNT);
        figures.add("raw system calls", took);
        drop(started);
        raw.clear_bridge();
        declare(sandbox, COUNT);
        figures.add(OURS, timed(|| drop(sandbox.apply())));
        idle.add(OURS, timed(|| drop(sandbox.apply())));
        sandbox.withdraw("containers.yaml");
        sandbox.withdraw("network.yaml");
        sandbox.apply();
    }
    let mut compose = || -> Result<(), Missing> {
        let docker = Docker::start(sandbox)?;
        let project = docker.compose_project(COUNT)?;
        figures.add("docker-compose up --detach", timed(|| docker.compose_up(&project)));
        idle.add("docker-compose up --detach", timed(|| docker.compose_up(&project)));
        docker.compose_down(&project);
        Ok(())
    };
    told(compose());
    figures.print("a hundred containers on one bridge, from nothing", OURS);
    idle.print("a hundred containers, nothing to do", OURS);
}

/// States containers on one bridge network.
pub fn declare(sandbox: &Sandbox, count: usize) {
    let containers: Vec<String> = (0..count).map(|index| container(index, "networks: [{name: lan}]")).collect();
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    sandbox.manifest("network.yaml", &network());
    sandbox.manifest("containers.yaml", &containers.join("---\n"));
}

fn network() -> String {
    "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: lan}\nspec: {driver: bridge, subnets: [{subnet: \
     10.87.0.0/16}]}\n"
        .to_owned()
}

fn container(index: usize, networks: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{index}}}\nspec:\n  image: busybox\n  command: \
         {COMMAND:?}\n  stopSignal: KILL\n  {networks}\n"
    )
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
