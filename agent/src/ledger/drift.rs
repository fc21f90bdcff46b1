//! Since when the host differs, and how it differed before.
//!
//! Each pass hands in everything that differs now. A difference that is new is opened, one that is no longer seen is
//! closed, so that a report can say how long something has been so.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use evenkeel_schema::{Key, NameError};
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Ledger, LedgerError};

/// Closed differences that are kept; the oldest go first.
const HISTORY: i64 = 10_000;
/// How [`Subject::Firewall`] is written; a key has a slash.
const FIREWALL: &str = "firewall";

/// What can differ: an object, or what all of them share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    Object(Key),
    /// The packet filter's table as a whole.
    Firewall,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Object(key) => key.fmt(f),
            Subject::Firewall => f.write_str(FIREWALL),
        }
    }
}

impl FromStr for Subject {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Subject, NameError> {
        if text == FIREWALL { Ok(Subject::Firewall) } else { text.parse().map(Subject::Object) }
    }
}

impl TryFrom<String> for Subject {
    type Error = NameError;

    fn try_from(text: String) -> Result<Subject, NameError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> String {
        subject.to_string()
    }
}

/// A difference that a pass saw.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub subject: Subject,
    /// The field; empty for the object as a whole.
    pub field: String,
    pub desired: Option<String>,
    pub observed: Option<String>,
}

/// A difference with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftRecord {
    #[serde(flatten)]
    pub seen: Seen,
    /// When a pass first saw it, RFC 3339.
    pub since: String,
    /// When a pass no longer saw it; `None` while it lasts.
    pub until: Option<String>,
}

/// What a pass changed in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriftChanges {
    pub opened: Vec<Seen>,
    pub closed: Vec<DriftRecord>,
}

impl Ledger {
    /// Records everything that differs at a time (RFC 3339). Open differences of `blind` subjects, which could not be
    /// looked at, stay open.
    pub fn record_drift(
        &self,
        seen: &BTreeSet<Seen>,
        blind: &BTreeSet<Subject>,
        at: &str,
    ) -> Result<DriftChanges, LedgerError> {
        let open = self.open_drift()?;
        let known: BTreeSet<&Seen> = open.iter().map(|record| &record.seen).collect();
        let opened: Vec<Seen> = seen.iter().filter(|one| !known.contains(one)).cloned().collect();
        let over = |record: &&DriftRecord| !seen.contains(&record.seen) && !blind.contains(&record.seen.subject);
        let closed: Vec<DriftRecord> =
            open.iter().filter(over).map(|r| DriftRecord { until: Some(at.to_owned()), ..r.clone() }).collect();
        // A quiet pass, by far the most frequent, costs no write.
        if opened.is_empty() && closed.is_empty() {
            return Ok(DriftChanges::default());
        }
        self.note(|transaction| {
            let mut close = transaction.prepare_cached(
                "UPDATE drift SET until = ?5 WHERE until IS NULL
                 AND subject = ?1 AND field = ?2 AND desired IS ?3 AND observed IS ?4",
            )?;
            for DriftRecord { seen, .. } in &closed {
                close.execute(params![seen.subject.to_string(), seen.field, seen.desired, seen.observed, at])?;
            }
            // Another process may have opened the same since it was read.
            let mut open = transaction.prepare_cached(
                "INSERT INTO drift (subject, field, desired, observed, since) SELECT ?1, ?2, ?3, ?4, ?5
                 WHERE NOT EXISTS (SELECT 1 FROM drift WHERE until IS NULL
                     AND subject = ?1 AND field = ?2 AND desired IS ?3 AND observed IS ?4)",
            )?;
            for seen in &opened {
                open.execute(params![seen.subject.to_string(), seen.field, seen.desired, seen.observed, at])?;
            }
            transaction
                .prepare_cached(
                    "DELETE FROM drift WHERE until IS NOT NULL AND id <= (
                         SELECT id FROM drift WHERE until IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?1)",
                )?
                .execute([HISTORY])?;
            Ok(())
        })?;
        Ok(DriftChanges { opened, closed })
    }

    /// Lists the differences that last.
    pub fn open_drift(&self) -> Result<Vec<DriftRecord>, LedgerError> {
        self.drift_where("until IS NULL ORDER BY id", -1)
    }

    /// Lists the latest differences, open and closed, newest first.
    pub fn history(&self, limit: usize) -> Result<Vec<DriftRecord>, LedgerError> {
        self.drift_where("true ORDER BY id DESC", i64::try_from(limit).unwrap_or(-1))
    }

    fn drift_where(&self, condition: &str, limit: i64) -> Result<Vec<DriftRecord>, LedgerError> {
        type Row = (String, String, Option<String>, Option<String>, String, Option<String>);
        let rows: Vec<Row> = self.read(|transaction| {
            let sql =
                format!("SELECT subject, field, desired, observed, since, until FROM drift WHERE {condition} LIMIT ?1");
            let mut statement = transaction.prepare_cached(&sql)?;
            let rows = statement.query_map([limit], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })?;
            rows.collect()
        })?;
        let record = |(subject, field, desired, observed, since, until): Row| {
            let subject = subject.parse().map_err(|source| LedgerError::Name {
                path: self.path().to_owned(),
                text: subject,
                source,
            })?;
            Ok(DriftRecord { seen: Seen { subject, field, desired, observed }, since, until })
        };
        rows.into_iter().map(record).collect()
    }
}
