//! What the one firewall table is to say, as data; `evenkeel-host` renders and reads it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use evenkeel_schema::{Name, PortMapping};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The whole desired content of the table `inet <instance>`. Empty means: no table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Firewall {
    pub networks: Vec<FirewallNetwork>,
    pub ports: BTreeSet<PublishedPort>,
}

/// What the table does for one bridge network, or for some of its subnets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallNetwork {
    pub network: Name,
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    /// Masquerade what leaves the network.
    pub nat: bool,
    /// Drop what would leave or enter the network.
    pub internal: bool,
}

/// One published port with where it leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    pub container: Name,
    /// Without a host address where it is published on every one of the target's family.
    pub port: PortMapping,
    /// The container's address of the same family.
    pub target: IpAddr,
}

/// The table as the kernel has it, in the same words; what it has beyond that is `foreign`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedFirewall {
    /// Every bridge that the table knows, `FirewallNetwork::bridge` of all networks.
    pub bridges: BTreeSet<String>,
    /// Every network's subnets, each with its bridge.
    pub subnets: BTreeSet<(IpNet, String)>,
    /// Subnets that are masqueraded.
    pub nat: BTreeSet<IpNet>,
    /// Bridges that are cut off.
    pub internal: BTreeSet<String>,
    /// Published ports; `container` is not known to the kernel, so it is left out here.
    pub ports: BTreeSet<(PortMapping, IpAddr)>,
    /// Rules and chains of the fixed part of the table that are missing or altered, in words.
    pub damage: Vec<String>,
    /// Rules in our table that we did not write, in nft's words.
    pub foreign: Vec<String>,
}

impl Firewall {
    /// Tells whether there is to be no table at all.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.ports.is_empty()
    }

    /// Gives the table as the kernel is to show it.
    pub fn normal_form(&self) -> ObservedFirewall {
        let networks = &self.networks;
        ObservedFirewall {
            bridges: networks.iter().map(|network| network.bridge.clone()).collect(),
            subnets: networks
                .iter()
                .flat_map(|network| network.subnets.iter().map(|subnet| (*subnet, network.bridge.clone())))
                .collect(),
            nat: networks.iter().filter(|network| network.nat).flat_map(|network| &network.subnets).copied().collect(),
            internal: networks
                .iter()
                .filter(|network| network.internal)
                .map(|network| network.bridge.clone())
                .collect(),
            ports: self.ports.iter().map(|port| (port.port, port.target)).collect(),
            damage: Vec::new(),
            foreign: Vec::new(),
        }
    }
}
