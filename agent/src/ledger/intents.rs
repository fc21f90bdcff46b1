//! What a pass is about to do, and what came of it: each written in as few transactions as there can be.
//!
//! Everything intended is one transaction, before the first deed. What is done may be written later and together: an
//! object whose mark came too late is looked at again by the next pass, and nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use evenkeel_host::error_chain;
use evenkeel_schema::{Key, Kind, Name};
use rusqlite::{Transaction, params};
use serde_json::Value;
use tokio::sync::oneshot;

use super::objects::encode;
use super::{EntryState, Ledger, LedgerError};

/// An object with its manifest, as the ledger holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stated {
    pub key: Key,
    pub object: Value,
    /// The file that it stands in, relative to the source.
    pub file: Option<PathBuf>,
}

/// Addresses of one network for one container, in place of those it held there.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    pub container: Name,
    pub network: Name,
    pub addresses: BTreeSet<IpAddr>,
}

/// Everything that a pass is about to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intents {
    /// Objects about to be made or changed; the manifests applied last stay beside the new ones.
    pub begun: Vec<Stated>,
    /// Objects in sync already, whose manifests are taken over where they are news.
    pub kept: Vec<Stated>,
    /// Objects about to be deleted.
    pub leaving: Vec<Key>,
    /// Objects that no manifest states any more and that their policy keeps.
    pub released: Vec<Key>,
    pub leases: Vec<Lease>,
}

/// What came of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The object is as it was begun. A container gives back the addresses of networks that it has left.
    Applied(Key),
    /// The object is gone from the host: it is dropped, with the addresses and the manual stop of a container.
    Gone(Key),
}

