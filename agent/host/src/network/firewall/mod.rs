//! The one nftables table `inet <instance>`: written whole in one transaction, and read back in the plan's words.
//!
//! Published ports of the host lead to containers by DNAT, for packets from outside, from containers and from the host
//! itself; what leaves a network with NAT is masqueraded; bridge networks are cut off from each other, and internal ones
//! from everything but the host. Everything that differs between hosts stands in sets and maps, so the rules
//! themselves are always the same, and a thousand ports are one lookup.
//!
//! What this table cannot do: a packet that it accepts is still dropped where another table drops it (a `FORWARD` policy
//! of Docker or ufw), since every table is asked. And published ports are not on `[::1]`: the kernel routes that address
//! nowhere but to loopback, so a connection is refused there, and clients go on to `127.0.0.1`.

mod flows;
mod kept;
mod nfnetlink;
mod nft;
mod ports;
mod read;
mod render;

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError};

use evenkeel_plan::{Firewall, ObservedFirewall, Sight};
use evenkeel_shim::fail_point;

use super::{NetworkError, Networks};
use crate::error_chain;
pub(super) use nfnetlink::Netfilter;
pub(super) use nft::Loader;
pub use ports::{PortConflict, port_conflicts};
pub(super) use read::Listing;
use render::Stead;

impl Networks {
    /// Replaces the whole table in one transaction; an empty firewall removes it.
    ///
    /// UDP flows that the new table would send another way are forgotten, so that the next packet goes the new way.
    pub async fn apply_firewall(&self, firewall: &Firewall) -> Result<(), NetworkError> {
        self.load_firewall(firewall).await?;
        fail_point!("firewall.loaded");
        let local = self.netlink.addresses(None).await;
        let local = local.map_err(|source| NetworkError::List { what: "addresses", source })?;
        let ways = flows::Ways::of(firewall, local.iter().map(|address| address.net.addr()).collect());
        let netfilter = Arc::clone(&self.netfilter);
        let forgotten = tokio::task::spawn_blocking(move || flows::forget_stale(&netfilter, &ways)).await;
        match forgotten.unwrap_or_else(|panic| Err(panic.into())) {
            Ok(count) => tracing::debug!(count, "forgot UDP flows"),
            // A kernel that cannot list its flows lets them end by themselves; the table is in force all the same.
            Err(error) => tracing::warn!(%error, "cannot forget UDP flows that went another way"),
        }
        Ok(())
    }

    /// Starts the program that loads the table before it is known what to load, where the table that was there last is gone: what
    /// it takes to start is as long as a look at the host. [`Networks::unready_firewall`] ends one that was not needed.
    pub fn ready_firewall(&self) {
        let last = self.last_table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_there = last.is_some_and(|last| last.listed.is_some());
        if was_there && matches!(self.netfilter.has_table(self.instance.as_str()), Ok(false)) {
            // Where it cannot be started, the load says why.
            *self.loader.lock().unwrap_or_else(PoisonError::into_inner) = nft::Loader::start().ok();
        }
    }

    /// Ends the program that was started ahead.
    pub async fn unready_firewall(&self) {
        let started = self.loader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(loader) = started {
            loader.end().await;
        }
    }

    async fn load_firewall(&self, firewall: &Firewall) -> Result<(), NetworkError> {
        let table = self.instance.as_str();
        let before = self.netfilter.generation().ok();
        let is_missing = !firewall.is_empty() && matches!(self.netfilter.has_table(table), Ok(false));
        let stead = if is_missing { Stead::Nothing } else { Stead::Any };
        let script = render::render(table, firewall, stead)?;
        let started = self.loader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let loaded = match started {
            Some(loader) => loader.load(&script).await,
            None => nft::load(&script).await,
        };
        match loaded {
            // Somebody else made one meanwhile.
            Err(NetworkError::NftRefused { .. }) if is_missing => {
                nft::load(&render::render(table, firewall, Stead::Any)?).await?;
            }
            loaded => loaded?,
        }
        self.expect_as_listed(firewall, before);
        Ok(())
    }

