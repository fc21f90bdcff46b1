//! How a container is reached: networks, network modes, published ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Name, QuantityError};

/// Membership of a container in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkAttachment {
    /// The name of a Network.
    pub name: Name,
    /// A fixed IPv4 address. Default: a dynamic one from each IPv4 subnet's range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// A fixed IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Further names by which the network's other containers find this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// A container's network without a network of evenkeel's: `host`, `none` or `container:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^(host|none|container:[a-z0-9]([a-z0-9_.-]*[a-z0-9])?)$"))]
pub enum NetworkMode {
    /// The host's own network.
    Host,
    /// A namespace with nothing but loopback.
    None,
    /// The network namespace of another container.
    Container(Name),
}

impl TryFrom<String> for NetworkMode {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        match text.as_str() {
            "host" => Ok(NetworkMode::Host),
            "none" => Ok(NetworkMode::None),
            other => match other.strip_prefix("container:").map(str::parse) {
                Some(Ok(name)) => Ok(NetworkMode::Container(name)),
                _ => Err(QuantityError(format!("`{other}` is not a network mode: write host, none or container:NAME"))),
            },
        }
    }
}

impl From<NetworkMode> for String {
    fn from(mode: NetworkMode) -> String {
        match mode {
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::None => "none".to_owned(),
            NetworkMode::Container(name) => format!("container:{name}"),
        }
    }
}

/// A transport protocol of published ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of the host that leads into the container, `[HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^(\[?[0-9A-Fa-f.:]+\]?:)?[0-9]+:[0-9]+(/(tcp|udp))?$"))]
pub struct PortMapping {
    /// The address of the host that is published: one, every IPv4 address (`0.0.0.0`), or every IPv6 one (`::`). `None` is
    /// every address of both families.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl FromStr for PortMapping {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || {
            QuantityError(format!(
                "`{text}` is not a published port: write [HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp] in quotes, as \"8080:80\""
            ))
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let (front, container_port) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (host_ip, host_port) = match front.rsplit_once(':') {
            None => (None, front),
            Some((ip, port)) => {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                (Some(bare.parse::<IpAddr>().map_err(|_| wrong())?), port)
            }
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        Ok(PortMapping { host_ip, host_port: port(host_port)?, container_port: port(container_port)?, protocol })
    }
}

impl TryFrom<String> for PortMapping {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host_ip {
            None => String::new(),
            Some(IpAddr::V4(ip)) => format!("{ip}:"),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
        };
        f.pad(&format!("{host}{}:{}/{}", self.host_port, self.container_port, self.protocol))
    }
}

impl From<PortMapping> for String {
    fn from(port: PortMapping) -> String {
        port.to_string()
    }
}
