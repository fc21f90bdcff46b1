//! Dynamic addresses that containers hold, so that they survive restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::Name;

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

    pub(super) fn name(&self, text: String) -> Result<Name, LedgerError> {
        Name::try_from(text.clone()).map_err(|source| LedgerError::Name { path: self.path().to_owned(), text, source })
    }
}
