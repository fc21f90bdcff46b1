//! From a layer's blob to its unpacked directory.
//!
//! Decompresses, hashes and extracts in one pass. The directory is the caller's to put in its place once the diff id is known
//! to be right; until then it vanishes with its guard.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use evenkeel_schema::Digest;
use evenkeel_shim::fail_point;
use sha2::{Digest as _, Sha256};

use super::ImageError;
use super::compression::decompress_while;
use super::extract::{ExtractError, Limits, extract};
use super::layout::{Layout, digest};
use crate::tree;

/// The longest padding after an archive's end that is read for the diff id. Writers fill up a record, of a megabyte at most.
const PADDING_LIMIT: u64 = 64 << 20;

/// Counts bytes for a watcher, and carries its wish to stop. Shared between a blocking task and whoever awaits it.
#[derive(Debug, Default)]
pub struct Meter {
    current: AtomicU64,
    cancelled: AtomicBool,
}

impl Meter {
    pub fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// Makes the next read of a metered stream fail.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Counts what is read from a stream.
    pub fn reader<'a, R: Read + 'a>(&'a self, source: R) -> impl Read + 'a + use<'a, R> {
        Metered { meter: self, source }
    }

    /// Counts bytes that passed, unless it was cancelled.
    pub fn advance(&self, bytes: u64) -> io::Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other(ImageError::Cancelled));
        }
        self.current.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

struct Metered<'a, R> {
    meter: &'a Meter,
    source: R,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.meter.advance(count as u64)?;
        Ok(count)
    }
}

/// A layer unpacked beside its place.
#[derive(Debug)]
pub struct Unpacked {
    pub directory: tree::Scratch,
    pub diff_id: Digest,
}

/// Unpacks a layer from the bytes of its blob. `layer` names it in errors.
pub fn unpack(layout: &Layout, blob: impl Read + Send, layer: &Digest, meter: &Meter) -> Result<Unpacked, ImageError> {
    let failed = |source| ImageError::Layer { layer: layer.clone(), directory: layout.layers().to_owned(), source };
    let directory = layout.layer_directory()?;
    fail_point!("layer.begun");
    let (_, stream) = decompress_while(meter.reader(blob), || meter.advance(0))
        .map_err(|source| failed(ExtractError::Compression(source)))?;
    let root = File::open(directory.path()).map_err(ImageError::io("open", directory.path()))?;
    let hashed = Hashed { source: stream, hasher: Sha256::new() };
    let (extracted, mut rest) = extract(hashed, root.into(), Limits::default()).map_err(failed)?;
    // Padding after the archive's end belongs to the diff id.
    let padding = io::copy(&mut (&mut rest).take(PADDING_LIMIT + 1), &mut io::sink());
    if padding.map_err(|source| failed(ExtractError::Trailing(source)))? > PADDING_LIMIT {
        return Err(failed(ExtractError::TrailingTooLong { limit: PADDING_LIMIT }));
    }
    tracing::debug!(%layer, entries = extracted.entries, bytes = extracted.bytes, "layer unpacked");
    fail_point!("layer.unpacked");
    Ok(Unpacked { directory, diff_id: digest(rest.hasher) })
}

struct Hashed<R> {
    source: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
