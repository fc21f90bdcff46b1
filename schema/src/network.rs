//! Networks: a bridge of the host's own, or macvlan interfaces on one of its links.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::QuantityError;

/// A network that containers join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// How containers reach each other and the world.
    pub driver: Driver,
    /// The host's link under a macvlan network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<InterfaceName>,
    /// Name of the bridge link. Default: `ek-` and the network's name, shortened to 15 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<InterfaceName>,
    /// Any number of subnets, IPv4 and IPv6. At least one.
    #[schemars(length(min = 1))]
    pub subnets: Vec<Subnet>,
    /// The host's own leg in a macvlan network, which otherwise cannot reach its containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim: Option<HostShim>,
    /// Masquerade what leaves a bridge network. Default `true` for bridge; without meaning for macvlan.
    #[serde(default = "yes")]
    pub nat: bool,
    /// Cut the network off from everything but itself and the host.
    #[serde(default, skip_serializing_if = "crate::object::is_default")]
    pub internal: bool,
    /// Maximum transmission unit of every interface of the network, in bytes. Default: the parent's, or 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<u32>,
}

/// How containers reach each other and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Driver {
    /// A bridge link of the host's own, with veth pairs and, by default, NAT.
    Bridge,
    /// A macvlan interface per container on the `parent` link: each is a station of the parent's own network.
    Macvlan,
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subnet {
    /// The subnet in prefix notation, without host bits.
    #[schemars(with = "String")]
    pub subnet: IpNet,
    /// The default gateway of the containers. Default: a bridge's first address; macvlan has none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Dynamic addresses come from here. Default: the whole subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ip_range: Option<IpNet>,
    /// Addresses by name that are never handed out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// The host's own macvlan interface in a macvlan network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostShim {
    /// Name of the link. Default: `<network>-shim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<InterfaceName>,
    /// An auxAddress by name, or an address. It is assigned with a full-length prefix (`/32`, `/128`).
    pub address: ShimAddress,
    /// What the host reaches through the shim.
    #[serde(default)]
    pub routes: ShimRoutes,
}

/// The address of a host shim: stated, or the name of an auxAddress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum ShimAddress {
    Address(IpAddr),
    AuxAddress(String),
}

impl From<String> for ShimAddress {
    fn from(text: String) -> Self {
        text.parse().map_or(ShimAddress::AuxAddress(text), ShimAddress::Address)
    }
}

impl From<ShimAddress> for String {
    fn from(address: ShimAddress) -> String {
        match address {
            ShimAddress::Address(address) => address.to_string(),
            ShimAddress::AuxAddress(name) => name,
        }
    }
}

/// The host's routes through its shim.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "RawShimRoutes")]
pub enum ShimRoutes {
    /// Every ipRange of the network (the whole subnet where none is stated).
    #[default]
    Auto,
    Listed(Vec<IpNet>),
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ShimRoutes")]
#[expect(dead_code, reason = "only its JSON Schema is used")]
enum RawShimRoutes {
    /// `auto`: every ipRange of the network.
    Auto(AutoWord),
    Listed(Vec<String>),
}

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its JSON Schema is used")]
enum AutoWord {
    Auto,
}

impl Serialize for ShimRoutes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ShimRoutes::Auto => serializer.serialize_str("auto"),
            ShimRoutes::Listed(routes) => serializer.collect_seq(routes),
        }
    }
}

impl<'de> Deserialize<'de> for ShimRoutes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Routes;
        impl<'de> serde::de::Visitor<'de> for Routes {
            type Value = ShimRoutes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a list of subnets")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ShimRoutes, E> {
                match text {
                    "auto" => Ok(ShimRoutes::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<ShimRoutes, A::Error> {
                let mut routes = Vec::new();
                while let Some(route) = list.next_element()? {
                    routes.push(route);
                }
                Ok(ShimRoutes::Listed(routes))
            }
        }
        deserializer.deserialize_any(Routes)
    }
}

/// The name of a link, 1 to 15 bytes without `/`, `:`, `%` or white space (netdevice(7)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("minLength" = 1, "maxLength" = 15))]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Gives the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        // `%`: the kernel would put a number in place of `%d`.
        let fine = (1..=15).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%'))
            && text != "."
            && text != "..";
        if fine {
            return Ok(InterfaceName(text));
        }
        Err(QuantityError(format!(
            "`{text}` is not an interface name: 1 to 15 visible characters without '/', ':' and '%'"
        )))
    }
}

impl FromStr for InterfaceName {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        InterfaceName::try_from(text.to_owned())
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn yes() -> bool {
    true
}
