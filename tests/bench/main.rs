//! Ratios beside peers, on this machine, now: evenkeel's figure divided by the peer's, so below 1 is better.
//!
//! Runs the release programs in a sandbox. A peer that is not installed is said to be so and left out. The plain
//! figures are printed beside the ratios, but mean something on one machine only.

mod containers;
mod peers;

fn main() {
    evenkeel_tests::sandbox::sandboxed_program(|sandbox| {
        println!("{:<44} {:>12} {:>12} {:>8}", "", "evenkeel", "peer", "ratio");
        containers::starts(sandbox);
    });
}

/// Prints one line: both figures with their unit, and the ratio.
fn compare(what: &str, ours: f64, peer: Option<f64>, unit: &str) {
    match peer {
        Some(peer) => {
            println!("{what:<44} {:>12} {:>12} {:>8.2}", figure(ours, unit), figure(peer, unit), ours / peer);
        }
        None => println!("{what:<44} {:>12} {:>12} {:>8}", figure(ours, unit), "-", "-"),
    }
}

fn figure(value: f64, unit: &str) -> String {
    format!("{value:.2} {unit}")
}
