//! Images for tests, in every form that evenkeel takes.
//!
//! An OCI layout directory is written here; skopeo makes every other form out of one.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use evenkeel_schema::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{Run, run};
use crate::rootfs;

/// How the layers of an image are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// Zstd as a pipe packs it: the length not stated, and a window of so many bits.
    ZstdWindow(u32),
}

/// An image to be written.
#[derive(Clone, Debug)]
pub struct Image {
    /// Uncompressed tar archives, lowest first.
    pub layers: Vec<Vec<u8>>,
    pub packing: Packing,
    /// `OS/ARCHITECTURE[/VARIANT]`; `None` for this machine's.
    pub platform: Option<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
}

impl Image {
    /// Takes layers as [`layer`] makes them.
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        Image { layers, packing: Packing::Gzip, platform: None, command: vec!["/bin/sh".to_owned()], env: Vec::new() }
    }

    /// Gives an image of busybox, with what `more` layers add.
    pub fn busybox(more: Vec<Vec<u8>>) -> Self {
        let directory = tempfile::tempdir().expect("a directory to build in");
        rootfs::busybox_directory(directory.path());
        let mut image = Image::new(vec![pack_directory(directory.path())]);
        image.layers.extend(more);
        image.env = vec!["PATH=/bin:/sbin:/usr/bin:/usr/sbin".to_owned()];
        image
    }

    pub fn packed(self, packing: Packing) -> Self {
        Image { packing, ..self }
    }

    pub fn for_platform(self, platform: &str) -> Self {
        Image { platform: Some(platform.to_owned()), ..self }
    }
}

/// Gives the tar archive of some files, always the same for the same files.
pub fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, path, text.as_bytes()).expect("an archive in memory");
    }
    builder.into_inner().expect("an archive in memory")
}

/// Gives the tar archive of a directory, owned by root.
pub fn pack_directory(directory: &Path) -> Vec<u8> {
    let archive = tempfile::NamedTempFile::new().expect("a file to build in");
    let options = ["--create", "--numeric-owner", "--owner=0", "--group=0", "--sort=name"];
    run(Command::new("tar").args(options).arg("--file").arg(archive.path()).arg("--directory").arg(directory).arg("."))
        .expect_code(0);
    fs::read(archive.path()).expect("the archive")
}

/// Gives the digest of bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    format!("sha256:{}", hex(bytes)).parse().expect("64 hexadecimal digits are a digest")
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a stream in memory")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("a stream in memory")
}

fn zstd_with_window(bytes: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(log).expect("a window");
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a stream in memory")
}

/// What was written for one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenImage {
    pub manifest: Digest,
    pub config: Digest,
    /// Digests of the layers' blobs, lowest first.
    pub blobs: Vec<Digest>,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Writes an OCI layout of one image under the tag `latest`.
pub fn write_layout(directory: &Path, image: &Image) -> WrittenImage {
    let (written, descriptor) = write_image(directory, image);
    write_index(directory, descriptor);
    written
}

/// Writes an OCI layout of one index over several images, each for its platform, and gives the index's digest.
pub fn write_multi_platform_layout(directory: &Path, images: &[Image]) -> (Digest, Vec<WrittenImage>) {
    let (written, descriptors): (Vec<_>, Vec<Value>) = images.iter().map(|image| write_image(directory, image)).unzip();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}).to_string();
    let descriptor = write_blob(directory, INDEX, index.as_bytes());
    write_index(directory, descriptor);
    (digest(index.as_bytes()), written)
}

/// Copies an image from one of skopeo's forms to another.
pub fn convert(source: &str, destination: &str) -> Run {
    run(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", "--all", source, destination]))
        .expect_code(0)
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn write_image(directory: &Path, image: &Image) -> (WrittenImage, Value) {
    let suffix = match image.packing {
        Packing::Plain => "",
        Packing::Gzip => "+gzip",
        Packing::Zstd | Packing::ZstdWindow(_) => "+zstd",
    };
    let pack = |layer: &Vec<u8>| match image.packing {
        Packing::Plain => layer.clone(),
        Packing::Gzip => gzip(layer),
        Packing::Zstd => zstd(layer),
        Packing::ZstdWindow(log) => zstd_with_window(layer, log),
    };
    let blobs: Vec<Vec<u8>> = image.layers.iter().map(pack).collect();
    let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| digest(layer)).collect();
    let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
    let layers: Vec<Value> = blobs.iter().map(|blob| write_blob(directory, &media_type, blob)).collect();
    let machine = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => panic!("tests know no image platform for {other}"),
    };
    let platform: Vec<&str> = image.platform.as_deref().unwrap_or(machine).split('/').collect();
    let mut platform_value = json!({"os": platform[0], "architecture": platform[1]});
    if let Some(variant) = platform.get(2) {
        platform_value["variant"] = (*variant).into();
    }
    let mut config = platform_value.clone();
    config["config"] = json!({"Cmd": image.command, "Env": image.env});
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    let config = config.to_string();
    let config_descriptor = write_blob(directory, "application/vnd.oci.image.config.v1+json", config.as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config_descriptor, "layers": layers}).to_string();
    let mut descriptor = write_blob(directory, media_type, manifest.as_bytes());
    descriptor["platform"] = platform_value;
    let written = WrittenImage {
        manifest: digest(manifest.as_bytes()),
        config: digest(config.as_bytes()),
        blobs: blobs.iter().map(|blob| digest(blob)).collect(),
        diff_ids,
    };
    (written, descriptor)
}

fn write_index(directory: &Path, mut descriptor: Value) {
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the layout's marker");
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    if descriptor["mediaType"] != INDEX {
        descriptor.as_object_mut().expect("it was made as one").remove("platform");
    }
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    fs::write(directory.join("index.json"), index.to_string()).expect("the layout's index");
}

fn write_blob(directory: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("the layout's directory");
    fs::write(blobs.join(hex(bytes)), bytes).expect("a blob");
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}
