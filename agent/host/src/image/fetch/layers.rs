//! The layers of one fetch: each blob comes once, is compared, and is unpacked once, several layers at a time.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evenkeel_schema::Digest;
use evenkeel_shim::fail_point;

use super::{Fetch, Origin};
use crate::image::ImageError;
use crate::image::archive::Archive;
use crate::image::layer::{self, Meter};
use crate::image::layout::{BlobWriter, Written};
use crate::image::progress::Phase;
use crate::image::source::{Described, DescribedLayer};
use crate::image::store::locked;

impl Fetch<'_> {
    pub(super) async fn bring_layer(
        &self,
        layer: &DescribedLayer,
        described: &Described,
        origin: &Origin,
    ) -> Result<(), ImageError> {
        self.tell(Some(&layer.blob.digest), Phase::Waiting { total: layer.blob.size });
        let came = self.bring_blob(layer, described, origin).await?;
        let unpacked = match self.unpack(layer).await {
            Err(error) if !came && !self.is_sound(&layer.blob.digest).await? => {
                // The blob rotted where it lay. Its source has it whole.
                tracing::warn!(layer = %layer.blob.digest, %error, "a damaged blob is fetched again");
                self.discard_blob(&layer.blob.digest).await?;
                self.bring_blob(layer, described, origin).await?;
                self.unpack(layer).await?
            }
            other => other?,
        };
        let fresh = locked(&self.fresh).contains(&layer.diff_id);
        self.tell(Some(&layer.blob.digest), if unpacked || came || fresh { Phase::Done } else { Phase::Exists });
        Ok(())
    }

    /// Makes the store hold a layer's blob, and tells whether it had to come.
    async fn bring_blob(
        &self,
        layer: &DescribedLayer,
        described: &Described,
        origin: &Origin,
    ) -> Result<bool, ImageError> {
        let wanted = &layer.blob;
        let _lock = self.inner.lock(&wanted.digest).await;
        let path = self.inner.layout.blob(&wanted.digest);
        let present = {
            let (path, size) = (path.clone(), wanted.size);
            self.blocking(move |_| Ok(std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == size))).await?
        };
        if present {
            if self.is_trusted(&path) || self.is_sound(&wanted.digest).await? {
                self.inner.set_completed(path);
                return Ok(false);
            }
            self.discard_blob(&wanted.digest).await?;
        }
        let writer = self.blocking(|inner| inner.layout.blob_writer()).await?;
        let writer = match origin {
            Origin::Registry(session) => {
                let permit = self.inner.downloads.acquire().await.map_err(|_| ImageError::Cancelled)?;
                let tell = |current| {
                    self.tell(Some(&wanted.digest), Phase::Downloading { current, total: wanted.size });
                };
                let writer = session.download(wanted, writer, self.shared.clone(), &tell).await?;
                drop(permit);
                writer
            }
            Origin::Archive(archive) => self.copy_from(archive.clone(), layer.clone(), writer).await?,
            Origin::Store => {
                let found = format!("blob {}", wanted.digest);
                return Err(ImageError::NotInStore { name: self.name.clone(), reason: format!("it lacks {found}") });
            }
        };
        fail_point!("blob.fetched");
        self.tell(Some(&wanted.digest), Phase::Verifying);
        let Written { digest, length } = writer.written();
        let (what, source_name) = (format!("layer {}", wanted.digest), described.source_name.clone());
        if length != wanted.size {
            return Err(ImageError::SizeMismatch { what, source_name, wanted: wanted.size, found: length });
        }
        if digest != wanted.digest {
            return Err(ImageError::DigestMismatch { what, source_name, wanted: wanted.digest.clone(), found: digest });
        }
        self.blocking(move |inner| writer.place(&inner.layout)).await?;
        self.changed.store(true, Ordering::Relaxed);
        self.inner.set_completed(path);
        Ok(true)
    }

    async fn copy_from(
        &self,
        archive: Arc<Archive>,
        layer: DescribedLayer,
        mut writer: BlobWriter,
    ) -> Result<BlobWriter, ImageError> {
        let (digest, total) = (layer.blob.digest.clone(), layer.blob.size);
        let meter = Arc::new(Meter::default());
        let work = {
            let meter = meter.clone();
            self.blocking(move |_| {
                let stream = archive.open_layer(&layer)?;
                let copied = io::copy(&mut meter.reader(stream), &mut writer);
                copied.map_err(ImageError::io("copy a layer to", writer.path()))?;
                fail_point!("archive.copied");
                Ok(writer)
            })
        };
        watched(&meter, work, |current| self.tell(Some(&digest), Phase::Downloading { current, total })).await
    }

    /// Makes the store hold a layer's unpacked directory, and tells whether it had to be made.
    async fn unpack(&self, layer: &DescribedLayer) -> Result<bool, ImageError> {
        let _lock = self.inner.lock(&layer.diff_id).await;
        let place = self.inner.layout.layer(&layer.diff_id);
        if self.is_trusted(&place) && place.is_dir() {
            return Ok(false);
        }
        let (blob, total) = (layer.blob.digest.clone(), layer.blob.size);
        let unpacked = self.unpack_blob(blob.clone(), total).await?;
        if unpacked.diff_id != layer.diff_id {
            return Err(ImageError::DiffId { layer: blob, wanted: layer.diff_id.clone(), found: unpacked.diff_id });
        }
        self.place(unpacked).await?;
        Ok(true)
    }

    pub(super) async fn unpack_blob(&self, blob: Digest, total: u64) -> Result<layer::Unpacked, ImageError> {
        let permit = self.inner.unpackings.clone().acquire_owned().await.map_err(|_| ImageError::Cancelled)?;
        let meter = Arc::new(Meter::default());
        let work = {
            let (meter, blob) = (meter.clone(), blob.clone());
            self.blocking(move |inner| {
                let _permit = permit;
                layer::unpack(&inner.layout, &inner.layout.blob(&blob), &blob, &meter)
            })
        };
        watched(&meter, work, |current| self.tell(Some(&blob), Phase::Unpacking { current, total })).await
    }

    pub(super) async fn place(&self, unpacked: layer::Unpacked) -> Result<(), ImageError> {
        let diff_id = unpacked.diff_id.clone();
        self.blocking(move |inner| inner.layout.place_layer(unpacked.directory, &unpacked.diff_id)).await?;
        self.changed.store(true, Ordering::Relaxed);
        self.inner.set_completed(self.inner.layout.layer(&diff_id));
        locked(&self.fresh).insert(diff_id);
        Ok(())
    }

    pub(super) fn is_trusted(&self, path: &PathBuf) -> bool {
        self.trusted.contains(path) || self.inner.is_completed(path)
    }

    async fn is_sound(&self, blob: &Digest) -> Result<bool, ImageError> {
        let blob = blob.clone();
        self.blocking(move |inner| inner.layout.verify_blob(&blob)).await
    }

    async fn discard_blob(&self, blob: &Digest) -> Result<(), ImageError> {
        let path = self.inner.layout.blob(blob);
        self.inner.unset_completed(&path);
        self.blocking(move |_| match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ImageError::Io { action: "remove", path, source: error })
            }
            _ => Ok(()),
        })
        .await
    }
}

/// Awaits blocking work, telling how far it has come; work that nobody awaits any more is stopped.
pub(super) async fn watched<T>(
    meter: &Arc<Meter>,
    work: impl Future<Output = Result<T, ImageError>>,
    tell: impl Fn(u64),
) -> Result<T, ImageError> {
    struct CancelOnDrop(Arc<Meter>);
    impl Drop for CancelOnDrop {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let _cancel = CancelOnDrop(meter.clone());
    tokio::pin!(work);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            result = &mut work => {
                tell(meter.current());
                return result;
            }
            _ = ticks.tick() => tell(meter.current()),
        }
    }
}
