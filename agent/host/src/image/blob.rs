//! A blob on its way into the store: hashed while it is written, read by others meanwhile, and named by its digest at last.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use evenkeel_schema::Digest;
use evenkeel_shim::fail_point;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::ImageError;
use super::follow::{Follower, Growth};
use super::layout::{Layout, digest};

/// A blob on its way into the store: written and hashed at once.
#[derive(Debug)]
pub struct BlobWriter {
    file: NamedTempFile,
    hasher: Sha256,
    length: u64,
    growth: Growth,
    restarted: bool,
}

/// What a blob turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub digest: Digest,
    pub length: u64,
}

impl BlobWriter {
    pub fn new(file: NamedTempFile) -> BlobWriter {
        BlobWriter { file, hasher: Sha256::new(), length: 0, growth: Growth::default(), restarted: false }
    }

    /// Gives how much was written.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads what is written while it is written; an error ends it where the writer restarts or is dropped.
    pub fn follow(&self) -> Result<Follower, ImageError> {
        let file = File::open(self.path()).map_err(ImageError::io("open", self.path()))?;
        Ok(self.growth.follow(file))
    }

    /// Forgets what was written.
    pub fn restart(&mut self) -> io::Result<()> {
        self.growth = Growth::default();
        self.restarted = true;
        self.file.as_file().set_len(0)?;
        io::Seek::rewind(self.file.as_file_mut())?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Tells whether followers lost what they read.
    pub fn has_restarted(&self) -> bool {
        self.restarted
    }

    /// Gives what was written so far.
    pub fn written(&self) -> Written {
        Written { digest: digest(self.hasher.clone()), length: self.length }
    }

    /// Puts the blob in its place, which its own digest names, and tells followers that it is whole.
    pub fn place(self, layout: &Layout) -> Result<Written, ImageError> {
        let written = self.written();
        let path = layout.blob(&written.digest);
        match self.file.persist(&path) {
            Ok(_) => {
                fail_point!("blob.placed");
                self.growth.finish();
                Ok(written)
            }
            Err(error) => Err(ImageError::Io { action: "put a blob at", path, source: error.error }),
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        self.growth.grown_to(self.length);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
