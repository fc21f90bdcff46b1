//! The layers of one fetch: each blob comes once, is unpacked as it comes, and is compared; several layers at a time.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_schema::Digest;
use evenkeel_shim::fail_point;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::{Fetch, Origin};
use crate::image::ImageError;
use crate::image::archive::Archive;
use crate::image::blob::{BlobWriter, Written};
use crate::image::follow::Follower;
use crate::image::layer::{self, Meter};
use crate::image::progress::Phase;
use crate::image::source::{Described, DescribedLayer};
use crate::image::store::{Hold, joined, locked};

impl Fetch<'_> {
    pub(super) async fn bring_layer(
        &self,
        layer: &DescribedLayer,
        described: &Described,
        origin: &Origin,
    ) -> Result<(), ImageError> {
        self.tell(Some(&layer.blob.digest), Phase::Waiting { total: layer.blob.size });
        let arrival = self.bring_blob(layer, described, origin).await?;
        let came = matches!(arrival, Arrival::Came(_));
        let unpacked = match self.unpack(layer, arrival).await {
            Err(error) if !came && !self.is_sound(&layer.blob.digest).await? => {
                // The blob rotted where it lay. Its source has it whole.
                tracing::warn!(layer = %layer.blob.digest, %error, "a damaged blob is fetched again");
                self.discard_blob(&layer.blob.digest).await?;
                let arrival = self.bring_blob(layer, described, origin).await?;
                self.unpack(layer, arrival).await?
            }
            other => other?,
        };
        let fresh = locked(&self.fresh).contains(&layer.diff_id);
        self.tell(Some(&layer.blob.digest), if unpacked || came || fresh { Phase::Done } else { Phase::Exists });
        Ok(())
    }

    /// Makes the store hold a layer's blob. One that has to come is unpacked meanwhile.
    async fn bring_blob(
        &self,
        layer: &DescribedLayer,
        described: &Described,
        origin: &Origin,
    ) -> Result<Arrival, ImageError> {
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
                return Ok(Arrival::Present);
            }
            self.discard_blob(&wanted.digest).await?;
        }
        let permit = self.inner.arrivals.clone().acquire_owned().await.map_err(|_| ImageError::Cancelled)?;
        let (writer, follower) = self
            .blocking(|inner| {
                let writer = inner.layout.blob_writer()?;
                let follower = writer.follow()?;
                Ok((writer, follower))
            })
            .await?;
        let mut unpacking = self.unpack_behind(layer, follower, permit);
        let writer = match origin {
            Origin::Registry(session) => {
                let tell = |current| {
                    self.tell(Some(&wanted.digest), Phase::Downloading { current, total: wanted.size });
                };
                session.download(wanted, writer, self.hold.clone(), &tell).await?
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
        if writer.has_restarted() {
            unpacking = None;
        }
        self.blocking(move |inner| writer.place(&inner.layout)).await?;
        self.inner.set_placed(path);
        Ok(Arrival::Came(unpacking))
    }

    /// Begins to unpack a layer behind the writer of its blob, unless the store holds it unpacked.
    fn unpack_behind(
        &self,
        layer: &DescribedLayer,
        follower: Follower,
        permit: OwnedSemaphorePermit,
    ) -> Option<Unpacking> {
        if self.holds_unpacked(layer) {
            return None;
        }
        let meter = Arc::new(Meter::default());
        let cancel = CancelOnDrop(meter.clone());
        let (inner, hold, blob) = (self.inner.clone(), self.hold.clone(), layer.blob.digest.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Ok((layer::unpack(&inner.layout, follower, &blob, &meter)?, hold))
        });
        Some(Unpacking { cancel, work })
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
    async fn unpack(&self, layer: &DescribedLayer, arrival: Arrival) -> Result<bool, ImageError> {
        let _lock = self.inner.lock(&layer.diff_id).await;
        if self.holds_unpacked(layer) {
            return Ok(false);
        }
        let (blob, total) = (layer.blob.digest.clone(), layer.blob.size);
        let unpacked = match arrival {
            Arrival::Came(Some(Unpacking { cancel, work })) => {
                let tell = |current| self.tell(Some(&blob), Phase::Unpacking { current, total });
                watched(&cancel.0, joined(work), tell).await?.0
            }
            Arrival::Came(None) | Arrival::Present => self.unpack_blob(blob.clone(), total).await?,
        };
        if unpacked.diff_id != layer.diff_id {
            return Err(ImageError::DiffId { layer: blob, wanted: layer.diff_id.clone(), found: unpacked.diff_id });
        }
        self.place(unpacked).await?;
        Ok(true)
    }

    fn holds_unpacked(&self, layer: &DescribedLayer) -> bool {
        let place = self.inner.layout.layer(&layer.diff_id);
        self.is_trusted(&place) && place.is_dir()
    }

    pub(super) async fn unpack_blob(&self, blob: Digest, total: u64) -> Result<layer::Unpacked, ImageError> {
        let permit = self.inner.unpackings.clone().acquire_owned().await.map_err(|_| ImageError::Cancelled)?;
        let meter = Arc::new(Meter::default());
        let work = {
            let (meter, blob) = (meter.clone(), blob.clone());
            self.blocking(move |inner| {
                let _permit = permit;
                let path = inner.layout.blob(&blob);
                let file = File::open(&path).map_err(ImageError::io("open", path))?;
                layer::unpack(&inner.layout, file, &blob, &meter)
            })
        };
        watched(&meter, work, |current| self.tell(Some(&blob), Phase::Unpacking { current, total })).await
    }

    pub(super) async fn place(&self, unpacked: layer::Unpacked) -> Result<(), ImageError> {
        let diff_id = unpacked.diff_id.clone();
        self.blocking(move |inner| inner.layout.place_layer(unpacked.directory, &unpacked.diff_id)).await?;
        self.inner.set_placed(self.inner.layout.layer(&diff_id));
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

/// What became of the wish for a layer's blob.
enum Arrival {
    /// The store held it.
    Present,
    /// It came, and is being unpacked unless that has to wait for its end.
    Came(Option<Unpacking>),
}

/// A layer on its way into a directory; given up with the value.
struct Unpacking {
    cancel: CancelOnDrop,
    /// A result that nobody takes is dropped before the hold.
    work: JoinHandle<Result<(layer::Unpacked, Arc<Hold>), ImageError>>,
}

/// Stops work that nobody awaits any more.
struct CancelOnDrop(Arc<Meter>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Awaits blocking work, telling how far it has come; work that nobody awaits any more is stopped.
pub(super) async fn watched<T>(
    meter: &Arc<Meter>,
    work: impl Future<Output = Result<T, ImageError>>,
    tell: impl Fn(u64),
) -> Result<T, ImageError> {
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
