//! A host with cgroup v2 alone, as far as this one can be made to look like it: the v2 hierarchy in the place of all.
//!
//! Where v1 holds the controllers, v2 has none to limit with; what is left to see is where the processes are, that the
//! device rules are kept by a program, and that nothing stays.

use std::fs;
use std::path::Path;

use evenkeel_plan::ObservedLimits;
use evenkeel_tests::program::sh;

use super::{built_in_runtime, on_site, shell};

#[test]
fn the_built_in_runtime_works_on_cgroup_v2_alone() {
    on_site(built_in_runtime(), |site| {
        if Path::new("/sys/fs/cgroup/unified").is_dir() {
            sh("mount --rbind /sys/fs/cgroup/unified /mnt; umount -l /sys/fs/cgroup; mkdir -p /sys/fs/cgroup; \
                mount --bind /mnt /sys/fs/cgroup; umount /mnt");
        }
        assert!(Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
        let line = "mknod /tmp/kmsg c 1 11 && echo made; head -c 1 /tmp/kmsg || echo refused; \
                    head -c 1 /dev/zero | wc -c; cat /proc/self/cgroup; \
                    echo $$ >/sys/fs/cgroup/cgroup.procs || echo read-only; echo done";
        let pid = site.run("web", &shell(line));
        let log = site.log_with("web", "done");
        // What it says on the other stream may lie between them.
        for expected in ["made", "refused", "1", "0::/", "read-only"] {
            assert!(log.lines().any(|line| line == expected), "`{expected}` in\n{log}");
        }
        let cgroup = Path::new("/sys/fs/cgroup").join(site.sandbox.instance().as_str()).join("web");
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).expect("the cgroup");
        assert!(processes.lines().any(|line| line == pid.to_string()), "{processes}");
        let seen = site.observe("web");
        let unlimited = ObservedLimits { swap: site.swap("web", false), ..ObservedLimits::default() };
        assert_eq!(seen.limits, Some(unlimited));
        assert_eq!(seen.pids, Some(1));
    });
}
