//! The directory that a layer is unpacked into, and paths below it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::error::EntryProblem;
use crate::{confined, tree};

/// What overlayfs takes for "nothing of the layers below shows through" (kernel, overlayfs, "whiteouts and opaque directories").
const OPAQUE: &str = "trusted.overlay.opaque";

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A path below a layer's root: components without `.`, `..` and NUL, one slash between them. Empty for the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerPath(Box<[u8]>);

impl LayerPath {
    /// Parses a path of an archive. A leading slash means the layer's root.
    pub fn parse(path: &[u8]) -> Result<Self, EntryProblem> {
        if path.contains(&0) {
            return Err(EntryProblem::NulByte);
        }
        let components = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        let components: Vec<&[u8]> = components.collect();
        if components.contains(&b"..".as_slice()) {
            return Err(EntryProblem::ParentComponent);
        }
        Ok(LayerPath(components.join(&b'/').into()))
    }

    /// Gives the parent and the last component; `None` for the root itself.
    pub fn split(&self) -> Option<(LayerPath, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/');
        let parent = slash.map_or(LayerPath::default(), |slash| LayerPath(self.0[..slash].into()));
        Some((parent, &self.0[slash.map_or(0, |slash| slash + 1)..]))
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// Gives the path without a leading slash; `.` for the root.
    pub fn as_bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }
}

/// A layer's root directory. The last parent stays open, since archives go directory by directory.
pub struct Root {
    directory: OwnedFd,
    last: Option<(LayerPath, Rc<OwnedFd>)>,
}

impl Root {
    pub fn new(directory: OwnedFd) -> Self {
        Root { directory, last: None }
    }

    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens a directory, its symbolic links resolved within the root, and makes what is missing of it.
    pub fn open_or_create(&mut self, path: &LayerPath) -> Result<Rc<OwnedFd>, EntryProblem> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(directory.clone());
        }
        let directory = match self.open(path, OFlags::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => self.create(path)?,
            Err(error) => return Err(EntryProblem::system("open its directory")(error)),
        };
        let directory = Rc::new(directory);
        self.last = Some((path.clone(), directory.clone()));
        Ok(directory)
    }

    /// Opens an existing directory, its symbolic links resolved within the root.
    pub fn open_existing(&self, path: &LayerPath) -> rustix::io::Result<OwnedFd> {
        self.open(path, OFlags::empty())
    }

    /// Opens a directory that an entry made; `None` where a later one took its place.
    pub fn open_again(&self, path: &LayerPath) -> Result<Option<OwnedFd>, EntryProblem> {
        match self.open(path, OFlags::NOFOLLOW) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(EntryProblem::system("open the directory again")(error)),
        }
    }

    /// Removes whatever stands at a name, a whole directory too, and tells whether it was a whiteout.
    pub fn clear(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<bool, EntryProblem> {
        self.last = None;
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(EntryProblem::system("look at what it replaces")(error)),
        };
        tree::remove_at(parent.as_fd(), name).map_err(EntryProblem::system("remove what it replaces"))?;
        Ok(is_whiteout(&stat))
    }

    fn open(&self, path: &LayerPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        confined::open(&self.directory, path.as_bytes(), DIRECTORY | flags, ResolveFlags::IN_ROOT)
    }

    /// Makes the missing directories of a path, as a plain `mkdir -p` would: mode 0755, owner root.
    fn create(&mut self, path: &LayerPath) -> Result<OwnedFd, EntryProblem> {
        let root = LayerPath::default();
        let mut directory = self.open(&root, OFlags::empty()).map_err(EntryProblem::system("open the layer"))?;
        let mut end = 0;
        for component in path.components() {
            end += component.len() + usize::from(end > 0);
            let sofar = LayerPath(path.0[..end].into());
            directory = match self.open(&sofar, OFlags::empty()) {
                Ok(existing) => existing,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let there = rustix::fs::statat(&directory, component, AtFlags::SYMLINK_NOFOLLOW);
                    if there.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
                        let link = super::lossy(sofar.as_bytes());
                        return Err(EntryProblem::DanglingParent { link });
                    }
                    make_directory(self, &directory, component)?;
                    self.open(&sofar, OFlags::empty()).map_err(EntryProblem::system("open its directory"))?
                }
                Err(error) => return Err(EntryProblem::system("open its directory")(error)),
            };
        }
        Ok(directory)
    }
}

/// Makes a directory with mode 0755 at a name, in place of what is there unless that is a directory.
pub fn make_directory(root: &mut Root, parent: &OwnedFd, name: &[u8]) -> Result<(), EntryProblem> {
    let mut over_whiteout = false;
    loop {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => break,
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(EntryProblem::system("look at what it replaces"))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    return Ok(());
                }
                over_whiteout |= root.clear(parent, name)?;
            }
            Err(error) => return Err(EntryProblem::system("make the directory")(error)),
        }
    }
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())
        .map_err(EntryProblem::system("set the directory's mode"))?;
    if over_whiteout {
        // What a whiteout hid stays hidden below the directory that takes its place.
        let directory = open_child(parent, name).map_err(EntryProblem::system("open the directory"))?;
        make_opaque(&directory)?;
    }
    Ok(())
}

/// Opens a directory's own sub-directory, not a link to one.
pub fn open_child(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

/// Hides what the layers below hold in a directory.
pub fn make_opaque(directory: &OwnedFd) -> Result<(), EntryProblem> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
        .map_err(EntryProblem::system("make the directory opaque (trusted.overlay.opaque)"))
}

/// Tells whether something is a whiteout as overlayfs has it: a character device 0/0.
pub fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
