//! Dynamic addresses that containers hold, so that they survive restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::Name;
use rusqlite::params;

use super::{Ledger, LedgerError};

impl Ledger {
    /// Lists all leased addresses by container and network.
    pub fn leases(&self) -> Result<BTreeMap<Name, BTreeMap<Name, BTreeSet<IpAddr>>>, LedgerError> {
        let rows: Vec<(String, String, String)> = self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT container, network, address FROM leases")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        })?;
        let mut leases: BTreeMap<Name, BTreeMap<Name, BTreeSet<IpAddr>>> = BTreeMap::new();
        for (container, network, address) in rows {
            let address = address.parse().map_err(|_| LedgerError::Value {
                path: self.path().to_owned(),
                text: format!("`{address}`"),
                wanted: "an address",
            })?;
            let networks = leases.entry(self.name(container)?).or_default();
            networks.entry(self.name(network)?).or_default().insert(address);
        }
        Ok(leases)
    }

    /// Leases these addresses of a network to a container, in place of those it held there.
    pub fn lease(&self, container: &Name, network: &Name, addresses: &BTreeSet<IpAddr>) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction
                .prepare_cached("DELETE FROM leases WHERE container = ?1 AND network = ?2")?
                .execute([container.as_str(), network.as_str()])?;
            let mut insert =
                transaction.prepare_cached("INSERT INTO leases (container, network, address) VALUES (?1, ?2, ?3)")?;
            for address in addresses {
                insert.execute(params![container.as_str(), network.as_str(), address.to_string()])?;
            }
            Ok(())
        })
    }

    pub(super) fn name(&self, text: String) -> Result<Name, LedgerError> {
        Name::try_from(text.clone()).map_err(|source| LedgerError::Name { path: self.path().to_owned(), text, source })
    }
}
