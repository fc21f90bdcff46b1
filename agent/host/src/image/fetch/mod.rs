//! Brings an image into the store: its source is asked, its blobs are kept, its layers unpacked, its name recorded.

mod layers;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_plan::ObservedImage;
use evenkeel_schema::{Digest, ImageConfig, ImageSource, ImageSpec, Name, Platform, PullPolicy};
use evenkeel_shim::fail_point;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use layers::watched;

use super::ImageError;
use super::archive::{self, Archive};
use super::blob::Written;
use super::layer::Meter;
use super::manifest::{Descriptor, Document};
use super::platform;
use super::progress::{Event, Phase, Progress};
use super::record::{Record, RecordedLayer, Stamp};
use super::registry::Session;
use super::remove::mounted_layers;
use super::rootfs;
use super::source::Described;
use super::store::{Hold, Inner, Store, blocking, locked};
use super::upstream::Question;
use crate::tree;

/// How long a failed fetch waits for what it began on other threads.
const PATIENCE: Duration = Duration::from_secs(5);

impl Store {
    /// Makes the store hold an image as its manifest wants it, and gives what it holds then.
    ///
    /// What the store holds already is neither fetched nor unpacked again.
    pub async fn fetch(
        &self,
        name: &Name,
        spec: &ImageSpec,
        progress: &dyn Progress,
    ) -> Result<ObservedImage, ImageError> {
        let inner = self.inner.clone();
        let (hold, released) = self.hold().await;
        let earlier = {
            let (inner, name) = (inner.clone(), name.clone());
            blocking(move || {
                inner.layout.prepare()?;
                // One that cannot be understood is none: a plan holds such an image, and who fetches it all the same wants it anew.
                Ok(inner.layout.record(&name).unwrap_or_default())
            })
            .await?
        };
        let trusted = {
            let inner = inner.clone();
            blocking(move || Ok(trusted(&inner))).await?
        };
        let fetch = Fetch { inner, name, spec, progress, hold, trusted, fresh: Mutex::default() };
        let fetched = fetch.run(earlier.as_ref()).await;
        drop(fetch);
        // Work on other threads learns late that nobody awaits it: what it has half made is gone when this returns. A disk
        // that does not answer is not waited for.
        let _ = tokio::time::timeout(PATIENCE, released.wait()).await;
        let left = match (&fetched, earlier) {
            (Ok(record), Some(earlier)) => !earlier.blobs().eq(record.blobs()),
            (Ok(_), None) => false,
            // What came whole serves the next attempt, unless the disk is full of it.
            (Err(error), _) => error.is_out_of_space(),
        };
        if left {
            self.inner.collection_due.store(true, Ordering::SeqCst);
        }
        self.collect_now_or_later().await;
        fetched.map(Record::into_observed)
    }
}

/// Where blobs come from.
enum Origin {
    Registry(Box<Session>),
    Archive(Arc<Archive>),
    /// The store itself: there is no other place to ask.
    Store,
}

struct Fetch<'a> {
    inner: Arc<Inner>,
    name: &'a Name,
    spec: &'a ImageSpec,
    progress: &'a dyn Progress,
    /// Goes into every blocking task, which may outlive a fetch that was given up.
    hold: Arc<Hold>,
    /// Blobs and layers that a record names or a container uses: flushed, so complete.
    trusted: HashSet<PathBuf>,
    /// Layers unpacked by this fetch.
    fresh: Mutex<HashSet<Digest>>,
}

/// Gives the blobs and layers that records name and that mounts use.
fn trusted(inner: &Inner) -> HashSet<PathBuf> {
    let layout = &inner.layout;
    let records = layout.names().unwrap_or_default().into_iter().filter_map(|name| layout.record(&name).ok().flatten());
    let mut paths = HashSet::new();
    for record in records {
        paths.extend(record.blobs().map(|blob| layout.blob(&blob.digest)));
        paths.extend(record.layers.iter().map(|layer| layout.layer(&layer.diff_id)));
    }
    paths.extend(mounted_layers().unwrap_or_default().iter().map(|diff_id| layout.layer(diff_id)));
    paths
}

