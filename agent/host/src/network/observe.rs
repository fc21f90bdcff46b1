//! What the kernel says of networks and interfaces, in the words of `evenkeel-plan`.
//!
//! The host is listed once for everything: links, addresses, routes. Namespaces are listed side by side. What cannot be
//! looked at is `Unreadable`, never "not there".

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_plan::{LinkKind, ObservedFirewall, ObservedInterface, ObservedLink, ObservedNetwork, Sight};
use evenkeel_schema::{Driver, Name, NetworkSpec};
use ipnet::IpNet;

use super::inventory::Inventory;
use super::netlink::{Address, Link, Netlink, Route};
use super::{NetworkError, Networks, links, namespace, own_link, sysctl};
use crate::{Instance, error_chain};

/// Everything about networks that one look at the host gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkView {
    /// The networks that were asked for.
    pub networks: BTreeMap<Name, Sight<ObservedNetwork>>,
    pub firewall: Sight<ObservedFirewall>,
    /// The main table's routes over links without our mark, with the link's name; default routes left out.
    pub host_routes: Vec<(IpNet, String)>,
    /// Names that the networks need for their own links and that links without our mark have.
    pub foreign_links: BTreeSet<String>,
}

/// The host's links, addresses and routes at one time.
struct Host {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    forwarding: (bool, bool),
}

impl Networks {
    /// Looks at networks, the firewall table and the host's own routes.
    ///
    /// `owned` are the networks that the ledger holds: they are there even without their link, as a macvlan network
    /// without a shim always is.
    pub async fn observe(&self, wanted: &BTreeMap<Name, NetworkSpec>, owned: &BTreeSet<Name>) -> NetworkView {
        let (host, firewall) = tokio::join!(Host::look(&self.netlink), self.observe_firewall());
        let host = match host {
            Ok(host) => host,
            Err(error) => {
                let unreadable = |name: &Name| (name.clone(), Sight::Unreadable(error_chain(&error)));
                return NetworkView {
                    networks: wanted.keys().map(unreadable).collect(),
                    firewall,
                    ..NetworkView::default()
                };
            }
        };
        let network = |(name, spec): (&Name, &NetworkSpec)| {
            (name.clone(), host.network(&self.instance, name, spec, owned.contains(name)))
        };
        NetworkView {
            networks: wanted.iter().map(network).collect(),
            firewall,
            host_routes: host.foreign_routes(&self.instance),
            foreign_links: host.foreign_links(&self.instance, wanted),
        }
    }

    /// Lists the interfaces of a container; `None` where it has no network namespace.
    pub async fn observe_interfaces(&self, container: &Name) -> Result<Option<Vec<ObservedInterface>>, NetworkError> {
        let all = self.observe_all_interfaces(&BTreeSet::from([container.clone()])).await;
        all.into_values().next().unwrap_or(Ok(None))
    }

    /// Lists the interfaces of many containers, side by side.
    pub async fn observe_all_interfaces(
        &self,
        containers: &BTreeSet<Name>,
    ) -> BTreeMap<Name, Result<Option<Vec<ObservedInterface>>, NetworkError>> {
        let seen = self.look_inside(containers.iter().cloned()).await;
        // After the namespaces: an end that is made meanwhile is in the list, and one that goes is gone from both.
        let links = self.netlink.links().await;
        let links = match links {
            Ok(links) => links,
            Err(error) => {
                let fail = |(name, _)| {
                    let source = std::io::Error::new(error.kind(), error.to_string());
                    (name, Err(NetworkError::List { what: "links", source }))
                };
                return seen.into_iter().map(fail).collect();
            }
        };
        let by_index: BTreeMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
        let joined = |(mut interface, below): (ObservedInterface, Option<u32>)| {
            if let Some(index) = below {
                let end = by_index.get(&index).copied();
                let bridge = end.and_then(|end| by_index.get(&end.bridge?)).copied();
                join(&mut interface, end, bridge);
            }
            interface
        };
        let all = |ends: Option<Vec<_>>| ends.map(|ends| ends.into_iter().map(joined).collect());
        seen.into_iter().map(|(name, ends)| (name, ends.map(all))).collect()
    }

    /// Lists containers' interfaces, each with the index of its link on the host: a veth's other end, a macvlan's parent.
    async fn look_inside(
        &self,
        containers: impl Iterator<Item = Name>,
    ) -> Vec<(Name, Result<Option<Vec<(ObservedInterface, Option<u32>)>>, NetworkError>)> {
        let namespaces = containers.map(|name| (name.clone(), self.paths.network_namespace(&name))).collect();
        let listed = namespace::list_all(namespaces).await;
        let ours = |(name, inventory): (Name, namespace::Listed)| {
            let interfaces = inventory.map(|inventory| inventory.map(|inventory| self.interfaces(&name, inventory)));
            (name, interfaces)
        };
        listed.into_iter().map(ours).collect()
    }

    /// Picks a container's interfaces out of what is in its namespace.
    fn interfaces(&self, container: &Name, inventory: Inventory) -> Vec<(ObservedInterface, Option<u32>)> {
        let Inventory { links, addresses, routes } = inventory;
        let mark = self.mark(container);
        // What a container's own programs make (tunnels, bridges of their own) is theirs.
        let ours = |link: &&Link| !link.loopback && (link.alias.as_deref() == Some(&mark) || numbered(&link.name));
        let interface = |link: &Link| {
            let gateway = |route: &Route| route.gateway.filter(|_| route.is_default());
            let interface = ObservedInterface {
                name: link.name.clone(),
                kind: link.kind.clone(),
                up: link.up,
                mtu: link.mtu,
                mac: link.mac,
                addresses: of_link(&addresses, link),
                gateways: over_link(&routes, link).filter_map(gateway).collect::<BTreeSet<IpAddr>>(),
                unrouted: unrouted(&addresses, &routes, link),
                bridge: None,
                parent: None,
            };
            (interface, link.below)
        };
        links.iter().filter(ours).map(interface).collect()
    }
}

