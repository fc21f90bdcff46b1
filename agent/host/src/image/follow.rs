//! Reads a blob while it is still being written, so that a layer is unpacked while it comes.
//!
//! The file itself is the queue between both: however far the reader lags behind, nothing piles up in memory. The end of
//! the blob is told only once its digest was compared; what was read of a blob that turned out wrong comes to nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::ImageError;

/// How far a blob has been written. Given up with the value, unless it was finished.
#[derive(Debug, Default)]
pub struct Growth {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    length: u64,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    GivenUp,
}

impl Growth {
    /// Tells readers that the blob is so long by now.
    pub fn grown_to(&self, length: u64) {
        self.change(|state| state.length = length);
    }

    /// Tells readers that the blob is complete and sound.
    pub fn finish(&self) {
        self.change(|state| {
            state.end.get_or_insert(End::Complete);
        });
    }

    /// Tells readers that what they read does not count.
    pub fn give_up(&self) {
        self.change(|state| {
            state.end.get_or_insert(End::GivenUp);
        });
    }

    /// Reads the blob from its beginning. `file` is a handle of the file that it is written to.
    pub fn follow(&self, file: File) -> Follower {
        Follower { file, offset: 0, shared: self.shared.clone() }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.moved.notify_all();
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A reader behind the writer of a blob.
#[derive(Debug)]
pub struct Follower {
    file: File,
    offset: u64,
    shared: Arc<Shared>,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |state: &mut State| state.end.is_none() && state.length <= self.offset;
        let state = *self.shared.moved.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        if state.end == Some(End::GivenUp) {
            return Err(io::Error::other(ImageError::Cancelled));
        }
        let written = usize::try_from(state.length - self.offset).unwrap_or(usize::MAX);
        let room = written.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