impl Ledger {
    /// Notes all intents of a pass in one transaction; where all of it is known already, in none.
    pub fn intend(&self, intents: &Intents) -> Result<(), LedgerError> {
        let begun = encoded(&intents.begun)?;
        let kept = self.news(encoded(&intents.kept)?)?;
        let leaving = intents.leaving.iter().map(|key| (key, EntryState::Deleting));
        let leaving: Vec<_> = leaving.chain(intents.released.iter().map(|key| (key, EntryState::Kept))).collect();
        if begun.is_empty() && kept.is_empty() && leaving.is_empty() && intents.leases.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let mut begin = transaction.prepare_cached(
                "INSERT INTO objects (key, state, intended, file) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET state = ?2, intended = ?3, file = ?4",
            )?;
            for Row { key, object, file } in &begun {
                begin.execute(params![key, EntryState::Applying.as_str(), object, file])?;
            }
            let mut keep = transaction.prepare_cached(
                "INSERT INTO objects (key, state, intended, applied, file) VALUES (?1, ?2, ?3, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET state = ?2, intended = ?3, applied = ?3, file = ?4",
            )?;
            for Row { key, object, file } in &kept {
                keep.execute(params![key, EntryState::Applied.as_str(), object, file])?;
            }
            let mut leave = transaction.prepare_cached("UPDATE objects SET state = ?2 WHERE key = ?1")?;
            for (key, state) in leaving {
                leave.execute(params![key.to_string(), state.as_str()])?;
            }
            intents.leases.iter().try_for_each(|lease| write_lease(transaction, lease))
        })
    }

    /// Picks those whose manifest, file or state the ledger does not hold so yet.
    fn news(&self, rows: Vec<Row>) -> Result<Vec<Row>, LedgerError> {
        if rows.is_empty() {
            return Ok(rows);
        }
        self.read(|transaction| {
            let mut known = transaction.prepare_cached(
                "SELECT 1 FROM objects
                 WHERE key = ?1 AND state = ?2 AND intended = ?3 AND applied = ?3 AND file IS ?4",
            )?;
            let mut news = Vec::new();
            for row in rows {
                if !known.exists(params![row.key, EntryState::Applied.as_str(), row.object, row.file])? {
                    news.push(row);
                }
            }
            Ok(news)
        })
    }

    /// Notes what came of intents, in one transaction. Writes only what is news.
    ///
    /// A power failure may take it back: then the intent stands, and the next pass looks at the object again.
    pub fn settle(&self, settled: &[Settled]) -> Result<(), LedgerError> {
        self.note(|transaction| {
            // What was repaired to what it was is noted so already: then nothing is written.
            let mut apply = transaction.prepare_cached(
                "UPDATE objects SET state = ?2, applied = intended
                 WHERE key = ?1 AND (state != ?2 OR applied IS NOT intended)",
            )?;
            let mut leave = transaction.prepare_cached(
                "DELETE FROM leases WHERE container = ?2 AND network NOT IN (
                     SELECT json_extract(attachment.value, '$.name')
                     FROM objects, json_each(objects.intended, '$.spec.networks') AS attachment
                     WHERE objects.key = ?1)",
            )?;
            let mut forget = transaction.prepare_cached("DELETE FROM objects WHERE key = ?1")?;
            let mut release = transaction.prepare_cached("DELETE FROM leases WHERE container = ?1")?;
            let mut resume = transaction.prepare_cached("DELETE FROM overrides WHERE container = ?1")?;
            for one in settled {
                match one {
                    Settled::Applied(key) => {
                        apply.execute(params![key.to_string(), EntryState::Applied.as_str()])?;
                        if key.kind == Kind::Container {
                            leave.execute([key.to_string().as_str(), key.name.as_str()])?;
                        }
                    }
                    Settled::Gone(key) => {
                        forget.execute([key.to_string()])?;
                        if key.kind == Kind::Container {
                            release.execute([key.name.as_str()])?;
                            resume.execute([key.name.as_str()])?;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}

/// An object in the form of the table.
struct Row {
    key: String,
    object: String,
    file: Option<Vec<u8>>,
}

fn encoded(objects: &[Stated]) -> Result<Vec<Row>, LedgerError> {
    let row = |stated: &Stated| {
        let file = stated.file.as_ref().map(|file| file.as_os_str().as_bytes().to_vec());
        Ok(Row { key: stated.key.to_string(), object: encode(&stated.key, &stated.object)?, file })
    };
    objects.iter().map(row).collect()
}

fn write_lease(transaction: &Transaction<'_>, lease: &Lease) -> rusqlite::Result<()> {
    let (container, network) = (lease.container.as_str(), lease.network.as_str());
    transaction
        .prepare_cached("DELETE FROM leases WHERE container = ?1 AND network = ?2")?
        .execute([container, network])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO leases (container, network, address) VALUES (?1, ?2, ?3)")?;
    for address in &lease.addresses {
        insert.execute(params![container, network, address.to_string()])?;
    }
    Ok(())
}

/// What came of an intent, and who waits until it is noted.
type Waiting = (Settled, oneshot::Sender<Result<(), String>>);

/// Lets steps that end side by side share a transaction: while one is written, the next gathers.
#[derive(Debug)]
pub struct Settler {
    ledger: Ledger,
    gathered: Mutex<Vec<Waiting>>,
    /// Held by whoever writes.
    turn: tokio::sync::Mutex<()>,
}

impl Settler {
    pub fn new(ledger: Ledger) -> Settler {
        Settler { ledger, gathered: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Notes what came of an intent; returns when the ledger has it.
    ///
    /// # Errors
    /// The ledger's, in words, since all who shared the transaction are told.
    pub async fn settle(&self, settled: Settled) -> Result<(), String> {
        let (told, answer) = oneshot::channel();
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner).push((settled, told));
        let turn = self.turn.lock().await;
        let gathered = std::mem::take(&mut *self.gathered.lock().unwrap_or_else(PoisonError::into_inner));
        if !gathered.is_empty() {
            let ledger = self.ledger.clone();
            let written = tokio::task::spawn_blocking(move || {
                let (settled, told): (Vec<_>, Vec<_>) = gathered.into_iter().unzip();
                let result = ledger.settle(&settled).map_err(|error| error_chain(&error));
                for told in told {
                    // Whoever waited may have been cancelled.
                    let _ = told.send(result.clone());
                }
            });
            written.await.map_err(|error| error.to_string())?;
        }
        drop(turn);
        answer.await.unwrap_or_else(|_| Err("the ledger was not written: its writer ended early".to_owned()))
    }
}
