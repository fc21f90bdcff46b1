//! Images in files: `docker save` archives, OCI archives, OCI layout directories.
//!
//! Says what the image is and opens its blobs; keeping them is the store's work. A compressed archive is decompressed once,
//! into a file without a name.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use evenkeel_schema::{Digest, Platform};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Deserialize;

use super::ImageError;
use super::compression::{Compression, decompress};
use super::layout::digest_of;
use super::manifest::{
    ConfigFile, DOCUMENT_LIMIT, Descriptor, Document, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, write_manifest,
};
use super::platform;
use super::record::{REF_NAME, Stamp};
use super::source::{Described, DescribedLayer};
use super::tarball::{MemberKind, Tarball};
use crate::confined;

/// Most members of an archive. A saved image has three for each layer.
const MEMBER_LIMIT: usize = 100_000;
/// The longest name of a member that a manifest may mean: what is longer is passed over.
const NAME_LIMIT: usize = 512;

/// An image archive, open for reading.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    backing: Backing,
    /// `None` for a directory, which has no one file to look at.
    stamp: Option<Stamp>,
}

#[derive(Debug)]
enum Backing {
    Directory,
    Tar { file: File, members: HashMap<String, Place> },
}

#[derive(Clone, Debug)]
enum Place {
    Data {
        offset: u64,
        length: u64,
    },
    /// Older `docker save` links a layer that several images share.
    Link(String),
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// One image of `manifest.json` (docker save).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Opens an archive or a layout directory. `scratch` is a directory where a compressed archive may be decompressed.
    pub fn open(path: &Path, scratch: &Path) -> Result<Archive, ImageError> {
        let metadata = fs::metadata(path).map_err(ImageError::io("look at", path))?;
        if metadata.is_dir() {
            let stamp = fs::metadata(path.join("index.json")).ok().as_ref().map(Stamp::from);
            return Ok(Archive { path: path.to_owned(), backing: Backing::Directory, stamp });
        }
        if !metadata.is_file() {
            return Err(ImageError::NotAFile { path: path.to_owned() });
        }
        let mut file = File::open(path).map_err(ImageError::io("open", path))?;
        let stamp = Stamp::from(&file.metadata().map_err(ImageError::io("look at", path))?);
        let (compression, mut stream) = decompress(&file).map_err(ImageError::io("read", path))?;
        if compression != Compression::None {
            let mut plain = tempfile::tempfile_in(scratch).map_err(ImageError::io("create a file in", scratch))?;
            decompress_into(&mut stream, &mut plain, |source| match source {
                Copying::Read(source) => {
                    ImageError::Compression { path: path.to_owned(), compression: compression.as_str(), source }
                }
                Copying::Written(source) => {
                    ImageError::Io { action: "decompress the archive into", path: scratch.to_owned(), source }
                }
            })?;
            drop(stream);
            file = plain;
        } else {
            drop(stream);
        }
        file.rewind().map_err(ImageError::io("read", path))?;
        let members = list(&file, path)?;
        Ok(Archive { path: path.to_owned(), backing: Backing::Tar { file, members }, stamp: Some(stamp) })
    }

    /// Gives the stamp of the file as it was opened.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Tells whether the file is still what was opened.
    pub fn unchanged(&self) -> Result<(), ImageError> {
        if self.stamp == stamp_of(&self.path) {
            return Ok(());
        }
        Err(ImageError::Changed { path: self.path.clone() })
    }

    /// Reads what image the archive holds: the pinned one, or the only one, or of an index the one for `wanted`.
    pub fn describe(&self, pin: Option<&Digest>, wanted: &Platform) -> Result<Described, ImageError> {
        if let Some(index) = self.document("index.json")? {
            return self.describe_oci(&index, pin, wanted);
        }
        if let Some(manifest) = self.document("manifest.json")? {
            return self.describe_saved(&manifest, pin);
        }
        Err(ImageError::NotAnArchive { path: self.path.clone() })
    }

