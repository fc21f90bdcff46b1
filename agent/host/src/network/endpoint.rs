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
use std::time::{Duration, Instant};

use evenkeel_plan::{Endpoint, LinkKind, MacAddress};
use evenkeel_schema::Driver;
use evenkeel_shim::fail_point;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo};

use super::links::{self, Wanted};
use super::namespace::Entered;
use super::netlink::{Link, Netlink, Route};
use super::{NetworkError, announce, namespace, sysctl};

/// How long the kernel may take to end a namespace that nothing is in any more.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How long a new port may take to become one that its bridge forwards for; its neighbours will ask then.
const PORT_PATIENCE: Duration = Duration::from_secs(1);

/// A container's namespace and what it held when it was looked at.
struct Container<'a> {
    host: &'a Netlink,
    entered: &'a Entered,
    mark: &'a str,
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
    entered: &Entered,
    mark: &str,
    endpoints: &[Endpoint],
) -> Result<(), NetworkError> {
    let mut container = look(host, entered, mark).await?;
    let listed = |link: &Link| endpoints.iter().any(|endpoint| endpoint.interface == link.name);
    // One that moves to another name has to be gone first: no two macvlan links on one parent have the same address.
    let moves = |link: &Link| {
        endpoints.iter().any(|endpoint| link.mac == Some(endpoint.mac) && endpoint.interface != link.name)
    };
    let (gone, kept): (Vec<Link>, Vec<Link>) = container
        .links
        .into_iter()
        .partition(|link| link.alias.as_deref() == Some(mark) && (!listed(link) || moves(link)));
    container.links = kept;
    for link in gone {
        entered.netlink.delete_link(link.index).await.map_err(failed("remove", &link.name))?;
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

/// Prepares the end of a namespace; gives the indices of the host's ends that go with it.
///
/// The kernel removes many namespaces that end together at the price of one, while links removed one by one cost a
/// grace period each. A macvlan link is removed now all the same: its hardware address is taken until it is gone. A
/// physical link that someone moved in goes back to the host with the namespace's end.
pub(super) async fn let_go(path: &Path, namespace: &File) -> Result<Vec<u32>, NetworkError> {
    let netlink = namespace::connect(path, namespace).await?;
    let links = netlink.links().await.map_err(|source| NetworkError::List { what: "links", source })?;
    for link in links.iter().filter(|link| link.kind == LinkKind::Macvlan) {
        netlink.delete_link(link.index).await.map_err(failed("remove", &link.name))?;
        fail_point!("endpoint.link.removed");
    }
    Ok(links.iter().filter(|link| link.kind == LinkKind::Veth).filter_map(|link| link.below).collect())
}

/// Waits until the host's ends of an unpinned namespace are gone; where something else keeps the namespace, removes them.
pub(super) async fn await_end(host: &Netlink, mark: &str, ends: Vec<u32>) -> Result<(), NetworkError> {
    let deadline = Instant::now() + END_PATIENCE;
    for index in ends {
        let name = format!("of index {index}");
        let mut pause = Duration::from_millis(1);
        loop {
            let end = host.link_by_index(index).await.map_err(failed("look at", &name))?;
            // By its mark: an index is given anew, in time, and a pair's other end may lie in another namespace.
            let Some(end) = end.filter(|end| end.alias.as_deref() == Some(mark)) else { break };
            if Instant::now() >= deadline {
                host.delete_link(end.index).await.map_err(failed("remove", &end.name))?;
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
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

async fn look<'a>(host: &'a Netlink, entered: &'a Entered, mark: &'a str) -> Result<Container<'a>, NetworkError> {
    let list = |what| move |source| NetworkError::List { what, source };
    let (links, routes) = (Vec::new(), Vec::new());
    let mut container = Container { host, entered, mark, links, addresses: BTreeMap::new(), routes };
    if entered.fresh {
        return Ok(container);
    }
    container.links = entered.netlink.links().await.map_err(list("links"))?;
    for address in entered.netlink.addresses(None).await.map_err(list("addresses"))? {
        container.addresses.entry(address.index).or_default().insert(address.net);
    }
    container.routes = entered.netlink.routes(None).await.map_err(list("routes"))?;
    Ok(container)
}

async fn find(host: &Netlink, endpoint: &Endpoint) -> Result<Place, NetworkError> {
    let name = &endpoint.attached_to;
    let attachment = host.link_by_name(name).await.map_err(failed("look at", name))?;
    let missing = || NetworkError::AttachmentMissing { link: name.clone(), network: endpoint.network.clone() };
    let attachment = attachment.ok_or_else(missing)?;
    Ok(Place { attachment, host_end: host_end(host, endpoint).await? })
}

async fn host_end(host: &Netlink, endpoint: &Endpoint) -> Result<Option<Link>, NetworkError> {
    let name = &endpoint.host_interface;
    match endpoint.driver {
        Driver::Bridge => host.link_by_name(name).await.map_err(failed("look at", name)),
        Driver::Macvlan => Ok(None),
    }
}

/// Tells whether an interface is what its endpoint says, down to where its other end is.
fn sound(endpoint: &Endpoint, place: &Place, link: &Link) -> bool {
    match endpoint.driver {
        Driver::Bridge => {
            let paired = |end: &Link| link.below == Some(end.index) && end.below == Some(link.index);
            link.kind == LinkKind::Veth && place.host_end.as_ref().is_some_and(paired)
        }
        Driver::Macvlan => {
            link.kind == LinkKind::Macvlan
                && link.macvlan_mode.as_deref() == Some("bridge")
                && link.below == Some(place.attachment.index)
        }
    }
}

impl Container<'_> {
    /// Makes an interface after removing what stands in its place on either side.
    async fn make(&self, endpoint: &Endpoint, place: &Place) -> Result<Interface, NetworkError> {
        let name = &endpoint.interface;
        if let Some(end) = &place.host_end {
            // One that was cut off before it had the mark is a veth without any.
            let is_ours = end.kind == LinkKind::Veth && end.alias.as_deref().is_none_or(|alias| alias == self.mark);
            if !is_ours {
                return Err(NetworkError::NotOurs { link: end.name.clone() });
            }
            self.host.delete_link(end.index).await.map_err(failed("remove", &end.name))?;
        }
        if let Some(unsound) = self.links.iter().find(|link| link.name == *name) {
            self.entered.netlink.delete_link(unsound.index).await.map_err(failed("remove", name))?;
            fail_point!("endpoint.unsound.removed");
        }
        let mtu = mtu(endpoint, place);
        let mut own = links::new_link(name, endpoint.mac, mtu);
        own.attributes.push(LinkAttribute::NetNsFd(self.entered.namespace.as_raw_fd()));
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
        let link = self.entered.netlink.link_by_name(name).await.map_err(failed("look at", name))?;
        let link = link.ok_or_else(|| NetworkError::Vanished { link: name.clone() })?;
        Ok(Interface { link, host_end: host_end(self.host, endpoint).await?, fresh: true })
    }

    /// Brings mark, hardware address, size, state, addresses and default routes to what they are to be.
    async fn settle(&self, endpoint: &Endpoint, place: &Place, interface: &Interface) -> Result<(), NetworkError> {
        let Interface { link, host_end, fresh } = interface;
        let mtu = Some(mtu(endpoint, place));
        let mut moved = *fresh;
        if let Some(end) = host_end {
            let bridge = Some(place.attachment.index);
            let wanted = Wanted { alias: Some(self.mark), mtu, bridge, unaddressed: true, ..Wanted::default() };
            moved |= links::bring(self.host, end, &wanted).await?;
            fail_point!("endpoint.end.set");
            if sysctl::bridges_filter()? {
                links::turn_back(self.host, end).await?;
            }
        }
        let wanted = Wanted { alias: Some(self.mark), mac: Some(endpoint.mac), mtu, ..Wanted::default() };
        moved |= links::bring(&self.entered.netlink, link, &wanted).await?;
        fail_point!("endpoint.set");
        let listed = |addresses: &BTreeMap<u32, BTreeSet<IpNet>>| addresses.get(&link.index).cloned();
        let current = listed(&self.addresses).filter(|_| !fresh).unwrap_or_default();
        let addresses: BTreeSet<IpNet> = endpoint.addresses.iter().copied().collect();
        let changes = links::bring_addresses(&self.entered.netlink, link, current, &addresses).await?;
        let changed = moved || !changes.added.is_empty();
        if changed && addresses.iter().any(|address| matches!(address, IpNet::V6(_))) {
            // Which IPv6 does not do without (RFC 4291, section 2.1), and which the kernel does not make here.
            links::add_address(&self.entered.netlink, link, link_local(endpoint.mac)).await?;
        }
        fail_point!("endpoint.addressed");
        let routes = if *fresh {
            // Of default routes a new interface has none: no router is listened to.
            &Vec::new()
        } else if changes.removed {
            let list = self.entered.netlink.routes(Some(link.index)).await;
            &list.map_err(|source| NetworkError::List { what: "routes", source })?
        } else {
            &self.routes
        };
        if !fresh {
            links::bring_connected(&self.entered.netlink, link, &addresses, routes).await?;
        }
        self.bring_gateways(endpoint, link, routes).await?;
        let told = if moved { addresses } else { changes.added };
        if told.is_empty() {
            return Ok(());
        }
        if let Some(end) = host_end {
            self.await_operation(end).await?;
        }
        let (index, name, mac) = (link.index, endpoint.interface.clone(), endpoint.mac);
        let enter = |source| NetworkError::Namespace { deed: "enter", path: self.entered.path.clone(), source };
        let announced =
            namespace::inside(&self.entered.namespace, move || match announce::announce(index, &name, mac, &told) {
                Ok(socket) => (Ok(()), Some(socket)),
                Err(error) => (Err(error), None),
            });
        announced.await.map_err(enter)?
    }

    /// Waits until the bridge forwards for a port, which it does once the kernel has told it that the pair is whole: what is
    /// announced before is heard by nobody.
    async fn await_operation(&self, end: &Link) -> Result<(), NetworkError> {
        let deadline = Instant::now() + PORT_PATIENCE;
        let mut pause = Duration::from_millis(1);
        while Instant::now() < deadline {
            let link = self.host.link_by_index(end.index).await.map_err(failed("look at", &end.name))?;
            if link.is_none_or(|link| link.operational) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
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
            self.entered.netlink.remove_route(route).await.map_err(fail("remove", route.destination))?;
            fail_point!("endpoint.route.removed");
        }
        for gateway in &endpoint.gateways {
            if current.iter().any(|route| route.gateway == Some(*gateway)) {
                continue;
            }
            let destination = default_destination(*gateway);
            let output = Some(link.index);
            let route =
                Route { destination, gateway: Some(*gateway), source: None, output, automatic: false, priority: 0 };
            self.entered.netlink.add_route(&route).await.map_err(fail("add", destination))?;
            fail_point!("endpoint.route.added");
        }
        Ok(())
    }
}

/// Gives the link-local address of a hardware address, as the kernel would (RFC 4291, appendix A).
fn link_local(MacAddress([a, b, c, d, e, f]): MacAddress) -> IpNet {
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f));
    IpNet::V6(Ipv6Net::new_assert(address, 64))
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
