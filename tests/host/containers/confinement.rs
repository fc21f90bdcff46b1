//! Who a container's process is and what it may do.

use std::fs;

use super::{Site, shell, with_both_runtimes};

with_both_runtimes![
    runs_as_the_manifest_says,
    the_default_is_dockers,
    everything_can_be_taken_away,
    everything_can_be_given,
    a_signal_is_as_in_a_fresh_process,
    devices_can_be_made_but_not_opened,
    a_user_may_open_its_output_again,
    no_file_of_the_runtime_stays_open,
];

fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("the field").trim().to_owned()
}

fn runs_as_the_manifest_says(site: &Site) {
    let line = "id; pwd; hostname; cat /etc/hostname; echo path=$PATH image=$FROM_IMAGE own=$OWN home=$HOME host=$HOSTNAME; echo done";
    let yaml = format!(
        "{}user: web\nworkingDir: /made/for/it\nhostname: box.example\nenv: {{OWN: 'a b', FROM_IMAGE: changed}}\n",
        shell(line)
    );
    let pid = site.run("web", &yaml);
    let log = site.log_with("web", "done");
    assert_eq!(
        log,
        "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra)\n/made/for/it\nbox.example\nbox.example\n\
         path=/bin:/sbin image=changed own=a b home=/www host=box.example\ndone\n"
    );
    assert_eq!(field(pid, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(pid, "Groups"), "1000 2000");
    let seen = site.observe("web").process.expect("a process");
    assert_eq!(seen.hostname, "box.example");
    assert!(!seen.readonly_rootfs && seen.seccomp_filter && !seen.no_new_privileges);
}

fn the_default_is_dockers(site: &Site) {
    let line = "mount -t tmpfs none /tmp || echo mount refused; echo 1 >/proc/sys/kernel/sysrq || echo sys read-only; \
                echo keys $(wc -c </proc/keys) firmware $(ls /sys/firmware | wc -l); \
                for file in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do \
                test -e $file && { echo max >$file || echo limit kept; }; done; \
                unshare -m true || echo unshare refused; umask; cat /proc/1/comm; echo done";
    let pid = site.run("web", &shell(line));
    let log = site.log_with("web", "done");
    for expected in ["mount refused", "sys read-only", "keys 0 firmware 0", "unshare refused", "0022"] {
        assert!(log.contains(expected), "`{expected}` in\n{log}");
    }
    assert!(log.contains("limit kept"), "{log}");
    assert_eq!(field(pid, "CapBnd"), "00000000a80425fb");
    assert_eq!(field(pid, "CapEff"), "00000000a80425fb");
    assert_eq!(field(pid, "CapInh"), "0000000000000000");
    assert_eq!(field(pid, "CapAmb"), "0000000000000000");
    assert_eq!(field(pid, "Seccomp"), "2");
    assert_eq!(field(pid, "NoNewPrivs"), "0");
    assert_eq!(site.observe("web").process.expect("a process").capability_bounding_set, 0xa804_25fb);
    let own = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
    let host = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
    for kind in ["pid", "ipc", "uts", "mnt", "cgroup", "net"] {
        assert_ne!(own(kind), host(kind), "{kind}");
    }
}

fn everything_can_be_taken_away(site: &Site) {
    let line = "touch /x || echo root read-only; chown web /tmp/y || echo chown refused; echo done";
    let yaml = format!(
        "{}mounts: [{{tmpfs: true, target: /tmp}}]\nsecurity: {{readOnlyRootfs: true, capDrop: [ALL], noNewPrivileges: true}}\n",
        shell(&format!("touch /tmp/y; {line}"))
    );
    let pid = site.run("web", &yaml);
    let log = site.log_with("web", "done");
    assert!(log.contains("root read-only") && log.contains("chown refused"), "{log}");
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(field(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!((field(pid, "NoNewPrivs"), field(pid, "Seccomp")), ("1".to_owned(), "2".to_owned()));
    let seen = site.observe("web").process.expect("a process");
    assert!(seen.readonly_rootfs && seen.seccomp_filter && seen.no_new_privileges);
    assert_eq!(seen.capability_bounding_set, 0);
}

fn everything_can_be_given(site: &Site) {
    let yaml = format!("{}security: {{capAdd: [ALL], seccomp: unconfined}}\n", shell("echo done"));
    let pid = site.run("web", &yaml);
    assert_eq!(field(pid, "Seccomp"), "0");
    // What the host itself may, less nothing.
    let host = fs::read_to_string("/proc/self/status").expect("our own status");
    let host = host.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("CapBnd");
    assert_eq!(field(pid, "CapBnd"), host.trim());
    assert!(!site.observe("web").process.expect("a process").seccomp_filter);
}

/// A supervisor in Rust ignores SIGPIPE, and one that waits blocks signals: neither may be handed down.
fn a_signal_is_as_in_a_fresh_process(site: &Site) {
    let pid = site.run("web", &shell("yes | head -n 1; echo done"));
    site.log_with("web", "y\ndone");
    assert_eq!(field(pid, "SigBlk"), "0000000000000000");
    let ignored = u64::from_str_radix(&field(pid, "SigIgn"), 16).expect("a set");
    assert_eq!(ignored & 1 << (13 - 1), 0, "SIGPIPE in {ignored:x}");
}

fn devices_can_be_made_but_not_opened(site: &Site) {
    let line = "mknod /tmp/kmsg c 1 11 && echo made; head -c 1 /tmp/kmsg || echo refused; \
                head -c 1 /dev/zero | wc -c; ls -l /dev/null; echo done";
    site.run("web", &shell(line));
    let log = site.log_with("web", "done");
    // What `head` says of it comes over the other pipe, before or after.
    assert!(["made\n", "refused\n", "\n1\n"].iter().all(|line| log.contains(line)), "{log}");
}

/// As programs do whose image links their log to `/dev/stdout`.
fn a_user_may_open_its_output_again(site: &Site) {
    let line = "echo out >/dev/stdout; echo err >/proc/self/fd/2; echo done";
    site.run("web", &format!("{}user: web\n", shell(line)));
    let log = site.log_with("web", "done");
    assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
}

fn no_file_of_the_runtime_stays_open(site: &Site) {
    let pid = site.run("web", &shell("echo done"));
    site.log_with("web", "done");
    let open =
        fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").map(|entry| entry.expect("a file").file_name());
    let mut open: Vec<_> = open.collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("its mounts");
    let peers: Vec<&str> =
        mounts.lines().filter(|line| line.contains(" shared:") || line.contains(" master:")).collect();
    assert!(peers.is_empty(), "{peers:?}");
}
