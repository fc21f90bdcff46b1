//! A container's interfaces: veth pairs with one end on a bridge, and macvlan links.
//!
//! Each is made in one message, at once in the container's namespace under its final name, so that nothing of it is
//! ever left in the host's. Which addresses, routes and names it has was decided by the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use evenkeel_plan::Endpoint;
use evenkeel_schema::Driver;
use evenkeel_shim::fail_point;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo};

use super::links::{self, Wanted};
use super::netlink::{Link, Netlink, Route};
use super::{NetworkError, announce, namespace, sysctl};

/// A container's namespace and what it held when it was looked at.
struct Container<'a> {
    host: &'a Netlink,
    path: &'a Path,
    namespace: &'a File,
    mark: &'a str,
    inside: Netlink,
    links: Vec<Link>,
    addresses: BTreeMap<u32, BTreeSet<IpNet>>,
    routes: Vec<Route>,
}

/// One endpoint's place on the host.
struct Place {
    /// The bridge, or the parent of a macvlan link.
    attachment: Link,
    /// The host's end of the veth pair, where it is there.
    host_end: Option<Link>,
}

/// One interface as it is before it is settled.
struct Interface {
    link: Link,
    host_end: Option<Link>,
    /// Just made: nothing that was listed before is about it, even where an index is the same.
    fresh: bool,
}

/// Brings every interface of a container to what its endpoint says, and removes others that bear the mark.
pub(super) async fn ensure(
    host: &Netlink,
    path: &Path,
    namespace: &File,
    mark: &str,
    endpoints: &[Endpoint],
) -> Result<(), NetworkError> {
    let mut container = look(host, path, namespace, mark).await?;
    let listed = |link: &Link| endpoints.iter().any(|endpoint| endpoint.interface == link.name);
    let (gone, kept): (Vec<Link>, Vec<Link>) =
        container.links.into_iter().partition(|link| link.alias.as_deref() == Some(mark) && !listed(link));
    container.links = kept;
    for link in gone {
        container.inside.delete_link(link.index).await.map_err(failed("remove", &link.name))?;
        fail_point!("endpoint.removed");
    }
    for endpoint in endpoints {
        let place = find(host, endpoint).await?;
        let existing = container.links.iter().find(|link| link.name == endpoint.interface);
        let interface = match existing.filter(|link| sound(endpoint, &place, link)) {
            Some(link) => Interface { link: link.clone(), host_end: place.host_end.clone(), fresh: false },
            None => container.make(endpoint, &place).await?,
        };
        container.settle(endpoint, &place, &interface).await?;
    }
    Ok(())
}

/// Removes every virtual link of a namespace, which takes the host's ends along at once; the kernel would do so by
/// itself, but later. A physical link that someone moved in goes back to the host with the namespace's end.
pub(super) async fn remove_all(path: &Path, namespace: &File) -> Result<(), NetworkError> {
    let netlink = namespace::connect(path, namespace).await?;
    let links = netlink.links().await.map_err(|source| NetworkError::List { what: "links", source })?;
    for link in links.iter().filter(|link| matches!(link.kind.as_str(), "veth" | "macvlan")) {
        netlink.delete_link(link.index).await.map_err(failed("remove", &link.name))?;
        fail_point!("endpoint.link.removed");
    }
    Ok(())
}

/// Removes the host's ends of a container whose namespace is not pinned any more.
pub(super) async fn remove_host_ends(host: &Netlink, mark: &str) -> Result<(), NetworkError> {
    let links = host.links().await.map_err(|source| NetworkError::List { what: "links", source })?;
    for link in links.iter().filter(|link| link.alias.as_deref() == Some(mark)) {
        host.delete_link(link.index).await.map_err(failed("remove", &link.name))?;
    }
    Ok(())
}

async fn look<'a>(
    host: &'a Netlink,
    path: &'a Path,
    namespace: &'a File,
    mark: &'a str,
) -> Result<Container<'a>, NetworkError> {
    let list = |what| move |source| NetworkError::List { what, source };
    let inside = namespace::connect(path, namespace).await?;
    let links = inside.links().await.map_err(list("links"))?;
    let mut addresses: BTreeMap<u32, BTreeSet<IpNet>> = BTreeMap::new();
    for address in inside.addresses(None).await.map_err(list("addresses"))? {
        addresses.entry(address.index).or_default().insert(address.net);
    }
    let routes = inside.routes(None).await.map_err(list("routes"))?;
    Ok(Container { host, path, namespace, mark, inside, links, addresses, routes })
}

async fn find(host: &Netlink, endpoint: &Endpoint) -> Result<Place, NetworkError> {
    let name = &endpoint.attached_to;
    let attachment = host.link_by_name(name).await.map_err(failed("look at", name))?;
    let missing = || NetworkError::AttachmentMissing { link: name.clone(), network: endpoint.network.clone() };
    let attachment = attachment.ok_or_else(missing)?;
    let host_end = match endpoint.driver {
        Driver::Bridge => {
            let name = &endpoint.host_interface;
            host.link_by_name(name).await.map_err(failed("look at", name))?
        }
        Driver::Macvlan => None,
    };
    Ok(Place { attachment, host_end })
}

/// Tells whether an interface is what its endpoint says, down to where its other end is.
fn sound(endpoint: &Endpoint, place: &Place, link: &Link) -> bool {
    match endpoint.driver {
        Driver::Bridge => {
            let paired = |end: &Link| link.below == Some(end.index) && end.below == Some(link.index);
            link.kind == "veth" && place.host_end.as_ref().is_some_and(paired)
        }
        Driver::Macvlan => {
            link.kind == "macvlan"
                && link.macvlan_mode.as_deref() == Some("bridge")
                && link.below == Some(place.attachment.index)
        }
    }
}

