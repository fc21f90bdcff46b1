//! Takes names away, and what no other name needs.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use evenkeel_schema::{Digest, Name};
use evenkeel_shim::fail_point;

use super::ImageError;
use super::store::{Inner, Store, blocking, locked};
use crate::error_chain;
use crate::mountinfo::MountTable;

impl Store {
    /// Removes a name, then the blobs and layers that no other name needs. A name that is not there is removed already.
    ///
    /// While another image is being fetched they stay until its end, and layers that a container still has mounted until
    /// the next time: nobody waits for either.
    pub async fn remove(&self, name: &Name) -> Result<(), ImageError> {
        let (inner, name) = (self.inner.clone(), name.clone());
        let removed = blocking(move || {
            if !inner.layout.images().exists() {
                return Ok(false);
            }
            inner.layout.prepare()?;
            let _recording = locked(&inner.recording);
            inner.layout.remove_record(&name)?;
            inner.layout.write_index()?;
            Ok(true)
        });
        if removed.await? {
            self.inner.collection_due.store(true, Ordering::SeqCst);
            self.collect_now_or_later().await;
        }
        Ok(())
    }

    /// As [`Store::collect_if_due`], for whoever has done what was asked of it: what cannot be collected now costs room, nothing else.
    pub(super) async fn collect_now_or_later(&self) {
        if let Err(error) = self.collect_if_due().await {
            tracing::warn!(error = error_chain(&error), "the store is not cleared of garbage yet");
        }
    }

    /// Collects garbage where some is due, unless an image is being fetched: its end collects then.
    ///
    /// Some is due for the first time that a process asks: an earlier one may have been killed before it had collected.
    pub async fn collect_if_due(&self) -> Result<(), ImageError> {
        // Once more after each: whoever took something away meanwhile found us at it, and went on.
        while self.inner.collection_due.load(Ordering::SeqCst) {
            let Ok(alone) = self.inner.collecting.clone().try_write_owned() else {
                return Ok(());
            };
            let inner = self.inner.clone();
            let collection = blocking(move || {
                let _alone = alone;
                if !inner.collection_due.swap(false, Ordering::SeqCst) {
                    return Ok(());
                }
                let collected = collect(&inner);
                if collected.is_err() {
                    inner.collection_due.store(true, Ordering::SeqCst);
                }
                collected
            });
            collection.await?;
        }
        Ok(())
    }
}

/// Removes every blob and layer that no record names, layers in use not included.
fn collect(inner: &Inner) -> Result<(), ImageError> {
    let layout = &inner.layout;
    if !layout.images().exists() {
        return Ok(());
    }
    {
        // A file that is being written now must not be taken for one that was left.
        let _recording = locked(&inner.recording);
        layout.clear_leftovers()?;
    }
    let mut needed = HashSet::new();
    for (_, record) in layout.records()? {
        needed.extend(record.blobs().map(|blob| layout.blob(&blob.digest)));
        needed.extend(record.layers.iter().map(|layer| layout.layer(&layer.diff_id)));
    }
    needed.extend(mounted_layers()?.iter().map(|diff_id| layout.layer(diff_id)));
    let is_ours = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_hex);
    for path in list(layout.blobs())?.into_iter().filter(is_ours) {
        if !needed.contains(&path) {
            inner.unset_completed(&path);
            fs::remove_file(&path).map_err(ImageError::io("remove", path))?;
            fail_point!("store.blob.collected");
        }
    }
    for path in list(layout.layers().to_owned())?.into_iter().filter(is_ours) {
        if !needed.contains(&path) {
            inner.unset_completed(&path);
            layout.discard_layer(&path)?;
            fail_point!("store.layer.collected");
        }
    }
    Ok(())
}

fn list(directory: PathBuf) -> Result<Vec<PathBuf>, ImageError> {
    let entries = match fs::read_dir(&directory) {
        // Never made: whoever began to was killed before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(ImageError::io("list", &directory))?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(ImageError::io("list", directory))
}

fn is_hex(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Gives the layers that an overlay has mounted, as far as this mount namespace shows.
///
/// Any run of 64 hexadecimal digits in an overlay's options counts: paths may be relative or escaped there.
pub(super) fn mounted_layers() -> Result<HashSet<Digest>, ImageError> {
    let mounts = MountTable::of_self()?;
    let overlays = mounts.iter().filter(|mount| mount.fs_type == "overlay");
    let words = overlays.flat_map(|mount| mount.super_options.split(|character: char| !character.is_ascii_hexdigit()));
    Ok(words.filter(|word| is_hex(word)).filter_map(|hex| format!("sha256:{hex}").parse().ok()).collect())
}
