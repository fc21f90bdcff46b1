//! The mounts of a process, read from `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}")]
pub struct MountTableError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The directory of the file system that is seen at the mount point.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// Options of this mount, as `ro,nosuid`.
    pub options: String,
    pub fs_type: String,
    pub source: String,
    /// Options of the file system, the same for all its mounts.
    pub super_options: String,
}

/// The mounts in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable(Vec<MountEntry>);

impl MountTable {
    /// Reads the mounts that this thread sees.
    pub fn of_self() -> Result<MountTable, MountTableError> {
        // Of the thread: in a test it may have a mount namespace of its own.
        Self::read(Path::new("/proc/thread-self/mountinfo"))
    }

    /// Reads the mounts that this thread sees, in their order, up to the first that is `enough`.
    ///
    /// The kernel writes out no more than is read, and those made at the boot come first.
    pub fn of_self_until(mut enough: impl FnMut(&MountEntry) -> bool) -> Result<MountTable, MountTableError> {
        let path = Path::new("/proc/thread-self/mountinfo");
        let error = |source| MountTableError { path: path.to_owned(), source };
        let mut mounts = Vec::new();
        for line in BufReader::new(File::open(path).map_err(error)?).split(b'\n') {
            let Some(mount) = parse_line(&line.map_err(error)?) else { continue };
            let last = enough(&mount);
            mounts.push(mount);
            if last {
                break;
            }
        }
        Ok(MountTable(mounts))
    }

    /// Reads the mounts of another process, as they lie below its own root.
    pub fn of_process(pid: u32) -> Result<MountTable, MountTableError> {
        Self::read(Path::new(&format!("/proc/{pid}/mountinfo")))
    }

    fn read(path: &Path) -> Result<MountTable, MountTableError> {
        let bytes = read_proc(path).map_err(|source| MountTableError { path: path.to_owned(), source })?;
        Ok(Self::parse(&bytes))
    }

    /// Parses the lines; one that is not of the documented form is left out.
    pub fn parse(bytes: &[u8]) -> MountTable {
        MountTable(bytes.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &MountEntry> {
        self.0.iter()
    }

    /// Gives the mount that is seen at a mount point: the last one made there.
    pub fn at(&self, mount_point: &Path) -> Option<&MountEntry> {
        self.0.iter().rev().find(|mount| mount.mount_point == mount_point)
    }
}

/// Reads a file of `/proc`, whose size is not known before, in few reads: most fit the first.
pub(crate) fn read_proc(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(16 * 1024);
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = path(fields.nth(3)?);
    let mount_point = path(fields.next()?);
    let options = text(fields.next()?);
    // Optional fields up to a lone dash.
    fields.find(|field| *field == b"-")?;
    let (fs_type, source) = (text(fields.next()?), text(fields.next()?));
    let super_options = text(fields.next().unwrap_or_default());
    Some(MountEntry { root, mount_point, options, fs_type, source, super_options })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Takes back the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(&[a, b, c]) => {
                out.push((a - b'0').wrapping_mul(64).wrapping_add((b - b'0') * 8).wrapping_add(c - b'0'));
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
