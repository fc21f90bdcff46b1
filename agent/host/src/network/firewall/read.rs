//! Reads nft's JSON listing of the table: what it publishes, and where it is not the table that was written.
//!
//! Every release of nft may add fields and kinds of objects, so nothing unknown is an error: it is compared where it is
//! ours and reported as foreign where it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_plan::ObservedFirewall;
use evenkeel_schema::{PortMapping, Protocol};
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::network::NetworkError;

/// A listing, sorted by what its parts are.
#[derive(Clone, Debug, Default)]
pub(in crate::network) struct Listing {
    /// Properties of the chains, without names and handles.
    chains: BTreeMap<String, Value>,
    rules: BTreeMap<String, Vec<Rule>>,
    /// Properties and elements of the sets and maps.
    sets: BTreeMap<String, (Value, Vec<Value>)>,
    /// Anything else, by kind and name.
    others: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    handle: u64,
    comment: Option<String>,
    expressions: Value,
}

impl Listing {
    pub(super) fn parse(table: &str, text: &str) -> Result<Listing, NetworkError> {
        let unreadable = |source| NetworkError::NftListing { table: table.to_owned(), source };
        let whole: Value = serde_json::from_str(text).map_err(unreadable)?;
        let mut listing = Listing::default();
        let objects = whole.get("nftables").and_then(Value::as_array).into_iter().flatten();
        for (kind, body) in objects.filter_map(Value::as_object).flatten() {
            if let Value::Object(body) = body {
                listing.take(kind, body.clone());
            }
        }
        Ok(listing)
    }

    fn take(&mut self, kind: &str, mut body: Map<String, Value>) {
        let mut text = |field: &str| match body.remove(field) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (name, chain, comment) = (text("name").unwrap_or_default(), text("chain"), text("comment"));
        let handle = body.remove("handle").and_then(|handle| handle.as_u64()).unwrap_or_default();
        body.remove("family");
        body.remove("table");
        match kind {
            "metainfo" | "table" => {}
            "chain" => {
                self.chains.insert(name, Value::Object(body));
            }
            "rule" => {
                let expressions = body.remove("expr").unwrap_or_default();
                self.rules.entry(chain.unwrap_or_default()).or_default().push(Rule { handle, comment, expressions });
            }
            "set" | "map" => {
                let elements = match body.remove("elem") {
                    Some(Value::Array(elements)) => elements,
                    _ => Vec::new(),
                };
                self.sets.insert(name, (Value::Object(body), elements));
            }
            other => {
                self.others.insert(format!("{other} {name}"));
            }
        }
    }

    /// Says what the table does, and where it differs from a fresh one beyond its elements.
    pub(super) fn compare(&self, fresh: &Listing) -> ObservedFirewall {
        let mut observed = ObservedFirewall::default();
        self.compare_chains(fresh, &mut observed);
        for (name, (properties, _)) in &fresh.sets {
            match self.sets.get(name) {
                None => observed.damage.push(format!("set {name} is missing")),
                Some((found, _)) if found != properties => observed.damage.push(format!("set {name} is altered")),
                Some(_) => {}
            }
        }
        let foreign = self.sets.keys().filter(|name| !fresh.sets.contains_key(*name));
        observed.foreign.extend(foreign.map(|name| format!("set {name}")));
        observed.foreign.extend(self.others.iter().cloned());
        self.read_elements(&mut observed);
        observed
    }

    fn compare_chains(&self, fresh: &Listing, observed: &mut ObservedFirewall) {
        for (name, properties) in &fresh.chains {
            match self.chains.get(name) {
                None => {
                    observed.damage.push(format!("chain {name} is missing"));
                    continue;
                }
                Some(found) if found != properties => observed.damage.push(format!("chain {name} is altered")),
                Some(_) => {}
            }
            compare_rules(name, fresh.rules_of(name), self.rules_of(name), observed);
        }
        for name in self.chains.keys().filter(|name| !fresh.chains.contains_key(*name)) {
            observed.foreign.push(format!("chain {name}"));
            observed.foreign.extend(self.rules_of(name).iter().map(|rule| foreign(name, rule)));
        }
    }

    fn rules_of(&self, chain: &str) -> &[Rule] {
        self.rules.get(chain).map_or(&[], Vec::as_slice)
    }

    fn read_elements(&self, observed: &mut ObservedFirewall) {
        let mut within = BTreeSet::new();
        for (name, (_, elements)) in &self.sets {
            for element in elements.iter().map(bare) {
                let known = match name.as_str() {
                    "bridges" => text(element).map(|bridge| observed.bridges.insert(bridge.to_owned())),
                    "internal" => text(element).map(|bridge| observed.internal.insert(bridge.to_owned())),
                    "within" => pair(element).map(|bridge| within.insert(bridge)),
                    "home4" | "home6" => home(element).map(|home| observed.subnets.insert(home)),
                    "nat4" | "nat6" => net(element).map(|net| observed.nat.insert(net)),
                    "published4" | "published6" => port(element, false).map(|port| observed.ports.insert(port)),
                    "addressed4" | "addressed6" => port(element, true).map(|port| observed.ports.insert(port)),
                    _ => continue,
                };
                if known.is_none() {
                    observed.foreign.push(format!("element {element} of {name}"));
                }
            }
        }
        // The same names a second time, in the form that one lookup of two interfaces needs.
        for bridge in observed.bridges.difference(&within) {
            observed.damage.push(format!("set within lacks {bridge}"));
        }
        for bridge in within.difference(&observed.bridges) {
            observed.damage.push(format!("set within has {bridge}, which is not in set bridges"));
        }
    }

