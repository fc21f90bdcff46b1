//! Pulling and unpacking an image of some 600 MB from a registry on loopback, and loading it from an archive.
//!
//! Every round begins with an empty store in the sandbox's directory and with nothing left to be written to the disk.
//! Ours flushes all of it before the image counts as there; what a peer leaves in the page cache is its own affair.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use evenkeel_host::Paths;
use evenkeel_tests::images::{self, Image};
use evenkeel_tests::program::{built, peak_memory};
use evenkeel_tests::registry::{Options, Registry};
use evenkeel_tests::{Sandbox, run};

use crate::peers::{Docker, installed};
use crate::{Figures, told};

/// How often everybody pulls; the medians are compared.
const ROUNDS: usize = 3;
const LAYERS: usize = 5;
/// Bytes of file content that each layer has at least: whole directories go in, so it is more.
const LAYER: u64 = 100_000_000;
/// Larger files are left out: one of them would be a layer of its own.
const LARGEST: u64 = 64_000_000;
/// What our process may hold in memory while it pulls, in MiB.
const MEMORY: f64 = 100.0;

/// What we are called in the figures.
const OURS: &str = "evenkeel apply";

/// Compares pulls, and loads of the same image from an archive.
pub fn pulls(sandbox: &Sandbox) {
    let directory = sandbox.directory().join("pull");
    let layout = directory.join("layout");
    fs::create_dir_all(&layout).expect("a directory");
    let tree = Image::new(sample("/usr".as_ref()));
    let unpacked: usize = tree.layers.iter().map(Vec::len).sum();
    images::write_layout(&layout, &tree);
    drop(tree);
    let registry = Registry::start(Options::default());
    registry.push(&format!("oci:{}:latest", layout.display()), "large:latest", &[]);
    let reference = registry.reference("large:latest");
    let archive = directory.join("large.tar");
    images::convert(
        &format!("oci:{}:latest", layout.display()),
        &format!("docker-archive:{}:large:latest", archive.display()),
    );
    fs::remove_dir_all(&layout).expect("its files go");

    let manifest = directory.join("image.yaml");
    let peak = Cell::new(0.0_f64);
    let apply = |store: &Path, source: &str| {
        let text = format!("apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{name: large}}\nspec: {{{source}}}\n");
        fs::write(&manifest, text).expect("the manifest");
        let paths = Paths::new(store.join("root"), store.join("run"));
        let arguments = ["apply".as_ref(), "-f".as_ref(), manifest.as_os_str()];
        let mut command = sandbox.command_of(&built("evenkeel"), &paths, &arguments);
        peak.set(peak.get().max(peak_memory(&mut command)));
    };
    let docker = told(Docker::for_pulls(sandbox));
    let podman = told(installed("podman", &["podman"]));
    let umoci = told(installed("umoci", &["umoci"]));
    let archive_path = archive.to_str().expect("a path in UTF-8");

    let mut pull = Race::new(&directory);
    let mut load = Race::new(&directory);
    for _ in 0..ROUNDS {
        pull.run(OURS, |store| apply(store, &format!("reference: \"{reference}\"")));
        pull.run("skopeo copy, without unpacking", |store| copy(&reference, store));
        if umoci.is_some() {
            pull.run("skopeo copy and umoci unpack", |store| {
                copy(&reference, store);
                let image = format!("{}:latest", store.join("layout").display());
                quietly(Command::new("umoci").args(["unpack", "--image", &image]).arg(store.join("bundle")));
            });
        }
        if podman.is_some() {
            pull.run("podman pull", |store| run_podman(store, &["pull", "--tls-verify=false", &reference]));
            load.run("podman load", |store| run_podman(store, &["load", "--input", archive_path]));
        }
        if let Some(docker) = &docker {
            pull.run("docker pull", |_| quietly(&mut docker.command(&["pull", "--quiet", &reference])));
            quietly(&mut docker.command(&["rmi", &reference]));
            load.run("docker load", |_| quietly(&mut docker.command(&["load", "--quiet", "--input", archive_path])));
            quietly(&mut docker.command(&["rmi", "large:latest"]));
        }
        load.run(OURS, |store| apply(store, &format!("archive: \"{archive_path}\"")));
    }
    let size = format!("{LAYERS} layers, {} MB unpacked", unpacked / 1_000_000);
    pull.figures.print(&format!("pull of an image of {size}"), OURS);
    load.figures.print(&format!("load of a docker save archive, {size}"), OURS);
    println!("  {:<40} {:>10.1} MiB", "most memory of evenkeel apply in all this", peak.get());
    assert!(peak.get() < MEMORY, "evenkeel apply took {:.1} MiB of memory, more than {MEMORY}", peak.get());
}

