//! Keeps values of environments out of problems: a message may end in the log of whoever checks manifests.
//!
//! By the text alone, since a file that is no YAML has nothing else: below a line with the key `env:`, or behind `env:` in
//! one line, whatever follows a colon is a value. A key that may have been meant so counts as one.

use std::ops::Range;

use crate::problem::{Place, Problem};
use crate::text::SourceFile;

/// What stands for each character of a value.
const HIDDEN: char = '*';

/// Hides the values of environments in the lines that a problem shows, and in its words.
///
/// `files` are those of its place and of the further ones, in their order.
pub(crate) fn conceal<'a>(problem: &mut Problem, files: impl IntoIterator<Item = Option<&'a SourceFile>>) {
    let mut told = Vec::new();
    for (place, file) in std::iter::once(&mut problem.place).chain(&mut problem.also).zip(files) {
        told.extend(file.and_then(|file| conceal_place(place, file)));
    }
    for value in told {
        // The mark may cover less than the words quote, as the one behind a tag.
        problem.message = without_quotes(&problem.message);
        problem.help = problem.help.as_ref().map(|help| without_quotes(help));
        if !value.trim().is_empty() {
            problem.message = problem.message.replace(&value, "…");
            problem.help = problem.help.as_ref().map(|help| help.replace(&value, "…"));
        }
    }
}

/// Leaves out what a text quotes between backquotes.
fn without_quotes(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { "`…`" } else { part }).collect()
}

/// Hides the values of one line; gives what is marked in it, where that is a value.
fn conceal_place(place: &mut Place, file: &SourceFile) -> Option<String> {
    let position = place.position.as_mut()?;
    let index = position.line.checked_sub(1)?;
    // The file's own: a position is without its line where that is too long to be shown, and its words may quote it still.
    let line = file.line(index)?;
    let hidden = values(file, index);
    let offset = |column: usize| line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at);
    let marked = offset(position.column.max(1))..offset(position.end_column.max(1));
    let is_value = hidden.iter().any(|range| range.start < marked.end && marked.start < range.end);
    let value = is_value.then(|| line.get(marked).unwrap_or_default().to_owned());
    let shown = position.text.char_indices().map(|(at, letter)| {
        let covered = hidden.iter().any(|range| range.contains(&at));
        if covered && !letter.is_whitespace() { HIDDEN } else { letter }
    });
    position.text = shown.collect();
    value
}

/// Finds the values of environments, and passwords in addresses, in a line, as ranges of bytes.
fn values(file: &SourceFile, index: usize) -> Vec<Range<usize>> {
    let Some(line) = file.line(index) else { return Vec::new() };
    let mut found = passwords(line);
    found.extend(environment(file, index, line));
    found
}

/// Finds passwords in `user:password@host`; the digest behind a tag is none.
fn passwords(line: &str) -> Vec<Range<usize>> {
    let begins = |at: &usize| !line[at + 1..].starts_with("sha256:");
    let ats = line.match_indices('@').map(|(at, _)| at).filter(begins);
    let password = |at: usize| {
        let ends_word = |letter: char| letter.is_whitespace() || "\"'/,{[".contains(letter);
        let before = line[..at].char_indices().rfind(|(_, letter)| ends_word(*letter));
        let start = before.map_or(0, |(start, letter)| start + letter.len_utf8());
        let colon = line[start..at].find(':')?;
        Some(start + colon + 1..at)
    };
    ats.filter_map(password).collect()
}

fn environment(file: &SourceFile, index: usize, line: &str) -> Vec<Range<usize>> {
    let content = indent(line);
    if is_below_env(file, index, content) {
        let key = line[content..].split_once(": ").or_else(|| line[content..].split_once(":\t"));
        let value = match key {
            Some((key, _)) => Some(content + key.len() + 1..line.len()),
            // The text of a value that goes over several lines.
            None => (!line.trim_end().ends_with(':')).then_some(content..line.len()),
        };
        return value.into_iter().collect();
    }
    match env_in(line) {
        Some(after) => flow_values(line, after),
        None => Vec::new(),
    }
}

/// Finds the end of the key `env` in a line, also where it is misspelt, or Docker's word for it.
fn env_in(line: &str) -> Option<usize> {
    keys(line).find(|(key, _)| is_env(key)).map(|(_, end)| end)
}

/// Lists what stands before the colons of a line, each with where its colon ends.
fn keys(line: &str) -> impl Iterator<Item = (&str, usize)> {
    line.match_indices(':').map(|(at, _)| {
        let key = line[..at].trim_end_matches(['"', '\'']);
        let start = key.rfind([' ', '\t', '{', ',', '"', '\'']).map_or(0, |before| before + 1);
        (&key[start..], at + 1)
    })
}

fn is_env(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("env") || strsim::damerau_levenshtein(&key, "env") <= 1
}

/// Finds what follows colons in a mapping that is written in one line.
fn flow_values(line: &str, from: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut rest = from;
    while let Some(colon) = line[rest..].find(':') {
        let start = rest + colon + 1;
        // A comma within a value hides a name too many, which is the safe side.
        let mut next = line[start..].match_indices(", ").map(|(at, _)| start + at);
        let end = next
            .find(|at| line[*at..].contains(':'))
            .unwrap_or_else(|| line.trim_end_matches([' ', '}']).len().max(start));
        ranges.push(start..end);
        rest = end;
    }
    ranges
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Tells whether a line of this depth stands in the mapping of an `env`.
fn is_below_env(file: &SourceFile, index: usize, mut depth: usize) -> bool {
    let lines = (0..index).rev().filter_map(|index| file.line(index));
    for line in lines.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        if line.starts_with("---") || depth == 0 {
            return false;
        }
        if indent(line) < depth {
            depth = indent(line);
            // Not its first key alone: `spec: {image: x, env: {` may have the values on the lines that follow.
            if env_in(line).is_some() {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests;
