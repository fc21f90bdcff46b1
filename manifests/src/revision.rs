//! Which state of the manifests was read: the git commit where there is one, or a digest of the content.
//!
//! Git's files are read directly, since a host need not have git. Whether the work tree has changes beyond the commit is
//! not looked at.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::text::SourceFile;

/// Digits of a revision, as many as git abbreviates to.
const DIGITS: usize = 7;

/// Names the revision of a source.
pub(crate) fn revision(path: &Path, files: &[SourceFile]) -> String {
    let mut revision = commit(path).unwrap_or_else(|| content(files));
    revision.truncate(DIGITS);
    revision
}

fn content(files: &[SourceFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        let name = file.relative.as_os_str().as_encoded_bytes();
        for part in [name, file.text.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hex::encode(hash.finalize())
}

/// Finds git's lock on the checkout that a path lies in: git is writing files of it, or died while it did.
pub(crate) fn lock(path: &Path) -> Option<PathBuf> {
    let lock = git_directory(path)?.join("index.lock");
    lock.exists().then_some(lock)
}

/// Finds git's directory of the checkout that a path lies in (gitrepository-layout(5)).
fn git_directory(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    let git = path.ancestors().map(|above| above.join(".git")).find(|git| git.exists())?;
    if !git.is_file() {
        return Some(git);
    }
    // A work tree of its own or a submodule: the file names the directory.
    let text = fs::read_to_string(&git).ok()?;
    Some(git.parent()?.join(text.strip_prefix("gitdir:")?.trim()))
}

fn commit(path: &Path) -> Option<String> {
    let git = git_directory(path)?;
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    match head.trim().strip_prefix("ref:") {
        None => hash(&head),
        Some(reference) => resolve(&git, reference.trim()),
    }
}

fn resolve(git: &Path, reference: &str) -> Option<String> {
    let common = match fs::read_to_string(git.join("commondir")) {
        Ok(text) => git.join(text.trim()),
        Err(_) => PathBuf::from(git),
    };
    let loose = [git, &common].into_iter().find_map(|directory| fs::read_to_string(directory.join(reference)).ok());
    if let Some(loose) = loose {
        return hash(&loose);
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    packed
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(_, name)| *name == reference))
        .and_then(|(id, _)| hash(id))
}

fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    (matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
