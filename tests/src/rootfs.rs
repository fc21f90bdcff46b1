//! A small root file system: busybox and what it wants around it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::program::run;

/// Packs busybox with a link for every one of its programs into a compressed tarball.
pub fn busybox(tarball: &Path) {
    let directory = tempfile::tempdir().expect("a directory to build in");
    busybox_directory(directory.path());
    run(Command::new("tar")
        .args(["--create", "--gzip", "--numeric-owner", "--owner=0", "--group=0"])
        .arg("--file")
        .arg(tarball)
        .arg("--directory")
        .arg(directory.path())
        .arg("."))
    .expect_code(0);
}

/// Lays the same out as a directory.
pub fn busybox_directory(root: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var", "www"] {
        fs::create_dir_all(root.join(directory)).expect("a directory of the root file system");
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("the mode of /");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("the mode of /tmp");
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(program.expect("busybox: run `make deps`"), root.join("bin/busybox")).expect("a copy of busybox");
    let list = run(Command::new("busybox").arg("--list")).expect_code(0);
    for applet in list.stdout.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("a link to busybox");
    }
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/www:/bin/sh\n"),
        ("etc/group", "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n"),
        ("www/index.html", "hello\n"),
    ];
    for (file, text) in files {
        fs::write(root.join(file), text).expect("a file of the root file system");
    }
}