    fn describe_oci(&self, text: &[u8], pin: Option<&Digest>, wanted: &Platform) -> Result<Described, ImageError> {
        let what = format!("index.json of {}", self.path.display());
        let index: Index = serde_json::from_slice(text).map_err(|source| ImageError::Json { what, source })?;
        let images: Vec<&Descriptor> = index.manifests.iter().filter(|entry| platform::is_image(entry)).collect();
        let pinned = images.iter().copied().find(|entry| Some(&entry.digest) == pin);
        let (digest, entry) = match (pinned, images.as_slice()) {
            (Some(entry), _) => (entry.digest.clone(), entry),
            (None, [entry]) => (entry.digest.clone(), *entry),
            (None, entries) if !entries.is_empty() && entries.iter().all(|entry| entry.platform.is_some()) => {
                let name = self.path.display().to_string();
                (digest_of(text), platform::choose(&index.manifests, wanted, &name)?)
            }
            (None, entries) => {
                let name = |entry: &&Descriptor| {
                    let name = entry.annotations.get(REF_NAME);
                    name.cloned().unwrap_or_else(|| entry.digest.to_string())
                };
                return Err(self.several(&entries.iter().map(name).collect::<Vec<_>>()));
            }
        };
        let name = format!("manifest {} of {}", entry.digest, self.path.display());
        let mut descriptor = entry.clone();
        let mut bytes = self.blob_document(&descriptor.digest)?;
        let mut index = None;
        if let Document::Index(entries) = Document::parse(&bytes, &name)? {
            let chosen = platform::choose(&entries, wanted, &self.path.display().to_string())?.clone();
            index = Some((Descriptor::of(OCI_INDEX, descriptor.digest.clone(), bytes.len() as u64), bytes));
            bytes = self.blob_document(&chosen.digest)?;
            descriptor = chosen;
        }
        let name = format!("manifest {} of {}", descriptor.digest, self.path.display());
        let Document::Manifest { config, layers } = Document::parse(&bytes, &name)? else {
            return Err(ImageError::MediaType { what: name, media_type: "an index within an index".to_owned() });
        };
        let manifest = Descriptor::of(
            if descriptor.media_type.is_empty() { OCI_MANIFEST } else { &descriptor.media_type },
            descriptor.digest,
            bytes.len() as u64,
        );
        let configuration = self.blob_document(&config.digest)?;
        Described::new(
            &self.path.display().to_string(),
            digest,
            index,
            (manifest, bytes),
            (config, configuration),
            layers,
            Vec::new(),
        )
    }

    fn describe_saved(&self, text: &[u8], pin: Option<&Digest>) -> Result<Described, ImageError> {
        let what = format!("manifest.json of {}", self.path.display());
        let images: Vec<SavedImage> =
            serde_json::from_slice(text).map_err(|source| ImageError::Json { what, source })?;
        let mut found = Vec::new();
        for image in &images {
            let config = self.document(&image.config)?.ok_or_else(|| self.missing(&image.config))?;
            found.push((digest_of(&config), config, image));
        }
        let chosen = match found.iter().position(|(id, ..)| Some(id) == pin) {
            Some(position) => position,
            None if found.len() == 1 => 0,
            None => {
                let names: Vec<String> = found
                    .iter()
                    .map(|(id, _, image)| image.repo_tags.iter().flatten().next().cloned().unwrap_or(id.to_string()))
                    .collect();
                return Err(self.several(&names));
            }
        };
        let (id, config, image) = found.swap_remove(chosen);
        let name = self.path.display().to_string();
        let parsed = ConfigFile::parse(&config, &format!("the configuration {} of {name}", image.config))?;
        if parsed.diff_ids().len() != image.layers.len() {
            return Err(ImageError::LayerCount {
                source_name: name,
                layers: image.layers.len(),
                diff_ids: parsed.diff_ids().len(),
            });
        }
        let mut layers = Vec::new();
        for (member, diff_id) in image.layers.iter().zip(parsed.diff_ids()) {
            layers.push(Descriptor::of(OCI_LAYER, diff_id.clone(), self.plain_length(member)?));
        }
        let descriptor = Descriptor::of(OCI_CONFIG, id.clone(), config.len() as u64);
        let manifest = write_manifest(&descriptor, &layers);
        let manifest = (Descriptor::of(OCI_MANIFEST, digest_of(&manifest), manifest.len() as u64), manifest);
        // What such an archive holds has no digest but the image's own: that of its configuration.
        Described::new(&name, id, None, manifest, (descriptor, config), layers, image.layers.clone())
    }

