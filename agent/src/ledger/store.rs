//! The file itself: opening, versions, transactions.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_host::Paths;
use evenkeel_shim::fail_point;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::LedgerError;

/// The version that this release writes; older ones are brought up to it, newer ones refused.
pub(super) const VERSION: i64 = 1;

/// Marks the file as ours (`PRAGMA application_id`): "evkl".
const APPLICATION_ID: i64 = 0x6576_6b6c;

/// How long a call waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// One statement list per version, each from the version before it.
const MIGRATIONS: [&str; VERSION as usize] = ["
    CREATE TABLE objects (
        key      TEXT PRIMARY KEY NOT NULL,
        state    TEXT NOT NULL,
        intended TEXT NOT NULL,
        applied  TEXT,
        file     BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE leases (
        container TEXT NOT NULL,
        network   TEXT NOT NULL,
        address   TEXT NOT NULL,
        PRIMARY KEY (container, network, address)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE overrides (
        container TEXT PRIMARY KEY NOT NULL,
        since     TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE source (
        only     INTEGER PRIMARY KEY CHECK (only = 1),
        path     BLOB NOT NULL,
        revision TEXT NOT NULL
    ) STRICT;
    CREATE TABLE drift (
        id       INTEGER PRIMARY KEY,
        subject  TEXT NOT NULL,
        field    TEXT NOT NULL,
        desired  TEXT,
        observed TEXT,
        since    TEXT NOT NULL,
        until    TEXT
    ) STRICT;
    CREATE INDEX drift_open ON drift (subject) WHERE until IS NULL;
"];

/// The ledger of one root. Cheap to clone; safe with several threads and several processes.
#[derive(Clone)]
pub struct Ledger {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the ledger for writing, makes it where there is none, and brings an older one up to this release.
    pub fn open(paths: &Paths) -> Result<Ledger, LedgerError> {
        let path = paths.database();
        // Searchable by others, readable by none: bind mounts below it are reached by path from containers' users.
        let made = DirBuilder::new().recursive(true).mode(0o711).create(paths.root());
        made.map_err(|source| LedgerError::Directory { path: paths.root().to_owned(), source })?;
        make_private(&path).map_err(|source| LedgerError::Access { path: path.clone(), source })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = connect(&path, flags)?;
        fail_point!("ledger.opened");
        identify(&path, &connection)?;
        write_ahead(&path, &connection)?;
        check(&path, &connection)?;
        migrate(&path, &mut connection)?;
        fail_point!("ledger.migrated");
        Ok(Ledger { path, connection: Arc::new(Mutex::new(connection)) })
    }

    /// Opens the ledger for looking. `None` where nothing was ever applied.
    pub fn open_read_only(paths: &Paths) -> Result<Option<Ledger>, LedgerError> {
        let path = paths.database();
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(source) => return Err(LedgerError::Access { path, source }),
        }
        // SQLite has one error for every reason.
        File::open(&path).map_err(|source| LedgerError::Access { path: path.clone(), source })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(&path, flags)?;
        // A file without a schema is one whose first opening was cut short: nothing was applied with it.
        if identify(&path, &connection)? == 0 {
            return Ok(None);
        }
        Ok(Some(Ledger { path, connection: Arc::new(Mutex::new(connection)) }))
    }

    /// Gives the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs one transaction that writes.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        commit(&mut connection, work).map_err(|source| self.not_written(source))
    }

    /// Runs one transaction that writes what may be lost with the power, never with the process: it waits for no disk.
    ///
    /// The next [`Ledger::write`] takes it to the disk too.
    pub(super) fn note<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let run = || {
            // In WAL mode a commit waits for the disk under FULL, a checkpoint under both.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let noted = commit(&mut connection, work);
            connection.pragma_update(None, "synchronous", "FULL")?;
            noted
        };
        run().map_err(|source| self.not_written(source))
    }

    fn not_written(&self, source: rusqlite::Error) -> LedgerError {
        damage(&self.path, &source).unwrap_or_else(|| LedgerError::Write { path: self.path.clone(), source })
    }

    /// Runs one transaction that reads.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let run = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let value = work(&transaction)?;
            transaction.finish()?;
            Ok(value)
        };
        run().map_err(|source| {
            damage(&self.path, &source).unwrap_or_else(|| LedgerError::Read { path: self.path.clone(), source })
        })
    }
}

