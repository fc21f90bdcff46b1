//! Ratios beside peers, on this machine, now: evenkeel's figure divided by the peer's, so below 1 is better.
//!
//! Runs the release programs, each part in a sandbox of its own; `cargo bench -- NAME` runs the part of that name alone. A
//! peer that cannot run is said so with the reason. The plain figures are printed beside the ratios, but mean something on one machine only.

mod containers;
mod execs;
mod idle;
mod peers;
mod plan;
mod pull;
mod repair;
mod scale;

use std::fmt::Display;
use std::time::Duration;

use evenkeel_tests::Sandbox;
use evenkeel_tests::program::built;

type Part = fn(&Sandbox);

/// What can be measured, by name.
const PARTS: [(&str, Part); 7] = [
    ("one", containers::one),
    ("hundred", containers::hundred),
    ("thousand", scale::thousand),
    ("repair", repair::latency),
    ("idle", idle::costs),
    ("pull", pull::pulls),
    ("plan", plan::times),
];

const PROGRAMS: [&str; 3] = ["evenkeel", "evenkeel-oci", "evenkeel-shim"];

fn main() {
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    PROGRAMS.into_iter().for_each(write_as_installed);
    // What a build has written just now would be in the way of every flush.
    nix::unistd::sync();
    for (name, measure) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            evenkeel_tests::sandbox::sandboxed_part(vec![name.to_owned()], |sandbox| {
                put_run_on_tmpfs(sandbox);
                measure(sandbox);
            });
        }
    }
}

/// What a linker wrote through a mapping is cached page by page, and each start of it has more page faults than one of a
/// program that was copied, or read from the disk, as on a host.
fn write_as_installed(program: &str) {
    let path = built(program);
    let copy = path.with_extension("copy");
    std::fs::copy(&path, &copy).and_then(|_| std::fs::rename(&copy, &path)).expect("a copy of the program");
}

/// As on a host, where the run directory lies on `/run`.
fn put_run_on_tmpfs(sandbox: &Sandbox) {
    let run = sandbox.paths().run().to_owned();
    std::fs::create_dir_all(&run).expect("the run directory");
    nix::mount::mount(Some("tmpfs"), &run, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).expect("a tmpfs");
}

/// Times by what was done, in the order in which they came first.
#[derive(Default)]
struct Figures(Vec<(&'static str, Vec<Duration>)>);

impl Figures {
    fn add(&mut self, what: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, times)) => times.push(took),
            None => self.0.push((what, vec![took])),
        }
    }

    /// Prints the median of each, and how many of it `ours` takes.
    fn print(&self, title: &str, ours: &str) {
        let medians: Vec<(&str, usize, f64)> =
            self.0.iter().map(|(name, times)| (*name, times.len(), median(times))).collect();
        let own = medians.iter().find(|(name, ..)| *name == ours).map(|(_, _, median)| *median);
        println!("{title}");
        for (name, rounds, median) in medians {
            let ratio = own.map_or(String::new(), |own| format!("{:.3}", own / median));
            println!("  {name:<40} {:>10.2} ms   median of {rounds:<3} ratio {ratio}", median * 1e3);
        }
    }
}

/// Gives the median in seconds.
fn median(times: &[Duration]) -> f64 {
    let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Gives what is there, and says why where it is not.
fn told<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| println!("{error}")).ok()
}
