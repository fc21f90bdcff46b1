//! Many containers on one network: all of them right, and nothing done once for each that is done once for all.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use evenkeel::ledger::Ledger;
use evenkeel_tests::{Sandbox, ask, run, sandboxed};

use crate::story;

const COUNT: usize = 60;
const FIRST_PORT: usize = 20_000;

const NETWORK: &str = "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: lan}\nspec: {driver: bridge, subnets: \
                       [{subnet: 10.77.0.0/24}]}\n";

fn container(index: usize) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{index}}}\nspec:\n  image: busybox\n  command: \
         [httpd, -f, -h, /www]\n  stopSignal: KILL\n  networks: [{{name: lan}}]\n  ports: [\"{}:80\"]\n",
        FIRST_PORT + index
    )
}

fn write_manifests(sandbox: &Sandbox) {
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    sandbox.manifest("network.yaml", NETWORK);
    sandbox.manifest("containers.yaml", &(0..COUNT).map(container).collect::<Vec<_>>().join("---\n"));
}

#[test]
fn sixty_containers_on_one_bridge() {
    sandboxed(|sandbox| {
        write_manifests(sandbox);
        sandbox.apply();
        let address = |index: usize| ask::addresses_in(&sandbox.container_netns(&format!("c{index}")), "eth0");
        let addresses: BTreeSet<String> = (0..COUNT).flat_map(address).collect();
        assert_eq!(addresses.iter().filter(|address| address.starts_with("10.77.0.")).count(), COUNT, "{addresses:?}");
        for index in 0..COUNT {
            assert_eq!(ask::page(None, &format!("http://127.0.0.1:{}/", FIRST_PORT + index)), "hello\n", "c{index}");
        }
        let last = format!("http://c{}/", COUNT - 1);
        let page = sandbox.evenkeel(&["exec", "c0", "wget", "-q", "-O", "-", &last]).expect_code(0);
        assert_eq!(page.stdout, "hello\n", "the first finds the last by its name");
        story::in_sync(sandbox);

        fs::remove_file(sandbox.manifests().join("containers.yaml")).expect("the manifests go");
        sandbox.apply();
        let links = ask::ip_json(&["link", "show", "type", "veth"]);
        assert_eq!(links.as_array().map(Vec::len), Some(0), "no end of a pair is left: {links}");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(!mounts.contains("/netns/") && !mounts.contains("/rootfs "), "{mounts}");
        assert_eq!(ask::cgroups(sandbox.instance().as_str(), "c0"), Vec::<std::path::PathBuf>::new());
        story::in_sync(sandbox);
    });
}

/// Counts work instead of time: what grows with the containers here makes a thousand of them slow.
#[test]
fn work_that_is_one_for_all_stays_one() {
    sandboxed(|sandbox| {
        write_manifests(sandbox);
        let nft = CountedNft::new(sandbox);
        // Whoever looks keeps the ledger's log from being folded away when the writer ends.
        sandbox.manifest("containers.yaml", &container(0));
        nft.apply(sandbox);
        let _looking = Ledger::open_read_only(&sandbox.paths()).expect("the ledger").expect("it is there");

        let (loads, commits) = (nft.loads(), commits(sandbox));
        write_manifests(sandbox);
        nft.apply(sandbox);
        // Loading and listing how this nft writes the fixed part is one more, in a namespace of its own.
        assert_eq!(nft.loads() - loads, 2, "the firewall is one transaction");
        let made = self::commits(sandbox) - commits;
        // Intents with leases, the source, and what came of the steps as far as they ended together; here two by two.
        assert!((2..COUNT).contains(&made), "{made} transactions for {COUNT} containers");

        let (runs, log) = (nft.runs(), ledger_log(sandbox));
        nft.apply(sandbox);
        assert_eq!(ledger_log(sandbox), log, "a pass with nothing to do writes nothing");
        assert_eq!(nft.runs() - runs, 3, "one listing, and the two runs that tell how it is written");
    });
}

/// A stand-in in the search path that notes every run of nft and runs it.
struct CountedNft {
    path: String,
    notes: std::path::PathBuf,
}

impl CountedNft {
    fn new(sandbox: &Sandbox) -> CountedNft {
        let directory = sandbox.directory().join("counted");
        fs::create_dir(&directory).expect("a directory");
        let (notes, program) = (directory.join("notes"), directory.join("nft"));
        let own = std::env::var("PATH").expect("a search path");
        let text = format!("#!/bin/sh\necho \"$@\" >>{}\nPATH={own} exec nft \"$@\"\n", notes.display());
        fs::write(&program, text).expect("the stand-in");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        CountedNft { path: format!("{}:{own}", directory.display()), notes }
    }

    fn apply(&self, sandbox: &Sandbox) {
        let mut command = sandbox.command(&["apply", "-f"]);
        run(command.arg(sandbox.manifests()).env("PATH", &self.path)).expect_code(0);
    }

