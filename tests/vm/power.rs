//! Power cuts: the machine is gone at a random moment of an apply, a pull or an update, and with it what its drive had not
//! flushed. Booted again, one apply or one start of the agent completes what was begun, and nothing is lost or left over.
//!
//! `EVENKEEL_VM_CUTS` is how many cuts there are, in [`SEQUENCES`] side by side; `EVENKEEL_VM_SEED` repeats a run's choices. What the
//! guest had done by a moment does not repeat.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_tests::program::run;
use evenkeel_tests::registry::{Options, Registry};
use evenkeel_tests::vm::{Disk, Image, Init, Machine, Random};
use evenkeel_tests::{Sandbox, images};

use crate::manifests::{DIRECTORY, NETWORK, documents, shell};
use crate::with_image;

/// How many machines are cut off side by side.
const SEQUENCES: u64 = 2;
/// How many cuts there are of all where nobody says.
const SHORT: u64 = 5;
/// How many images take turns.
const VARIANTS: u64 = 3;
/// How long what is cut off may go on, before anybody knows how long it takes.
const FIRST_GUESS: Duration = Duration::from_secs(15);
/// And at most, on a machine so busy that everything takes its time.
const LONGEST: Duration = Duration::from_secs(40);

/// How long a cut waits for a moment at which the drive holds something that was not flushed; a guest that syncs has few of them.
const UNFLUSHED_WITHIN: Duration = Duration::from_secs(5);
/// Has the kernel hand to the drive soon, and not after half a minute, what nobody syncs.
const WRITE_BACK_EARLY: &str = "cd /proc/sys/vm; echo 20 >dirty_expire_centisecs; echo 10 >dirty_writeback_centisecs";

/// Lists a directory tree by path, type, mode, owner and link, and the content of its files.
const LISTING: &str = "find . -printf '%P %y %m %U %G %l\\n' | LC_ALL=C sort; \
                       find . -type f -exec sha256sum {} + | LC_ALL=C sort";

#[test]
fn what_a_power_cut_interrupts_is_completed() {
    with_image(|sandbox, image| sequence(sandbox, image, 1));
}

#[test]
fn what_a_power_cut_interrupts_is_completed_elsewhere_too() {
    with_image(|sandbox, image| sequence(sandbox, image, 2));
}

/// An image in the registry, and what the store has to make of it.
struct Variant {
    page: String,
    blobs: BTreeSet<String>,
    /// Diff ids in hexadecimal digits, and the listing's digest.
    layers: BTreeSet<(String, String)>,
}

