//! One manifest's text with its lines, so that byte offsets become line and column.
//!
//! Lines end at LF, CR LF or a lone CR, as in YAML. Columns count characters from 1, whatever their width.

use std::path::{Path, PathBuf};

use crate::problem::Position;

/// A longer line is not shown with a problem: nobody reads it, and a thousand problems would each carry it.
const LONGEST_SHOWN_LINE: usize = 1000;

/// A range of bytes of one file's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A manifest as it was read, without a byte order mark.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// The path as people write it: the source's path with the path below it.
    pub(crate) shown: String,
    /// The path below the source.
    pub(crate) relative: PathBuf,
    /// The absolute directory that relative paths in the manifest start from.
    pub(crate) directory: PathBuf,
    pub(crate) text: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    pub(crate) fn new(shown: String, relative: PathBuf, directory: PathBuf, text: String) -> SourceFile {
        let bytes = text.as_bytes();
        let ends_line = |index: usize| match bytes[index] {
            b'\n' => true,
            b'\r' => bytes.get(index + 1) != Some(&b'\n'),
            _ => false,
        };
        let after_breaks = (0..bytes.len()).filter(|index| ends_line(*index)).map(|index| index + 1);
        let line_starts = [0].into_iter().chain(after_breaks).collect();
        SourceFile { shown, relative, directory, text, line_starts }
    }

    /// Resolves a path of the manifest against the manifest's own directory.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        // `components` drops `.` parts; `..` stays, since what it means depends on symbolic links.
        self.directory.join(path).components().collect()
    }

    /// Finds line and columns of a range; a range over several lines is cut at the end of its first one.
    pub(crate) fn position(&self, span: Span) -> Position {
        let start = self.floor(span.start);
        let line = self.line_starts.partition_point(|line_start| *line_start <= start).saturating_sub(1);
        let line_start = self.line_starts.get(line).copied().unwrap_or_default();
        let text = self.line(line).unwrap_or_default();
        let start_in_line = (start - line_start).min(text.len());
        let end_in_line = (self.floor(span.end).max(start) - line_start).min(text.len());
        let marked = text.get(start_in_line..end_in_line).unwrap_or_default().trim_end();
        let column = text.get(..start_in_line).unwrap_or_default().chars().count() + 1;
        let end_column = column + marked.chars().count().max(1);
        let shown = if text.len() > LONGEST_SHOWN_LINE { String::new() } else { text.to_owned() };
        Position { line: line + 1, column, end_column, text: shown }
    }

    /// Gives a line by its index, without its end.
    pub(crate) fn line(&self, index: usize) -> Option<&str> {
        let start = self.line_starts.get(index).copied()?;
        let end = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }

    /// Moves an offset back to the beginning of its character.
    fn floor(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset).rev().find(|offset| self.text.is_char_boundary(*offset)).unwrap_or_default()
    }
}