    fn runs(&self) -> usize {
        fs::read_to_string(&self.notes).expect("nft was run").lines().count()
    }

    fn loads(&self) -> usize {
        fs::read_to_string(&self.notes).expect("nft was run").lines().filter(|line| *line == "-f -").count()
    }
}

/// Reads the ledger's write-ahead log.
fn ledger_log(sandbox: &Sandbox) -> Vec<u8> {
    let mut path = sandbox.paths().database().into_os_string();
    path.push("-wal");
    // None yet where nothing was written since the last writer ended.
    fs::read(path).unwrap_or_default()
}

/// Counts the transactions in the ledger's write-ahead log (SQLite's file format, section 4.1): a frame that ends one
/// states the size of the file after it.
fn commits(sandbox: &Sandbox) -> usize {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let log = ledger_log(sandbox);
    if log.len() < HEADER {
        return 0;
    }
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes"));
    let frame = FRAME_HEADER + number(8) as usize;
    // A frame of an earlier round of the log has another salt.
    let valid = |at: &usize| log[at + 8..at + 16] == log[16..24];
    let frames = (HEADER..=log.len() - frame).step_by(frame).filter(valid);
    frames.filter(|at| number(at + 4) != 0).count()
}

/// They begin with one mount namespace, which is none of any container afterwards.
#[test]
fn containers_that_start_together_have_their_own_mounts_alone() {
    const TOGETHER: usize = 9;
    sandboxed(|sandbox| {
        let directory = sandbox.directory().join("bound");
        fs::create_dir_all(directory.join("below")).expect("a directory to bind");
        run(std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(directory.join("below")))
            .expect_code(0);
        fs::write(directory.join("below/text"), "bound").expect("a file to bind");
        // As on a host with systemd, where what is mounted in one namespace comes to others.
        run(std::process::Command::new("mount").args(["--make-rshared", "/"])).expect_code(0);
        let container = |index: usize| {
            format!(
                "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{index}}}\nspec:\n  image: busybox\n  command: \
                 [sleep, inf]\n  stopSignal: KILL\n  mounts: [{{bind: {}, target: /bound, readOnly: true}}, {{volume: data, target: \
                 /data}}]\n",
                directory.display()
            )
        };
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        sandbox.manifest("data.yaml", "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {name: data}\n");
        let write = |count: usize| {
            sandbox.manifest("containers.yaml", &(0..count).map(container).collect::<Vec<_>>().join("---\n"));
        };
        write(1);
        sandbox.apply();
        write(1 + TOGETHER);
        sandbox.apply();
        let own = fs::read_link("/proc/self/ns/mnt").expect("the host's namespace");
        for index in 0..=TOGETHER {
            let (pid, _) = story::running(sandbox, &format!("c{index}"));
            let shim =
                story::status(sandbox, &format!("c{index}")).expect("its status")["shimPid"].as_u64().expect("a pid");
            let told = fs::read_to_string(format!("/proc/{shim}/environ")).expect("the shim's environment");
            assert_eq!(told.contains("EVENKEEL_BARE_MOUNTS="), index > 0, "c{index}: {told}");
            let told = fs::read_to_string(format!("/proc/{pid}/environ")).expect("the container's environment");
            assert!(!told.contains("EVENKEEL"), "{told}");

            let process = format!("/proc/{pid}");
            assert_ne!(fs::read_link(format!("{process}/ns/mnt")).expect("its namespace"), own);
            let open: Vec<_> = fs::read_dir(format!("{process}/fd")).expect("its files").flatten().collect();
            assert_eq!(open.len(), 3, "c{index} has more open than its streams: {open:?}");
            let mounts = fs::read_to_string(format!("{process}/mountinfo")).expect("its mounts");
            let foreign = mounts.lines().find(|line| line.contains(" shared:") || line.contains(" master:"));
            assert_eq!(foreign, None, "c{index}: events come in or go out");
            let other =
                (0..=TOGETHER).filter(|other| *other != index).find(|other| mounts.contains(&format!("/c{other}/")));
            assert_eq!(other, None, "c{index}: {mounts}");
            let text = fs::read_to_string(format!("{process}/root/bound/below/text"))
                .expect("what is bound, with what is mounted below");
            assert_eq!(text, "bound");
            let names = fs::read_to_string(format!("{process}/root/etc/hostname")).expect("its name");
            assert_eq!(names.trim(), format!("c{index}"));
        }
        let seen = fs::read_to_string("/proc/self/mountinfo").expect("the host's mounts");
        assert!(!seen.contains(" /bound ") && !seen.contains(" /data "), "{seen}");
        story::in_sync(sandbox);
        write(0);
        sandbox.withdraw("containers.yaml");
        sandbox.apply();
        run(std::process::Command::new("umount").arg(directory.join("below"))).expect_code(0);
    });
}
