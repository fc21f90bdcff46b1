//! The store's files: an OCI image layout, one record per name, and the directories of unpacked layers.
//!
//! Every file is written beside its place, flushed, and renamed. Blobs and layers are flushed once per image, before its
//! record is written: what no record names is not trusted after a restart, it is read or made again.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use evenkeel_schema::{Digest, Name};
use evenkeel_shim::fail_point;
use rustix::fs::FlockOperation;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::ImageError;
use super::blob::BlobWriter;
use super::record::{REF_NAME, Record, Stamp};
use super::store::locked;
use crate::{Paths, error_chain, tree};

/// What `oci-layout` holds (OCI image spec, image layout).
const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Names of scratch directories begin so; whoever uses one holds its lock.
const SCRATCH_PREFIX: &str = ".tmp-";

/// Where the files of a store lie.
#[derive(Debug)]
pub struct Layout {
    images: PathBuf,
    layers: PathBuf,
    scratch: Mutex<Option<Scratch>>,
    /// Records as they were read last, so that a look and a fetch read what did not change once.
    known_records: Mutex<HashMap<Name, (Stamp, Record)>>,
    /// The entries of `index.json` by name, as it was read last.
    known_index: Mutex<Option<(Stamp, HashMap<String, Value>)>>,
}

/// Directories for half-made blobs and layers, one in each file system, held by a lock while this process lives.
#[derive(Debug)]
struct Scratch {
    images: Locked,
    layers: Locked,
}

#[derive(Debug)]
struct Locked {
    directory: tree::Scratch,
    /// flock(2) on the directory; released by the kernel when the process ends in whatever way.
    _lock: File,
}

impl Layout {
    pub fn new(paths: &Paths) -> Self {
        Layout {
            images: paths.images(),
            layers: paths.layers(),
            scratch: Mutex::default(),
            known_records: Mutex::default(),
            known_index: Mutex::default(),
        }
    }

    pub fn images(&self) -> &Path {
        &self.images
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub fn blobs(&self) -> PathBuf {
        self.images.join("blobs/sha256")
    }

    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    pub fn layers(&self) -> &Path {
        &self.layers
    }

    fn names_directory(&self) -> PathBuf {
        self.images.join("names")
    }

    pub fn record_path(&self, name: &Name) -> PathBuf {
        self.names_directory().join(format!("{name}.json"))
    }

    /// Clears what earlier processes left half-made, in every directory that files are written to.
    pub fn clear_leftovers(&self) -> Result<(), ImageError> {
        for directory in [&self.images, &self.layers, &self.blobs(), &self.names_directory()] {
            clear(directory)?;
        }
        Ok(())
    }

    /// Makes the store's directories, and clears what earlier processes left half-made.
    pub fn prepare(&self) -> Result<(), ImageError> {
        let mut scratch = locked(&self.scratch);
        if scratch.is_some() {
            return Ok(());
        }
        // Layers hold setuid programs of whatever version: no other user of the host may reach them.
        for directory in [&self.images, &self.layers] {
            fs::create_dir_all(directory).map_err(ImageError::io("create", directory))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(directory, mode).map_err(ImageError::io("set the mode of", directory))?;
            fail_point!("store.directory");
        }
        for directory in [self.blobs(), self.names_directory()] {
            fs::create_dir_all(&directory).map_err(ImageError::io("create", directory))?;
        }
        tree::spread(&self.layers);
        self.clear_leftovers()?;
        self.write_marker()?;
        *scratch = Some(Scratch { images: Locked::new(&self.images)?, layers: Locked::new(&self.layers)? });
        Ok(())
    }

    /// Makes a file for a blob on its way in.
    pub fn blob_writer(&self) -> Result<BlobWriter, ImageError> {
        let directory = self.scratch_directory(|scratch| &scratch.images)?;
        let file = NamedTempFile::new_in(&directory).map_err(ImageError::io("create a file in", directory))?;
        fail_point!("blob.begun");
        Ok(BlobWriter::new(file))
    }

    /// Makes a directory for a layer on its way in.
    pub fn layer_directory(&self) -> Result<tree::Scratch, ImageError> {
        let directory = self.scratch_directory(|scratch| &scratch.layers)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let made = tempfile::Builder::new().permissions(mode).tempdir_in(&directory);
        Ok(tree::Scratch::new(made.map_err(ImageError::io("create a directory in", directory))?.keep()))
    }

    fn scratch_directory(&self, which: impl Fn(&Scratch) -> &Locked) -> Result<PathBuf, ImageError> {
        self.prepare()?;
        let scratch = locked(&self.scratch);
        let directory = scratch.as_ref().map(|scratch| which(scratch).directory.path().to_owned());
        Ok(directory.unwrap_or_else(|| self.images.clone()))
    }

    /// Puts a complete layer in its place.
    pub fn place_layer(&self, made: tree::Scratch, diff_id: &Digest) -> Result<(), ImageError> {
        let place = self.layer(diff_id);
        self.discard_layer(&place)?;
        fail_point!("layer.placing");
        fs::rename(made.path(), &place).map_err(ImageError::io("put a layer at", place))?;
        fail_point!("layer.placed");
        Ok(())
    }

    /// Takes a layer away: out of its place in one step, then piece by piece.
    pub fn discard_layer(&self, place: &Path) -> Result<(), ImageError> {
        if fs::symlink_metadata(place).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        // Nothing is made for it: there may be no room for as much as a directory.
        let name = place.file_name().unwrap_or_default();
        let moved = self.scratch_directory(|scratch| &scratch.layers)?.join(name);
        // What an earlier attempt could not remove is in the way of this one.
        let _ = tree::remove(&moved);
        fs::rename(place, &moved).map_err(ImageError::io("move away", place))?;
        fail_point!("layer.buried");
        tree::Scratch::new(moved.clone()).close().map_err(ImageError::io("remove", moved))
    }

    /// Flushes every blob and layer written so far.
    pub fn flush(&self) -> Result<(), ImageError> {
        for directory in [&self.images, &self.layers] {
            let file = File::open(directory).map_err(ImageError::io("open", directory))?;
            rustix::fs::syncfs(&file).map_err(io::Error::from).map_err(ImageError::io("flush", directory))?;
        }
        Ok(())
    }

    /// Gives the names that have a record.
    pub fn names(&self) -> Result<BTreeSet<Name>, ImageError> {
        let directory = self.names_directory();
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(source) => return Err(ImageError::Io { action: "list", path: directory, source }),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(ImageError::io("list", &directory))?;
            let name = entry.file_name().to_str().and_then(|file| file.strip_suffix(".json")?.parse().ok());
            names.extend(name);
        }
        Ok(names)
    }

