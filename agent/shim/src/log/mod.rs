//! The container's log: lines put together from its two streams, written as JSON, turned over at a size.
//!
//! Never blocks and never fails towards the container: what cannot be written (a full disk, a vanished directory) is
//! counted, and the count is written as a line of its own when writing works again.

mod line;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use evenkeel_shim::fail_point;
use evenkeel_shim::{LogConfig, Stream};

use crate::clock;

/// Bytes after which a line is cut, as Docker cuts it.
pub const LONGEST_LINE: usize = 16 * 1024;

/// The log's current file, and what is not in it yet.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    /// Lines put into JSON and not yet written.
    pending: Vec<u8>,
    pending_lines: u64,
    /// Lines lost since the last successful write, and why.
    lost: u64,
    lost_reason: String,
}

impl Log {
    /// Makes a log; its file is opened with the first line.
    pub fn new(config: LogConfig) -> Self {
        Log { config, file: None, size: 0, pending: Vec::new(), pending_lines: 0, lost: 0, lost_reason: String::new() }
    }

    /// Takes another size cap, number of files or path from now on.
    pub fn configure(&mut self, config: LogConfig) {
        if config.path != self.config.path {
            self.file = None;
        }
        self.config = config;
    }

    /// Takes bytes as they came; whole lines become pending, the rest stays in `partial`.
    pub fn append(&mut self, stream: Stream, partial: &mut Vec<u8>, mut data: &[u8], time: &str) {
        // The size decides where the next line goes; a file that cannot be opened is reported by the write.
        let _ = self.open();
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = data.split_at(end + 1);
            data = rest;
            if partial.is_empty() {
                self.add_line(stream, line, time);
            } else {
                partial.extend_from_slice(line);
                self.add_line(stream, partial, time);
                partial.clear();
            }
        }
        partial.extend_from_slice(data);
        while partial.len() > LONGEST_LINE {
            let cut = line::cut(partial);
            self.add_piece(stream, &partial[..cut], time);
            partial.drain(..cut);
        }
    }

    /// Makes what is left of a stream that ended a last line, without a line end.
    pub fn finish(&mut self, stream: Stream, partial: &mut Vec<u8>, time: &str) {
        if !partial.is_empty() {
            let _ = self.open();
            self.add_line(stream, partial, time);
        }
        *partial = Vec::new();
    }

    /// Writes all pending lines with one write, or counts them as lost.
    pub fn flush(&mut self) {
        self.write_pending(self.pending.len());
    }

    /// Whether lines were lost and the log does not say so yet.
    pub fn owes_a_note(&self) -> bool {
        self.lost > 0
    }

    /// Gives back memory that only a burst of output needed.
    pub fn release(&mut self) {
        self.pending.shrink_to_fit();
    }

    fn add_line(&mut self, stream: Stream, mut line: &[u8], time: &str) {
        while line.len() > LONGEST_LINE {
            let (piece, rest) = line.split_at(line::cut(line));
            self.add_piece(stream, piece, time);
            line = rest;
        }
        self.add_piece(stream, line, time);
    }

    fn add_piece(&mut self, stream: Stream, piece: &[u8], time: &str) {
        let start = self.pending.len();
        line::write(&mut self.pending, piece, stream, time);
        if self.size + self.pending.len() as u64 > self.config.max_size && self.size + start as u64 > 0 {
            self.write_pending(start);
            if self.size > 0 {
                self.turn_over();
            }
        }
        self.pending_lines += 1;
    }

    /// Writes the first `length` pending bytes, which are `pending_lines` whole lines.
    fn write_pending(&mut self, length: usize) {
        let lines = std::mem::take(&mut self.pending_lines);
        if length == 0 && self.lost == 0 {
            return;
        }
        match self.try_write(length) {
            Ok(()) => self.lost = 0,
            Err(error) => {
                self.lost += lines;
                self.lost_reason = error.to_string();
            }
        }
        self.pending.drain(..length);
    }

    fn try_write(&mut self, length: usize) -> io::Result<()> {
        self.open()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut note = Vec::new();
        if self.lost > 0 {
            let text = format!("[evenkeel: {} lines lost: {}]\n", self.lost, self.lost_reason);
            line::write(&mut note, text.as_bytes(), Stream::Stderr, &clock::now());
        }
        if let Err(error) = file.write_all(&note).and_then(|()| file.write_all(&self.pending[..length])) {
            // A half line would make the file unreadable from there on. Shortening needs no space.
            file.set_len(self.size)?;
            return Err(error);
        }
        fail_point!("shim.log.written");
        self.size += (note.len() + length) as u64;
        Ok(())
    }

    /// Opens the current file if it is not open, or was deleted since, and asks the kernel for its size.
    fn open(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            let metadata = file.metadata()?;
            if metadata.nlink() > 0 {
                self.size = metadata.len();
                return Ok(());
            }
        }
        (self.file, self.size) = (None, 0);
        let path = &self.config.path;
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        fail_point!("shim.log.opened");
        self.size = file.metadata()?.len();
        // A shim that was killed in the middle of a write left half a line, which must not swallow our first one.
        let mut last = [b'\n'];
        if self.size > 0 {
            file.read_exact_at(&mut last, self.size - 1)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
            self.size += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Makes the current file `<path>.1`, and so on; the oldest goes.
    fn turn_over(&mut self) {
        self.file = None;
        self.size = 0;
        let kept = self.config.max_files.max(1);
        // A smaller number of files than before leaves more than one to remove.
        let mut surplus = (kept - 1).max(1);
        while fs::remove_file(self.numbered(surplus)).is_ok() {
            surplus += 1;
        }
        for number in (1..kept.saturating_sub(1)).rev() {
            let _ = fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        fail_point!("shim.log.turning");
        // Never truncated in place: a reader that has it open finishes it undisturbed.
        let _ = match kept {
            1 => fs::remove_file(&self.config.path),
            _ => fs::rename(&self.config.path, self.numbered(1)),
        };
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = OsString::from(&self.config.path);
        path.push(format!(".{number}"));
        path.into()
    }
}
