//! The bare system calls: what no program that makes containers can be faster than.
//!
//! One container is a clone into six namespaces (mount, PID, network, UTS, IPC, cgroup), an overlay mount, pivot_root and
//! the exec of a static program. On a bridge each has a veth pair, an address and a default route besides, all over
//! netlink from this process and from the cloned one; the firewall's rules are one transaction of `nft`. No cgroup
//! directories, no supervisor, no capabilities or filters, nothing on the disk.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_tests::program::sh;
use evenkeel_tests::{Sandbox, rootfs};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chdir, execv, pipe2, pivot_root};

use super::rtnetlink::Rtnetlink;
use super::{COMMAND, Place};

const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;
const BRIDGE: &str = "raw0";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
const PREFIX: u8 = 16;
/// What a bridge network with a way out needs of the firewall.
const RULES: &str = "table inet raw {\n\
    chain forward { type filter hook forward priority 0; iifname raw0 accept; oifname raw0 ct state established accept; }\n\
    chain postrouting { type nat hook postrouting priority 100; ip saddr 10.89.0.0/16 oifname != raw0 masquerade; }\n}\n";

/// Root file system and directories for containers of bare system calls.
pub struct Raw {
    place: Place,
    lower: PathBuf,
    /// How many writable layers were made already.
    made: std::cell::Cell<usize>,
}

/// Running containers; ended when dropped.
pub struct Started(Vec<Pid>);

impl Drop for Started {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for pid in &self.0 {
            let _ = waitpid(*pid, None);
        }
    }
}

/// A cloned process on its way to the program.
struct Child {
    pid: Pid,
    /// Written to when its interface is there; dropped when it has none.
    go: fs::File,
    /// At its end when the program runs; has words in it where that failed.
    running: fs::File,
}

impl Raw {
    pub fn prepare(sandbox: &Sandbox) -> Raw {
        let place = Place::new(sandbox, "raw");
        let lower = place.directory.join("lower");
        fs::create_dir_all(&lower).expect("a directory");
        rootfs::busybox_directory(&lower);
        Raw { place, lower, made: std::cell::Cell::new(0) }
    }

    /// Starts one container without a network and gives the time until its program runs.
    pub fn start_one(&self) -> (Duration, Started) {
        let start = Instant::now();
        let child = self.spawn(None);
        let pid = child.pid;
        await_program(child);
        (start.elapsed(), Started(vec![pid]))
    }

    /// Starts containers on one new bridge and gives the time until all their programs run.
    pub fn start_on_bridge(&self, count: usize) -> (Duration, Started) {
        let before = fs::File::open("/proc/self/ns/net").expect("our own network namespace");
        setns(fs::File::open(&self.place.netns).expect("the peer's"), CloneFlags::CLONE_NEWNET).expect("to enter it");
        let start = Instant::now();
        let mut links = Rtnetlink::open();
        let bridge = links.bridge(BRIDGE);
        links.address(bridge, GATEWAY, PREFIX);
        let mut nft =
            Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft: run `make deps`");
        nft.stdin.take().expect("a pipe").write_all(RULES.as_bytes()).expect("nft reads");
        let mut pids = Vec::new();
        let children: Vec<Child> = (0..count)
            .map(|index| {
                let mut child = self.spawn(Some(address(index)));
                links.veth(&format!("raw{index}p"), bridge, "eth0", child.pid.as_raw().unsigned_abs());
                child.go.write_all(&[1]).expect("the child reads");
                pids.push(child.pid);
                child
            })
            .collect();
        children.into_iter().for_each(await_program);
        assert!(nft.wait().expect("our own child").success(), "nft refuses the rules");
        let took = start.elapsed();
        setns(&before, CloneFlags::CLONE_NEWNET).expect("the way back");
        (took, Started(pids))
    }

    /// Removes what [`Raw::start_on_bridge`] made in the peer's namespace.
    pub fn clear_bridge(&self) {
        let netns = self.place.netns.display();
        sh(&format!("nsenter --net={netns} sh -ec 'ip link del {BRIDGE}; nft delete table inet raw'"));
    }

    fn spawn(&self, address: Option<Ipv4Addr>) -> Child {
        let number = self.made.replace(self.made.get() + 1);
        let directory = self.place.directory.join(number.to_string());
        let (go_read, go_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        let (running_read, running_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        // SAFETY: fork with namespaces; this process has one thread, so that the child may do what it likes.
        let pid = unsafe { libc::syscall(libc::SYS_clone, NAMESPACES | libc::SIGCHLD, 0, 0, 0, 0) };
        match pid {
            -1 => panic!("clone: {}", io::Error::last_os_error()),
            0 => {
                drop((go_write, running_read));
                let error = become_program(&self.lower, &directory, go_read, address);
                // The parent shows it; without a reader it is lost, and the process ends all the same.
                drop(fs::File::from(running_write).write_all(error.to_string().as_bytes()));
                // SAFETY: ends the child without running what the parent wants run at its own end.
                unsafe { libc::_exit(1) }
            }
            pid => Child {
                pid: Pid::from_raw(i32::try_from(pid).expect("a pid")),
                go: go_write.into(),
                running: running_read.into(),
            },
        }
    }
}

fn address(index: usize) -> Ipv4Addr {
    let offset = u32::try_from(index + 2).expect("a small number");
    Ipv4Addr::from_bits((GATEWAY.to_bits() & 0xffff_0000) + offset)
}

fn await_program(child: Child) {
    let Child { go, mut running, .. } = child;
    drop(go);
    let mut words = String::new();
    running.read_to_string(&mut words).expect("a pipe");
    assert!(words.is_empty(), "a bare container does not start: {words}");
}

/// Runs in the child. Comes back only with the reason why not.
fn become_program(lower: &Path, directory: &Path, go: OwnedFd, address: Option<Ipv4Addr>) -> io::Error {
    let attempt = || -> io::Result<()> {
        if let Some(address) = address {
            fs::File::from(go).read_exact(&mut [0])?;
            let mut links = Rtnetlink::open();
            let interface = links.bring_up("eth0");
            links.address(interface, address, PREFIX);
            links.default_route(interface, GATEWAY);
        }
        let (upper, work, root) = (directory.join("upper"), directory.join("work"), directory.join("root"));
        for path in [&upper, &work, &root] {
            fs::create_dir_all(path)?;
        }
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        chdir(&root)?;
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")?;
        Ok(())
    };
    if let Err(error) = attempt() {
        return error;
    }
    let words = COMMAND.map(|word| CString::new(word).expect("no zero byte"));
    let Err(errno) = execv(&words[0], &words);
    errno.into()
}
