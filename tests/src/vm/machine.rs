//! One boot of a virtual machine: from its start to its power-off, or to its power's end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::image::Image;
use super::message::{Order, PORT, Word};
use super::nbd;
use crate::program::Run;

/// How long a boot or one order may take; only a failing test waits it out.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many lines of the console a failed test shows.
const TAIL: usize = 60;

/// What the guest's process 1 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Busybox, with nothing beside it.
    Busybox,
    /// Debian's systemd.
    Systemd,
}

/// A running machine. It is killed with the value; on a panic the console's end is shown.
pub struct Machine {
    child: Child,
    init: Init,
    port: BufReader<UnixStream>,
    /// Ends when the machine is gone, after the last of what it wrote.
    disk: Option<JoinHandle<()>>,
    console: PathBuf,
    /// Something was ordered whose end nobody waited for.
    is_at_work: bool,
}

impl Machine {
    /// Boots from a disk and waits until the guest takes orders. `name` names the console's log.
    #[track_caller]
    pub fn boot(image: &Image, disk: &Disk, init: Init, name: &str) -> Machine {
        let directory = tempfile::tempdir().expect("a directory for sockets");
        let path = |name: &str| directory.path().join(name);
        let served = nbd::serve(disk, &path("disk")).expect("the disk's socket");
        let listener = UnixListener::bind(path("port")).expect("the port's socket");
        let console = image.console(name);
        let mut child = start(image, init, directory.path(), &console);
        let mut machine = Machine {
            port: BufReader::new(accept(&listener, &mut child)),
            child,
            init,
            disk: Some(served),
            console,
            is_at_work: false,
        };
        match machine.word() {
            Word::Ready => machine,
            other => panic!("the guest begins with {other:?}"),
        }
    }

    /// Runs a line of shell in the guest to its end.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Run {
        self.order(line);
        self.finish(line)
    }

    /// As [`Machine::run`], and requires success.
    #[track_caller]
    pub fn sh(&mut self, line: &str) -> Run {
        self.run(line).expect_code(0)
    }

    /// Begins a line of shell and does not wait; the machine is to be killed meanwhile.
    pub fn order(&mut self, line: &str) {
        assert!(!self.is_at_work, "the guest does one thing at a time");
        let mut order = serde_json::to_vec(&Order { line: line.to_owned() }).expect("text is JSON");
        order.push(b'\n');
        self.port.get_mut().write_all(&order).expect("the guest's port takes orders");
        self.is_at_work = true;
    }

    /// Waits for the end of what was ordered.
    #[track_caller]
    pub fn finish(&mut self, line: &str) -> Run {
        match self.word() {
            Word::Done { code, stdout, stderr } => {
                self.is_at_work = false;
                Run { command: line.to_owned(), code, stdout, stderr }
            }
            Word::Ready => panic!("the guest's process for orders began anew during `{line}`"),
        }
    }

    /// Runs a line again and again until a check is content with its output, and hands its value back.
    #[track_caller]
    pub fn eventually<T>(&mut self, line: &str, mut check: impl FnMut(&Run) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let run = self.run(line);
            if let Some(value) = check(&run) {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}\n{run}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Writes a file of the guest.
    #[track_caller]
    pub fn write(&mut self, path: &str, text: &str) {
        let directory = Path::new(path).parent().expect("a file has a directory").display();
        self.sh(&format!("mkdir -p {directory} && cat >{path} <<'END OF FILE'\n{text}\nEND OF FILE"));
    }

    /// Has the guest shut down in order, and waits until the machine is off.
    #[track_caller]
    pub fn power_off(mut self) {
        self.order(match self.init {
            Init::Busybox => "busybox poweroff",
            Init::Systemd => "systemctl poweroff",
        });
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("its exit status") {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => panic!("the machine is still on after {PATIENCE:?}"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "qemu: {status}");
        self.end();
    }

    /// Kills the machine on the spot. What it wrote is in the disk's cache then; [`Disk::cut`] is for the rest.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        // After a failure to start there may be nobody who hangs up.
        if !std::thread::panicking() {
            self.disk.take().map(JoinHandle::join);
        }
    }

    #[track_caller]
    fn word(&mut self) -> Word {
        let mut line = String::new();
        match self.port.read_line(&mut line) {
            Ok(0) => panic!("the machine is off"),
            Ok(_) => serde_json::from_str(&line).unwrap_or_else(|error| panic!("the guest said `{line}`: {error}")),
            Err(error) => panic!("the guest says nothing within {PATIENCE:?}: {error}"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let said = fs::read(&self.console).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            eprintln!("--- the console's end, all of it is in {} ---\n{tail}", self.console.display());
        }
    }
}

/// Waits until qemu connects the port, unless it ends before.
fn accept(listener: &UnixListener, child: &mut Child) -> UnixStream {
    listener.set_nonblocking(true).expect("a socket that does not wait");
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("a socket that waits");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            return stream;
        }
        if let Some(status) = child.try_wait().expect("its exit status") {
            panic!("qemu does not start, {status}: see the console's log");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(image: &Image, init: Init, sockets: &Path, console: &Path) -> Child {
    let init = match init {
        Init::Busybox => "/usr/lib/evenkeel-test/init",
        Init::Systemd => "/sbin/init",
    };
    // On a busy machine the emulated timer ticks too late for the kernel's check of it, which is not for virtual ones.
    let options =
        "root=/dev/vda rw console=ttyS0 panic=-1 quiet no_timer_check nokaslr mitigations=off random.trust_cpu=on";
    let said = File::options().create(true).append(true).open(console).expect("the console's log");
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "1G"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(image.kernel())
        .arg("-initrd")
        .arg(image.initramfs())
        .args(["-append", &format!("{options} init={init}")])
        .args(["-blockdev", &format!("nbd,node-name=disk,server.type=unix,server.path={}/disk", sockets.display())])
        .args(["-device", "virtio-blk-pci,drive=disk,write-cache=on"])
        .args(["-chardev", &format!("socket,id=port,path={}/port", sockets.display())])
        .args(["-device", "virtio-serial-pci", "-device", &format!("virtserialport,chardev=port,name={PORT}")])
        .args(["-chardev", &format!("file,id=console,append=on,path={}", console.display())])
        .args(["-serial", "chardev:console"])
        .args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="])
        .stdin(Stdio::null())
        .stdout(said.try_clone().expect("a second handle"))
        .stderr(said);
    command.spawn().expect("qemu-system-x86_64: run `make deps`")
}
