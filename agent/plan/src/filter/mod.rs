//! What the firewall table is to say, and what of it differs for which object.
//!
//! The table is written whole or not at all, but a difference in it is somebody's. `derive.rs` says what the manifests
//! want of it, `retain.rs` keeps in it what is to stay as it is, `attribute.rs` gives every difference an object and a field.

mod attribute;
mod derive;
mod retain;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::{Kind, Name, Policy};
use ipnet::IpNet;

use crate::decide::Options;
use crate::{Desired, Drift, Endpoint, Firewall, Key, Observed, ObservedFirewall, Sight};

/// The table with its differences.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub firewall: Firewall,
    /// Whether the kernel's table differs.
    pub differs: bool,
    /// Why the kernel's table could not be read.
    pub unreadable: Option<String>,
    drifts: BTreeMap<Key, Vec<Drift>>,
    needs: BTreeSet<Key>,
}

/// What the table is judged by.
#[derive(Clone, Copy)]
struct Basis<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    endpoints: &'a BTreeMap<Name, Vec<Endpoint>>,
    options: &'a Options,
    /// The kernel's table; an empty one where there is none.
    kernel: &'a ObservedFirewall,
}

impl Filter {
    /// Derives the table and compares it with the kernel's.
    pub(crate) fn derive(
        desired: &Desired,
        observed: &Observed,
        endpoints: &BTreeMap<Name, Vec<Endpoint>>,
        options: &Options,
    ) -> Filter {
        let mut filter = Filter { firewall: derive::firewall(desired, observed, endpoints), ..Filter::default() };
        filter.needs = filter.needing();
        let none = ObservedFirewall::default();
        let kernel = match &observed.firewall {
            Sight::Unreadable(message) => {
                filter.unreadable = Some(message.clone());
                return filter;
            }
            Sight::Absent => &none,
            Sight::Found { observed, .. } => observed,
        };
        let basis = Basis { desired, observed, endpoints, options, kernel };
        filter.keep(&basis);
        filter.attribute(&basis);
        filter.leave_to_report(&basis);
        filter.compare(observed);
        filter
    }

    /// Takes out the parts of objects that are not there and are not going to be.
    pub(crate) fn leave_out(&mut self, absent: &BTreeSet<Key>, observed: &Observed) {
        let is_absent = |kind, name: &Name| absent.contains(&Key::new(kind, name.clone()));
        self.firewall.networks.retain(|network| !is_absent(Kind::Network, &network.network));
        self.firewall.ports.retain(|port| !is_absent(Kind::Container, &port.container));
        self.compare(observed);
    }

    fn compare(&mut self, observed: &Observed) {
        self.differs = match &observed.firewall {
            Sight::Found { observed, .. } => self.firewall.is_empty() || self.firewall.normal_form() != *observed,
            Sight::Absent => !self.firewall.is_empty(),
            Sight::Unreadable(_) => false,
        };
    }

    /// Lists what of one object differs in the table.
    pub(crate) fn drifts(&self, key: &Key) -> &[Drift] {
        self.drifts.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Says why the part of the table that one object needs could not be read.
    pub(crate) fn unreadable_for(&self, key: &Key) -> Option<&str> {
        self.unreadable.as_deref().filter(|_| self.needs.contains(key))
    }

    /// Lists the objects that have a part in the table.
    fn needing(&self) -> BTreeSet<Key> {
        let networks = self.firewall.networks.iter().map(|network| Key::new(Kind::Network, network.network.clone()));
        let ports = self.firewall.ports.iter().map(|port| Key::new(Kind::Container, port.container.clone()));
        networks.chain(ports).collect()
    }
}

/// Lists what the ledger holds and no manifest states any more.
pub(crate) fn gone<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = (&'a Key, &'a Policy)> {
    observed.ledger.iter().filter(|(key, _)| !desired.contains(key) && !desired.held.contains_key(*key))
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.addresses.iter().map(IpNet::addr)
}