    /// Reads a name's record; `None` where there is none.
    pub fn record(&self, name: &Name) -> Result<Option<Record>, ImageError> {
        let path = self.record_path(name);
        let Some((file, stamp)) = open(&path)? else { return Ok(None) };
        if let Some((known, record)) = locked(&self.known_records).get(name)
            && *known == stamp
        {
            return Ok(Some(record.clone()));
        }
        let text = read_to_end(file, &path)?;
        let record: Record =
            serde_json::from_slice(&text).map_err(|source| ImageError::Record { path: path.clone(), source })?;
        locked(&self.known_records).insert(name.clone(), (stamp, record.clone()));
        Ok(Some(record))
    }

    /// Reads all records. One that cannot be read is an error: what it needs must not be thrown away.
    pub fn records(&self) -> Result<Vec<(Name, Record)>, ImageError> {
        let mut records = Vec::new();
        for name in self.names()? {
            records.extend(self.record(&name)?.map(|record| (name, record)));
        }
        Ok(records)
    }

    pub fn write_record(&self, name: &Name, record: &Record) -> Result<(), ImageError> {
        let path = self.record_path(name);
        let text =
            serde_json::to_vec_pretty(record).map_err(|source| ImageError::Record { path: path.clone(), source })?;
        write_atomically(&path, &text)?;
        fail_point!("image.recorded");
        Ok(())
    }

    pub fn remove_record(&self, name: &Name) -> Result<(), ImageError> {
        let path = self.record_path(name);
        match fs::remove_file(&path) {
            Ok(()) => {
                fail_point!("image.unrecorded");
                flush_directory(&self.names_directory())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ImageError::Io { action: "remove", path, source }),
        }
    }

    /// Writes `oci-layout`, by which other tools know the directory, unless it is there and sound.
    fn write_marker(&self) -> Result<(), ImageError> {
        if self.has_marker()? {
            return Ok(());
        }
        write_atomically(&self.images.join("oci-layout"), MARKER)
    }

    /// Tells whether `oci-layout` is there and sound.
    pub fn has_marker(&self) -> Result<bool, ImageError> {
        Ok(self.read_file("oci-layout")?.is_some_and(|text| text == MARKER))
    }

