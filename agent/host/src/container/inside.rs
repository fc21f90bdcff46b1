//! Safe access to paths inside a container's root file system from outside.
//!
//! An image is not trusted: a symbolic link in it may point anywhere. Every path is resolved by the kernel with the
//! root file system as its root (openat2(2), `RESOLVE_IN_ROOT`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};

use crate::confined;

/// The longest file that is read whole; passwd and group files are far shorter.
const MAX_SIZE: u64 = 4 << 20;

/// An open root file system.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
}

impl Inside {
    pub fn open(root: &Path) -> io::Result<Inside> {
        let descriptor = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Inside { root: descriptor })
    }

    /// Opens a path as the container would find it; `None` where there is nothing.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        match confined::open(&self.root, relative, flags, ResolveFlags::IN_ROOT) {
            Ok(descriptor) => Ok(Some(descriptor)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads a text file; empty where there is none.
    pub fn read_text(&self, path: &Path) -> io::Result<String> {
        // Without O_NONBLOCK a named pipe in the image would hold us up for ever.
        let Some(descriptor) = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)? else {
            return Ok(String::new());
        };
        let file = File::from(descriptor);
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(MAX_SIZE).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
