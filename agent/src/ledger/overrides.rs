//! Containers that a person stopped by hand.

use std::collections::BTreeMap;

use evenkeel_plan::Override;
use evenkeel_schema::Name;

use super::{Ledger, LedgerError};

impl Ledger {
    /// Lists the manual stops.
    pub fn overrides(&self) -> Result<BTreeMap<Name, Override>, LedgerError> {
        let rows: Vec<(String, String)> = self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT container, since FROM overrides")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })?;
        rows.into_iter().map(|(container, since)| Ok((self.name(container)?, Override { since }))).collect()
    }

    /// Notes a manual stop; one that stands already keeps its time.
    pub fn set_override(&self, container: &Name, stop: &Override) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction
                .prepare_cached("INSERT INTO overrides (container, since) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute([container.as_str(), &stop.since])?;
            Ok(())
        })
    }

    /// Drops a manual stop.
    pub fn clear_override(&self, container: &Name) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.prepare_cached("DELETE FROM overrides WHERE container = ?1")?.execute([container.as_str()])?;
            Ok(())
        })
    }
}
