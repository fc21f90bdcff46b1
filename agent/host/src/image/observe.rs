//! What the store holds under a name, and whether its source has something newer.
//!
//! Nothing of the store is written; a compressed archive that changed is decompressed once, into a file without a name.
//! Digests of small blobs are compared at every look; layers are only looked for, since reading all of them would cost more
//! than fetching them again.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use evenkeel_plan::{ObservedImage, Sight};
use evenkeel_schema::{Digest, ImageSource, ImageSpec, Name, Platform, PullPolicy};
use tokio::time::Instant;

use super::ImageError;
use super::archive::{self, Archive};
use super::layout::Layout;
use super::platform;
use super::record::Record;
use super::rootfs;
use super::store::{Inner, Store, blocking, locked};
use super::upstream::{self, Question};
use crate::error_chain;

impl Store {
    /// Forgets what registries said, so that the next look asks them.
    pub fn ask_registries_again(&self) {
        self.inner.upstream.forget();
    }

    /// Looks at an image. A registry is asked for one under `pull: always`, unless it was asked a moment ago.
    pub async fn observe(&self, name: &Name, spec: Option<&ImageSpec>) -> Sight<ObservedImage> {
        self.observe_until(name, spec, upstream::deadline()).await
    }

    /// As [`Store::observe`], for one of many: registries are waited for only until a time that is the same for all of them.
    pub async fn observe_until(
        &self,
        name: &Name,
        spec: Option<&ImageSpec>,
        deadline: Instant,
    ) -> Sight<ObservedImage> {
        let look = {
            let (inner, name) = (self.inner.clone(), name.clone());
            blocking(move || {
                let record = inner.layout.record(&name)?;
                record.map(|record| Ok((damage(&inner.layout, &name, &record)?, record))).transpose()
            })
            .await
        };
        let (mut damage, record) = match look {
            Ok(Some(found)) => found,
            Ok(None) => return Sight::Absent,
            Err(error) => return Sight::Unreadable(error_chain(&error)),
        };
        let upstream = match spec {
            // Another source is a drift of its own, and `pull: never` asks nobody.
            Some(spec) if spec.source == record.source && spec.pull != PullPolicy::Never => {
                self.upstream(spec, &record, deadline).await
            }
            _ => None,
        };
        if let Some(spec) = spec.filter(|spec| spec.platform != record.platform) {
            let word = |platform: &Option<Platform>| platform.as_ref().unwrap_or(&platform::machine()).to_string();
            damage.push(format!("it is the image for {}, not for {}", word(&record.platform), word(&spec.platform)));
        }
        let layers_lost = record.layers.iter().any(|layer| !self.inner.layout.layer(&layer.diff_id).is_dir());
        let observed = ObservedImage { damage, layers_lost, upstream, ..record.into_observed() };
        Sight::Found { observed, owned: true }
    }

    async fn upstream(&self, spec: &ImageSpec, record: &Record, deadline: Instant) -> Option<Result<Digest, String>> {
        match &spec.source {
            ImageSource::Registry(reference) => {
                if spec.pull != PullPolicy::Always {
                    return None;
                }
                let question = Question::of(reference, spec);
                Some(self.inner.upstream.ask(&self.inner.registries, question, deadline).await)
            }
            ImageSource::Archive(path) | ImageSource::Rootfs { path, .. } => {
                let (inner, spec, record, path) = (self.inner.clone(), spec.clone(), record.clone(), path.clone());
                let changed = blocking(move || changed_file(&inner, &spec, &record, &path)).await;
                changed.map_err(|error| error_chain(&error)).transpose()
            }
        }
    }
}

impl Record {
    /// Gives the image as it was recorded, undamaged and with nothing asked of its source.
    pub(super) fn into_observed(self) -> ObservedImage {
        ObservedImage {
            id: self.config.digest,
            digest: self.digest,
            source: self.source,
            config: self.inherited,
            layers: self.layers.into_iter().map(|layer| layer.diff_id).collect(),
            size: self.size,
            damage: Vec::new(),
            layers_lost: false,
            upstream: None,
        }
    }
}

/// Gives the digest that a changed file has now; `None` where it is as it was.
fn changed_file(
    inner: &Arc<Inner>,
    spec: &ImageSpec,
    record: &Record,
    path: &Path,
) -> Result<Option<Digest>, ImageError> {
    let Some(stamp) = archive::stamp_of(path) else {
        return match spec.pull {
            PullPolicy::Always => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                Err(ImageError::Io { action: "look at", path: path.to_owned(), source })
            }
            // The store holds all that is needed of it.
            PullPolicy::Missing | PullPolicy::Never => Ok(None),
        };
    };
    if record.stamp == Some(stamp) {
        return Ok(None);
    }
    let changed = |digest: Digest| (digest != record.digest).then_some(digest);
    if let Some((known, digest)) = locked(&inner.file_digests).get(path)
        && *known == stamp
    {
        return Ok(changed(digest.clone()));
    }
    let digest = match &spec.source {
        ImageSource::Rootfs { .. } => rootfs::digest_of_file(path)?,
        _ => {
            let wanted = spec.platform.clone().unwrap_or_else(platform::machine);
            Archive::open(path, inner.layout.images())?.describe(spec.digest.as_ref(), &wanted)?.digest
        }
    };
    locked(&inner.file_digests).insert(path.to_owned(), (stamp, digest.clone()));
    Ok(changed(digest))
}

/// Says in words what the store lacks of an image.
fn damage(layout: &Layout, name: &Name, record: &Record) -> Result<Vec<String>, ImageError> {
    let mut damage = Vec::new();
    for (what, blob) in [("manifest", &record.manifest), ("configuration", &record.config)] {
        if layout.read_blob(&blob.digest)?.is_none() {
            damage.push(format!("{what} {} is missing or damaged", blob.digest));
        }
    }
    for layer in &record.layers {
        let (blob, directory) = (layout.blob(&layer.blob.digest), layout.layer(&layer.diff_id));
        match present(&blob, "look at")? {
            Some(metadata) if metadata.is_file() && metadata.len() == layer.blob.size => {}
            Some(_) => damage.push(format!("blob of layer {} has not its length", layer.blob.digest)),
            None => damage.push(format!("blob of layer {} is missing", layer.blob.digest)),
        }
        if !present(&directory, "look at")?.is_some_and(|metadata| metadata.is_dir()) {
            damage.push(format!("directory of layer {} is missing", layer.diff_id));
        }
    }
    if !layout.has_marker()? {
        damage.push("oci-layout of the store is missing or damaged".to_owned());
    }
    if !layout.is_indexed(name, record)? {
        damage.push("index.json of the store does not name it".to_owned());
    }
    damage.dedup();
    Ok(damage)
}

fn present(path: &Path, action: &'static str) -> Result<Option<fs::Metadata>, ImageError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ImageError::Io { action, path: path.to_owned(), source }),
    }
}
