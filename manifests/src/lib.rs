//! From a directory of YAML to [`Desired`], or to problems that each name file, line and column.
//!
//! The way is: files ([`source`]) → spanned trees ([`yaml`]) → documents of a kind ([`document`], [`decode`]) → what
//! needs more than one object ([`check`]) → [`Desired`]. Every stage goes on after a problem, so that one call lists
//! all problems of a directory. Nothing here looks at the host: whether a bind mount's source or a parent link exists
//! is seen when the host is observed.

mod check;
mod decode;
mod desire;
mod document;
mod node;
mod problem;
mod reference;
mod render;
mod revision;
mod scalar;
mod secret;
mod source;
mod suggest;
mod text;
mod yaml;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use evenkeel_plan::{Desired, Source};

pub use document::Unknown;
pub use problem::{Place, Position, Problem, Severity};
pub use render::render;

use document::Documents;
use problem::Findings;
use text::SourceFile;
use yaml::Trees;

/// What a directory or file of manifests says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Every object without a problem. Objects with one stand in `desired.held` where kind and name could be read.
    pub desired: Desired,
    /// Every problem: first the files and directories that could not be read, then the others in the order of files and
    /// lines.
    pub problems: Vec<Problem>,
    /// The files that an error stands in, and the files and directories that could not be read, relative to the source.
    /// What was applied from them and is not stated anywhere is not to be deleted.
    pub broken_files: BTreeSet<PathBuf>,
    /// Files without a single word, relative to the source: one that is being written begins like that, and one that a
    /// power failure cut off ends like that. What was applied from them is not to be deleted.
    pub empty_files: BTreeSet<PathBuf>,
    /// The documents of which kind or name could not be read. What was applied and may stand in one of them, moved there
    /// from another file, is not to be deleted.
    pub unknown: Vec<Unknown>,
    /// Whether every file and directory of the source could be read. When not, nothing is to be deleted.
    pub complete: bool,
    /// Git's lock on the checkout, where one was seen: files may be on their way, and nothing is to be deleted.
    pub locked: Option<PathBuf>,
}

impl Loaded {
    /// Tells whether any problem is an error; warnings hold nothing up.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

/// Reads a file, or every `.yaml` and `.yml` file below a directory.
///
/// Never fails and never panics: what cannot be read or understood is a problem.
pub fn load(path: &Path) -> Loaded {
    // Before and after: a checkout that ends in between has taken its lock with it, and may have been read half.
    let locked = revision::lock(path);
    let sources = source::read(path);
    let locked = locked.or_else(|| revision::lock(path));
    let mut findings = Findings::new(&sources.files);
    let mut documents = Documents::default();
    for (file, text) in sources.files.iter().enumerate() {
        let Trees { trees, lacking } = yaml::parse(file, text, &mut findings);
        for tree in trees {
            document::interpret(file, tree, &mut documents, &mut findings);
        }
        documents.unknown.extend(lacking.then(|| Unknown { file: text.shown.clone(), name: None }));
    }
    // What stands in them is not known, so that nothing may be said to be missing.
    let lost = sources.broken.iter().chain(&sources.unreadable);
    documents.unknown.extend(lost.map(|file| Unknown { file: file.display().to_string(), name: None }));
    check::check(&documents, &mut findings);
    let unknown = std::mem::take(&mut documents.unknown);
    let mut desired = desire::desire(&sources.files, documents, &findings);
    desired.source = Source { path: path.to_owned(), revision: revision::revision(path, &sources.files) };
    let mut broken_files = findings.broken_files();
    let complete = sources.unreadable.is_empty();
    broken_files.extend(sources.broken.into_iter().chain(sources.unreadable));
    let mut problems = sources.problems;
    problems.extend(findings.into_problems());
    let is_empty =
        |file: &&SourceFile| file.text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0').is_empty();
    let empty_files = sources.files.iter().filter(is_empty).map(|file| file.relative.clone()).collect();
    Loaded { desired, problems, broken_files, empty_files, unknown, complete, locked }
}

#[cfg(test)]
mod tests;