    /// Spares the listing of a table that was loaded anew as it was listed before: nothing but this program's one transaction
    /// came since `before`, so that the kernel has again what it said it had.
    fn expect_as_listed(&self, firewall: &Firewall, before: Option<u32>) {
        let mut last = self.last_table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = last.as_mut() else { return };
        if let Some(generation) = before.and_then(|before| before.checked_add(1))
            && self.netfilter.generation().ok() == Some(generation)
            && last.listed.as_ref() == Some(&firewall.normal_form())
        {
            (last.generation, last.observed, last.is_kept) = (generation, last.listed.clone(), false);
        }
    }

    /// Reads the table as the kernel has it.
    pub async fn observe_firewall(&self) -> Sight<ObservedFirewall> {
        match self.read_firewall().await {
            Ok(Some(observed)) => Sight::Found { observed, owned: true },
            Ok(None) => Sight::Absent,
            Err(error) => Sight::Unreadable(error_chain(&error)),
        }
    }

    /// Lists the table, unless no transaction was made since it was listed last, by this program or another.
    async fn read_firewall(&self) -> Result<Option<ObservedFirewall>, NetworkError> {
        // A kernel that does not tell is asked for the whole each time.
        let generation = self.netfilter.generation().ok();
        let last = self.last_table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let listed = match last {
            Some(last) if Some(last.generation) == generation => return Ok(last.observed),
            other => other.and_then(|last| last.listed),
        };
        let kept = generation.and_then(|generation| kept::Kept::read(&self.paths.kept_firewall(), generation));
        let is_kept = kept.is_some();
        let observed = match kept {
            Some(kept) => kept.observed,
            None => self.list_firewall().await?,
        };
        // What changed during the listing is seen by the next.
        if let Some(generation) = generation {
            let listed = observed.clone().or(listed);
            let seen = SeenTable { generation, observed: observed.clone(), listed, is_kept };
            *self.last_table.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
        Ok(observed)
    }

    /// Keeps the table as it was listed last for the next program, where that is news.
    ///
    /// # Errors
    /// Those of the disk; then the next program lists it itself.
    pub fn keep_firewall(&self) -> std::io::Result<()> {
        let mut last = self.last_table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = last.as_mut().filter(|seen| !seen.is_kept) else { return Ok(()) };
        if let Some(kept) = kept::Kept::of(seen.generation, seen.observed.clone()) {
            kept.write(&self.paths.kept_firewall())?;
        }
        seen.is_kept = true;
        Ok(())
    }

    async fn list_firewall(&self) -> Result<Option<ObservedFirewall>, NetworkError> {
        let table = self.instance.as_str();
        // Asked without a program first: most hosts that publish nothing have no table.
        if nft::is_there() && matches!(self.netfilter.has_table(table), Ok(false)) {
            return Ok(None);
        }
        let Some(text) = nft::list(table).await? else { return Ok(None) };
        let listing = Listing::parse(table, &text)?;
        let fresh = self.fresh_table.get_or_try_init(|| fresh(table)).await?;
        let mut observed = listing.compare(fresh);
        if listing.has_unnamed(&observed) {
            // Only the text form has a rule in the words that a person would write it in.
            listing.name_foreign(&mut observed, &nft::list_text(table).await?.unwrap_or_default());
        }
        Ok(Some(observed))
    }
}

/// The table as it was at one generation of the kernel's tables.
#[derive(Clone, Debug)]
pub(super) struct SeenTable {
    generation: u32,
    observed: Option<ObservedFirewall>,
    /// What there was when there was a table last.
    listed: Option<ObservedFirewall>,
    /// Whether the next program finds it so.
    is_kept: bool,
}

/// Loads the table into a namespace of its own and lists it: how this nft and this kernel write the fixed part.
///
/// Releases of nft write the same rule in different JSON; asked of the same program, what is as it should be is equal.
async fn fresh(table: &str) -> Result<Listing, NetworkError> {
    let script = nft::Script { table: table.to_owned(), text: render::render_fixed(table) };
    let loaded = super::namespace::in_new(move || nft::load_and_list_here(script));
    let text = loaded.await.map_err(|source| NetworkError::Nft { table: table.to_owned(), source })??;
    Listing::parse(table, &text)
}
