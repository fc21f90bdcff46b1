//! A network's own link on the host: its bridge, or the macvlan shim through which the host reaches its containers.
//!
//! Both are one procedure over [`OwnLink`], which says what the link is to be. A macvlan network without a shim has no
//! link of its own. Containers' interfaces are `endpoint.rs`'s matter.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_plan::{
    BRIDGE_SETTINGS, LinkKind, MacAddress, bridge_addresses, bridge_link, interim_link, network_mac, shim_address,
    shim_link, shim_routes,
};
use evenkeel_schema::{Driver, Key, Kind, Name, NetworkSpec};
use evenkeel_shim::fail_point;
use ipnet::IpNet;
use netlink_packet_route::link::LinkAttribute;

use super::links::{self, Wanted};
use super::netlink::{Link, Netlink, Route};
use super::{NetworkError, announce, sysctl};
use crate::Instance;

/// Metric of the shim's IPv6 routes: before the kernel's own 256 for the same prefix on the parent.
const SHIM_METRIC_V6: u32 = 128;

/// What a network's own link is to be.
struct OwnLink {
    name: String,
    /// Its name until it bears the mark.
    interim: String,
    mark: String,
    mac: MacAddress,
    mtu: u32,
    form: Form,
    addresses: BTreeSet<IpNet>,
}

/// What differs between the two drivers.
enum Form {
    Bridge,
    /// With the routes that lead over it, and no other.
    Shim {
        parent: u32,
        routes: BTreeSet<IpNet>,
    },
}

impl Form {
    fn kind(&self) -> LinkKind {
        match self {
            Form::Bridge => LinkKind::Bridge,
            Form::Shim { .. } => LinkKind::Macvlan,
        }
    }

    /// Tells whether an existing link can be brought to this form without making it anew.
    fn fits(&self, link: &Link) -> bool {
        link.kind == self.kind()
            && match self {
                Form::Bridge => true,
                Form::Shim { parent, .. } => {
                    link.below == Some(*parent) && link.macvlan_mode.as_deref() == Some("bridge")
                }
            }
    }
}

/// Names the link that a network has on the host; `None` for macvlan without a shim.
pub(super) fn link_name(name: &Name, spec: &NetworkSpec) -> Option<String> {
    match spec.driver {
        Driver::Bridge => Some(bridge_link(name, spec)),
        Driver::Macvlan => shim_link(name, spec),
    }
}

pub(super) fn mark(instance: &Instance, name: &Name) -> String {
    instance.mark(&Key::new(Kind::Network, name.clone()))
}

/// Makes, completes or repairs the link.
pub(super) async fn ensure(
    netlink: &Netlink,
    instance: &Instance,
    name: &Name,
    spec: &NetworkSpec,
) -> Result<(), NetworkError> {
    let Some(own) = wanted(netlink, instance, name, spec).await? else { return Ok(()) };
    if matches!(own.form, Form::Bridge) {
        forward(spec)?;
        fail_point!("network.forwarding");
    }
    let fail = |deed| {
        let link = own.name.clone();
        move |source| NetworkError::Link { deed, link, source }
    };
    let existing = netlink.link_by_name(&own.name).await.map_err(fail("look at"))?;
    let link = match existing {
        Some(link) if link.alias.as_deref() != Some(own.mark.as_str()) => {
            return Err(NetworkError::NotOurs { link: own.name });
        }
        Some(link) if own.form.fits(&link) => link,
        unfit => {
            if let Some(link) = unfit {
                netlink.delete_link(link.index).await.map_err(fail("remove"))?;
            }
            make(netlink, &own).await?
        }
    };
    if matches!(own.form, Form::Bridge) {
        settle_bridge(&own.name)?;
        fail_point!("network.bridge.settled");
    }
    let changed =
        links::bring(netlink, &link, &Wanted { mac: Some(own.mac), mtu: Some(own.mtu), ..Wanted::default() }).await?;
    fail_point!("network.link.up");
    // Asked only now: a link that goes down loses its IPv6 addresses and its routes.
    let current = links::addresses(netlink, &link).await?;
    let new = links::bring_addresses(netlink, &link, current, &own.addresses).await?.added;
    fail_point!("network.link.addressed");
    let routes = netlink.routes(Some(link.index)).await;
    let routes = routes.map_err(|source| NetworkError::List { what: "routes", source })?;
    links::bring_connected(netlink, &link, &own.addresses, &routes).await?;
    if let Form::Shim { routes, .. } = &own.form {
        bring_routes(netlink, &link, routes).await?;
        fail_point!("network.link.routed");
        let told = if changed { own.addresses.clone() } else { new };
        announce::announce(link.index, &link.name, own.mac, &told)?;
    }
    Ok(())
}

