//! The store: what fetching, observing and removing share.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use evenkeel_plan::ObservedImage;
use evenkeel_schema::Digest;

use super::ImageError;
use super::layout::Layout;
use super::record::Stamp;
use super::registry::RegistrySettings;
use super::upstream::Upstream;
use crate::Paths;

/// All images of one root. Cheap to clone; clones share their locks.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub layout: Layout,
    pub registries: RegistrySettings,
    /// Held shared while an image is fetched, and alone while garbage is collected: what a fetch brought in belongs to
    /// no name until its end.
    pub collecting: Arc<tokio::sync::RwLock<()>>,
    /// Whether something was taken away since garbage was collected, by this process or perhaps by an earlier one.
    pub collection_due: AtomicBool,
    pub arrivals: Arc<tokio::sync::Semaphore>,
    pub unpackings: Arc<tokio::sync::Semaphore>,
    /// Held while records and the index are written.
    pub recording: Mutex<()>,
    /// Whether a blob or layer was put in its place since the last flush, by whichever fetch: no record may name one before the
    /// next. Taken down only by who holds `recording`.
    pub unflushed: AtomicBool,
    locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Blobs and layers that this process completed itself, though no record may name them yet.
    completed: Mutex<HashSet<PathBuf>>,
    /// Digests of files that changed since they were fetched, by stamp, so that a pass hashes them once.
    pub file_digests: Mutex<HashMap<PathBuf, (Stamp, Digest)>>,
    /// Diff ids of blobs that this process unpacked before anyone had told it them.
    pub diff_ids: Mutex<HashMap<Digest, Digest>>,
    pub upstream: Upstream,
}

/// What a fetch's work holds wherever it runs: no garbage is collected meanwhile, and its end is heard of.
#[derive(Debug)]
pub(super) struct Hold {
    _collecting: tokio::sync::OwnedRwLockReadGuard<()>,
    /// Never sent: dropped with the last holder.
    _ended: tokio::sync::oneshot::Sender<std::convert::Infallible>,
}

/// Tells when the last holder of a [`Hold`] is gone.
pub(super) struct Released(tokio::sync::oneshot::Receiver<std::convert::Infallible>);

impl Released {
    pub async fn wait(self) {
        // The sender's end is the message.
        let _ = self.0.await;
    }
}

/// How many layers come in at the same time, unpacked as they come.
const ARRIVALS: usize = 4;

impl Store {
    /// Opens the store of a root. Nothing is created until something is written.
    pub fn open(paths: &Paths) -> Result<Store, ImageError> {
        Store::with_registries(paths, RegistrySettings::from_environment()?)
    }

    /// Begins a fetch: nothing is collected while its work holds on.
    pub(super) async fn hold(&self) -> (Arc<Hold>, Released) {
        let (ended, released) = tokio::sync::oneshot::channel();
        let collecting = self.inner.collecting.clone().read_owned().await;
        (Arc::new(Hold { _collecting: collecting, _ended: ended }), Released(released))
    }

    /// Opens the store with other places for credentials and certificates than the usual ones.
    pub fn with_registries(paths: &Paths, registries: RegistrySettings) -> Result<Store, ImageError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            layout: Layout::new(paths),
            registries,
            collecting: Arc::default(),
            collection_due: AtomicBool::new(true),
            arrivals: Arc::new(tokio::sync::Semaphore::new(ARRIVALS)),
            unpackings: Arc::new(tokio::sync::Semaphore::new(processors)),
            recording: Mutex::default(),
            unflushed: AtomicBool::new(false),
            locks: Mutex::default(),
            completed: Mutex::default(),
            file_digests: Mutex::default(),
            diff_ids: Mutex::default(),
            upstream: Upstream::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Gives the directories of an image's layers, topmost first, as overlay's `lowerdir` wants them.
    pub fn layer_directories(&self, image: &ObservedImage) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|diff_id| self.inner.layout.layer(diff_id)).collect()
    }
}

impl Inner {
    /// Waits for whoever works on the same blob or layer.
    pub async fn lock(&self, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = locked(&self.locks);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(digest).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    locks.insert(digest.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }

    pub fn is_completed(&self, path: &PathBuf) -> bool {
        locked(&self.completed).contains(path)
    }

    pub fn set_completed(&self, path: PathBuf) {
        locked(&self.completed).insert(path);
    }

    /// As [`Inner::set_completed`], for what was put in its place just now: it is flushed before any record names it.
    pub fn set_placed(&self, path: PathBuf) {
        // In this order: whoever sees it completed has to see that a flush is due.
        self.unflushed.store(true, Ordering::SeqCst);
        self.set_completed(path);
    }

    pub fn unset_completed(&self, path: &PathBuf) {
        locked(&self.completed).remove(path);
    }
}

/// Locks a mutex whose holder may have panicked: none of ours guards anything half-done.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what reads and writes files away from the threads that drive everything else.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    joined(tokio::task::spawn_blocking(work)).await
}

/// Awaits what runs away from them already.
pub(super) async fn joined<T>(work: tokio::task::JoinHandle<Result<T, ImageError>>) -> Result<T, ImageError> {
    match work.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ImageError::Cancelled),
    }
}
