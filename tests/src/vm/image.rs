//! What every machine begins with: a Debian system with the built programs on a disk, its kernel, and an initial RAM disk.
//!
//! Kept in `target/vm`: the system for as long as its recipe stays, the disk for as long as the programs do. Each test
//! is a process of its own, so a file lock sees to it that each is made once.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, Permissions};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::program::{built, run};
use crate::rootfs;

/// Where the programs lie that go onto the disk, in place of those that were built with the tests.
const PROGRAMS: &str = "EVENKEEL_VM_PROGRAMS";
/// What the system is made of beside Debian's essential packages.
const PACKAGES: &str =
    "systemd-sysv,kmod,iproute2,nftables,libseccomp2,busybox-static,curl,procps,util-linux,e2fsprogs";
/// Its kernel is unpacked, not installed, and only what is of use here kept: the rest is drivers.
const KERNEL: &str = r#"cd "$1"
chroot . sh -ec 'cd /root; apt-get download -q $(apt-cache depends linux-image-cloud-amd64 | sed -n "s/.*Depends: //p")'
dpkg-deb --fsys-tarfile root/linux-image-*.deb | tar -x --keep-directory-symlink ./boot ./lib/modules
rm root/linux-image-*.deb boot/System.map-* boot/config-*
cd lib/modules/*
rm -rf kernel/sound
find kernel/drivers -mindepth 1 -maxdepth 1 ! -name virtio ! -name block ! -name net ! -name char -exec rm -r {} +
find kernel/fs -mindepth 1 -maxdepth 1 ! -name overlayfs ! -name nls -exec rm -r {} +
version=${PWD##*/}
cd "$1"; chroot . depmod "$version""#;
/// The authorities without which nothing is pulled.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What the initial RAM disk loads, with all that these depend on.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];
/// Size of the disk in the form of truncate(1); the file is sparse.
const SIZE: &str = "1G";

/// The files that a machine starts from.
#[derive(Clone, Debug)]
pub struct Image {
    directory: PathBuf,
    disk: PathBuf,
}

impl Image {
    /// The disk that a fresh machine begins with.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    pub(super) fn initramfs(&self) -> PathBuf {
        self.directory.join("initramfs")
    }

    /// Names the log of a machine's console; it stays for whoever looks for the cause.
    pub(super) fn console(&self, name: &str) -> PathBuf {
        self.directory.join("console").join(format!("{name}.log"))
    }
}

/// Makes what is missing. The first time on a machine it downloads some 90 MB and takes a minute or two.
pub fn prepare() -> Image {
    assert_eq!(std::env::consts::ARCH, "x86_64", "the virtual machines of the suite are x86-64 ones");
    let target = built("evenkeel").ancestors().nth(2).expect("target/debug/evenkeel").to_owned();
    let directory = target.join("vm");
    fs::create_dir_all(directory.join("console")).expect("target/vm");
    let lock = File::create(directory.join("lock")).expect("the lock's file");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("a lock");
    let system = system(&directory);
    let disk = disk(&directory, &system);
    Image { directory, disk }
}

/// Gives the directory of the Debian system, of the release that the programs were built on.
fn system(directory: &Path) -> PathBuf {
    let release = run(Command::new("sh").args(["-ec", ". /etc/os-release; echo $VERSION_CODENAME"])).expect_code(0);
    let release = release.stdout.trim().to_owned();
    let initramfs_script = include_str!("guest/initramfs.sh");
    let place = directory.join(format!("system-{:016x}", hash(&(&release, PACKAGES, KERNEL, initramfs_script))));
    if place.exists() {
        return place;
    }
    remove(directory, "system-");
    let begun = directory.join("making-system");
    remove(directory, "making-");
    run(Command::new("mmdebstrap")
        .args(["--variant=apt", "--mode=root", "--format=directory", "--quiet"])
        .arg(format!("--include={PACKAGES}"))
        .args(["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
        .args(["--aptopt=Acquire::Languages \"none\"", &format!("--customize-hook={KERNEL}")])
        .arg(&release)
        .arg(&begun))
    .expect_code(0);
    initramfs(directory, &begun);
    fs::rename(&begun, &place).expect("the system in its place");
    place
}

/// Takes the kernel out of the system, and packs busybox with the modules that reach the disk.
fn initramfs(directory: &Path, system: &Path) {
    let content = directory.join("making-initramfs");
    let script = r#"
system=$1 content=$2 modules=$3 directory=$4
cp "$system"/boot/vmlinuz-* "$directory/vmlinuz"
mkdir -p "$content/bin" "$content/modules"
cp "$(command -v busybox)" "$content/bin/busybox"
version=$(ls "$system/lib/modules")
for module in $modules; do chroot "$system" modprobe -S "$version" --show-depends "$module"; done |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r module; do
        name=$(basename "$module"); name=${name%.xz}
        case $module in
            *.xz) busybox unxz -c "$system$module" ;;
            *) cat "$system$module" ;;
        esac >"$content/modules/$name"
        echo "$name" >>"$content/modules/order"
    done
install -m 0755 /dev/stdin "$content/init"
cd "$content"; find . | busybox cpio -o -H newc >"$directory/initramfs"
"#;
    let script = format!("set -eu{script}");
    let mut child = Command::new("sh")
        .args(["-c", &script, "sh"])
        .args([system, &content])
        .arg(MODULES.join(" "))
        .arg(directory)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("it was asked for");
    std::io::Write::write_all(&mut stdin, include_bytes!("guest/initramfs.sh")).expect("the shell reads");
    drop(stdin);
    assert!(child.wait().expect("its exit status").success(), "the initial RAM disk is not made");
    fs::remove_dir_all(content).expect("what it was made from");
}