    /// Tells whether a foreign rule stands among what was found, known by its handle only.
    pub(super) fn has_unnamed(&self, observed: &ObservedFirewall) -> bool {
        observed.foreign.iter().any(|what| handle_of(what).is_some())
    }

    /// Puts rules' own words in place of their handles.
    pub(super) fn name_foreign(&self, observed: &mut ObservedFirewall, text: &str) {
        for what in &mut observed.foreign {
            let Some((chain, handle)) = handle_of(what) else { continue };
            let ending = format!(" # handle {handle}");
            if let Some(rule) = text.lines().find_map(|line| line.strip_suffix(&ending)) {
                *what = format!("{chain}: {}", rule.trim());
            }
        }
    }
}

/// Matches the rules of a chain with those of a fresh one: what lacks, what is altered, what is not ours, what moved.
fn compare_rules(chain: &str, fresh: &[Rule], found: &[Rule], observed: &mut ObservedFirewall) {
    let mut taken = vec![false; found.len()];
    let mut places = Vec::new();
    let mut missing = Vec::new();
    for rule in fresh {
        let same = |at: &usize| {
            !taken[*at] && found[*at].expressions == rule.expressions && found[*at].comment == rule.comment
        };
        match (0..found.len()).find(same) {
            Some(at) => {
                taken[at] = true;
                places.push(at);
            }
            None => missing.push(rule),
        }
    }
    for rule in missing {
        let name = rule.comment.as_deref().unwrap_or_default();
        let altered = (0..found.len())
            .find(|at| !taken[*at] && found[*at].comment.is_some() && found[*at].comment == rule.comment);
        match altered {
            Some(at) => {
                taken[at] = true;
                observed.damage.push(format!("{chain}: rule \"{name}\" is altered"));
            }
            None => observed.damage.push(format!("{chain}: rule \"{name}\" is missing")),
        }
    }
    if !places.is_sorted() {
        observed.damage.push(format!("{chain}: rules are in another order"));
    }
    let strange = found.iter().zip(taken).filter(|(_, taken)| !taken);
    observed.foreign.extend(strange.map(|(rule, _)| foreign(chain, rule)));
}

fn foreign(chain: &str, rule: &Rule) -> String {
    format!("{chain}: rule {}", rule.handle)
}

fn handle_of(what: &str) -> Option<(String, u64)> {
    let (chain, rule) = what.split_once(": rule ")?;
    Some((chain.to_owned(), rule.parse().ok()?))
}

/// Takes an element out of the wrapping that it has with a comment, a timeout or a counter.
fn bare(element: &Value) -> &Value {
    element.get("elem").and_then(|element| element.get("val")).unwrap_or(element)
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn concatenated(value: &Value) -> Option<&[Value]> {
    bare(value).get("concat").and_then(Value::as_array).map(Vec::as_slice)
}

/// Reads `"a" . "a"`.
fn pair(value: &Value) -> Option<String> {
    match concatenated(value)? {
        [one, other] if one == other => text(one).map(str::to_owned),
        _ => None,
    }
}

/// Reads `subnet . bridge`.
fn home(value: &Value) -> Option<(IpNet, String)> {
    match concatenated(value)? {
        [subnet, bridge] => Some((net(subnet)?, text(bridge)?.to_owned())),
        _ => None,
    }
}

/// Reads an address or a prefix.
fn net(value: &Value) -> Option<IpNet> {
    if let Some(address) = text(value) {
        return address.parse::<IpAddr>().ok().map(IpNet::from);
    }
    let prefix = value.get("prefix")?;
    let address = prefix.get("addr")?.as_str()?.parse().ok()?;
    IpNet::new(address, u8::try_from(prefix.get("len")?.as_u64()?).ok()?).ok()
}

/// Reads `[address .] protocol . port : address . port`.
fn port(element: &Value, addressed: bool) -> Option<(PortMapping, IpAddr)> {
    let [key, target] = element.as_array()?.as_slice() else { return None };
    let (host_ip, protocol, host_port) = match (concatenated(key)?, addressed) {
        ([ip, protocol, port], true) => (Some(text(ip)?.parse().ok()?), protocol, port),
        ([protocol, port], false) => (None, protocol, port),
        _ => return None,
    };
    let [target, container_port] = concatenated(target)? else { return None };
    // By number where the host has no /etc/protocols.
    let protocol = match (protocol.as_str(), protocol.as_u64()) {
        (Some("tcp"), _) | (_, Some(6)) => Protocol::Tcp,
        (Some("udp"), _) | (_, Some(17)) => Protocol::Udp,
        _ => return None,
    };
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let mapping =
        PortMapping { host_ip, host_port: number(host_port)?, container_port: number(container_port)?, protocol };
    Some((mapping, text(target)?.parse().ok()?))
}
