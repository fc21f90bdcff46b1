//! The files of a source: one file, or every `.yaml` and `.yml` below a directory.
//!
//! Names that begin with a dot and editors' leftovers do not count. Symbolic links are followed; what two ways lead to is
//! read once, so that a loop ends and a directory that is swapped by a link is not read twice. What cannot be read is a
//! problem of its own, since it must never look like a manifest that was deleted.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::problem::{Place, Problem};
use crate::secret;
use crate::text::{SourceFile, Span};

/// Largest manifest that is read, in bytes.
const LARGEST_FILE: u64 = 8 << 20;
/// Deepest directory below the source.
const DEEPEST_DIRECTORY: usize = 64;

/// What was found at a path.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// In the order of their paths.
    pub(crate) files: Vec<SourceFile>,
    pub(crate) problems: Vec<Problem>,
    /// Files that are not text, below the source.
    pub(crate) broken: BTreeSet<PathBuf>,
    /// Files and directories that could not be read, below the source.
    pub(crate) unreadable: BTreeSet<PathBuf>,
}

/// Reads all manifests of a source.
pub(crate) fn read(path: &Path) -> Sources {
    let mut walk = Walk { root: path, seen: HashSet::new(), sources: Sources::default() };
    match fs::metadata(path) {
        Err(error) => walk.unreadable(Path::new(""), &error),
        Ok(metadata) if metadata.is_dir() => walk.directory(Path::new(""), &metadata, 0),
        // Whatever a person names is read: also /dev/stdin, and a file with another ending.
        Ok(_) => {
            let relative = path.file_name().map(PathBuf::from).unwrap_or_default();
            walk.root = path.parent().unwrap_or(Path::new(""));
            walk.file(&relative);
        }
    }
    walk.sources
}

struct Walk<'a> {
    root: &'a Path,
    /// Device and inode number of every directory and file that was read.
    seen: HashSet<(u64, u64)>,
    sources: Sources,
}

impl Walk<'_> {
    fn directory(&mut self, relative: &Path, metadata: &Metadata, depth: usize) {
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        if depth > DEEPEST_DIRECTORY {
            return self.unreadable(relative, &io::Error::other("directories are nested too deeply"));
        }
        let entries = fs::read_dir(self.path(relative)).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<BTreeSet<_>>>()
        });
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(relative, &error),
        };
        for name in entries {
            let below = relative.join(&name);
            let Some(name) = name.to_str() else {
                if below.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                    self.unreadable(&below, &io::Error::other("the file's name is not UTF-8"));
                }
                continue;
            };
            if is_leftover(name) {
                continue;
            }
            let manifest = name.ends_with(".yaml") || name.ends_with(".yml");
            match fs::metadata(self.path(&below)) {
                Ok(metadata) if metadata.is_dir() => self.directory(&below, &metadata, depth + 1),
                Ok(_) if !manifest => {}
                Ok(metadata) if metadata.is_file() => {
                    if self.seen.insert((metadata.dev(), metadata.ino())) {
                        self.file(&below);
                    }
                }
                // Reading a FIFO or a device would wait for ever.
                Ok(_) => self.unreadable(&below, &io::Error::other("it is not a regular file")),
                // It went away since the directory was listed.
                Err(_) if fs::symlink_metadata(self.path(&below)).is_err_and(is_not_found) => {}
                // Or a directory that cannot be reached, with manifests in it for all one knows: a dead network file
                // system, a link to a revision that is gone.
                Err(error) => self.unreadable(&below, &error),
            }
        }
    }

    fn file(&mut self, relative: &Path) {
        let bytes = match read_limited(&self.path(relative)) {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(relative, &error),
        };
        let directory = self.path(relative).parent().map(Path::to_owned).unwrap_or_default();
        let directory = std::path::absolute(if directory.as_os_str().is_empty() { Path::new(".") } else { &directory });
        let directory = match directory {
            Ok(directory) => directory,
            Err(error) => return self.unreadable(relative, &error),
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        match str::from_utf8(bytes) {
            Ok(text) => {
                let file = SourceFile::new(self.shown(relative), relative.to_owned(), directory, text.to_owned());
                self.sources.files.push(file);
            }
            Err(error) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                // Up to here the lossy text is the file's own.
                let start = error.valid_up_to();
                let shown = self.shown(relative);
                let file = SourceFile::new(shown.clone(), relative.to_owned(), directory, text);
                let span = Span { start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
                let place = Place { file: shown, position: Some(file.position(span)), label: None };
                let help = "save the file as UTF-8".to_owned();
                let mut problem = Problem::at(place, "this is not UTF-8 text".to_owned(), Some(help));
                secret::conceal(&mut problem, [Some(&file)]);
                self.sources.problems.push(problem);
                self.sources.broken.insert(relative.to_owned());
            }
        }
    }

    fn path(&self, relative: &Path) -> PathBuf {
        if relative.as_os_str().is_empty() { self.root.to_owned() } else { self.root.join(relative) }
    }

    /// Writes a path as a person at the terminal would.
    fn shown(&self, relative: &Path) -> String {
        let path = self.path(relative);
        path.strip_prefix("./").unwrap_or(&path).to_string_lossy().into_owned()
    }

    fn unreadable(&mut self, relative: &Path, error: &io::Error) {
        let place = Place { file: self.shown(relative), position: None, label: None };
        self.sources.problems.push(Problem::at(place, format!("cannot be read: {error}"), None));
        self.sources.unreadable.insert(relative.to_owned());
    }
}

/// Tells what editors and tools leave behind from what a person put there.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || (name.starts_with('#') && name.ends_with('#'))
}

fn is_not_found(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other("it is larger than 8 MiB, which no manifest is"));
    }
    Ok(bytes)
}
