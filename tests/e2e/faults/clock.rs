//! The wall clock jumps by hours, in both directions: nothing waits for it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use super::network::drift_becomes;
use crate::story;

/// A library that moves the wall clock of every program by the seconds in a file; other clocks are left alone.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = {0};
    int file = open(FILE_OF_OFFSET, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atol(text);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += offset();
    return (int)result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    if (now) *now = time.tv_sec;
    return time.tv_sec;
}
"#;

/// Puts the clock of every program that starts from now on in the sandbox under a file.
struct Clock(std::path::PathBuf);

impl Clock {
    fn new(sandbox: &Sandbox) -> Clock {
        let directory = sandbox.directory().join("clock");
        for part in ["upper", "work"] {
            fs::create_dir_all(directory.join(part)).expect("a directory");
        }
        let (source, library, file) = (directory.join("c.c"), directory.join("c.so"), directory.join("offset"));
        fs::write(&source, CLOCK).expect("the source");
        fs::write(&file, "0").expect("the offset");
        let define = format!("-DFILE_OF_OFFSET=\"{}\"", file.display());
        program::run(Command::new("cc").args(["-shared", "-fPIC", "-O1", &define, "-o"]).arg(&library).arg(&source))
            .expect_code(0);
        // The sandbox has mounts of its own, so that no other program is touched.
        let part = |name: &str| directory.join(name).display().to_string();
        let options = format!("lowerdir=/etc,upperdir={},workdir={}", part("upper"), part("work"));
        program::run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, "/etc"])).expect_code(0);
        fs::write("/etc/ld.so.preload", format!("{}\n", library.display())).expect("the list of libraries");
        Clock(file)
    }

    fn jump(&self, hours: i64) {
        // By a rename: no program reads half a number.
        let next = self.0.with_extension("next");
        fs::write(&next, (hours * 3600).to_string()).expect("the offset");
        fs::rename(&next, &self.0).expect("the offset in place");
        let year = program::run(Command::new("date").args(["-u", "+%s"])).stdout.trim().parse::<i64>().expect("a time");
        let real = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs().cast_signed();
        assert!((year - real - hours * 3600).abs() < 60, "the clock of programs is {year}, this one's is {real}");
    }
}

#[test]
fn nothing_waits_for_a_clock_that_jumps() {
    sandboxed(|sandbox| {
        let clock = Clock::new(sandbox);
        story::bridge(sandbox);
        let crashing = "echo started; sleep 0.3; exit 1";
        let restart = "  restart: {policy: always, backoff: {initial: 500ms, max: 500ms}}\n";
        sandbox.manifest("crashing.yaml", &story::shell("crashing", crashing, restart));
        let healthy = "  health: {exec: [\"true\"], interval: 1s}\n";
        sandbox.manifest("healthy.yaml", &story::shell("healthy", "exec sleep 100000", healthy));
        let agent = sandbox.agent(&[]);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        let front = story::running(sandbox, "front");
        let starts = || {
            let log = sandbox.paths().root().join("containers/crashing/logs/current.log");
            fs::read_to_string(log).unwrap_or_default().lines().count()
        };
        for hours in [30, -30, 0] {
            story::phase(sandbox, "crashing", "backoff");
            let before = starts();
            clock.jump(hours);
            ask::eventually(&format!("{hours} h: the crashing one is started again and again"), || {
                if starts() >= before + 2 { Ok(()) } else { Err(format!("{before} and now {}", starts())) }
            });
            program::sh("ip link del ek-shop");
            assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n", "{hours} h");
            ask::eventually("the probe goes on", || {
                let status = story::status(sandbox, "healthy").ok_or("no status")?;
                if status["health"] == "healthy" { Ok(()) } else { Err(status.to_string()) }
            });
            sandbox.evenkeel(&["status"]).expect_code(0).says("container/front");
            sandbox.evenkeel(&["ps"]).expect_code(0);
        }
        assert_eq!(story::running(sandbox, "front"), front);
        fs::remove_file(sandbox.manifests().join("crashing.yaml")).expect("the manifest");
        ask::eventually("the crashing one is gone", || match story::status(sandbox, "crashing") {
            None => Ok(()),
            Some(status) => Err(status.to_string()),
        });
        drift_becomes(sandbox, 0, &agent);
        ask::throughout(Duration::from_secs(1), "it stays so", || {
            let run = sandbox.evenkeel(&["drift"]);
            if run.succeeded() { Ok(()) } else { Err(run.to_string()) }
        });
    });
}
