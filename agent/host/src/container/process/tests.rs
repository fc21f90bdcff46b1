use std::process::{Command, Stdio};

use super::*;

#[test]
fn a_start_time_tells_a_process_from_its_exit_status() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let process = ProcessId::of(child.id()).unwrap();
    assert!(process.start_time > 0);
    let other = ProcessId { start_time: process.start_time + 1, ..process };
    assert!(!other.signal(libc::SIGKILL).unwrap(), "another process of this pid");
    process.end().unwrap();
    // Not waited for yet: there is a zombie, and it is no process.
    assert_eq!(ProcessId::of(child.id()), None);
    child.wait().unwrap();
    assert!(!process.signal(libc::SIGKILL).unwrap());
}

#[test]
fn the_kernel_is_asked_about_another_process() {
    let script = "mount -t tmpfs none /mnt; mkdir /mnt/real /mnt/away; ln -s real /mnt/link; \
                  mount -t tmpfs none /mnt/real; mount --bind /mnt/away /mnt/away; \
                  hostname inside; echo ready; exec sleep 1000";
    let mut child = Command::new("unshare")
        .args(["--mount", "--uts", "setpriv", "--bounding-set", "-sys_boot", "--no-new-privs", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let seen = observe(child.id(), &["/mnt/link", "/mnt/nothing"]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = seen.unwrap();
    assert_eq!(seen.hostname, "inside");
    assert!(seen.no_new_privileges && !seen.seccomp_filter && !seen.readonly_rootfs);
    assert_eq!(seen.capability_bounding_set & (1 << 22), 0, "CAP_SYS_BOOT");
    assert_ne!(seen.capability_bounding_set & 1, 0, "CAP_CHOWN");
    assert!(seen.mount_points.contains("/mnt/real") && seen.mount_points.contains("/mnt/link"));
    assert!(!seen.mount_points.contains("/mnt/nothing") && !seen.mount_points.contains("/"));
    assert_eq!(observe(child.id(), &[]).unwrap(), None);
}
