//! The unit under Debian's systemd: readiness, watchdog, restart, upgrade and stop, and what a reboot brings back.

use evenkeel_tests::vm::{Disk, Init, Machine};

use crate::manifests::{BUSYBOX, DIRECTORY, NETWORK, documents, shell};
use crate::{on_machine, with_image};

const PAGE: &str = "curl -sS http://127.0.0.1:8080/";

/// A container that becomes healthy after a while, and one with a volume and a published port that waits for it.
fn write_manifests(machine: &mut Machine) {
    let volume = "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: pages}\nspec: {}\n";
    let cache = "networks: [{name: lan}]\nhealth: {exec: [test, -e, /tmp/warm], interval: 1s, retries: 100}\n\
                 resources: {memory: 64Mi, pids: 30}";
    let cache = shell("cache", "busybox", "rm -f /tmp/warm; sleep 2; touch /tmp/warm; exec sleep 1000000", cache);
    let web = "networks: [{name: lan}]\nports: [\"8080:80\"]\nmounts: [{volume: pages, target: /pages}]\n\
               dependsOn: [{container: cache, condition: healthy}]";
    let web = shell("web", "busybox", "exec httpd -f -p 80 -h /pages", web);
    machine.write(&format!("{DIRECTORY}/all.yaml"), &documents(&[BUSYBOX, NETWORK, volume, &cache, &web]));
}

/// Enables the unit, waits for the page, and gives the volume something to keep.
fn converged(machine: &mut Machine) {
    write_manifests(machine);
    machine.sh("systemd-analyze verify --man=no /etc/systemd/system/evenkeel.service");
    // Returns when the agent says that it is ready.
    machine.sh("systemctl enable --now evenkeel");
    assert_eq!(property(machine, "ActiveState"), "active");
    machine.sh("echo kept >/var/lib/evenkeel/volumes/pages/index.html; sync");
    page(machine);
}

/// Waits for the page and for everything to be as stated.
#[track_caller]
fn page(machine: &mut Machine) {
    machine.eventually(&format!("{PAGE} && evenkeel drift >&2"), |run| {
        (run.succeeded() && run.stdout == "kept\n").then_some(())
    });
}

/// The first processes of the containers, and their shims. A health check may be running beside them.
fn processes(machine: &mut Machine) -> String {
    let line = "cd /sys/fs/cgroup/evenkeel; for name in cache web; do sort -n $name/cgroup.procs | head -n 1; done; \
                pgrep -x evenkeel-shim";
    machine.sh(line).stdout
}

fn property(machine: &mut Machine, name: &str) -> String {
    machine.sh(&format!("systemctl show -p {name} --value evenkeel")).stdout.trim().to_owned()
}

#[test]
fn the_unit_keeps_the_agent_and_leaves_the_containers() {
    on_machine(Init::Systemd, "unit", |machine| {
        converged(machine);
        let containers = processes(machine);
        // Limits hold below systemd too, whose hierarchy it is, and the containers are no part of the unit.
        let limits = "cat /sys/fs/cgroup/evenkeel/cache/memory.max /sys/fs/cgroup/evenkeel/cache/pids.max";
        assert_eq!(machine.sh(limits).stdout, "67108864\n30\n");
        let agent = property(machine, "MainPID");

        machine.sh("systemctl reload evenkeel");
        assert_eq!(property(machine, "MainPID"), agent, "a reload is no restart");
        machine.sh("systemctl daemon-reload; systemctl daemon-reexec");
        assert_eq!(machine.sh(limits).stdout, "67108864\n30\n");

        machine.sh("systemctl restart evenkeel");
        assert_ne!(property(machine, "MainPID"), agent);
        page(machine);
        assert_eq!(processes(machine), containers, "after a restart");

        // An upgrade, as `make install` does it: new files in the place of those that run.
        let upgrade = "cd /usr/local/bin; for program in evenkeel evenkeel-shim; do \
                       cp $program /run/new; install -m 0755 /run/new $program; done; systemctl restart evenkeel";
        machine.sh(upgrade);
        page(machine);
        assert_eq!(processes(machine), containers, "after an upgrade");

        // An agent that hangs is found out and replaced.
        machine.sh(
            "mkdir -p /run/systemd/system/evenkeel.service.d; \
             printf '[Service]\\nWatchdogSec=10\\nTimeoutAbortSec=5\\n' >/run/systemd/system/evenkeel.service.d/short.conf; \
             systemctl daemon-reload; systemctl restart evenkeel",
        );
        let hung = property(machine, "MainPID");
        machine.sh(&format!("kill -STOP {hung}"));
        let line = "systemctl show -p MainPID -p ActiveState --value evenkeel";
        machine.eventually(line, |run| {
            let lines: Vec<&str> = run.stdout.lines().collect();
            (lines.contains(&"active") && !lines.contains(&hung.as_str())).then_some(())
        });
        machine.eventually("journalctl -u evenkeel", |run| run.stdout.contains("Watchdog timeout").then_some(()));
        page(machine);
        assert_eq!(processes(machine), containers, "after the watchdog");

        machine.sh("systemctl stop evenkeel");
        assert_eq!(machine.sh(PAGE).stdout, "kept\n", "without an agent");
        assert_eq!(processes(machine), containers, "after a stop");
    });
}

#[test]
fn a_reboot_brings_everything_back() {
    with_image(|_, image| {
        let disk = Disk::new(image.disk());
        let mut machine = Machine::boot(image, &disk, Init::Systemd, "reboot");
        converged(&mut machine);
        let before = addresses(&mut machine);
        machine.power_off();

        let mut machine = Machine::boot(image, &disk, Init::Systemd, "reboot");
        came_back(&mut machine, &before);
        // As a reset does it: nothing is said to anybody, and what the drive has been given stays.
        machine.kill();

        let mut machine = Machine::boot(image, &disk, Init::Systemd, "reboot");
        came_back(&mut machine, &before);
        machine.power_off();
    });
}

#[track_caller]
fn came_back(machine: &mut Machine, before: &[String]) {
    page(machine);
    assert_eq!(addresses(machine), before, "the addresses are those of before");
    let rows = machine.sh("evenkeel ps -o json").json();
    let started = |name: &str| {
        let row = rows.as_array().into_iter().flatten().find(|row| row["name"] == name).expect("its row");
        row["startedAt"].as_str().expect("it runs").to_owned()
    };
    assert!(started("cache") < started("web"), "the one that is waited for comes first: {rows}");
    assert_eq!(property(machine, "NRestarts"), "0");
}

fn addresses(machine: &mut Machine) -> Vec<String> {
    let line = "for name in cache web; do nsenter --net=/run/evenkeel/netns/$name ip -j address show dev eth0; done";
    let said = machine.sh(line).stdout;
    let found = said.split("\"local\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    // Link-local ones are the kernel's, and come late.
    found.filter(|address| !address.starts_with("fe80")).map(str::to_owned).collect()
}