    /// Opens a layer as the store keeps it: as it lies in an OCI archive, uncompressed from a `docker save` archive.
    pub fn open_layer(&self, layer: &DescribedLayer) -> Result<Box<dyn Read + Send + '_>, ImageError> {
        let by_digest = || blob_member(&layer.blob.digest);
        let stream = self.open_member(&layer.member.clone().unwrap_or_else(by_digest))?;
        if layer.blob.digest == layer.diff_id {
            let (_, plain) = decompress(stream).map_err(ImageError::io("read", &self.path))?;
            return Ok(plain);
        }
        Ok(stream)
    }

    /// Gives the length of a member without its compression.
    fn plain_length(&self, member: &str) -> Result<u64, ImageError> {
        let (compression, mut plain) =
            decompress(self.open_member(member)?).map_err(ImageError::io("read", &self.path))?;
        if let (Compression::None, Backing::Tar { members, .. }) = (compression, &self.backing)
            && let Some((_, length)) = resolve(members, member)
        {
            return Ok(length);
        }
        io::copy(&mut plain, &mut io::sink()).map_err(ImageError::io("read", &self.path))
    }

    fn open_member(&self, member: &str) -> Result<Box<dyn Read + Send + '_>, ImageError> {
        match &self.backing {
            Backing::Directory => {
                let not_inside = || ImageError::NotInside { path: self.path.clone(), member: member.to_owned() };
                match open_inside(&self.path, member) {
                    // A device or a pipe might never end.
                    Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => Ok(Box::new(file)),
                    Ok(_) | Err(Errno::XDEV | Errno::LOOP) => Err(not_inside()),
                    Err(Errno::NOENT) => Err(self.missing(member)),
                    Err(error) => {
                        let path = self.path.join(member);
                        Err(ImageError::Io { action: "open", path, source: error.into() })
                    }
                }
            }
            Backing::Tar { file, members } => {
                let (offset, length) = resolve(members, member).ok_or_else(|| self.missing(member))?;
                Ok(Box::new(Slice { file, offset, end: offset + length }))
            }
        }
    }

    /// Reads a small member; `None` where there is none.
    fn document(&self, member: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let stream = match self.open_member(member) {
            Ok(stream) => stream,
            Err(ImageError::MissingMember { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let mut limited = stream.take(DOCUMENT_LIMIT as u64 + 1);
        limited.read_to_end(&mut bytes).map_err(ImageError::io("read", &self.path))?;
        if bytes.len() > DOCUMENT_LIMIT {
            let (path, member) = (self.path.clone(), member.to_owned());
            return Err(ImageError::LongDocument { path, member, limit: DOCUMENT_LIMIT });
        }
        Ok(Some(bytes))
    }

    fn blob_document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let member = blob_member(digest);
        let bytes = self.document(&member)?.ok_or_else(|| self.missing(&member))?;
        let found = digest_of(&bytes);
        if found != *digest {
            let (what, source_name) = (member, self.path.display().to_string());
            return Err(ImageError::DigestMismatch { what, source_name, wanted: digest.clone(), found });
        }
        Ok(bytes)
    }

    fn missing(&self, member: &str) -> ImageError {
        ImageError::MissingMember { path: self.path.clone(), member: member.to_owned() }
    }

    fn several(&self, names: &[String]) -> ImageError {
        ImageError::SeveralImages { path: self.path.clone(), count: names.len(), found: names.join(", ") }
    }
}

/// Opens a member of a layout directory; symbolic links may lead anywhere in it, and not out of it.
fn open_inside(directory: &Path, member: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    // Opening a pipe would wait for its writer.
    confined::open(directory, member, flags | OFlags::NONBLOCK, ResolveFlags::BENEATH).map(File::from)
}

/// On which side copying failed.
enum Copying {
    Read(io::Error),
    Written(io::Error),
}

/// Copies a stream to its end.
fn decompress_into(
    stream: &mut impl Read,
    file: &mut File,
    failed: impl Fn(Copying) -> ImageError,
) -> Result<(), ImageError> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => file.write_all(&buffer[..count]).map_err(|error| failed(Copying::Written(error)))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(Copying::Read(error))),
        }
    }
}

/// Gives the stamp that an archive at a path has now: of the file, or of a layout directory's index.
pub fn stamp_of(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let metadata = if metadata.is_dir() { fs::metadata(path.join("index.json")).ok()? } else { metadata };
    Some(Stamp::from(&metadata))
}

fn blob_member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Finds where each member of an archive lies.
fn list(file: &File, path: &Path) -> Result<HashMap<String, Place>, ImageError> {
    let unreadable = |source| ImageError::Tar { path: path.to_owned(), source };
    let mut tarball = Tarball::new(BufReader::with_capacity(1 << 20, file));
    let mut members = HashMap::new();
    while let Some(member) = tarball.next_member().map_err(unreadable)? {
        if member.path.len() > NAME_LIMIT || member.link.len() > NAME_LIMIT {
            continue;
        }
        let name = normal(&String::from_utf8_lossy(&member.path));
        let link = String::from_utf8_lossy(&member.link).into_owned();
        let place = match member.kind {
            MemberKind::File if member.segments.is_none() => {
                Place::Data { offset: member.data_offset, length: member.size }
            }
            MemberKind::HardLink => Place::Link(normal(&link)),
            MemberKind::Symlink => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                Place::Link(normal(&format!("{directory}/{link}")))
            }
            _ => continue,
        };
        members.insert(name, place);
        if members.len() > MEMBER_LIMIT {
            return Err(ImageError::TooManyMembers { path: path.to_owned(), limit: MEMBER_LIMIT });
        }
    }
    Ok(members)
}

/// Gives where a member's data lies, through a few links.
fn resolve(members: &HashMap<String, Place>, member: &str) -> Option<(u64, u64)> {
    let mut name = normal(member);
    for _ in 0..8 {
        match members.get(&name)? {
            Place::Data { offset, length } => return Some((*offset, *length)),
            Place::Link(target) => name.clone_from(target),
        }
    }
    None
}

/// Resolves `.` and `..` within the archive.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A piece of a file, read without moving the file's own position.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..left], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
