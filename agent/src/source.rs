//! What is desired, from a source of manifests and what was applied last: nothing goes only because it cannot be read.
//!
//! A file that does not parse is not a deleted file. The objects that were applied from it are held as they were
//! applied last, and so is everything where the source as a whole was lost: unreadable in part, or suddenly empty.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evenkeel_manifests::{Loaded, Problem, load};
use evenkeel_plan::{Desired, Source};
use evenkeel_schema::Key;

use crate::ledger::{Entry, Ledger, LedgerError};

#[cfg(test)]
mod tests;

/// What is desired, with the problems met on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    pub desired: Desired,
    pub problems: Vec<Problem>,
    /// Why nothing is deleted, where the source as a whole cannot be trusted.
    pub distrust: Option<String>,
    /// Whether the source is being written right now, and is to be read again soon.
    pub in_motion: bool,
}

impl Intent {
    /// Lists everything that keeps the source from being applied whole, one line each.
    pub fn errors(&self) -> Vec<String> {
        let errors = self.problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string);
        errors.chain(self.distrust.clone()).collect()
    }
}

/// Reads a source and completes it with what was applied last.
///
/// `path` is a directory or a file. A file inside the directory that was applied last is a part of it: what other
/// files of the directory state stays as it was applied.
pub fn read(path: &Path, ledger: Option<&Ledger>, allow_empty: bool) -> Result<Intent, LedgerError> {
    let absolute = canonical(path);
    let loaded = load(&absolute);
    let Some(ledger) = ledger else { return complete(loaded, None, &BTreeMap::new(), None, allow_empty) };
    complete(loaded, Some(ledger), &ledger.entries()?, ledger.source()?, allow_empty)
}

/// Gives the one form in which sources are compared: absolute, links resolved above the last part only, so that a
/// source that is itself a link keeps its name when the link is switched.
pub fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // `a/..` and `.` have no last part to keep.
    let whole = || absolute.canonicalize().unwrap_or_else(|_| absolute.clone());
    let Some(name) = absolute.file_name() else { return whole() };
    if absolute.components().any(|part| part == std::path::Component::ParentDir) {
        return whole();
    }
    match absolute.parent().map(Path::canonicalize) {
        Some(Ok(parent)) => parent.join(name),
        _ => absolute,
    }
}

fn complete(
    loaded: Loaded,
    ledger: Option<&Ledger>,
    entries: &BTreeMap<Key, Entry>,
    last: Option<Source>,
    allow_empty: bool,
) -> Result<Intent, LedgerError> {
    let Loaded { mut desired, problems, broken_files, empty_files, complete, locked } = loaded;
    let mut distrust = None;
    // A source that never stated anything holds nothing up; one that did and now states nothing is taken for lost.
    if !complete {
        distrust = Some("the source could not be read whole: nothing is deleted".to_owned());
    } else if let Some(lock) = &locked {
        distrust = Some(format!("git is at work, {} is there: nothing is deleted until it is gone", lock.display()));
    } else if desired.is_empty() && !entries.is_empty() && !allow_empty {
        let path = desired.source.path.display();
        distrust = Some(format!("{path} states nothing: nothing is deleted without --allow-empty"));
    }
    let within = last.and_then(|last| part_of(&desired.source.path, &last.path).map(|prefix| (last, prefix)));
    if let Some((whole, prefix)) = &within {
        desired.files = desired.files.into_keys().map(|key| (key, prefix.clone())).collect();
        desired.source.path = whole.path.clone();
    }
    for (key, entry) in entries {
        if desired.contains(key) {
            continue;
        }
        let file = entry.file.clone().unwrap_or_default();
        let elsewhere = within.as_ref().is_some_and(|(_, part)| file != *part);
        let broken = match &within {
            Some((_, part)) => !broken_files.is_empty() && file == *part,
            None => broken_files.contains(&file),
        };
        let held = desired.held.contains_key(key);
        if elsewhere && !held {
            insert(ledger, &mut desired, key, entry)?;
            continue;
        }
        let reason = if broken {
            format!("{} cannot be read as a whole, and it was applied from there", file.display())
        } else if empty_files.contains(&file) && within.is_none() {
            format!("{} is empty, and it was applied from there: delete the file where that is meant", file.display())
        } else if let Some(distrust) = &distrust {
            distrust.clone()
        } else if held {
            String::new()
        } else {
            continue;
        };
        desired.held.entry(key.clone()).or_insert(reason);
        insert(ledger, &mut desired, key, entry)?;
    }
    Ok(Intent { desired, problems, distrust, in_motion: locked.is_some() })
}

/// Puts an object into its map as it was applied last.
fn insert(ledger: Option<&Ledger>, desired: &mut Desired, key: &Key, entry: &Entry) -> Result<(), LedgerError> {
    let Some(ledger) = ledger else { return Ok(()) };
    // Begun and never finished: what was begun is all that is known.
    let object = entry.applied.clone().unwrap_or_else(|| entry.object.clone());
    ledger.insert(desired, key, object)?;
    if let Some(file) = &entry.file {
        desired.files.entry(key.clone()).or_insert_with(|| file.clone());
    }
    Ok(())
}

/// Gives the path of a file below a directory that is another, wider source.
fn part_of(path: &Path, whole: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(whole).ok()?;
    (!below.as_os_str().is_empty() && path.is_file()).then(|| below.to_owned())
}
