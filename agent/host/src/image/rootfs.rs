//! A tarball of a root file system, made into an image of one layer.
//!
//! The image's configuration and manifest depend on nothing but the tarball's content and the configuration given for it.

use std::fs::File;
use std::io::{self, Seek};
use std::path::Path;

use evenkeel_schema::{Digest, ImageConfig, Platform};
use evenkeel_shim::fail_point;

use super::ImageError;
use super::blob::BlobWriter;
use super::compression::{Compression, decompress};
use super::layer::Meter;
use super::layout::{digest_of, hash};
use super::manifest::{Descriptor, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, write_config, write_manifest};
use super::record::Stamp;
use super::source::Described;

/// A tarball copied into the store.
#[derive(Debug)]
pub struct Copied {
    pub writer: BlobWriter,
    /// The tarball as it was while it was copied.
    pub stamp: Stamp,
    pub media_type: String,
}

/// Copies a tarball, hashing it on the way. A tarball that changes meanwhile is an error.
pub fn copy(path: &Path, mut writer: BlobWriter, meter: &Meter) -> Result<Copied, ImageError> {
    let mut file = open(path)?;
    let stamp = stamp(&file, path)?;
    let (compression, _) = decompress(&file).map_err(ImageError::io("read", path))?;
    file.rewind().map_err(ImageError::io("read", path))?;
    io::copy(&mut meter.reader(&file), &mut writer).map_err(ImageError::io("copy", path))?;
    fail_point!("rootfs.copied");
    if self::stamp(&file, path)? != stamp {
        return Err(ImageError::Changed { path: path.to_owned() });
    }
    let suffix = match compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    Ok(Copied { writer, stamp, media_type: format!("{OCI_LAYER}{suffix}") })
}

/// Hashes a tarball where it lies.
pub fn digest_of_file(path: &Path) -> Result<Digest, ImageError> {
    Ok(hash(open(path)?).map_err(ImageError::io("read", path))?.0)
}

/// Describes the image that a tarball and a configuration make.
pub fn describe(
    path: &Path,
    layer: Descriptor,
    diff_id: &Digest,
    config: &ImageConfig,
    platform: &Platform,
) -> Result<Described, ImageError> {
    let configuration = write_config(config, platform, diff_id);
    let descriptor = Descriptor::of(OCI_CONFIG, digest_of(&configuration), configuration.len() as u64);
    let layers = vec![layer];
    let manifest = write_manifest(&descriptor, &layers);
    let manifest = (Descriptor::of(OCI_MANIFEST, digest_of(&manifest), manifest.len() as u64), manifest);
    let digest = layers[0].digest.clone();
    Described::new(&path.display().to_string(), digest, None, manifest, (descriptor, configuration), layers, Vec::new())
}

fn open(path: &Path) -> Result<File, ImageError> {
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(ImageError::io("look at", path))?;
    if !metadata.is_file() {
        return Err(ImageError::NotAFile { path: path.to_owned() });
    }
    File::open(path).map_err(ImageError::io("open", path))
}

fn stamp(file: &File, path: &Path) -> Result<Stamp, ImageError> {
    Ok(Stamp::from(&file.metadata().map_err(ImageError::io("look at", path))?))
}
