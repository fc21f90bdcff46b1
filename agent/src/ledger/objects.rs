//! The objects that evenkeel made or is about to make, each with its manifest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use evenkeel_plan::{Desired, Source};
use evenkeel_schema::{Key, Kind, Object, Policy};
use rusqlite::{OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Ledger, LedgerError};

/// What the ledger holds of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub state: EntryState,
    /// The manifest that was applied or begun last.
    pub object: Value,
    /// The manifest that was applied to the end last; `None` where none ever was.
    pub applied: Option<Value>,
    /// The policy in `object`.
    pub policy: Policy,
    /// The file that it stood in, relative to the source.
    pub file: Option<PathBuf>,
}

/// How far the last deed on an object came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// Begun: some, all or nothing of it may be on the host.
    Applying,
    /// Done.
    Applied,
    /// Its deletion was begun: some, all or nothing of it may be left.
    Deleting,
    /// No manifest states it any more, and its policy keeps it.
    Kept,
}

impl EntryState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            EntryState::Applying => "applying",
            EntryState::Applied => "applied",
            EntryState::Deleting => "deleting",
            EntryState::Kept => "kept",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [EntryState::Applying, EntryState::Applied, EntryState::Deleting, EntryState::Kept];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

impl Ledger {
    /// Lists every object.
    pub fn entries(&self) -> Result<BTreeMap<Key, Entry>, LedgerError> {
        type Row = (String, String, String, Option<String>, Option<Vec<u8>>);
        let rows: Vec<Row> = self.read(|transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT key, state, intended, applied, file FROM objects")?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
            rows.collect()
        })?;
        let mut entries = BTreeMap::new();
        for (key, state, intended, applied, file) in rows {
            let unreadable = |source| LedgerError::Object { path: self.path().to_owned(), object: key.clone(), source };
            let object: Value = serde_json::from_str(&intended).map_err(unreadable)?;
            let applied = applied.as_deref().map(serde_json::from_str).transpose().map_err(unreadable)?;
            let policy = object.get("policy").cloned();
            let policy = policy.map(serde_json::from_value).transpose().map_err(unreadable)?.unwrap_or_default();
            let state = EntryState::parse(&state).ok_or_else(|| LedgerError::Value {
                path: self.path().to_owned(),
                text: format!("`{state}`"),
                wanted: "the state of an object",
            })?;
            let file = file.map(|bytes| PathBuf::from(OsString::from_vec(bytes)));
            let named = key.parse().map_err(|source| LedgerError::Name {
                path: self.path().to_owned(),
                text: key.clone(),
                source,
            })?;
            entries.insert(named, Entry { state, object, applied, policy, file });
        }
        Ok(entries)
    }

    /// Gives what manifests stated at the last pass: what `drift` compares with. What only its policy keeps is not wanted.
    pub fn wanted(&self) -> Result<Desired, LedgerError> {
        let mut entries = self.entries()?;
        entries.retain(|_, entry| entry.state != EntryState::Kept);
        self.last_stated_of(entries)
    }

    /// Gives all entries as they were applied or begun last, less what was being deleted.
    pub fn last_stated(&self) -> Result<Desired, LedgerError> {
        self.last_stated_of(self.entries()?)
    }

    /// As [`Ledger::last_stated`], of entries that were read already.
    pub(crate) fn last_stated_of(&self, entries: BTreeMap<Key, Entry>) -> Result<Desired, LedgerError> {
        let mut desired = Desired::default();
        desired.source.revision = self.source()?.map(|source| source.revision).unwrap_or_default();
        for (key, entry) in entries {
            if entry.state == EntryState::Deleting {
                continue;
            }
            self.insert(&mut desired, &key, entry.object)?;
            if let Some(file) = entry.file {
                desired.files.insert(key, file);
            }
        }
        Ok(desired)
    }

    /// Puts one object of the ledger into its map: the way in which a held object keeps its last manifest.
    pub fn insert(&self, desired: &mut Desired, key: &Key, object: Value) -> Result<(), LedgerError> {
        let name = key.name.clone();
        match key.kind {
            Kind::Image => desired.images.insert(name, self.decode(key, object)?).map(drop),
            Kind::Volume => desired.volumes.insert(name, self.decode(key, object)?).map(drop),
            Kind::Network => desired.networks.insert(name, self.decode(key, object)?).map(drop),
            Kind::Container => desired.containers.insert(name, self.decode(key, object)?).map(drop),
        };
        Ok(())
    }

    fn decode<S: DeserializeOwned>(&self, key: &Key, object: Value) -> Result<Object<S>, LedgerError> {
        serde_json::from_value(object).map_err(|source| LedgerError::Object {
            path: self.path().to_owned(),
            object: key.to_string(),
            source,
        })
    }

    /// Notes where the manifests came from. Waits for no disk: with the first intent of the pass it is on it.
    pub fn set_source(&self, source: &Source) -> Result<(), LedgerError> {
        self.note(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO source (only, path, revision) VALUES (1, ?1, ?2)
                     ON CONFLICT (only) DO UPDATE SET path = ?1, revision = ?2",
                )?
                .execute(params![source.path.as_os_str().as_bytes(), source.revision])?;
            Ok(())
        })
    }

    /// Gives where the manifests that were applied last came from.
    pub fn source(&self) -> Result<Option<Source>, LedgerError> {
        self.read(|transaction| {
            transaction
                .prepare_cached("SELECT path, revision FROM source")?
                .query_row([], |row| {
                    let path = PathBuf::from(OsString::from_vec(row.get(0)?));
                    Ok(Source { path, revision: row.get(1)? })
                })
                .optional()
        })
    }
}

pub(super) fn encode(key: &Key, object: &Value) -> Result<String, LedgerError> {
    serde_json::to_string(object).map_err(|source| LedgerError::Encode { object: key.to_string(), source })
}
