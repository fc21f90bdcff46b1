//! Unpacks one layer's tar stream into a directory of its own.
//!
//! Whatever the archive says, nothing outside that directory is touched: every parent is opened with
//! `openat2(RESOLVE_IN_ROOT)`, and the last component is never followed. Whiteouts become what overlayfs takes for
//! them, since a layer is mounted as it lies here. Compression and digests are no matter of this module.

mod entry;
mod error;
mod root;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::os::fd::OwnedFd;

pub use error::{EntryProblem, ExtractError};
use evenkeel_shim::fail_point;
use root::{LayerPath, Root};

use super::tarball::{Member, MemberKind, Tarball, Time};

/// What a layer may cost. Generous: they stop archives made to do harm, not large images.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: u64,
    /// Bytes of data written, holes not included.
    pub bytes: u64,
    /// Length of one file, holes included.
    pub file: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 10_000_000, bytes: 2 << 40, file: 8 << 40 }
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    pub entries: u64,
    /// Bytes of data written.
    pub bytes: u64,
}

/// Unpacks a tar stream into an empty directory, and gives back the stream at the archive's end.
pub fn extract<R: Read>(archive: R, directory: OwnedFd, limits: Limits) -> Result<(Extracted, R), ExtractError> {
    let mut extraction = Extraction {
        root: Root::new(directory),
        limits,
        done: Extracted::default(),
        directory_times: Vec::new(),
        buffer: vec![0; 256 * 1024],
    };
    let mut tarball = Tarball::new(archive);
    let mut last = Vec::new();
    loop {
        let member = match tarball.next_member() {
            Ok(Some(member)) => member,
            Ok(None) => break,
            Err(source) => return Err(ExtractError::Archive { after: lossy(&last), source }),
        };
        extraction
            .add(&mut tarball, &member)
            .map_err(|source| ExtractError::Entry { path: lossy(&member.path), source })?;
        fail_point!("layer.entry");
        last = member.path;
    }
    extraction.finish()?;
    Ok((extraction.done, tarball.into_source()))
}

struct Extraction {
    root: Root,
    limits: Limits,
    done: Extracted,
    /// Directories whose time is set last, since every entry made in them moves it.
    directory_times: Vec<(LayerPath, Time)>,
    buffer: Vec<u8>,
}

impl Extraction {
    fn add<R: Read>(&mut self, tarball: &mut Tarball<R>, member: &Member) -> Result<(), EntryProblem> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(EntryProblem::TooManyEntries { limit: self.limits.entries });
        }
        let path = LayerPath::parse(&member.path)?;
        let Some((parent, name)) = path.split() else {
            return self.add_root(member);
        };
        if parent.components().any(is_whiteout) {
            return Err(EntryProblem::BelowWhiteout);
        }
        if is_whiteout(name) {
            return self.add_whiteout(member, &parent, name);
        }
        let parent = self.root.open_or_create(&parent)?;
        match member.kind {
            MemberKind::File => self.add_file(tarball, member, &parent, name),
            MemberKind::HardLink => self.add_hard_link(member, &parent, name),
            MemberKind::Symlink => self.add_symlink(member, &parent, name),
            MemberKind::Directory => {
                self.add_directory(member, &parent, name)?;
                self.directory_times.push((path, member.modified));
                Ok(())
            }
            MemberKind::Fifo | MemberKind::CharacterDevice { .. } | MemberKind::BlockDevice { .. } => {
                self.add_node(member, &parent, name)
            }
        }
    }

    /// Sets the times of directories, which nothing moves any more.
    fn finish(&mut self) -> Result<(), ExtractError> {
        for (path, time) in std::mem::take(&mut self.directory_times) {
            let problem = |source| ExtractError::Entry { path: lossy(path.as_bytes()), source };
            // The directory may have been replaced by a later entry.
            if let Some(directory) = self.root.open_again(&path).map_err(problem)? {
                entry::set_times(&directory, time).map_err(problem)?;
            }
        }
        Ok(())
    }
}

/// Prefix of names that stand for deletions (OCI image spec, layer, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

fn is_whiteout(name: &[u8]) -> bool {
    name.starts_with(WHITEOUT)
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
