//! Reading a container's log, across the files that the shim turned it over to.
//!
//! Reads only; the shim alone writes and removes. A file that is turned over or removed meanwhile is read to its end,
//! since it is held open, and what follows it is found by inode and not by name.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_shim::{LogLine, Stream};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Bytes read at once from the end backwards.
const BLOCK: usize = 64 * 1024;
/// The shim's own form of time: of fixed width, so that texts sort as times do.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z");

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct LogError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Which lines are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The last so many of those that the rest of the query admits.
    pub tail: Option<usize>,
    /// None from before this time.
    pub since: Option<OffsetDateTime>,
    pub stdout: bool,
    pub stderr: bool,
}

impl Default for LogQuery {
    fn default() -> Self {
        LogQuery { tail: None, since: None, stdout: true, stderr: true }
    }
}

/// Gives a container's log, oldest line first. A log that nothing was written to yet is empty.
pub fn read(path: &Path, query: &LogQuery) -> Result<LogReader, LogError> {
    LogReader::open(path, query).map_err(|source| LogError { path: path.to_owned(), source })
}

/// The lines of a log: an iterator that ends where the log does now, and [`LogReader::follow`] beyond.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    filter: Filter,
    /// The file being read, then those after it.
    files: VecDeque<LogFile>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

#[derive(Debug)]
struct LogFile {
    reader: BufReader<File>,
    /// Device and inode.
    identity: (u64, u64),
}

#[derive(Debug)]
struct Filter {
    /// In the form of the lines' own times.
    since: Option<String>,
    stdout: bool,
    stderr: bool,
}

impl Filter {
    /// Parses a line, and gives it if it is wanted. Half a line, left by a killed shim, is no line.
    fn take(&self, line: &[u8]) -> Option<LogLine> {
        let line: LogLine = serde_json::from_slice(line).ok()?;
        let is_wanted = match line.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        (is_wanted && self.since.as_ref().is_none_or(|since| line.time >= *since)).then_some(line)
    }
}

impl LogReader {
    fn open(path: &Path, query: &LogQuery) -> io::Result<Self> {
        let since = query.since.map(|since| since.to_offset(time::UtcOffset::UTC).format(TIME));
        let since = since.transpose().map_err(io::Error::other)?;
        let filter = Filter { since, stdout: query.stdout, stderr: query.stderr };
        let mut files: VecDeque<LogFile> = open_all(path)?.into();
        if let Some(wanted) = query.tail {
            skip_to_tail(&mut files, &filter, wanted)?;
        }
        Ok(LogReader { path: path.to_owned(), filter, files, partial: Vec::new() })
    }

    /// Waits for the next line, also one that is not written yet.
    pub async fn follow(&mut self) -> Result<LogLine, LogError> {
        loop {
            let line = match self.next_line() {
                Ok(None) => self.catch_up().and_then(|found| if found { self.next_line() } else { Ok(None) }),
                line => line,
            };
            match line {
                Ok(Some(line)) => return Ok(line),
                Ok(None) => tokio::time::sleep(POLL).await,
                Err(source) => return Err(LogError { path: self.path.clone(), source }),
            }
        }
    }

    /// Gives the next wanted line up to the end of the last known file.
    fn next_line(&mut self) -> io::Result<Option<LogLine>> {
        while let Some(file) = self.files.front_mut() {
            while file.reader.read_until(b'\n', &mut self.partial)? > 0 {
                if self.partial.last() != Some(&b'\n') {
                    break;
                }
                let line = self.filter.take(&self.partial);
                self.partial.clear();
                if line.is_some() {
                    return Ok(line);
                }
            }
            if self.files.len() == 1 {
                return Ok(None);
            }
            // Nothing is added any more to a file that has a successor.
            self.partial.clear();
            self.files.pop_front();
        }
        Ok(None)
    }

    /// Looks for files begun after the last known one; says whether there is anything new to read.
    fn catch_up(&mut self) -> io::Result<bool> {
        let Some(last) = self.files.back_mut() else {
            self.files = open_all(&self.path)?.into();
            return Ok(!self.files.is_empty());
        };
        // Shortened in place by a hand other than the shim's: what is there now is new.
        let position = last.reader.stream_position()?;
        if last.reader.get_ref().metadata()?.len() < position {
            last.reader.rewind()?;
            self.partial.clear();
            return Ok(true);
        }
        let identity = last.identity;
        if std::fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == identity) {
            return Ok(false);
        }
        let files = open_all(&self.path)?;
        // Not among them: it was the oldest and is gone, and all that there are came after it.
        let known = files.iter().position(|file| file.identity == identity).map_or(0, |index| index + 1);
        let before = self.files.len();
        self.files.extend(files.into_iter().skip(known));
        Ok(self.files.len() > before)
    }
}

impl Iterator for LogReader {
    type Item = Result<LogLine, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line().map_err(|source| LogError { path: self.path.clone(), source }).transpose()
    }
}

/// Opens all files of a log, oldest first.
///
/// Opened newest first: a file that is turned over meanwhile is met a second time under its next number and passed over,
/// while in the other order it would be missed.
fn open_all(path: &Path) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = Vec::new();
    for number in 0.. {
        let mut name = OsString::from(path);
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let file = match File::open(name) {
            Ok(file) => file,
            // Between two turns the current file may be missing while older ones are there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        if files.iter().all(|known| known.identity != identity) {
            files.push(LogFile { reader: BufReader::new(file), identity });
        }
    }
    files.reverse();
    Ok(files)
}

/// Goes to the beginning of the last `wanted` lines, from the end backwards.
fn skip_to_tail(files: &mut VecDeque<LogFile>, filter: &Filter, wanted: usize) -> io::Result<()> {
    let mut missing = wanted;
    for index in (0..files.len()).rev() {
        let start = start_of_tail(files[index].reader.get_ref(), filter, &mut missing)?;
        if missing == 0 {
            files[index].reader.seek(SeekFrom::Start(start))?;
            files.drain(..index);
            return Ok(());
        }
    }
    Ok(())
}

/// Counts wanted lines down from a file's end; gives where the last counted one begins.
fn start_of_tail(file: &File, filter: &Filter, missing: &mut usize) -> io::Result<u64> {
    let mut position = file.metadata()?.len();
    // Bytes from `position` up to the beginning of the last line looked at.
    let mut text: Vec<u8> = Vec::new();
    loop {
        while *missing > 0 && !text.is_empty() {
            let body = text.len() - usize::from(text.last() == Some(&b'\n'));
            let Some(end_of_previous) = text[..body].iter().rposition(|byte| *byte == b'\n') else { break };
            if filter.take(&text[end_of_previous + 1..]).is_some() {
                *missing -= 1;
            }
            text.truncate(end_of_previous + 1);
        }
        if *missing == 0 {
            return Ok(position + text.len() as u64);
        }
        if position == 0 {
            if filter.take(&text).is_some() {
                *missing -= 1;
            }
            return Ok(0);
        }
        let size = BLOCK.min(usize::try_from(position).unwrap_or(BLOCK));
        position -= size as u64;
        let mut block = vec![0; size];
        file.read_exact_at(&mut block, position)?;
        block.extend_from_slice(&text);
        text = block;
    }
}

#[cfg(test)]
mod tests;