/// Marks a link that something else made as ours, where it is of the right kind. A link of another object of
/// evenkeel's, of this root or another, is refused: two would repair it against each other.
pub(super) async fn adopt(
    netlink: &Netlink,
    instance: &Instance,
    name: &Name,
    spec: &NetworkSpec,
) -> Result<(), NetworkError> {
    let Some(own) = wanted(netlink, instance, name, spec).await? else { return Ok(()) };
    let fail = |source| NetworkError::Link { deed: "adopt", link: own.name.clone(), source };
    let Some(link) = netlink.link_by_name(&own.name).await.map_err(fail)? else { return Ok(()) };
    let alias = link.alias.as_deref().unwrap_or_default();
    if alias == own.mark {
        return Ok(());
    }
    if alias.split_once(':').is_some_and(|(instance, _)| Instance::is_name(instance)) {
        return Err(NetworkError::NotFree { link: own.name, mark: alias.to_owned() });
    }
    if link.kind != own.form.kind() {
        let wanted = own.form.kind();
        return Err(NetworkError::OtherKind { link: own.name, found: link.kind, wanted });
    }
    let mut message = links::about(link.index);
    message.attributes.push(LinkAttribute::IfAlias(own.mark.clone()));
    netlink.set_link(message).await.map_err(fail)?;
    fail_point!("network.adopted");
    Ok(())
}

/// Removes every link that bears the network's mark, whatever its name, and one that was never finished.
pub(super) async fn remove(netlink: &Netlink, instance: &Instance, name: &Name) -> Result<(), NetworkError> {
    let (mark, interim) = (mark(instance, name), interim_link(instance.as_str(), name));
    let links = netlink.links().await.map_err(|source| NetworkError::List { what: "links", source })?;
    let own = |link: &&Link| link.name == interim || link.alias.as_deref() == Some(mark.as_str());
    for link in links.iter().filter(own) {
        let fail = |source| NetworkError::Link { deed: "remove", link: link.name.clone(), source };
        netlink.delete_link(link.index).await.map_err(fail)?;
        fail_point!("network.link.removed");
    }
    Ok(())
}

/// Says what the link is to be; looks for the parent of a macvlan network and brings it up.
async fn wanted(
    netlink: &Netlink,
    instance: &Instance,
    network: &Name,
    spec: &NetworkSpec,
) -> Result<Option<OwnLink>, NetworkError> {
    let (form, default_mtu, addresses) = match spec.driver {
        Driver::Bridge => (Form::Bridge, links::ETHERNET_MTU, bridge_addresses(spec)),
        Driver::Macvlan => {
            let parent = bring_up_parent(netlink, network, spec).await?;
            let form = Form::Shim { parent: parent.index, routes: shim_routes(spec) };
            (form, parent.mtu, shim_address(spec).into_iter().collect())
        }
    };
    let own = |name| OwnLink {
        name,
        interim: interim_link(instance.as_str(), network),
        mark: mark(instance, network),
        mac: network_mac(instance.as_str(), network),
        mtu: spec.mtu.unwrap_or(default_mtu),
        form,
        addresses,
    };
    Ok(link_name(network, spec).map(own))
}

async fn bring_up_parent(netlink: &Netlink, network: &Name, spec: &NetworkSpec) -> Result<Link, NetworkError> {
    let name = spec.parent.as_ref().ok_or_else(|| NetworkError::ParentNotStated { network: network.clone() })?;
    let fail = |deed| move |source| NetworkError::Link { deed, link: name.to_string(), source };
    let parent = netlink.link_by_name(name.as_str()).await.map_err(fail("look at"))?;
    let missing = || NetworkError::ParentMissing { parent: name.to_string(), network: network.clone() };
    let parent = parent.ok_or_else(missing)?;
    if !parent.up {
        netlink.set_link(links::up(parent.index)).await.map_err(fail("bring up"))?;
        fail_point!("network.parent.up");
    }
    Ok(parent)
}