/// What the host is to be.
#[derive(Clone, Copy, Debug)]
struct Generation {
    number: u64,
    variant: u64,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

fn sequence(sandbox: &Sandbox, image: &Image, which: u64) {
    let cuts = (number("EVENKEEL_VM_CUTS").unwrap_or(SHORT) + SEQUENCES - which) / SEQUENCES;
    let seed = number("EVENKEEL_VM_SEED").unwrap_or_else(Random::any_seed);
    eprintln!("sequence {which}: {cuts} cuts, EVENKEEL_VM_SEED={seed}");
    let mut random = Random::new(seed.wrapping_add(which));
    let registry = Registry::start(Options::default());
    let variants: Vec<Variant> = (0..VARIANTS).map(|number| publish(sandbox, &registry, number)).collect();
    let name = format!("power-{which}");

    let mut disk = Disk::new(image.disk());
    let mut machine = Machine::boot(image, &disk, Init::Busybox, &name);
    let mut now = Generation { number: 0, variant: 0 };
    let mut guess = FIRST_GUESS;
    let mut token: Option<String> = None;
    for cut in 1..=cuts {
        let next = Generation {
            number: now.number + 1,
            // As often as not the image stays.
            variant: if random.below(2) == 0 { now.variant } else { random.below(VARIANTS) },
        };
        machine.write(&format!("{DIRECTORY}/all.yaml"), &manifests(&registry, next));
        // What a person wrote is theirs to flush.
        machine.sh("sync");
        if random.below(4) != 0 {
            machine.sh(WRITE_BACK_EARLY);
        }
        let moment = Duration::from_millis(random.below(guess.as_millis() as u64));
        let awaits_unflushed = random.below(4) != 0;
        let begun = Instant::now();
        machine.order(&format!("evenkeel apply -f {DIRECTORY}"));
        std::thread::sleep(moment);
        while awaits_unflushed && !disk.has_unflushed() && begun.elapsed() < moment + UNFLUSHED_WITHIN {
            std::thread::sleep(Duration::from_millis(1));
        }
        let moment = begun.elapsed();
        machine.kill();
        let lost = disk.cut(&mut random);
        eprintln!("sequence {which}, cut {cut}: {:.1} s into {next:?}: {lost:?}", moment.as_secs_f64());

        check_file_system(sandbox, &disk);
        machine = Machine::boot(image, &disk, Init::Busybox, &name);
        if let Some(token) = &token {
            machine.sh("cat /var/lib/evenkeel/volumes/kept/token").says(token);
        }
        let started = Instant::now();
        converge(&mut machine, random.below(2) == 0);
        let took = started.elapsed();
        guess = took.min(LONGEST);
        check(&mut machine, next, &variants[next.variant as usize]);
        let written = format!("of {next:?}");
        machine.sh(&format!("echo '{written}' >/var/lib/evenkeel/volumes/kept/token; sync"));
        token = Some(written);
        now = next;
        eprintln!("sequence {which}, cut {cut}: in sync after {:.1} s, and sound", took.as_secs_f64());
        // Now and then everything from nothing.
        if random.below(4) == 0 {
            machine.kill();
            disk = Disk::new(image.disk());
            machine = Machine::boot(image, &disk, Init::Busybox, &name);
            token = None;
        }
    }
    machine.power_off();
}

/// Pushes an image of two layers: busybox, and files that differ in each.
fn publish(sandbox: &Sandbox, registry: &Registry, number: u64) -> Variant {
    let directory = |name: &str| {
        let path = sandbox.directory().join(format!("{name}-{number}"));
        std::fs::create_dir_all(&path).expect("a directory");
        path
    };
    let files = directory("files");
    for part in ["www", "data/below"] {
        std::fs::create_dir_all(files.join(part)).expect("a directory of the layer");
    }
    let page = format!("variant {number}\n");
    std::fs::write(files.join("www/index.html"), &page).expect("the page");
    let mut random = Random::new(number);
    for file in 0..40 {
        let text: String = (0..2_000).map(|_| format!("{:x} ", random.below(u64::MAX))).collect();
        std::fs::write(files.join(format!("data/below/{file}")), text).expect("a file");
    }
    let image = images::Image::busybox(vec![images::pack_directory(&files)]);
    let layout = directory("layout");
    let written = images::write_layout(&layout, &image);
    registry.push(&format!("oci:{}:latest", layout.display()), &format!("app:{number}"), &[]);
    let listing = |archive: &Vec<u8>| {
        let place = tempfile::tempdir().expect("a directory to unpack in");
        let file = place.path().join("layer.tar");
        std::fs::write(&file, archive).expect("the archive");
        let script = "mkdir layer; chmod 755 layer; tar -xpf layer.tar -C layer; cd layer";
        let line = format!("{script}; ({LISTING}) | sha256sum");
        let answer = run(Command::new("sh").args(["-ec", &line]).current_dir(place.path())).expect_code(0);
        answer.stdout[..64].to_owned()
    };
    let layers = written.diff_ids.iter().zip(&image.layers);
    Variant {
        page,
        blobs: [&written.manifest, &written.config].into_iter().chain(&written.blobs).map(|d| d.hex().into()).collect(),
        layers: layers.map(|(id, archive)| (id.hex().to_owned(), listing(archive))).collect(),
    }
}

/// A network, volumes, and containers that come after one another. Some of it is of this generation alone.
fn manifests(registry: &Registry, now: Generation) -> String {
    let Generation { number, variant } = now;
    // 10.0.2.2 is how qemu's user network calls the loopback of its own host.
    let (_, port) = registry.address().split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a port");
    let image = format!(
        "apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{name: app}}\n\
         spec: {{reference: \"10.0.2.2:{port}/app:{variant}\", insecure: true}}\n"
    );
    let volumes = format!(
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{name: kept}}\nspec: {{}}\n---\n\
         apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{name: data-{number}}}\nspec: {{}}\n\
         policy: {{prune: delete, dataLoss: allow}}\n"
    );
    let base = shell("base", "app", "exec sleep 1000000", &format!("env: {{GENERATION: \"{number}\"}}\n{LAN}"));
    let web = format!(
        "{LAN}\nports: [\"{}:80\"]\ndependsOn: [{{container: base}}]\nmounts:\n  \
         - {{volume: kept, target: /kept}}\n  - {{volume: data-{number}, target: /data}}",
        page_port(now)
    );
    let web = shell("web", "app", "exec httpd -f -p 80 -h /www", &web);
    let passing = shell(&format!("passing-{number}"), "app", "exec sleep 1000000", LAN);
    documents(&[&image, NETWORK, &volumes, &base, &web, &passing])
}

