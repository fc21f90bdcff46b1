//! Says "look again" when a directory of manifests changes, whatever way it changes.
//!
//! inotify is only a hint: every event leads to a fresh walk, which also finds the directories that appeared, were
//! replaced or are reached over a symbolic link, and watches them too. The parent of the directory is watched as
//! well, since a renamed or replaced directory says nothing itself; of what else happens there nothing is heard. What
//! changed is never carried: the reader rescans.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Directories followed below one source; a deeper or wider tree is still read by the timer.
const MOST_DIRECTORIES: usize = 10_000;

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot watch for changes of files: inotify is not to be had")]
    Start(#[source] notify::Error),
}

/// A watch on a directory tree that follows whatever takes its place.
pub struct TreeWatch {
    root: PathBuf,
    watcher: notify::RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    scope: Arc<Mutex<Scope>>,
    changed: Arc<Notify>,
    /// When the change that is not yet reported began: kept here, so that a caller may stop waiting and ask again.
    pending: Option<Instant>,
}

impl TreeWatch {
    /// Watches `root`, which may be missing so far.
    ///
    /// # Errors
    /// inotify(7) can be used up (`fs.inotify.max_user_instances`); the caller's timer still works then.
    pub fn new(root: &Path) -> Result<TreeWatch, WatchError> {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let scope = Arc::new(Mutex::new(Scope::default()));
        let heard = Arc::clone(&scope);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error is a lost event: look again.
            let scope = heard.lock().unwrap_or_else(PoisonError::into_inner);
            if event.as_ref().is_ok_and(|event| is_a_read(event) || !scope.covers(event)) {
                return;
            }
            told.notify_one();
        })
        .map_err(WatchError::Start)?;
        let mut watch =
            TreeWatch { root: root.to_owned(), watcher, watched: BTreeSet::new(), scope, changed, pending: None };
        watch.follow();
        Ok(watch)
    }

    /// Waits for a change, then until the tree was quiet for `quiet`, or `most` has passed since the first change.
    ///
    /// Cancel safe: a change seen by a call that was dropped is reported by the next one.
    pub async fn changed(&mut self, quiet: Duration, most: Duration) {
        let since = match self.pending {
            Some(since) => since,
            None => {
                self.changed.notified().await;
                *self.pending.insert(Instant::now())
            }
        };
        let deadline = since + most;
        loop {
            self.follow();
            let until = deadline.min(Instant::now() + quiet);
            let still = tokio::time::timeout_at(until, self.changed.notified()).await.is_err();
            if still || Instant::now() >= deadline {
                break;
            }
        }
        self.follow();
        self.pending = None;
    }

    /// Watches every directory that is there now, and forgets those that went.
    fn follow(&mut self) {
        let scope = Scope::of(&self.root);
        let present = scope.directories();
        // Before the watches, so that no event of a new directory is taken for somebody else's.
        *self.scope.lock().unwrap_or_else(PoisonError::into_inner) = scope;
        for gone in self.watched.difference(&present) {
            // It may be gone from the kernel already.
            let _ = self.watcher.unwatch(gone);
        }
        let mut watched: BTreeSet<PathBuf> = BTreeSet::new();
        for directory in present {
            // Watched again even if the path is known: another directory may stand there now. The kernel takes a second
            // watch on the same one as the first.
            if self.watcher.watch(&directory, RecursiveMode::NonRecursive).is_ok() {
                watched.insert(directory);
            }
        }
        self.watched = watched;
    }
}

/// Whose changes can change what is read below a root.
#[derive(Debug, Default)]
struct Scope {
    /// Directories of which every entry counts.
    inside: BTreeSet<PathBuf>,
    /// Entries that count in directories of which nothing else does: the root itself in its parent, a file behind a link.
    gates: BTreeSet<PathBuf>,
}

impl Scope {
    /// Walks what is there now.
    fn of(root: &Path) -> Scope {
        let mut scope = Scope::default();
        // Where root is renamed, replaced, unmounted, or a link that is switched: its parents say so.
        if let Some(gate) = root.ancestors().find(|path| path.parent().is_some_and(Path::is_dir)) {
            scope.gates.insert(gate.to_owned());
        }
        let mut pending = vec![root.to_owned()];
        while let Some(path) = pending.pop() {
            let Ok(real) = path.canonicalize() else { continue };
            if scope.inside.len() + scope.gates.len() >= MOST_DIRECTORIES {
                break;
            }
            if path == root || !real.is_dir() {
                scope.gates.insert(real.clone());
            }
            if !real.is_dir() || !scope.inside.insert(real.clone()) {
                continue;
            }
            for entry in std::fs::read_dir(&real).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let kind = entry.file_type();
                let is_link = kind.as_ref().is_ok_and(std::fs::FileType::is_symlink);
                let is_directory = kind.is_ok_and(|kind| kind.is_dir());
                // `..data` is where mounted config maps switch; other dot directories (`.git`) are not read.
                let hidden = name.as_encoded_bytes().starts_with(b".") && !name.as_encoded_bytes().starts_with(b"..");
                if (is_directory || is_link) && !hidden {
                    pending.push(entry.path());
                }
            }
        }
        scope
    }

    /// Lists the directories that are to be watched.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let around = self.gates.iter().filter_map(|gate| gate.parent());
        self.inside.iter().map(PathBuf::as_path).chain(around).map(Path::to_owned).collect()
    }

    /// Tells whether an event is about anything here. One that names no path is about everything.
    fn covers(&self, event: &Event) -> bool {
        let of_a_path = |path: &PathBuf| {
            let within = path.parent().is_some_and(|parent| self.inside.contains(parent));
            within || self.inside.contains(path) || self.gates.contains(path)
        };
        event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(of_a_path)
    }
}

/// Tells whether an event is only somebody's reading, our own for instance.
fn is_a_read(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
