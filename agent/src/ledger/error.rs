//! What can go wrong with the ledger.

use std::path::PathBuf;

use evenkeel_schema::NameError;

/// A failure of the ledger; none of them deletes or rewrites anything.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot open the ledger {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    /// The file itself cannot be opened, whatever is in it.
    #[error("cannot open the ledger {}", path.display())]
    Access { path: PathBuf, source: std::io::Error },
    #[error("cannot create the state directory {}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    /// The file is damaged, or it is no SQLite file at all.
    #[error("the ledger {} is damaged: {damage}", path.display())]
    Corrupt { path: PathBuf, damage: String },
    /// The file is a sound database of some other program.
    #[error("{} is a database, but no ledger of evenkeel", path.display())]
    NotALedger { path: PathBuf },
    /// A later release wrote it.
    #[error("the ledger {} has version {found}; this release knows versions up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot read the ledger {}", path.display())]
    Read { path: PathBuf, source: rusqlite::Error },
    #[error("cannot write the ledger {}", path.display())]
    Write { path: PathBuf, source: rusqlite::Error },
    /// A row that no release of evenkeel writes.
    #[error("the ledger {} names an object that cannot be: `{text}`", path.display())]
    Name { path: PathBuf, text: String, source: NameError },
    #[error("the ledger {} holds {text}, which is not {wanted}", path.display())]
    Value { path: PathBuf, text: String, wanted: &'static str },
    #[error("the manifest of {object} in the ledger {} cannot be read", path.display())]
    Object { path: PathBuf, object: String, source: serde_json::Error },
    #[error("cannot write the manifest of {object} as JSON")]
    Encode { object: String, source: serde_json::Error },
}