/// Makes the link under its interim name; mark and final name come in one message, so that no link of the final name
/// is ever without the mark, whenever this process ends.
async fn make(netlink: &Netlink, own: &OwnLink) -> Result<Link, NetworkError> {
    let fail = |source| NetworkError::Link { deed: "make", link: own.name.clone(), source };
    if let Some(left) = netlink.link_by_name(&own.interim).await.map_err(fail)? {
        netlink.delete_link(left.index).await.map_err(fail)?;
    }
    let message = |mtu| links::new_link(&own.interim, own.mac, mtu);
    let message = match own.form {
        // Its MTU is set afterwards: one given at its making does not count as somebody's wish, and the kernel changes it
        // with every port that comes or goes.
        Form::Bridge => links::as_bridge(message(links::ETHERNET_MTU)),
        Form::Shim { parent, .. } => links::as_macvlan(message(own.mtu), parent),
    };
    netlink.create_link(message).await.map_err(fail)?;
    fail_point!("network.link.made");
    let vanished = || NetworkError::Vanished { link: own.name.clone() };
    let link = netlink.link_by_name(&own.interim).await.map_err(fail)?.ok_or_else(vanished)?;
    let mut message = links::about(link.index);
    message.attributes.push(LinkAttribute::IfAlias(own.mark.clone()));
    message.attributes.push(LinkAttribute::IfName(own.name.clone()));
    netlink.set_link(message).await.map_err(fail)?;
    fail_point!("network.link.named");
    netlink.link_by_index(link.index).await.map_err(fail)?.ok_or_else(vanished)
}

/// Turns the host into a router for the families that the network has; an internal network needs none.
fn forward(spec: &NetworkSpec) -> Result<(), NetworkError> {
    if spec.internal {
        return Ok(());
    }
    if spec.subnets.iter().any(|subnet| matches!(subnet.subnet, IpNet::V4(_))) {
        sysctl::write("ipv4/ip_forward", "1")?;
    }
    if spec.subnets.iter().any(|subnet| matches!(subnet.subnet, IpNet::V6(_))) {
        sysctl::forward_v6()?;
    }
    Ok(())
}

fn settle_bridge(link: &str) -> Result<(), NetworkError> {
    for (family, setting, value) in BRIDGE_SETTINGS {
        sysctl::write(&setting_of(link, family, setting), value)?;
    }
    Ok(())
}

/// Reads what a bridge has for the settings that it is to have.
pub(super) fn bridge_settings(link: &str) -> Result<BTreeMap<String, String>, NetworkError> {
    let mut settings = BTreeMap::new();
    for (family, setting, _) in BRIDGE_SETTINGS {
        let value = sysctl::read(&setting_of(link, family, setting))?;
        settings.extend(value.map(|value| (setting.to_owned(), value)));
    }
    Ok(settings)
}

fn setting_of(link: &str, family: &str, setting: &str) -> String {
    format!("{family}/conf/{link}/{setting}")
}

async fn bring_routes(netlink: &Netlink, link: &Link, wanted: &BTreeSet<IpNet>) -> Result<(), NetworkError> {
    let current = netlink.routes(Some(link.index)).await;
    let current = current.map_err(|source| NetworkError::List { what: "routes", source })?;
    let fail = |deed, destination: &IpNet| {
        let (destination, link) = (destination.to_string(), link.name.clone());
        move |source| NetworkError::Route { deed, destination, link, source }
    };
    for route in current.iter().filter(|route| !route.automatic) {
        if route.gateway.is_some() || !wanted.contains(&route.destination) {
            netlink.remove_route(route).await.map_err(fail("remove", &route.destination))?;
            fail_point!("network.route.removed");
        }
    }
    for destination in wanted {
        let there = current
            .iter()
            .any(|route| route.destination == *destination && route.gateway.is_none() && !route.automatic);
        if !there {
            let priority = if matches!(destination, IpNet::V6(_)) { SHIM_METRIC_V6 } else { 0 };
            let route = Route {
                destination: *destination,
                gateway: None,
                source: None,
                output: Some(link.index),
                automatic: false,
                priority,
            };
            netlink.add_route(&route).await.map_err(fail("add", destination))?;
            fail_point!("network.route.added");
        }
    }
    Ok(())
}
