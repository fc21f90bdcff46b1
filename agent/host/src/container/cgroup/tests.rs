use evenkeel_schema::Bytes;

use super::*;

const HYBRID: &[u8] = b"\
20 1 0:18 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
21 20 0:19 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
22 20 0:20 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
23 20 0:21 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
24 20 0:22 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
25 20 0:20 /other /mnt/memory rw,relatime - cgroup cgroup rw,memory
";

fn hybrid() -> Hierarchies {
    Hierarchies::of_mounts(&MountTable::parse(HYBRID))
}

#[test]
fn hybrid_hierarchies_are_told_by_controller() {
    let cgroup = Cgroup::new(hybrid(), Path::new("/evenkeel/web"));
    let directories = cgroup.directories();
    let names: Vec<(&str, &str)> =
        directories.iter().map(|of| (of.controller.as_deref().unwrap(), of.path.to_str().unwrap())).collect();
    assert_eq!(
        names,
        [
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/evenkeel/web"),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/evenkeel/web"),
            ("memory", "/sys/fs/cgroup/memory/evenkeel/web"),
            ("name=systemd", "/sys/fs/cgroup/systemd/evenkeel/web"),
        ]
    );
    assert!(cgroup.everywhere().contains(Path::new("/sys/fs/cgroup/unified/evenkeel/web")));
}

#[test]
fn unified_is_told_by_the_file_system_at_the_root() {
    let mounts = MountTable::parse(b"20 1 0:18 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
    let hierarchies = Hierarchies::of_mounts(&mounts);
    assert_eq!(hierarchies, Hierarchies::Unified("/sys/fs/cgroup".into()));
    let cgroup = Cgroup::new(hierarchies, Path::new("/evenkeel/web"));
    assert_eq!(
        cgroup.directories(),
        [CgroupDirectory { controller: None, path: "/sys/fs/cgroup/evenkeel/web".into() }]
    );
}

#[test]
fn a_limit_without_its_controller_is_an_error_that_names_both() {
    let directory = tempfile::tempdir().unwrap();
    let controllers = vec![("memory".to_owned(), directory.path().to_owned())];
    let cgroup = Cgroup::new(Hierarchies::Separate { controllers, unified: None }, Path::new("/x"));
    let limits = Resources { pids: Some(5), ..Resources::default() };
    let error = cgroup.set_limits(&limits).unwrap_err();
    assert_eq!(error.to_string(), "the host has no `pids` cgroup controller, which `resources.pids` needs");
}

#[test]
fn unified_limits_are_read_as_the_kernel_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("x");
    fs::create_dir(&own).unwrap();
    let cgroup = Cgroup::new(Hierarchies::Unified(directory.path().to_owned()), Path::new("/x"));
    let write = |name: &str, text: &str| fs::write(own.join(name), text).unwrap();
    for (name, text) in [("memory.max", "max\n"), ("pids.max", "max\n"), ("cpu.max", "max 100000\n")] {
        write(name, text);
    }
    assert_eq!(cgroup.limits().unwrap(), Some(ObservedLimits::default()));
    for (name, text) in [("memory.max", "67108864\n"), ("pids.max", "50\n"), ("cpu.max", "75000 50000\n")] {
        write(name, text);
    }
    let limits = ObservedLimits {
        memory: Some(64 << 20),
        cpus: Some(MilliCpus(1500)),
        pids: Some(50),
        swap: ObservedSwap::Unaccounted,
    };
    assert_eq!(cgroup.limits().unwrap(), Some(limits));
    for (text, swap) in
        [("max\n", ObservedSwap::Unlimited), ("0\n", ObservedSwap::Limited(0)), ("4096\n", ObservedSwap::Limited(4096))]
    {
        write("memory.swap.max", text);
        assert_eq!(cgroup.limits().unwrap(), Some(ObservedLimits { swap, ..limits }));
    }
    write("pids.max", "many\n");
    assert!(matches!(cgroup.limits(), Err(CgroupError::Number { text, .. }) if text == "many"));
}

#[test]
fn without_a_directory_there_are_no_limits() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = Cgroup::new(Hierarchies::Unified(directory.path().to_owned()), Path::new("/x"));
    assert_eq!(cgroup.limits().unwrap(), None);
    assert_eq!(cgroup.count().unwrap(), None);
}

/// Against the kernel: what is written is what is read, and lifted again.
#[test]
fn limits_go_to_the_kernel_and_come_back() {
    let path = PathBuf::from(format!("/evenkeel-unit-{}/limits", std::process::id()));
    let cgroup = Cgroup::of_host(&path).unwrap();
    let counts_swap = Hierarchies::of_host().unwrap().limit_swap();
    for directory in cgroup.directories() {
        fs::create_dir_all(directory.path).unwrap();
    }
    let resources = Resources { memory: Some(Bytes(64 << 20)), cpus: Some(MilliCpus(1250)), pids: Some(33) };
    cgroup.set_limits(&resources).unwrap();
    let seen = cgroup.limits().unwrap();
    cgroup.set_limits(&Resources { memory: Some(Bytes(128 << 20)), ..resources }).unwrap();
    let raised = cgroup.limits().unwrap();
    cgroup.set_limits(&Resources::default()).unwrap();
    let lifted = cgroup.limits().unwrap();
    let count = cgroup.count().unwrap();
    cgroup.kill_and_remove().unwrap();
    // A kernel that counts no swap has no file for it.
    let (none, any) = match counts_swap {
        false => (ObservedSwap::Unaccounted, ObservedSwap::Unaccounted),
        true => (ObservedSwap::Limited(0), ObservedSwap::Unlimited),
    };
    let limits = ObservedLimits { memory: Some(64 << 20), cpus: Some(MilliCpus(1250)), pids: Some(33), swap: none };
    assert_eq!(seen, Some(limits));
    assert_eq!(raised, Some(ObservedLimits { memory: Some(128 << 20), ..limits }));
    assert_eq!(lifted, Some(ObservedLimits { swap: any, ..ObservedLimits::default() }));
    assert_eq!(count, Some(0));
    assert!(cgroup.everywhere().iter().all(|directory| !directory.parent().unwrap().exists()));
}

#[test]
fn removal_kills_what_is_inside_also_further_down() {
    let path = PathBuf::from(format!("/evenkeel-unit-{}/kill", std::process::id()));
    let cgroup = Cgroup::of_host(&path).unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    for directory in cgroup.everywhere() {
        let below = directory.join("below");
        fs::create_dir_all(&below).unwrap();
        // A cpuset of cgroup v1 takes no process before it has processors and memory nodes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            for (parent, child) in [(directory.parent().unwrap(), &directory), (directory.as_path(), &below)] {
                inherit(parent.parent().unwrap(), parent, file);
                inherit(parent, child, file);
            }
        }
        fs::write(below.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    let seen = cgroup.processes().unwrap();
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    cgroup.kill_and_remove().unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(reaper.join().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(seen.len(), 1);
    assert!(cgroup.everywhere().iter().all(|directory| !directory.exists()));
}

fn inherit(from: &Path, to: &Path, file: &str) {
    if let Ok(text) = fs::read_to_string(from.join(file)) {
        fs::write(to.join(file), text).unwrap();
    }
}

#[test]
fn a_process_that_left_the_cgroup_is_let_live() {
    let path = PathBuf::from(format!("/evenkeel-unit-{}/left", std::process::id()));
    let cgroup = Cgroup::of_host(&path).unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    // As it was listed before its number passed on.
    cgroup.signal_listed(&BTreeSet::from([child.id()]), libc::SIGKILL);
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}
