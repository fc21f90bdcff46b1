//! A virtual machine's disk as a drive keeps it: what was flushed lasts, what was not may be lost in part at a power cut.
//!
//! qemu's own formats write through to the page cache of the host and so lose nothing when only qemu dies; this one is
//! served to it by [`super::nbd`]. What is written stays in memory: the file below is never changed, and shared by all disks
//! that begin with it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::program::run;
use crate::random::Random;

/// What is kept or lost as one, in bytes: the block of the guest's file system.
const BLOCK: usize = 4096;

type Block = Box<[u8; BLOCK]>;

/// A disk; it lasts over boots. Clones are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Contents>>);

struct Contents {
    image: PathBuf,
    file: File,
    size: u64,
    /// What lasts, where it differs from the file.
    flushed: HashMap<u64, Block>,
    /// What reads give, where it differs from what lasts.
    cached: HashMap<u64, Block>,
    /// Every write of a block since the last flush, in order: the block as it was after it.
    unflushed: Vec<(u64, Block)>,
}

/// What a power cut did, in writes of blocks that were not flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub kept: usize,
    pub lost: usize,
}

impl Disk {
    /// Makes a disk that begins with what a file holds.
    pub fn new(image: &Path) -> Disk {
        let file = File::open(image).expect("the disk's image");
        let size = file.metadata().expect("the disk's image").len();
        let (flushed, cached, unflushed) = (HashMap::new(), HashMap::new(), Vec::new());
        let image = image.to_owned();
        Disk(Arc::new(Mutex::new(Contents { image, file, size, flushed, cached, unflushed })))
    }

    /// Takes the power away: of what was not flushed some is kept and the rest lost, whatever order it was written in.
    pub fn cut(&self, random: &mut Random) -> Cut {
        let mut contents = self.contents();
        let mut cut = Cut::default();
        // Drives differ: from one that loses its whole cache to one that had written nearly all of it.
        let keep = random.below(101);
        for (number, block) in std::mem::take(&mut contents.unflushed) {
            if random.below(100) < keep {
                contents.flushed.insert(number, block);
                cut.kept += 1;
            } else {
                cut.lost += 1;
            }
        }
        contents.cached.clear();
        cut
    }

    /// Tells whether a cut at this moment could lose something.
    pub fn has_unflushed(&self) -> bool {
        !self.contents().unflushed.is_empty()
    }

    /// Writes the disk, as it is, to a file.
    pub fn copy_to(&self, path: &Path) -> io::Result<()> {
        let contents = self.contents();
        run(Command::new("cp").arg("--sparse=always").arg(&contents.image).arg(path)).expect_code(0);
        let copy = File::options().write(true).open(path)?;
        for (number, block) in contents.flushed.iter().chain(&contents.cached) {
            copy.write_all_at(&block[..], number * BLOCK as u64)?;
        }
        Ok(())
    }

    pub(super) fn size(&self) -> u64 {
        self.contents().size
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.contents().read(buffer, offset)
    }

    pub(super) fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut contents = self.contents();
        for (number, inside, part) in blocks(offset, data.len()) {
            let mut block = contents.block(number)?;
            block[inside].copy_from_slice(&data[part]);
            contents.cached.insert(number, block.clone());
            contents.unflushed.push((number, block));
        }
        Ok(())
    }

    pub(super) fn flush(&self) {
        let mut contents = self.contents();
        contents.unflushed.clear();
        let cached = std::mem::take(&mut contents.cached);
        contents.flushed.extend(cached);
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("no thread panics while it holds a disk")
    }
}

impl Contents {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        for (number, inside, part) in blocks(offset, buffer.len()) {
            match self.cached.get(&number).or_else(|| self.flushed.get(&number)) {
                Some(block) => buffer[part].copy_from_slice(&block[inside]),
                None => {
                    let at = number * BLOCK as u64 + inside.start as u64;
                    self.file.read_exact_at(&mut buffer[part], at)?;
                }
            }
        }
        Ok(())
    }

    fn block(&self, number: u64) -> io::Result<Block> {
        let mut block = Box::new([0; BLOCK]);
        self.read(&mut block[..], number * BLOCK as u64)?;
        Ok(block)
    }
}

/// Divides a stretch of the disk: the number of each block, the part of the block, and the part of the stretch.
fn blocks(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let inside = (at % BLOCK as u64) as usize;
        let count = (BLOCK - inside).min(length - done);
        done += count;
        Some((at / BLOCK as u64, inside..inside + count, done - count..done))
    })
}

#[cfg(test)]
mod tests;
