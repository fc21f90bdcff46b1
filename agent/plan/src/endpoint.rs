//! A container's membership of a network, with every address decided.

use std::fmt;
use std::net::IpAddr;

use evenkeel_schema::{Driver, Name};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What one interface of a container is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub container: Name,
    pub network: Name,
    /// Name in the container: `eth0`, `eth1`, … in the order of the manifest.
    pub interface: String,
    /// Name of the host's end of a veth pair; the interim name of a macvlan link before it moves.
    pub host_interface: String,
    pub driver: Driver,
    /// The bridge that the host's end joins, or the parent of the macvlan link.
    pub attached_to: String,
    pub mtu: Option<u32>,
    /// Derived from (network, container): the same after every restart.
    pub mac: MacAddress,
    /// Addresses with the subnet's prefix length.
    pub addresses: Vec<IpNet>,
    /// Which of the addresses are dynamic and so leased.
    pub leased: Vec<IpAddr>,
    /// Default gateways; only the first network's endpoint has any.
    pub gateways: Vec<IpAddr>,
}

/// A 48-bit hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
        let six = bytes.and_then(|bytes| bytes.try_into().ok());
        six.map(MacAddress).ok_or_else(|| format!("`{text}` is not a hardware address"))
    }
}
