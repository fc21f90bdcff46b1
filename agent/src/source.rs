//! What is desired, from a source of manifests and what was applied last: nothing goes only because it cannot be read.
//!
//! A file that does not parse is not a deleted file. The objects that were applied from it, or that may have been moved
//! into it, are held as they were applied last, and so is everything where the source as a whole was lost: unreadable in
//! part, or suddenly empty.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_manifests::{Loaded, Problem, load};
use evenkeel_plan::{Desired, Source};
use evenkeel_schema::Key;

use crate::ledger::{Entry, EntryState, Ledger, LedgerError};

#[cfg(test)]
mod tests;

/// How long a source has to be as it is before the agent deletes what it states no more.
const REST: Duration = Duration::from_secs(2);

/// What is desired, with the problems met on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    pub desired: Arc<Desired>,
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
    let loaded = load(&canonical(path));
    let Some(ledger) = ledger else { return complete(loaded, None, &BTreeMap::new(), None, allow_empty, false) };
    complete(loaded, Some(ledger), &ledger.entries()?, ledger.source()?, allow_empty, false)
}

/// As [`read`], for whoever nobody asked: files that are missing while others have just come may be on their way, as in a copy
/// that takes its time, and are waited for until the source has rested.
pub fn read_at_rest(path: &Path, ledger: &Ledger, allow_empty: bool) -> Result<Intent, LedgerError> {
    complete(load(&canonical(path)), Some(ledger), &ledger.entries()?, ledger.source()?, allow_empty, true)
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
    wait_for_rest: bool,
) -> Result<Intent, LedgerError> {
    let Loaded { mut desired, problems, broken_files, empty_files, unknown, complete, locked } = loaded;
    let (mut distrust, mut in_motion) = (None, locked.is_some());
    let is_wanted = |entry: &Entry| matches!(entry.state, EntryState::Applying | EntryState::Applied);
    let is_missing =
        |(key, entry): (&Key, &Entry)| is_wanted(entry) && !desired.contains(key) && !desired.held.contains_key(key);
    // A source that never stated anything holds nothing up; one that did and now states nothing is taken for lost.
    if !complete {
        distrust = Some("the source could not be read whole: nothing is deleted".to_owned());
    } else if let Some(lock) = &locked {
        distrust = Some(format!("git is at work, {} is there: nothing is deleted until it is gone", lock.display()));
    } else if desired.is_empty() && entries.values().any(|entry| entry.state != EntryState::Kept) && !allow_empty {
        let path = desired.source.path.display();
        distrust = Some(format!("{path} states nothing: nothing is deleted without --allow-empty"));
    } else if wait_for_rest && entries.iter().any(is_missing) && is_young(&desired.source.path) {
        let path = desired.source.path.display();
        distrust = Some(format!("{path} changed a moment ago: nothing is deleted before it has rested"));
        in_motion = true;
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
        // What is going or only kept was stated by no file then, and is not now.
        if elsewhere && !held && is_wanted(entry) {
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
        } else if let Some(unknown) = unknown.iter().find(|unknown| unknown.may_be(key.name.as_str())) {
            format!("no manifest states it, but it may stand in {}, which cannot be understood", unknown.file)
        } else {
            continue;
        };
        desired.held.entry(key.clone()).or_insert(reason);
        insert(ledger, &mut desired, key, entry)?;
    }
    Ok(Intent { desired: Arc::new(desired), problems, distrust, in_motion })
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

/// Tells whether the source has not rested yet.
fn is_young(path: &Path) -> bool {
    changed_within(path, REST, &mut BTreeSet::new())
}

/// Tells whether a file or directory of the source changed so shortly ago, by its ctime, which no copy sets back. Hidden ones
/// are none of its manifests. Links are followed, as the loader does; `visited` has the directories by device and inode, of
/// which a ring of links is looked through once.
fn changed_within(path: &Path, span: Duration, visited: &mut BTreeSet<(u64, u64)>) -> bool {
    // The link itself too: it may be switched to what was there for long.
    let Ok(link) = fs::symlink_metadata(path) else { return false };
    let Ok(metadata) = fs::metadata(path) else { return is_younger(&link, span) };
    if is_younger(&link, span) || is_younger(&metadata, span) {
        return true;
    }
    if !metadata.is_dir() || !visited.insert((metadata.dev(), metadata.ino())) {
        return false;
    }
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    shown.any(|entry| changed_within(&entry.path(), span, visited))
}

fn is_younger(metadata: &fs::Metadata, span: Duration) -> bool {
    let (seconds, part) = (u64::try_from(metadata.ctime()).ok(), u32::try_from(metadata.ctime_nsec()).ok());
    let changed = seconds.zip(part).map(|(seconds, part)| UNIX_EPOCH + Duration::new(seconds, part));
    // A time to come is that of a clock that was set back.
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age < span)
}