/// The same work by several programs, each time with an empty store in one directory.
struct Race {
    store: PathBuf,
    figures: Figures,
}

impl Race {
    fn new(directory: &Path) -> Race {
        Race { store: directory.join("store"), figures: Figures::default() }
    }

    fn run(&mut self, name: &'static str, work: impl FnOnce(&Path)) {
        fs::create_dir_all(&self.store).expect("a directory");
        nix::unistd::sync();
        let start = Instant::now();
        work(&self.store);
        self.figures.add(name, start.elapsed());
        fs::remove_dir_all(&self.store).expect("nothing is mounted there");
    }
}

fn copy(reference: &str, store: &Path) {
    let destination = format!("oci:{}:latest", store.join("layout").display());
    let source = format!("docker://{reference}");
    quietly(Command::new("skopeo").args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &source,
        &destination,
    ]));
}

fn run_podman(store: &Path, arguments: &[&str]) {
    let mut command = Command::new("podman");
    for (option, name) in [("--root", "data"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        command.arg(option).arg(store.join(name));
    }
    command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--storage-driver", "overlay"]);
    quietly(command.args(arguments));
    // It leaves its storage mounted on itself.
    let _ = nix::mount::umount2(&store.join("data/overlay"), nix::mount::MntFlags::MNT_DETACH);
}

fn quietly(command: &mut Command) {
    run(command.stdin(Stdio::null())).expect_code(0);
}

/// Packs whole directories of a tree, picked evenly and always the same, into the layers of an image.
fn sample(tree: &Path) -> Vec<Vec<u8>> {
    let mut directories: Vec<PathBuf> = vec![tree.to_owned()];
    let mut next = 0;
    while let Some(directory) = directories.get(next) {
        let below = fs::read_dir(directory).into_iter().flatten().flatten();
        let below: Vec<_> = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).collect();
        directories.extend(below.iter().map(fs::DirEntry::path));
        next += 1;
    }
    directories.sort_by_cached_key(|directory| {
        let mut hasher = DefaultHasher::new();
        directory.hash(&mut hasher);
        (hasher.finish(), directory.clone())
    });
    let mut layers: Vec<BTreeMap<PathBuf, fs::Metadata>> = vec![BTreeMap::new()];
    let mut size = 0;
    for directory in directories {
        if size >= LAYER {
            if layers.len() == LAYERS {
                break;
            }
            layers.push(BTreeMap::new());
            size = 0;
        }
        let layer = layers.last_mut().expect("it begins with one");
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_symlink() || metadata.is_file() && metadata.len() <= LARGEST {
                size += metadata.len();
                layer.insert(entry.path(), metadata);
            }
        }
    }
    std::thread::scope(|scope| {
        let packing: Vec<_> = layers.iter().map(|layer| scope.spawn(|| pack(layer.keys()))).collect();
        packing.into_iter().map(|thread| thread.join().expect("the files of /usr can be read")).collect()
    })
}

fn pack<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    for file in files {
        let name = file.strip_prefix("/").expect("an absolute path");
        builder.append_path_with_name(file, name).expect("an archive in memory");
    }
    builder.into_inner().expect("an archive in memory")
}
