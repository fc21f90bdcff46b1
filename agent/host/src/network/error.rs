//! What can go wrong with networks, each with the object and what was tried.

use evenkeel_plan::LinkKind;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use evenkeel_schema::{Name, PortMapping};

/// Why a network, a namespace, an interface or the firewall table is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot open an rtnetlink connection")]
    Connect { source: io::Error },
    #[error("cannot list {what}")]
    List { what: &'static str, source: io::Error },
    #[error("cannot {deed} link {link}")]
    Link { deed: &'static str, link: String, source: io::Error },
    #[error("cannot {deed} address {address} of link {link}")]
    Address { deed: &'static str, address: String, link: String, source: io::Error },
    #[error(
        "cannot add address {address} of link {link}: IPv6 is switched off there (net.ipv6.conf.{link}.disable_ipv6)"
    )]
    NoIpv6 { address: String, link: String },
    #[error("cannot {deed} route to {destination} over link {link}")]
    Route { deed: &'static str, destination: String, link: String, source: io::Error },
    #[error("network {network} is macvlan and states no parent link")]
    ParentNotStated { network: Name },
    #[error("the parent link {parent} of network {network} does not exist")]
    ParentMissing { parent: String, network: Name },
    #[error("link {link} of network {network} does not exist")]
    AttachmentMissing { link: String, network: Name },
    #[error("there is a link {link} already that evenkeel did not make")]
    NotOurs { link: String },
    #[error("link {link} belongs to {mark} already: it cannot be adopted")]
    NotFree { link: String, mark: String },
    #[error("link {link} is of kind `{found}`, and `{wanted}` is needed: it cannot be adopted")]
    OtherKind { link: String, found: LinkKind, wanted: LinkKind },
    #[error("link {link} disappeared while it was worked on")]
    Vanished { link: String },
    #[error("{} is a symbolic link or the host's own network namespace, which no container of evenkeel's has: remove it", path.display())]
    ForeignNamespace { path: PathBuf },
    #[error("cannot {deed} the network namespace {}", path.display())]
    Namespace { deed: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot set {}", path.display())]
    Sysctl { path: PathBuf, source: io::Error },
    #[error("cannot announce the addresses of interface {interface}")]
    Announce { interface: String, source: io::Error },
    #[error("cannot run nft for table inet {table}")]
    Nft { table: String, source: io::Error },
    #[error("there is no program `nft` along PATH, which table inet {table} needs: install nftables")]
    NoNft { table: String },
    #[error("nft did not {deed} table inet {table} within {} s", after.as_secs())]
    NftHangs { table: String, deed: &'static str, after: Duration },
    #[error("nft does not {deed} table inet {table}: {said} ({status})")]
    NftRefused { table: String, deed: &'static str, said: String, status: ExitStatus },
    #[error("the listing of table inet {table} is not JSON")]
    NftListing { table: String, source: serde_json::Error },
    #[error("link name {link} cannot be written in a rule of nftables: it has a quotation mark, backslash or asterisk")]
    UnwritableName { link: String },
    #[error("port {port} is published on an address of another family than its target {target}")]
    MixedFamilies { port: PortMapping, target: IpAddr },
    #[error("cannot watch the kernel's {what}")]
    Watch { what: &'static str, source: io::Error },
}
