//! The objects that evenkeel made or is about to make, each with its manifest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

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
}

impl EntryState {
    fn as_str(self) -> &'static str {
        match self {
            EntryState::Applying => "applying",
            EntryState::Applied => "applied",
            EntryState::Deleting => "deleting",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [EntryState::Applying, EntryState::Applied, EntryState::Deleting].into_iter().find(|s| s.as_str() == text)
    }
}

impl Ledger {
    /// Notes that an object is about to be made or changed. Keeps the manifest applied last beside the new one.
    pub fn begin(&self, key: &Key, object: &Value, file: Option<&Path>) -> Result<(), LedgerError> {
        self.begin_all(&[(key.clone(), object.clone(), file.map(Path::to_owned))])
    }

    /// Notes, in one transaction, that all of these objects are about to be made or changed.
    pub fn begin_all(&self, objects: &[(Key, Value, Option<PathBuf>)]) -> Result<(), LedgerError> {
        if objects.is_empty() {
            return Ok(());
        }
        let encoded = objects
            .iter()
            .map(|(key, object, file)| Ok((key.to_string(), encode(key, object)?, file)))
            .collect::<Result<Vec<_>, LedgerError>>()?;
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO objects (key, state, intended, file) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET state = ?2, intended = ?3, file = ?4",
            )?;
            for (key, object, file) in &encoded {
                let file = file.as_deref().map(|file| file.as_os_str().as_bytes());
                statement.execute(params![key, EntryState::Applying.as_str(), object, file])?;
            }
            Ok(())
        })
    }

    /// Takes over the manifest of an object that is in sync with it already. Writes only where that is news.
    pub fn refresh(&self, key: &Key, object: &Value, file: Option<&Path>) -> Result<(), LedgerError> {
        let object = encode(key, object)?;
        let file = file.map(|file| file.as_os_str().as_bytes());
        let values = params![key.to_string(), EntryState::Applied.as_str(), object, file];
        let known = self.read(|transaction| {
            transaction
                .prepare_cached(
                    "SELECT 1 FROM objects
                     WHERE key = ?1 AND state = ?2 AND intended = ?3 AND applied = ?3 AND file IS ?4",
                )?
                .exists(values)
        })?;
        if known {
            return Ok(());
        }
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO objects (key, state, intended, applied, file) VALUES (?1, ?2, ?3, ?3, ?4)
                     ON CONFLICT (key) DO UPDATE SET state = ?2, intended = ?3, applied = ?3, file = ?4",
                )?
                .execute(values)?;
            Ok(())
        })
    }

    /// Notes that what was begun is done; writes only where that is news. A container gives back the addresses of networks
    /// that it has left.
    pub fn applied(&self, key: &Key) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE objects SET state = ?2, applied = intended
                     WHERE key = ?1 AND (state != ?2 OR applied IS NOT intended)",
                )?
                .execute(params![key.to_string(), EntryState::Applied.as_str()])?;
            if key.kind == Kind::Container {
                transaction
                    .prepare_cached(
                        "DELETE FROM leases WHERE container = ?2 AND network NOT IN (
                             SELECT json_extract(attachment.value, '$.name')
                             FROM objects, json_each(objects.intended, '$.spec.networks') AS attachment
                             WHERE objects.key = ?1)",
                    )?
                    .execute([key.to_string().as_str(), key.name.as_str()])?;
            }
            Ok(())
        })
    }

    /// Notes that an object is about to be deleted.
    pub fn begin_delete(&self, key: &Key) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE objects SET state = ?2 WHERE key = ?1")?
                .execute(params![key.to_string(), EntryState::Deleting.as_str()])?;
            Ok(())
        })
    }

    /// Drops an object that is gone from the host, with the addresses and the manual stop of a container.
    pub fn forget(&self, key: &Key) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.prepare_cached("DELETE FROM objects WHERE key = ?1")?.execute([key.to_string()])?;
            if key.kind == Kind::Container {
                let name = key.name.as_str();
                transaction.prepare_cached("DELETE FROM leases WHERE container = ?1")?.execute([name])?;
                transaction.prepare_cached("DELETE FROM overrides WHERE container = ?1")?.execute([name])?;
            }
            Ok(())
        })
    }

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

    /// Gives everything as it was applied or begun last, less what was being deleted: what `drift` compares with.
    pub fn last_applied(&self) -> Result<Desired, LedgerError> {
        let mut desired = Desired::default();
        desired.source.revision = self.source()?.map(|source| source.revision).unwrap_or_default();
        for (key, entry) in self.entries()? {
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

    /// Notes where the manifests came from.
    pub fn set_source(&self, source: &Source) -> Result<(), LedgerError> {
        self.write(|transaction| {
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

fn encode(key: &Key, object: &Value) -> Result<String, LedgerError> {
    serde_json::to_string(object).map_err(|source| LedgerError::Encode { object: key.to_string(), source })
}
