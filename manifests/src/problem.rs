//! Problems as plain data, and the list that the stages add them to.
//!
//! A [`Problem`] holds all that is needed to show it, the source line included, so that text and JSON are the same
//! data and nothing is read a second time. How it looks is [`crate::render`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret;
use crate::text::{SourceFile, Span};

/// Something that is wrong in the manifests, with the place where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub severity: Severity,
    /// One sentence, without the place.
    pub message: String,
    pub place: Place,
    /// Other places that have to do with it, as the first of two equal names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Place>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The document is on hold until it is mended.
    Error,
    /// The document holds, but says something without effect.
    Warning,
}

/// A place in the manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The file, or a directory that could not be read: the source's path and the path below it.
    pub file: String,
    /// `None` where the problem is the file itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// A word or two for the marked text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Lines and columns of a place; both count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    pub line: usize,
    pub column: usize,
    /// The column after the last marked character.
    pub end_column: usize,
    /// The whole line; empty where it is too long to be shown.
    pub text: String,
}

impl Position {
    /// Tells whether the line is there to be shown.
    pub(crate) fn is_shown(&self) -> bool {
        !self.text.is_empty() || self.column == 1
    }
}

impl Problem {
    /// Tells whether it keeps its document from being applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn at(place: Place, message: String, help: Option<String>) -> Problem {
        Problem { severity: Severity::Error, message, place, also: Vec::new(), help }
    }
}

/// `file:line:column: message`, one line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.is_error() { "" } else { "warning: " };
        write!(f, "{}: {severity}{}", self.place, self.message)
    }
}

/// `file:line:column`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match &self.position {
            Some(position) => write!(f, ":{}:{}", position.line, position.column),
            None => Ok(()),
        }
    }
}

/// A range of one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) file: usize,
    pub(crate) span: Span,
}

/// A problem before its offsets became lines and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) at: Spot,
    severity: Severity,
    message: String,
    label: Option<String>,
    help: Option<String>,
    also: Vec<(Spot, String)>,
}

impl Finding {
    pub(crate) fn new(at: Spot, message: impl Into<String>) -> Finding {
        let message = message.into();
        Finding { at, severity: Severity::Error, message, label: None, help: None, also: Vec::new() }
    }

    pub(crate) fn warning(at: Spot, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::new(at, message) }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Finding {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Finding {
        self.help = help.or(self.help);
        self
    }

    pub(crate) fn also(mut self, at: Spot, label: impl Into<String>) -> Finding {
        self.also.push((at, label.into()));
        self
    }
}

/// Numbers a document of the source, in the order of reading.
pub(crate) type DocumentId = usize;

/// Most problems listed for one file: nobody reads more, and each carries its line.
const MOST_PROBLEMS: usize = 500;

/// All findings so far, and the documents that they spoil.
pub(crate) struct Findings<'a> {
    files: &'a [SourceFile],
    findings: Vec<Finding>,
    /// What was found already: a document is decoded several times until nothing wrong is left in it.
    seen: BTreeSet<(Spot, String)>,
    /// How many were listed of each file.
    listed: BTreeMap<usize, usize>,
    /// The first reason for each document that cannot be applied.
    spoiled: BTreeMap<DocumentId, String>,
    broken: BTreeSet<usize>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(files: &'a [SourceFile]) -> Findings<'a> {
        Findings {
            files,
            findings: Vec::new(),
            seen: BTreeSet::new(),
            listed: BTreeMap::new(),
            spoiled: BTreeMap::new(),
            broken: BTreeSet::new(),
        }
    }

    /// Adds a finding of which no document that could be told by kind and name is the cause.
    pub(crate) fn add(&mut self, finding: Finding) {
        self.spoil(&[], finding);
    }

    /// Adds a finding; where it is an error, none of these documents is to be applied.
    pub(crate) fn spoil(&mut self, documents: &[(DocumentId, usize)], finding: Finding) {
        if finding.severity == Severity::Error {
            self.broken.insert(finding.at.file);
            let mut reason = None;
            for (document, file) in documents {
                self.broken.insert(*file);
                if !self.spoiled.contains_key(document) {
                    // Once for all: a circle has as many documents as there are.
                    let reason = reason.get_or_insert_with(|| self.in_words(&finding)).clone();
                    self.spoiled.insert(*document, reason);
                }
            }
        }
        let listed = self.listed.entry(finding.at.file).or_default();
        if *listed >= MOST_PROBLEMS {
            return;
        }
        if self.seen.insert((finding.at, finding.message.clone())) {
            *listed += 1;
            let last = *listed == MOST_PROBLEMS;
            let more = Finding::new(finding.at, format!("no more than {MOST_PROBLEMS} problems of a file are listed"));
            self.findings.push(finding);
            self.findings.extend(last.then_some(more));
        }
    }

    /// Holds a document for a reason that is no problem of its own.
    pub(crate) fn hold(&mut self, document: DocumentId, reason: String) {
        self.spoiled.entry(document).or_insert(reason);
    }

    /// Tells whether something was found at this very place already.
    pub(crate) fn flagged(&self, spot: Spot) -> bool {
        self.seen.range((spot, String::new())..).next().is_some_and(|(at, _)| *at == spot)
    }

    /// Gives a file's path as people write it.
    pub(crate) fn shown(&self, file: usize) -> String {
        self.files.get(file).map(|file| file.shown.clone()).unwrap_or_default()
    }

    /// Remembers why a document is not to be applied, for a finding that was added before the document was known.
    pub(crate) fn note_reason(&mut self, (document, file): (DocumentId, usize), reason: String) {
        self.broken.insert(file);
        self.spoiled.entry(document).or_insert(reason);
    }

    /// Gives the reason why a document is not to be applied.
    pub(crate) fn reason(&self, document: DocumentId) -> Option<&str> {
        self.spoiled.get(&document).map(String::as_str)
    }

    /// Words a finding in one line, `file:line:column: message`.
    pub(crate) fn in_words(&self, finding: &Finding) -> String {
        self.problem(finding).to_string()
    }

    pub(crate) fn broken_files(&self) -> BTreeSet<PathBuf> {
        self.broken.iter().filter_map(|file| self.files.get(*file)).map(|file| file.relative.clone()).collect()
    }

    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        let mut findings = std::mem::take(&mut self.findings);
        findings.sort_by_key(|finding| finding.at);
        findings.iter().map(|finding| self.problem(finding)).collect()
    }

    fn problem(&self, finding: &Finding) -> Problem {
        let also = finding.also.iter().map(|(spot, label)| self.place(*spot, Some(label.clone()))).collect();
        let mut problem = Problem {
            severity: finding.severity,
            message: finding.message.clone(),
            place: self.place(finding.at, finding.label.clone()),
            also,
            help: finding.help.clone(),
        };
        let spots = std::iter::once(&finding.at).chain(finding.also.iter().map(|(spot, _)| spot));
        secret::conceal(&mut problem, spots.map(|spot| self.files.get(spot.file)));
        problem
    }

    fn place(&self, spot: Spot, label: Option<String>) -> Place {
        let file = self.files.get(spot.file);
        let position = file.map(|file| file.position(spot.span));
        Place { file: file.map(|file| file.shown.clone()).unwrap_or_default(), position, label }
    }
}
