//! A root opened for looking, or locked for changing.
//!
//! A [`Session`] sees; only a [`LockedSession`] holds the [`Applier`] that can write to the host. Verbs that must not
//! change anything are given the first and so have nothing to change anything with.

use std::collections::BTreeSet;
use std::sync::Arc;

use evenkeel_host::container::RuntimeProgram;
use evenkeel_host::{Applier, Known, ObserveError, Observer, Paths, RootHeld};
use evenkeel_plan::{Desired, Key, Observed, Options, Plan, plan};

use crate::fetch::Fetches;
use crate::ledger::{Entry, EntryState, Ledger, LedgerError};
use crate::lock::{LockError, RootLock};

impl RootHeld for RootLock {}

/// Why a root cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Observe(Box<ObserveError>),
}

impl From<ObserveError> for SessionError {
    fn from(error: ObserveError) -> Self {
        SessionError::Observe(Box::new(error))
    }
}

/// A root opened for looking.
pub struct Session {
    observer: Observer,
    /// `None` where nothing was ever applied.
    ledger: Option<Ledger>,
}

impl Session {
    /// Opens a root without making anything in it.
    pub async fn open(paths: &Paths, runtime: RuntimeProgram) -> Result<Session, SessionError> {
        let ledger = Ledger::open_read_only(paths)?;
        Ok(Session { observer: Observer::open(paths.clone(), runtime).await?, ledger })
    }

    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Reads what only the ledger knows.
    pub fn known(&self) -> Result<Known, SessionError> {
        self.ledger.as_ref().map_or_else(|| Ok(Known::default()), |ledger| Ok(remembered(ledger)?.known))
    }

    /// Looks at the host.
    pub async fn observe(&self, desired: &Desired) -> Result<Observed, SessionError> {
        Ok(self.observer.observe(desired, &self.known()?).await)
    }

    /// Looks at the host and says what would be done.
    pub async fn plan(&self, desired: &Desired, options: &Options) -> Result<(Observed, Plan), SessionError> {
        let observed = self.observe(desired).await?;
        let plan = plan(desired, &observed, options);
        Ok((observed, plan))
    }
}

/// A root locked for changing.
pub struct LockedSession {
    pub(crate) applier: Applier,
    pub(crate) ledger: Ledger,
    pub(crate) fetches: Arc<Fetches>,
}

impl LockedSession {
    /// Opens a root against its lock, making its state directory where it is missing.
    pub async fn open(paths: &Paths, runtime: RuntimeProgram, lock: RootLock) -> Result<LockedSession, SessionError> {
        let ledger = Ledger::open(paths)?;
        let observer = Observer::open(paths.clone(), runtime).await?;
        Ok(LockedSession { applier: Applier::new(observer, Arc::new(lock)), ledger, fetches: Arc::default() })
    }

    pub fn observer(&self) -> &Observer {
        self.applier.observer()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Reads what only the ledger knows.
    pub(crate) fn remembered(&self) -> Result<Remembered, SessionError> {
        Ok(remembered(&self.ledger)?)
    }
}

/// What only the ledger knows.
pub(crate) struct Remembered {
    /// What an observer is told of it.
    pub known: Known,
    /// Objects that were applied to the end, with the manifest that was stated last.
    pub applied: BTreeSet<Key>,
}

fn remembered(ledger: &Ledger) -> Result<Remembered, LedgerError> {
    let entries = ledger.entries()?;
    let is_applied = |(_, entry): &(&Key, &Entry)| entry.state == EntryState::Applied;
    let applied = entries.iter().filter(is_applied).map(|(key, _)| key.clone()).collect();
    let known = Known {
        ledger: entries.iter().map(|(key, entry)| (key.clone(), entry.policy)).collect(),
        wanted: entries
            .iter()
            .filter(|(_, entry)| entry.state != EntryState::Kept)
            .map(|(key, _)| key.clone())
            .collect(),
        last_stated: ledger.last_stated_of(entries)?,
        leases: ledger.leases()?,
        overrides: ledger.overrides()?,
    };
    Ok(Remembered { known, applied })
}