    /// Tells whether `index.json` is there and names an image as its record has it.
    pub fn is_indexed(&self, name: &Name, record: &Record) -> Result<bool, ImageError> {
        let path = self.images.join("index.json");
        let Some((file, stamp)) = open(&path)? else { return Ok(false) };
        let mut known = locked(&self.known_index);
        if !known.as_ref().is_some_and(|(known, _)| *known == stamp) {
            let index: Value = serde_json::from_slice(&read_to_end(file, &path)?).unwrap_or_default();
            let entries = index["manifests"].as_array().into_iter().flatten();
            let named = |entry: &Value| Some((entry["annotations"][REF_NAME].as_str()?.to_owned(), entry.clone()));
            *known = Some((stamp, entries.filter_map(named).collect()));
        }
        let entry = known.as_ref().and_then(|(_, entries)| entries.get(name.as_str()));
        Ok(entry == Some(&record.index_entry(name)))
    }

    /// Reads a file of the store; `None` where there is none.
    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let path = self.images.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ImageError::Io { action: "read", path, source }),
        }
    }

    /// Writes `index.json` from the records, so that every tool that reads OCI layouts can read this one.
    ///
    /// A record that cannot be read is left out: it is that image's trouble, and no reason to keep any other from being recorded.
    pub fn write_index(&self) -> Result<(), ImageError> {
        self.write_marker()?;
        let entry = |name: Name| match self.record(&name) {
            Ok(record) => record.map(|record| record.index_entry(&name)),
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "index.json does not name image {name}");
                None
            }
        };
        let manifests: Vec<Value> = self.names()?.into_iter().filter_map(entry).collect();
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        write_atomically(&self.images.join("index.json"), index.to_string().as_bytes())?;
        fail_point!("image.indexed");
        Ok(())
    }

    /// Reads a small blob and compares its digest.
    pub fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let path = self.blob(digest);
        match fs::read(&path) {
            Ok(bytes) if digest_of(&bytes) == *digest => Ok(Some(bytes)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ImageError::Io { action: "read", path, source }),
        }
    }

    /// Keeps a small blob, in place of a damaged one too.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = digest_of(bytes);
        if self.read_blob(&digest)?.is_none() {
            write_atomically(&self.blob(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Tells whether a blob is there and sound, reading all of it.
    pub fn verify_blob(&self, digest: &Digest) -> Result<bool, ImageError> {
        let path = self.blob(digest);
        match File::open(&path) {
            Ok(file) => Ok(hash(file).map_err(ImageError::io("read", path))?.0 == *digest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ImageError::Io { action: "open", path, source }),
        }
    }
}

/// Removes the scratch directories and half-written files of a directory whose owner is gone.
fn clear(parent: &Path) -> Result<(), ImageError> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(ImageError::io("list", parent))?,
    };
    for entry in entries {
        let entry = entry.map_err(ImageError::io("list", parent))?;
        let path = entry.path();
        let scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX);
        // One that vanishes meanwhile was another process's to clear.
        let Some(file) = scratch.then(|| File::open(&path).ok()).flatten() else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // A process killed while it replaced a file leaves a file.
            tree::remove(&path).map_err(ImageError::io("clear", path))?;
            fail_point!("store.cleared");
        }
    }
    Ok(())
}

impl Locked {
    /// Makes and locks a scratch directory.
    fn new(parent: &Path) -> Result<Self, ImageError> {
        let directory = tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir_in(parent)
            .map_err(ImageError::io("create a directory in", parent))?;
        let directory = tree::Scratch::new(directory.keep());
        fail_point!("store.scratch");
        let lock = File::open(directory.path()).map_err(ImageError::io("open", directory.path()))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .map_err(ImageError::io("lock", directory.path()))?;
        Ok(Locked { directory, _lock: lock })
    }
}

/// Finishes a hash.
pub fn digest(hasher: Sha256) -> Digest {
    format!("sha256:{}", hex::encode(hasher.finalize())).parse().expect("64 hexadecimal digits are a digest")
}

/// Hashes bytes at hand.
pub fn digest_of(bytes: &[u8]) -> Digest {
    digest(Sha256::new_with_prefix(bytes))
}

/// Hashes a stream to its end, and tells its length.
pub fn hash(mut source: impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut length = 0;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok((digest(hasher), length)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a file of the store, and tells which one it is; `None` where there is none.
fn open(path: &Path) -> Result<Option<(File, Stamp)>, ImageError> {
    match File::open(path).and_then(|file| file.metadata().map(|metadata| (file, Stamp::from(&metadata)))) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ImageError::Io { action: "read", path: path.to_owned(), source }),
    }
}

fn read_to_end(mut file: File, path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(ImageError::io("read", path))?;
    Ok(bytes)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let write = || {
        let mut file = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(directory)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        fail_point!("store.file.written");
        file.persist(path).map_err(|error| error.error)?;
        fail_point!("store.file.placed");
        Ok(())
    };
    write().map_err(ImageError::io("write", path))?;
    flush_directory(directory)
}

fn flush_directory(directory: &Path) -> Result<(), ImageError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(ImageError::io("flush", directory))
}
