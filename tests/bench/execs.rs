//! When a program begins to run, as the kernel's tracing says (tracefs, Documentation/trace/ftrace.rst).
//!
//! Whoever starts a container says so some milliseconds after its process runs, and each peer does other things until then.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use evenkeel_tests::{Sandbox, eventually};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The instance of tracing, a directory that is the kernel's own and lasts until it is removed.
const INSTANCE: &str = "evenkeel-bench";

/// A watch on the execve(2) of one program.
pub struct Execs {
    tracing: PathBuf,
    instance: PathBuf,
}

impl Execs {
    /// Watches for `program`, by the path that execve(2) is given.
    pub fn watch(sandbox: &Sandbox, program: &str) -> Execs {
        let tracing = sandbox.directory().join("tracing");
        fs::create_dir_all(&tracing).expect("a directory");
        mount(Some("tracefs"), &tracing, Some("tracefs"), MsFlags::empty(), None::<&str>).expect("a tracefs");
        let instance = tracing.join("instances").join(INSTANCE);
        // One that was killed left it.
        let _ = fs::remove_dir(&instance);
        fs::create_dir(&instance).expect("an instance of tracing");
        let execs = Execs { tracing, instance };
        execs.set("events/sched/sched_process_exec/filter", &format!("filename == \"{program}\""));
        execs.set("events/sched/sched_process_exec/enable", "1");
        execs
    }

    /// Does some work and gives the time from its beginning until the program ran first.
    pub fn time(&self, work: impl FnOnce()) -> Duration {
        // Any write empties it.
        self.set("trace", "");
        self.set("trace_marker", "begin");
        work();
        // A descriptor that exec closes is closed before the kernel notes the exec.
        eventually("the program runs", || {
            let trace = fs::read_to_string(self.instance.join("trace")).expect("the trace");
            // `  sleep-7915  [001] .....  1591.115404: sched_process_exec: …`, after comments.
            let seconds = |event: &str| -> Option<f64> {
                let (front, _) = trace.lines().find_map(|line| line.split_once(event))?;
                front.rsplit(' ').next()?.parse().ok()
            };
            match (seconds(": tracing_mark_write: begin"), seconds(": sched_process_exec: ")) {
                (Some(begun), Some(ran)) => Ok(Duration::from_secs_f64(ran - begun)),
                _ => Err(trace),
            }
        })
    }

    fn set(&self, file: &str, text: &str) {
        let path = self.instance.join(file);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Execs {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.instance);
        let unmounted = umount2(&self.tracing, MntFlags::MNT_DETACH);
        assert!(removed.is_ok() && unmounted.is_ok(), "{removed:?} {unmounted:?}");
    }
}