fn commit<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = work(&transaction)?;
    fail_point!("ledger.writing");
    transaction.commit()?;
    fail_point!("ledger.written");
    Ok(value)
}

/// Makes the file where there is none, readable by root alone: manifests may hold secrets. SQLite's other files take
/// after it.
///
/// One that is there is never opened here: closing it would drop the locks of every other connection of this process.
fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if fs::metadata(path)?.mode() & 0o077 == 0 {
        return Ok(());
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::set_permissions(name, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, LedgerError> {
    let failed = |source| opening(path, source);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(connection)
}

/// Gives the file's version, 0 for a new file, after making sure that it is a ledger of a version that is known.
fn identify(path: &Path, connection: &Connection) -> Result<i64, LedgerError> {
    let failed = |source| damage(path, &source).unwrap_or_else(|| opening(path, source));
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let found = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if tables == 0 && found == 0 {
        return Ok(0);
    }
    if number("PRAGMA application_id")? != APPLICATION_ID {
        return Err(LedgerError::NotALedger { path: path.to_owned() });
    }
    if found > VERSION {
        return Err(LedgerError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    Ok(found)
}

/// Switches to the write-ahead log. SQLite does not always wait for its busy timeout here, so this does.
fn write_ahead(path: &Path, connection: &Connection) -> Result<(), LedgerError> {
    let started = Instant::now();
    loop {
        let switched = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match switched {
            Ok(_) => break,
            Err(source) if is_busy(&source) && started.elapsed() < BUSY_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(source) => return Err(damage(path, &source).unwrap_or_else(|| opening(path, source))),
        }
    }
    let set = connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
    set.map_err(|source| LedgerError::Open { path: path.to_owned(), source })
}

/// Looks through the pages, since a damaged ledger that is written to gets worse.
fn check(path: &Path, connection: &Connection) -> Result<(), LedgerError> {
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(LedgerError::Corrupt { path: path.to_owned(), damage: verdict }),
        Err(source) => Err(damage(path, &source).unwrap_or_else(|| opening(path, source))),
    }
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), LedgerError> {
    let mut run = || {
        // Immediate, and the version read inside: two processes that open a new ledger at once make it once.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let done = usize::try_from(found).unwrap_or(0);
        for statements in MIGRATIONS.iter().skip(done) {
            transaction.execute_batch(statements)?;
        }
        if found < VERSION {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        fail_point!("ledger.migrating");
        transaction.commit()
    };
    run()
        .map_err(|source| damage(path, &source).unwrap_or_else(|| LedgerError::Write { path: path.to_owned(), source }))
}

/// Says why the file cannot be opened. SQLite keeps the kernel's word to itself, so that what it needs is tried once more.
fn opening(path: &Path, source: rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    let found = match source.sqlite_error_code() {
        // The file itself, its log and its index.
        Some(ErrorCode::CannotOpen) => (0..4).map(|_| File::open(&path)).collect::<io::Result<Vec<File>>>().err(),
        Some(ErrorCode::SystemIoFailure) => {
            let full = nix::sys::statvfs::statvfs(&path).is_ok_and(|disk| disk.blocks_available() == 0);
            full.then(|| nix::errno::Errno::ENOSPC.into())
        }
        _ => None,
    };
    match found {
        Some(source) => LedgerError::Access { path, source },
        None => LedgerError::Open { path, source },
    }
}

/// Tells damage of the file from every other failure.
fn damage(path: &Path, error: &rusqlite::Error) -> Option<LedgerError> {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Some(LedgerError::Corrupt { path: path.to_owned(), damage: error.to_string() })
        }
        _ => None,
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
