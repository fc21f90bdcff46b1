//! One entry of each kind, with its owner, attributes, mode and time in the one order that keeps all of them.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::EntryProblem;
use super::root::{LayerPath, is_whiteout, make_directory, make_opaque, open_child};
use super::{Extraction, WHITEOUT, lossy};
use crate::attributes;
use crate::image::tarball::{Member, MemberKind, Segment, Tarball, Time};

impl Extraction {
    /// Gives the layer's root its owner, mode and attributes.
    pub(super) fn add_root(&mut self, member: &Member) -> Result<(), EntryProblem> {
        if member.kind != MemberKind::Directory {
            return Err(EntryProblem::RootKind);
        }
        let root = rustix::io::fcntl_dupfd_cloexec(self.root.directory(), 0)
            .map_err(EntryProblem::system("open the layer"))?;
        set_open(&root, member)?;
        self.directory_times.push((LayerPath::default(), member.modified));
        Ok(())
    }

    pub(super) fn add_file<R: Read>(
        &mut self,
        tarball: &mut Tarball<R>,
        member: &Member,
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), EntryProblem> {
        if member.size > self.limits.file {
            return Err(EntryProblem::TooLong { size: member.size, limit: self.limits.file });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
        let file = match create() {
            Err(Errno::EXIST) => {
                self.root.clear(parent, name)?;
                create()
            }
            other => other,
        };
        let file = file.map_err(EntryProblem::system("create the file"))?;
        let whole = [Segment { offset: 0, length: member.size }];
        let segments = member.segments.as_deref().unwrap_or(&whole);
        for segment in segments {
            self.write_segment(tarball, &file, *segment)?;
        }
        if member.segments.is_some() {
            rustix::fs::ftruncate(&file, member.size).map_err(EntryProblem::system("set the file's length"))?;
        }
        set_open(&file, member)?;
        set_times(&file, member.modified)
    }

    fn write_segment<R: Read>(
        &mut self,
        tarball: &mut Tarball<R>,
        file: &OwnedFd,
        segment: Segment,
    ) -> Result<(), EntryProblem> {
        self.done.bytes = self.done.bytes.saturating_add(segment.length);
        if self.done.bytes > self.limits.bytes {
            return Err(EntryProblem::TooManyBytes { limit: self.limits.bytes });
        }
        let (mut offset, end) = (segment.offset, segment.offset + segment.length);
        while offset < end {
            let room = usize::try_from(end - offset).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let count = match tarball.read(&mut self.buffer[..room]) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(EntryProblem::Data(error)),
            };
            if count == 0 {
                return Err(EntryProblem::Data(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let mut written = 0;
            while written < count {
                written += rustix::io::pwrite(file, &self.buffer[written..count], offset + written as u64)
                    .map_err(EntryProblem::system("write the file"))?;
            }
            offset += count as u64;
        }
        Ok(())
    }

    pub(super) fn add_hard_link(&mut self, member: &Member, parent: &OwnedFd, name: &[u8]) -> Result<(), EntryProblem> {
        let target = LayerPath::parse(&member.link)?;
        let text = || lossy(&member.link);
        let (target_parent, target_name) = target.split().ok_or(EntryProblem::EmptyTarget)?;
        if super::is_whiteout(target_name) {
            return Err(EntryProblem::BadTarget { target: text() });
        }
        let missing = |error| match error {
            Errno::NOENT | Errno::NOTDIR => EntryProblem::MissingTarget { target: text() },
            error => EntryProblem::system("open the directory of its target")(error),
        };
        let target_parent = self.root.open_existing(&target_parent).map_err(missing)?;
        let stat = rustix::fs::statat(&target_parent, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        if is_whiteout(&stat) || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(EntryProblem::BadTarget { target: text() });
        }
        let link = || rustix::fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                let existing = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(EntryProblem::system("look at what it replaces"))?;
                // The same file by another path, over a symbolic link: clearing it would lose it.
                if (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino) {
                    return Ok(());
                }
                self.root.clear(parent, name)?;
                link()
            }
            other => other,
        }
        .map_err(EntryProblem::system("make the hard link"))
    }

    pub(super) fn add_symlink(&mut self, member: &Member, parent: &OwnedFd, name: &[u8]) -> Result<(), EntryProblem> {
        if member.link.is_empty() {
            return Err(EntryProblem::EmptyTarget);
        }
        if member.link.contains(&0) {
            return Err(EntryProblem::NulByte);
        }
        let link = || rustix::fs::symlinkat(member.link.as_slice(), parent, name);
        match link() {
            Err(Errno::EXIST) => {
                self.root.clear(parent, name)?;
                link()
            }
            other => other,
        }
        .map_err(EntryProblem::system("make the symbolic link"))?;
        set_named(parent, name, member)
    }

    pub(super) fn add_directory(&mut self, member: &Member, parent: &OwnedFd, name: &[u8]) -> Result<(), EntryProblem> {
        make_directory(&mut self.root, parent, name)?;
        let directory = open_child(parent, name).map_err(EntryProblem::system("open the directory"))?;
        set_open(&directory, member)
    }

    pub(super) fn add_node(&mut self, member: &Member, parent: &OwnedFd, name: &[u8]) -> Result<(), EntryProblem> {
        let (kind, device) = match member.kind {
            MemberKind::CharacterDevice { major, minor } => {
                (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            MemberKind::BlockDevice { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            _ => (FileType::Fifo, 0),
        };
        let make = || rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device);
        match make() {
            Err(Errno::EXIST) => {
                self.root.clear(parent, name)?;
                make()
            }
            other => other,
        }
        .map_err(EntryProblem::system("make the device node or pipe"))?;
        set_named(parent, name, member)
    }

    /// Turns `.wh.NAME` into a whiteout of overlayfs, and `.wh..wh..opq` into the mark of an opaque directory.
    pub(super) fn add_whiteout(
        &mut self,
        member: &Member,
        parent: &LayerPath,
        name: &[u8],
    ) -> Result<(), EntryProblem> {
        if matches!(member.kind, MemberKind::HardLink | MemberKind::Symlink) {
            return Err(EntryProblem::WhiteoutLink);
        }
        if name == b".wh..wh..opq" {
            let parent = self.root.open_or_create(parent)?;
            return make_opaque(&parent);
        }
        let hidden = &name[WHITEOUT.len()..];
        if hidden.starts_with(WHITEOUT) {
            // Bookkeeping of AUFS (`.wh..wh.plnk`, `.wh..wh.orph`), which no one else reads.
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(EntryProblem::EmptyWhiteout);
        }
        let parent = self.root.open_or_create(parent)?;
        match rustix::fs::mknodat(&parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // A whiteout hides what lower layers hold, never what its own layer does: a directory here hides it by
            // being opaque, anything else by being there.
            Err(Errno::EXIST) => match open_child(&parent, hidden) {
                Ok(directory) => make_opaque(&directory),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(EntryProblem::system("open what the whiteout names")(error)),
            },
            Err(error) => Err(EntryProblem::system("make the whiteout")(error)),
        }
    }
}

/// Sets owner, attributes and mode of an open file or directory. chown(2) drops setuid bits and capabilities: it comes first.
fn set_open(file: &OwnedFd, member: &Member) -> Result<(), EntryProblem> {
    let (uid, gid) = owner(member)?;
    rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(EntryProblem::system("set its owner"))?;
    for (attribute, value) in attributes(member) {
        let result = rustix::fs::fsetxattr(file, attribute, value, XattrFlags::empty());
        judge_attribute(result, attribute, member)?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(member.mode)).map_err(EntryProblem::system("set its mode"))
}

/// Does the same for what cannot be opened: links, devices, pipes.
fn set_named(parent: &OwnedFd, name: &[u8], member: &Member) -> Result<(), EntryProblem> {
    let (uid, gid) = owner(member)?;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(EntryProblem::system("set its owner"))?;
    for (attribute, value) in attributes(member) {
        // There is no lsetxattrat(2) before Linux 6.13; the parent is named by its descriptor, the name is not followed.
        let mut path = format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let result = rustix::fs::lsetxattr(path, attribute, value, XattrFlags::empty());
        judge_attribute(result, attribute, member)?;
    }
    if member.kind != MemberKind::Symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(member.mode), AtFlags::empty())
            .map_err(EntryProblem::system("set its mode"))?;
    }
    rustix::fs::utimensat(parent, name, &timestamps(member.modified), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(EntryProblem::system("set its time"))
}

/// Sets the modification time of an open file or directory.
pub(super) fn set_times(file: &OwnedFd, time: Time) -> Result<(), EntryProblem> {
    rustix::fs::futimens(file, &timestamps(time)).map_err(EntryProblem::system("set its time"))
}

fn timestamps(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) },
    }
}

fn owner(member: &Member) -> Result<(Uid, Gid), EntryProblem> {
    // The highest number means "do not change" to chown(2).
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(EntryProblem::Owner { id });
    Ok((Uid::from_raw(id(member.uid)?), Gid::from_raw(id(member.gid)?)))
}

/// Gives the attributes to set.
fn attributes(member: &Member) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = member.attributes.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    all.filter(|(name, _)| attributes::is_kept(name))
}

fn judge_attribute(result: rustix::io::Result<()>, name: &[u8], member: &Member) -> Result<(), EntryProblem> {
    let special = !matches!(member.kind, MemberKind::File | MemberKind::Directory);
    attributes::judge(result, name, special)
        .map_err(|error| EntryProblem::Attribute { attribute: lossy(name), source: error.into() })
}