impl Fetch<'_> {
    async fn run(&self, earlier: Option<&Record>) -> Result<Record, ImageError> {
        let usable = self.usable(earlier);
        let kept = match (&usable, self.spec.pull) {
            (Ok(record), PullPolicy::Missing | PullPolicy::Never) => self.complete(record).await,
            (Ok(_), PullPolicy::Always) => Ok(None),
            (Err(_), _) => Ok(None),
        };
        match (kept, self.spec.pull) {
            (Ok(Some(record)), _) => return Ok(record),
            (kept, PullPolicy::Never) => {
                kept?;
                let reason = usable.map_or_else(|reason| reason, |_| "parts of it are lost".to_owned());
                return Err(ImageError::NotInStore { name: self.name.clone(), reason });
            }
            // What the store cannot give whole, the source can.
            (_, PullPolicy::Missing | PullPolicy::Always) => {}
        }
        match &self.spec.source {
            ImageSource::Registry(reference) => {
                let (registries, pin) = (&self.inner.registries, self.spec.digest.as_ref());
                let session = Session::open(registries, reference, pin, self.spec.insecure).await?;
                if let Ok(record) = &usable
                    && self.spec.pull == PullPolicy::Always
                    && session.digest().await? == record.digest
                    && let Ok(Some(record)) = self.complete(record).await
                {
                    self.inner.upstream.note(Question::of(reference, self.spec), record.digest.clone());
                    return Ok(record);
                }
                let described = session.describe(&self.platform()).await?;
                let record = self.bring_in(described, Origin::Registry(Box::new(session)), None, None).await?;
                self.inner.upstream.note(Question::of(reference, self.spec), record.digest.clone());
                Ok(record)
            }
            ImageSource::Archive(path) => {
                if let Ok(record) = &usable
                    && self.spec.pull == PullPolicy::Always
                    && let Some(record) = self.complete(record).await.ok().flatten()
                {
                    return Ok(record);
                }
                let (path, scratch) = (path.clone(), self.inner.layout.images().to_owned());
                let (pin, wanted) = (self.spec.digest.clone(), self.platform());
                let (archive, described) = self
                    .blocking(move |_| {
                        let archive = Archive::open(&path, &scratch)?;
                        let described = archive.describe(pin.as_ref(), &wanted)?;
                        Ok((Arc::new(archive), described))
                    })
                    .await?;
                let record = self.bring_in(described, Origin::Archive(archive.clone()), archive.stamp(), None).await?;
                archive.unchanged()?;
                Ok(record)
            }
            ImageSource::Rootfs { path, config } => {
                if let Ok(record) = &usable
                    && self.spec.pull == PullPolicy::Always
                    && let Some(record) = self.complete(record).await.ok().flatten()
                {
                    return Ok(record);
                }
                let (described, stamp) = self.rootfs(path.clone(), config).await?;
                self.bring_in(described, Origin::Store, Some(stamp), Some(config)).await
            }
        }
    }

    /// Gives the record that may serve as it is, or says why it may not.
    fn usable<'r>(&self, earlier: Option<&'r Record>) -> Result<&'r Record, String> {
        let record = earlier.ok_or_else(String::new)?;
        if record.source != self.spec.source {
            return Err("it was made from another source".to_owned());
        }
        if record.platform != self.spec.platform {
            return Err("it was made for another platform".to_owned());
        }
        if self.spec.digest.as_ref().is_some_and(|pin| *pin != record.digest) {
            return Err(format!("it has the digest {}", record.digest));
        }
        let changed = match &self.spec.source {
            ImageSource::Registry(_) => false,
            // A file that is gone is no newer one.
            ImageSource::Archive(path) | ImageSource::Rootfs { path, .. } if self.spec.pull == PullPolicy::Missing => {
                archive::stamp_of(path).is_some_and(|now| Some(now) != record.stamp)
            }
            ImageSource::Archive(path) | ImageSource::Rootfs { path, .. } if self.spec.pull == PullPolicy::Always => {
                archive::stamp_of(path) != record.stamp
            }
            ImageSource::Archive(_) | ImageSource::Rootfs { .. } => false,
        };
        if changed { Err("its file changed".to_owned()) } else { Ok(record) }
    }

    fn platform(&self) -> Platform {
        self.spec.platform.clone().unwrap_or_else(platform::machine)
    }

    /// Completes an image from blobs that the store holds; `None` where one is lost.
    async fn complete(&self, record: &Record) -> Result<Option<Record>, ImageError> {
        let layout_record = record.clone();
        let described = self
            .blocking(move |inner| {
                let (layout, record) = (&inner.layout, layout_record);
                let lost = |blob: &Descriptor| {
                    !std::fs::metadata(layout.blob(&blob.digest)).is_ok_and(|metadata| metadata.len() == blob.size)
                };
                if record.blobs().any(lost) {
                    return Ok(None);
                }
                let read =
                    |blob: &Descriptor| Ok::<_, ImageError>(layout.read_blob(&blob.digest)?.map(|b| (blob.clone(), b)));
                let (Some(manifest), Some(config)) = (read(&record.manifest)?, read(&record.config)?) else {
                    return Ok(None);
                };
                let index = record.index.as_ref().map(read).transpose()?.flatten();
                if record.index.is_some() != index.is_some() {
                    return Ok(None);
                }
                let name = manifest.0.digest.to_string();
                let Document::Manifest { layers, .. } = Document::parse(&manifest.1, &name)? else {
                    return Ok(None);
                };
                Described::new(&name, record.digest, index, manifest, config, layers, Vec::new()).map(Some)
            })
            .await?;
        let Some(described) = described else { return Ok(None) };
        let config = matches!(record.source, ImageSource::Rootfs { .. }).then_some(&record.inherited);
        self.bring_in(described, Origin::Store, record.stamp, config).await.map(Some)
    }

    /// Keeps everything that an image needs, and records it.
    async fn bring_in(
        &self,
        described: Described,
        origin: Origin,
        stamp: Option<Stamp>,
        config: Option<&ImageConfig>,
    ) -> Result<Record, ImageError> {
        self.check_pin(&described.source_name, &described.digest)?;
        described.check_platform(self.spec.platform.as_ref())?;
        {
            let (index, manifest, config) =
                (described.index.clone(), described.manifest.clone(), described.config.clone());
            self.blocking(move |inner| {
                for (_, bytes) in index.iter().chain([&manifest, &config]) {
                    inner.layout.write_blob(bytes)?;
                }
                Ok(())
            })
            .await?;
        }
        // An image may name the same layer twice.
        let mut seen = HashSet::new();
        let layers = described.layers.iter().filter(|layer| seen.insert(&layer.diff_id));
        let mut coming: FuturesUnordered<_> =
            layers.map(|layer| self.bring_layer(layer, &described, &origin)).collect();
        while let Some(result) = coming.next().await {
            result?;
        }
        drop(coming);
        let layers =
            described.layers.iter().map(|l| RecordedLayer { blob: l.blob.clone(), diff_id: l.diff_id.clone() });
        let mut record = Record {
            source: self.spec.source.clone(),
            platform: self.spec.platform.clone(),
            digest: described.digest,
            index: described.index.map(|(descriptor, _)| descriptor),
            manifest: described.manifest.0,
            config: described.config.0,
            layers: layers.collect(),
            inherited: config.cloned().unwrap_or_else(|| described.parsed.inherited()),
            size: 0,
            stamp,
        };
        let name = self.name.clone();
        self.blocking(move |inner| {
            let layout = &inner.layout;
            let earlier = layout.record(&name).unwrap_or_default();
            record.size = match &earlier {
                Some(earlier) if earlier.layers == record.layers => earlier.size,
                _ => {
                    let mut seen = HashSet::new();
                    let layers = record.layers.iter().filter(|layer| seen.insert(&layer.diff_id));
                    let mut size = 0u64;
                    for layer in layers {
                        let directory = layout.layer(&layer.diff_id);
                        let length = tree::size(&directory).map_err(ImageError::io("measure", directory))?;
                        size = size.saturating_add(length);
                    }
                    size
                }
            };
            let _recording = locked(&inner.recording);
            if inner.unflushed.swap(false, Ordering::SeqCst) {
                layout.flush().inspect_err(|_| inner.unflushed.store(true, Ordering::SeqCst))?;
                fail_point!("store.flushed");
            }
            let recorded = earlier.as_ref() == Some(&record);
            if !recorded {
                layout.write_record(&name, &record)?;
            }
            if !recorded || !layout.has_marker()? || !layout.is_indexed(&name, &record)? {
                layout.write_index()?;
            }
            Ok(record)
        })
        .await
    }

    fn check_pin(&self, source_name: &str, found: &Digest) -> Result<(), ImageError> {
        match &self.spec.digest {
            Some(wanted) if wanted != found => Err(ImageError::PinMismatch {
                name: self.name.clone(),
                source_name: source_name.to_owned(),
                wanted: wanted.clone(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Copies and unpacks a root file system's tarball: only then is it known which layer it is.
    async fn rootfs(&self, path: PathBuf, config: &ImageConfig) -> Result<(Described, Stamp), ImageError> {
        let total = std::fs::metadata(&path).map_err(ImageError::io("look at", &path))?.len();
        let meter = Arc::new(Meter::default());
        let work = {
            let (meter, path) = (meter.clone(), path.clone());
            self.blocking(move |inner| rootfs::copy(&path, inner.layout.blob_writer()?, &meter))
        };
        let tell = |current| self.tell(None, Phase::Downloading { current, total });
        let rootfs::Copied { writer, stamp, media_type } = watched(&meter, work, tell).await?;
        let Written { digest, length } = writer.written();
        self.check_pin(&path.display().to_string(), &digest)?;
        self.tell(None, Phase::Done);
        let blob = Descriptor::of(&media_type, digest.clone(), length);
        // Held until it is known which layer it is: other names of the same tarball would unpack it too.
        let lock = self.inner.lock(&digest).await;
        let place = self.inner.layout.blob(&digest);
        self.blocking(move |inner| writer.place(&inner.layout)).await?;
        self.inner.set_placed(place);
        let diff_id = match self.diff_id_of(&digest).await? {
            Some(diff_id) => diff_id,
            None => {
                let unpacked = self.unpack_blob(digest.clone(), length).await?;
                let diff_id = unpacked.diff_id.clone();
                // A layer that is not compressed is its own blob, and locked already.
                let _lock = if diff_id == digest { None } else { Some(self.inner.lock(&diff_id).await) };
                let place = self.inner.layout.layer(&diff_id);
                if !(self.is_trusted(&place) && place.is_dir()) {
                    self.place(unpacked).await?;
                }
                locked(&self.inner.diff_ids).insert(digest.clone(), diff_id.clone());
                diff_id
            }
        };
        drop(lock);
        let described = rootfs::describe(&path, blob, &diff_id, config, &self.platform())?;
        Ok((described, stamp))
    }

    /// Gives the diff id of a blob that was unpacked already, for another name or by this process.
    async fn diff_id_of(&self, blob: &Digest) -> Result<Option<Digest>, ImageError> {
        if let Some(known) = locked(&self.inner.diff_ids).get(blob) {
            return Ok(Some(known.clone()));
        }
        let blob = blob.clone();
        self.blocking(move |inner| {
            let layout = &inner.layout;
            let records = layout.names()?.into_iter().filter_map(|name| layout.record(&name).ok().flatten());
            let mut layers = records.flat_map(|record| record.layers);
            Ok(layers.find(|layer| layer.blob.digest == blob).map(|layer| layer.diff_id))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let (inner, hold) = (self.inner.clone(), self.hold.clone());
        // A result that nobody takes is dropped before the hold.
        blocking(move || Ok((work(&inner)?, hold))).await.map(|(result, _)| result)
    }

    fn tell(&self, layer: Option<&Digest>, phase: Phase) {
        self.progress.event(&Event { image: self.name, layer, phase });
    }
}