/// Gives the disk: the system, what `make install` puts there, and the test's hand.
fn disk(directory: &Path, system: &Path) -> PathBuf {
    let chosen = std::env::var_os(PROGRAMS).map(PathBuf::from);
    let under_test = |name: &str| chosen.as_ref().map_or_else(|| built(name), |directory| directory.join(name));
    let programs =
        [under_test("evenkeel"), under_test("evenkeel-oci"), under_test("evenkeel-shim"), built("evenkeel-test-guest")];
    let state = programs.each_ref().map(|program| {
        let metadata = fs::metadata(program).expect("a built program");
        (metadata.len(), metadata.modified().expect("its time"))
    });
    let guest = [
        ("rcS", include_str!("guest/rcS")),
        ("devices", include_str!("guest/devices")),
        ("inittab", include_str!("guest/inittab")),
        ("guest.service", include_str!("guest/guest.service")),
        ("evenkeel.service", include_str!("../../../agent/evenkeel.service")),
        ("Makefile", include_str!("../../../Makefile")),
    ];
    let place = directory.join(format!("disk-{:016x}", hash(&(system, &programs, state, guest, SIZE))));
    if place.exists() {
        return place;
    }
    remove(directory, "disk-");
    remove(directory, "making-");
    let content = directory.join("making-content");
    let stripped = directory.join("making-programs");
    fs::create_dir(&stripped).expect("a directory for programs");
    for program in &programs {
        let name = program.file_name().expect("a program has a name");
        run(Command::new("strip").arg("-o").arg(stripped.join(name)).arg(program)).expect_code(0);
    }
    run(Command::new("cp").args(["-al"]).args([system, &content])).expect_code(0);
    fs::remove_dir_all(content.join("boot")).expect("the kernel, which is started from outside");

    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    run(Command::new("make")
        .args(["--silent", "--old-file=build", "install"])
        .arg(format!("BUILT={}", stripped.display()))
        .arg(format!("DESTDIR={}", content.display()))
        .env_remove("MAKEFLAGS")
        .current_dir(sources))
    .expect_code(0);

    let own = content.join("usr/lib/evenkeel-test");
    fs::create_dir(&own).expect("a directory of our own");
    fs::copy(stripped.join("evenkeel-test-guest"), own.join("guest")).expect("the test's hand");
    for (name, text) in &guest[..2] {
        fs::write(own.join(name), text).expect("a script");
        fs::set_permissions(own.join(name), Permissions::from_mode(0o755)).expect("its mode");
    }
    // As the package ca-certificates would lay it down, without the Perl and OpenSSL that come with it.
    fs::create_dir_all(content.join("etc/ssl/certs")).expect("the directory of authorities");
    fs::copy(AUTHORITIES, content.join(&AUTHORITIES[1..])).expect("ca-certificates: run `make deps`");
    symlink("/bin/busybox", own.join("init")).expect("busybox as init");
    let units = content.join("etc/systemd/system");
    fs::write(content.join("etc/inittab"), guest[2].1).expect("busybox's table");
    fs::write(units.join("evenkeel-test-guest.service"), guest[3].1).expect("the unit");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).expect("the target's directory");
    symlink("../evenkeel-test-guest.service", wants.join("evenkeel-test-guest.service")).expect("the unit enabled");
    rootfs::busybox(&content.join("srv/busybox.tar.gz"));

    let begun = directory.join("making-disk");
    let options = ["-q", "-F", "-b", "4096", "-O", "^resize_inode", "-J", "size=16", "-E"];
    run(Command::new("mkfs.ext4")
        .args(options)
        .arg("lazy_itable_init=0,lazy_journal_init=0")
        .arg("-d")
        .args([&content, &begun])
        .arg(SIZE))
    .expect_code(0);
    fs::rename(&begun, &place).expect("the disk in its place");
    remove(directory, "making-");
    place
}

/// Removes what begins with a prefix: left over from a run that was killed, or from an earlier recipe.
fn remove(directory: &Path, prefix: &str) {
    for entry in fs::read_dir(directory).expect("target/vm").filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap_or_else(|error| panic!("{} stays: {error}", path.display()));
        }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