impl Container<'_> {
    /// Makes an interface after removing what stands in its place on either side.
    async fn make(&self, endpoint: &Endpoint, place: &Place) -> Result<Interface, NetworkError> {
        let name = &endpoint.interface;
        if let Some(unsound) = self.links.iter().find(|link| link.name == *name) {
            self.inside.delete_link(unsound.index).await.map_err(failed("remove", name))?;
            fail_point!("endpoint.unsound.removed");
        }
        if let Some(end) = &place.host_end {
            self.host.delete_link(end.index).await.map_err(failed("remove", &end.name))?;
        }
        let mtu = mtu(endpoint, place);
        let mut own = links::new_link(name, endpoint.mac, mtu);
        own.attributes.push(LinkAttribute::NetNsFd(self.namespace.as_raw_fd()));
        let message = match endpoint.driver {
            Driver::Macvlan => links::as_macvlan(own, place.attachment.index),
            Driver::Bridge => {
                let mut end = links::about(0);
                end.attributes = vec![
                    LinkAttribute::IfName(endpoint.host_interface.clone()),
                    LinkAttribute::Mtu(mtu),
                    LinkAttribute::Controller(place.attachment.index),
                    LinkAttribute::LinkInfo(vec![
                        LinkInfo::Kind(InfoKind::Veth),
                        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(own))),
                    ]),
                ];
                end
            }
        };
        self.host.create_link(message).await.map_err(failed("make", name))?;
        fail_point!("endpoint.made");
        let link = self.inside.link_by_name(name).await.map_err(failed("look at", name))?;
        let link = link.ok_or_else(|| NetworkError::Vanished { link: name.clone() })?;
        Ok(Interface { link, host_end: find(self.host, endpoint).await?.host_end, fresh: true })
    }

    /// Brings mark, hardware address, size, state, addresses and default routes to what they are to be.
    async fn settle(&self, endpoint: &Endpoint, place: &Place, interface: &Interface) -> Result<(), NetworkError> {
        let Interface { link, host_end, fresh } = interface;
        let mtu = Some(mtu(endpoint, place));
        let mut moved = *fresh;
        if let Some(end) = host_end {
            let bridge = Some(place.attachment.index);
            let wanted = Wanted { alias: Some(self.mark), mtu, bridge, ..Wanted::default() };
            moved |= links::bring(self.host, end, &wanted).await?;
            fail_point!("endpoint.end.set");
            if sysctl::bridges_filter()? {
                links::turn_back(self.host, end).await?;
            }
        }
        let wanted = Wanted { alias: Some(self.mark), mac: Some(endpoint.mac), mtu, ..Wanted::default() };
        moved |= links::bring(&self.inside, link, &wanted).await?;
        fail_point!("endpoint.set");
        let listed = |addresses: &BTreeMap<u32, BTreeSet<IpNet>>| addresses.get(&link.index).cloned();
        let current = listed(&self.addresses).filter(|_| !fresh).unwrap_or_default();
        let addresses: BTreeSet<IpNet> = endpoint.addresses.iter().copied().collect();
        let changes = links::bring_addresses(&self.inside, link, current, &addresses).await?;
        fail_point!("endpoint.addressed");
        let routes = if *fresh || changes.removed {
            let list = self.inside.routes(Some(link.index)).await;
            &list.map_err(|source| NetworkError::List { what: "routes", source })?
        } else {
            &self.routes
        };
        self.bring_gateways(endpoint, link, routes).await?;
        let told = if moved { addresses } else { changes.added };
        if told.is_empty() {
            return Ok(());
        }
        let (index, name, mac) = (link.index, endpoint.interface.clone(), endpoint.mac);
        let enter = |source| NetworkError::Namespace { deed: "enter", path: self.path.to_owned(), source };
        namespace::inside(self.namespace, move || announce::announce(index, &name, mac, &told)).await.map_err(enter)?
    }

    /// Gives an interface exactly its endpoint's default routes.
    async fn bring_gateways(&self, endpoint: &Endpoint, link: &Link, routes: &[Route]) -> Result<(), NetworkError> {
        let fail = |deed, destination: IpNet| {
            let (destination, link) = (destination.to_string(), link.name.clone());
            move |source: io::Error| NetworkError::Route { deed, destination, link, source }
        };
        let listed = |route: &&Route| route.is_default() && route.output == Some(link.index);
        let current: Vec<&Route> = routes.iter().filter(listed).collect();
        let wanted = |route: &Route| route.gateway.is_some_and(|gateway| endpoint.gateways.contains(&gateway));
        for route in current.iter().filter(|route| !wanted(route)) {
            self.inside.remove_route(route).await.map_err(fail("remove", route.destination))?;
            fail_point!("endpoint.route.removed");
        }
        for gateway in &endpoint.gateways {
            if current.iter().any(|route| route.gateway == Some(*gateway)) {
                continue;
            }
            let destination = default_destination(*gateway);
            let output = Some(link.index);
            let route = Route { destination, gateway: Some(*gateway), output, automatic: false, priority: 0 };
            self.inside.add_route(&route).await.map_err(fail("add", destination))?;
            fail_point!("endpoint.route.added");
        }
        Ok(())
    }
}

fn default_destination(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}

/// The stated size of packets, or what the network's link has.
fn mtu(endpoint: &Endpoint, place: &Place) -> u32 {
    endpoint.mtu.unwrap_or(place.attachment.mtu)
}

fn failed(deed: &'static str, link: &str) -> impl FnOnce(io::Error) -> NetworkError + use<> {
    let link = link.to_owned();
    move |source| NetworkError::Link { deed, link, source }
}