const LAN: &str = "networks: [{name: lan}]";

fn page_port(now: Generation) -> u64 {
    8080 + now.number % 2
}

/// Journal replayed and orphans cleared, nothing else is to be found: otherwise the disk was no disk.
fn check_file_system(sandbox: &Sandbox, disk: &Disk) {
    let copy = sandbox.directory().join("fsck");
    disk.copy_to(&copy).expect("a copy of the disk");
    let fsck = |option: &str| run(Command::new("e2fsck").args(["-f", option]).arg(&copy));
    let first = fsck("-p");
    assert!(matches!(first.code, Some(0 | 1)), "{first}");
    fsck("-n").expect_code(0);
    std::fs::remove_file(copy).expect("the copy");
}

/// One apply, or one start of the agent.
fn converge(machine: &mut Machine, by_agent: bool) {
    if by_agent {
        machine
            .sh(&format!("setsid evenkeel run --manifests {DIRECTORY} >/run/agent.log 2>&1 & echo $! >/run/agent.pid"));
        machine.eventually(&format!("evenkeel drift -f {DIRECTORY}; echo $?; cat /run/agent.log"), |run| {
            run.stdout.lines().any(|line| line == "0").then_some(())
        });
        machine.sh("kill $(cat /run/agent.pid); while pgrep -x evenkeel; do sleep 0.2; done");
    } else {
        machine.sh(&format!("evenkeel apply -f {DIRECTORY}"));
    }
    machine.sh("evenkeel drift");
    machine.sh(&format!("evenkeel drift -f {DIRECTORY}"));
}

/// Asks the guest's kernel and disk whether it is all there, and nothing else.
fn check(machine: &mut Machine, now: Generation, variant: &Variant) {
    let port = page_port(now);
    machine.eventually(&format!("curl -sS http://127.0.0.1:{port}/"), |run| (run.stdout == variant.page).then_some(()));

    let line = "cd /var/lib/evenkeel/images/blobs/sha256; for blob in $(ls -A); do sha256sum $blob; done";
    let blobs = machine.sh(line).stdout;
    let found: BTreeSet<String> = blobs
        .lines()
        .map(|line| {
            let (digest, name) = line.split_once("  ").expect("sha256sum's line");
            assert_eq!(digest, name, "a blob is not what its name says");
            name.to_owned()
        })
        .collect();
    assert_eq!(found, variant.blobs, "the blobs are those of the image");

    let each = format!("cd $layer; echo $layer $( ({LISTING}) | sha256sum)");
    let layers = machine.sh(&format!("cd /var/lib/evenkeel/layers; for layer in $(ls -A); do ({each}); done")).stdout;
    let found: BTreeSet<(String, String)> = layers
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(layer, digest)| (layer.to_owned(), digest[..64].to_owned()))
        .collect();
    assert_eq!(found, variant.layers, "the layers are those of the image, complete");

    let same = "for file in $(cd /var/lib/evenkeel/volumes/data-*/below && ls); do \
                cmp /var/lib/evenkeel/volumes/data-*/below/$file /run/evenkeel/containers/passing-*/rootfs/data/below/$file; \
                done; ls /var/lib/evenkeel/volumes/data-*/below | wc -l";
    assert_eq!(machine.sh(same).stdout, "40\n", "the volume was filled from the image");

    let containers = format!("base\npassing-{}\nweb\n", now.number);
    for directory in ["/var/lib/evenkeel/containers", "/run/evenkeel/containers", "/run/evenkeel/netns"] {
        let listed = machine.sh(&format!("ls -A {directory}")).stdout;
        assert_eq!(listed, containers, "{directory}");
    }
    // The files of a group are the kernel's.
    let groups = "cd /sys/fs/cgroup/evenkeel; find . -mindepth 1 -maxdepth 1 -type d -printf '%P\\n' | sort";
    assert_eq!(machine.sh(groups).stdout, containers, "control groups");
    let volumes = machine.sh("ls -A /var/lib/evenkeel/volumes").stdout;
    assert_eq!(volumes, format!("data-{}\nkept\n", now.number));
    // Loopback, the card, the bridge, and an end for each container.
    let links = machine.sh("ip -o link").stdout;
    assert_eq!(links.lines().count(), 6, "{links}");
    assert_eq!(machine.sh("nft list tables").stdout, "table inet evenkeel\n");
    let shims = machine.sh("pgrep -c -x evenkeel-shim").stdout;
    assert_eq!(shims, "3\n");
}
