//! A container that fails, is started again, talks, is probed, waited for, stopped by hand and started by hand.

use evenkeel_tests::{Run, Sandbox, ask, run};

use super::driver::Driver;
use super::walk::Scenario;
use crate::story;

pub struct Life<'s>(&'s Sandbox);

/// Fails the first time, and then has more to say than one file of its log takes.
const LINE: &str = "test -e /ran || { touch /ran; exit 1; }; yes line | head -n 200; exec sleep 100000";
const MORE: &str = "  restart: {policy: always, backoff: {initial: 10ms}}\n  log: {maxSize: 1Ki, maxFiles: 2}\n  \
                    health: {exec: [\"true\"], interval: 1s}\n";

const STAGES: [&str; 3] = ["create", "stop", "remove"];

impl<'s> Life<'s> {
    pub fn new(sandbox: &'s Sandbox) -> Life<'s> {
        Life(sandbox)
    }
}

impl Scenario for Life<'_> {
    fn stages(&self) -> &[&'static str] {
        &STAGES
    }

    fn prepare(&self, stage: &str) {
        let sandbox = self.0;
        match stage {
            "create" => {
                sandbox.manifest("image.yaml", &sandbox.busybox_image());
                sandbox.manifest("sick.yaml", &story::shell("sick", LINE, MORE));
                let waits = "  dependsOn: [{container: sick, condition: healthy}]\n";
                sandbox.manifest("waits.yaml", &story::shell("waits", "exec sleep 100000", waits));
            }
            "remove" => sandbox.withdraw_all(),
            _ => {}
        }
    }

    fn run(&self, stage: &str, driver: Driver, environment: &[(&str, String)]) -> Run {
        if stage != "stop" {
            return driver.run(self.0, environment);
        }
        let mut stop = self.0.command(&["stop", "sick"]);
        let stopped = run(stop.envs(environment.iter().cloned()));
        if !stopped.succeeded() {
            return stopped;
        }
        self.0.evenkeel(&["drift"]).expect_code(1).says("sick");
        self.0.evenkeel(&["start", "sick"])
    }

    fn verify(&self, stage: &str) {
        if stage == "remove" {
            return;
        }
        story::running(self.0, "waits");
        ask::eventually("sick is healthy", || {
            let status = story::status(self.0, "sick").ok_or("no status file")?;
            if status["health"] == "healthy" { Ok(()) } else { Err(status.to_string()) }
        });
    }
}
