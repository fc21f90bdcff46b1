//! The ledger: what evenkeel made on this host, and the little else that must outlive a process.
//!
//! One SQLite file (write-ahead log, `synchronous=FULL`) holds every object with its manifest as last applied, leased
//! addresses, manual stops and the history of drift. Every call is one transaction, so that `kill -9` at any instant
//! leaves either the record before it or the one after it. What is intended is written before the deed.
//!
//! Nothing here asks the kernel anything: the ledger says what is ours, never what is there.

mod drift;
mod error;
mod intents;
mod leases;
mod objects;
mod overrides;
mod store;

#[cfg(test)]
mod tests;

pub use drift::{DriftChanges, DriftRecord, Seen, Subject};
pub use error::LedgerError;
pub use intents::{Intents, Lease, Settled, Settler, Stated};
pub use objects::{Entry, EntryState};
pub use store::Ledger;