/// Adds what only the host's side tells: the parent, or the bridge and whether the other end is up too.
fn join(interface: &mut ObservedInterface, below: Option<&Link>, bridge: Option<&Link>) {
    if interface.kind == LinkKind::Veth {
        interface.up &= below.is_some_and(|end| end.up);
        interface.bridge = bridge.map(|bridge| bridge.name.clone());
    } else {
        interface.parent = below.map(|parent| parent.name.clone());
    }
}

/// Tells whether a name is of the form `eth0`.
fn numbered(name: &str) -> bool {
    name.strip_prefix("eth").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl Host {
    async fn look(netlink: &Netlink) -> Result<Host, NetworkError> {
        let list = |what| move |source| NetworkError::List { what, source };
        Ok(Host {
            links: netlink.links().await.map_err(list("links"))?,
            addresses: netlink.addresses(None).await.map_err(list("addresses"))?,
            routes: netlink.routes(None).await.map_err(list("routes"))?,
            forwarding: sysctl::forwarding()?,
        })
    }

    fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    fn network(&self, instance: &Instance, name: &Name, spec: &NetworkSpec, owned: bool) -> Sight<ObservedNetwork> {
        let wanted_link = own_link::link_name(name, spec);
        // By its mark first: a link whose manifest renames it, or wants none any more, is still the network's.
        let mark = own_link::mark(instance, name);
        let marked = self.links.iter().find(|link| link.alias.as_deref() == Some(mark.as_str()));
        let link = marked.or_else(|| wanted_link.as_ref().and_then(|link| self.by_name(link)));
        let parent = spec.parent.as_ref().filter(|_| spec.driver == Driver::Macvlan);
        let parent = parent.and_then(|parent| self.by_name(parent.as_str()));
        let owned = match link {
            Some(_) => marked.is_some(),
            // What was made once and lost its link, or never had one, is there as far as the ledger says.
            None if owned => true,
            None => return Sight::Absent,
        };
        let bridge = link.filter(|link| link.kind == LinkKind::Bridge);
        let settings = match bridge.map(|link| own_link::bridge_settings(&link.name)).transpose() {
            Ok(settings) => settings.unwrap_or_default(),
            Err(error) => return Sight::Unreadable(error_chain(&error)),
        };
        let observed = ObservedNetwork {
            link: link.map(|link| self.link(link)),
            parent: parent.map(|parent| self.link(parent)),
            forwarding_v4: self.forwarding.0,
            forwarding_v6: self.forwarding.1,
            settings,
        };
        Sight::Found { observed, owned }
    }

    fn link(&self, link: &Link) -> ObservedLink {
        let below = link.below.filter(|_| !link.below_elsewhere && link.kind != LinkKind::Veth);
        let below = below.and_then(|index| self.links.iter().find(|link| link.index == index));
        let routes = over_link(&self.routes, link).filter(|route| !route.automatic);
        ObservedLink {
            name: link.name.clone(),
            index: link.index,
            kind: link.kind.clone(),
            macvlan_mode: link.macvlan_mode.clone(),
            parent: below.map(|below| below.name.clone()),
            up: link.up,
            mtu: link.mtu,
            mac: link.mac,
            alias: link.alias.clone(),
            addresses: of_link(&self.addresses, link),
            routes: routes.map(|route| route.destination).collect(),
            unrouted: unrouted(&self.addresses, &self.routes, link),
        }
    }

    fn foreign_routes(&self, instance: &Instance) -> Vec<(IpNet, String)> {
        let foreign: BTreeMap<u32, &str> = self
            .links
            .iter()
            .filter(|link| !marked(instance, link))
            .map(|link| (link.index, link.name.as_str()))
            .collect();
        // Two halves in place of a default route is what VPN clients make, to win over it without replacing it.
        let routes = self.routes.iter().filter(|route| route.destination.prefix_len() > 1);
        let routes = routes.filter(|route| !is_link_local(&route.destination));
        routes.filter_map(|route| Some((route.destination, (*foreign.get(&route.output?)?).to_owned()))).collect()
    }

    fn foreign_links(&self, instance: &Instance, wanted: &BTreeMap<Name, NetworkSpec>) -> BTreeSet<String> {
        let names = wanted.iter().filter_map(|(name, spec)| Some((name, own_link::link_name(name, spec)?)));
        let foreign = names.filter(|(name, link)| {
            let mark = own_link::mark(instance, name);
            self.by_name(link).is_some_and(|link| link.alias.as_deref() != Some(&mark))
        });
        foreign.map(|(_, link)| link).collect()
    }
}

fn marked(instance: &Instance, link: &Link) -> bool {
    let rest = link.alias.as_deref().and_then(|alias| alias.strip_prefix(instance.as_str()));
    rest.is_some_and(|rest| rest.starts_with(':'))
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.network().is_unicast_link_local())
}

fn of_link(addresses: &[Address], link: &Link) -> BTreeSet<IpNet> {
    addresses.iter().filter(|address| address.index == link.index).map(|address| address.net).collect()
}

fn unrouted(addresses: &[Address], routes: &[Route], link: &Link) -> BTreeSet<IpNet> {
    let addresses = of_link(addresses, link);
    links::unrouted(link, &addresses, routes).map(IpNet::trunc).collect()
}

fn over_link<'a>(routes: &'a [Route], link: &Link) -> impl Iterator<Item = &'a Route> + use<'a> {
    let index = link.index;
    routes.iter().filter(move |route| route.output == Some(index))
}
