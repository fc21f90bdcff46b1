use std::fs;

use evenkeel_shim::{Health, HealthConfig, Phase, Request};

use crate::container::Container;

fn probing(script: &str) -> Container {
    let mut container = Container::new("sleep 100");
    container.config.health = Some(HealthConfig {
        exec: ["sh", "-c", script].map(str::to_owned).to_vec(),
        interval_ms: 200,
        timeout_ms: 500,
        retries: 2,
        start_period_ms: 0,
    });
    container
}

fn wait_for(container: &Container, health: Health) {
    container.wait_until(&format!("{health:?}"), |status| (status.health == health).then_some(()));
}

#[test]
fn health_follows_the_probe() {
    let mut container = probing("test -e /tmp/well");
    container.write_bundle();
    let well = container.config.bundle.join("rootfs/tmp/well");
    fs::write(&well, "").unwrap();
    container.start();
    wait_for(&container, Health::Healthy);
    fs::remove_file(&well).unwrap();
    wait_for(&container, Health::Unhealthy);
    fs::write(&well, "").unwrap();
    wait_for(&container, Health::Healthy);

    container.config.health = None;
    container.write_config();
    assert_eq!(container.ask(&Request::Reload).error, None);
    wait_for(&container, Health::None);
}

#[test]
fn a_probe_that_hangs_fails_and_leaves_no_process() {
    let mut container = probing("exec sleep 1000");
    container.start();
    wait_for(&container, Health::Unhealthy);
    // Without the probe there is the shell, or the sleep that it became, alone.
    container.config.health = None;
    container.write_config();
    assert_eq!(container.ask(&Request::Reload).error, None);
    let processes = || {
        let cgroup = &container.config.cgroups.last().unwrap().path;
        fs::read_to_string(cgroup.join("cgroup.procs")).unwrap().lines().count()
    };
    container.wait_until("without a probe", |status| {
        (matches!(status.phase, Phase::Running { .. }) && processes() == 1).then_some(())
    });
}
