//! Networks as the kernel has them: links, addresses, routes, namespaces of containers, and the one firewall table.
//!
//! [`Networks`] holds one rtnetlink connection to the namespace that it was opened in and makes, repairs, removes and
//! describes what `evenkeel-plan` decided; every deed may be repeated. Nothing is decided or remembered here: the
//! kernel is asked each time. Whether a name on the host is ours is told by the mark in the link's alias.

mod announce;
mod answers;
mod endpoint;
mod error;
mod firewall;
mod inventory;
mod links;
mod namespace;
mod netlink;
mod observe;
mod own_link;
mod sysctl;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use evenkeel_plan::Endpoint;
use evenkeel_schema::{Key, Kind, Name, NetworkSpec};

use crate::{Instance, Paths};
pub use error::NetworkError;
pub use firewall::{PortConflict, port_conflicts};
use netlink::Netlink;
pub use observe::NetworkView;
pub use watch::Hint;

/// The networks of one installation; clones share their connection.
#[derive(Clone, Debug)]
pub struct Networks {
    netlink: Netlink,
    paths: Paths,
    instance: Instance,
    pin_lock: Arc<namespace::PinLock>,
    /// How the fixed part of the firewall table is listed on this host, asked once.
    fresh_table: Arc<tokio::sync::OnceCell<firewall::Listing>>,
    netfilter: Arc<firewall::Netfilter>,
    loader: Arc<Mutex<Option<firewall::Loader>>>,
    /// The firewall table as it was listed last.
    last_table: Arc<Mutex<Option<firewall::SeenTable>>>,
}

impl Networks {
    /// Connects to the network namespace that the process is in.
    pub async fn open(paths: &Paths, instance: &Instance) -> Result<Networks, NetworkError> {
        let netlink = Netlink::open().map_err(|source| NetworkError::Connect { source })?;
        let (paths, instance) = (paths.clone(), instance.clone());
        let (pin_lock, fresh_table, netfilter, loader, last_table) = Default::default();
        Ok(Networks { netlink, paths, instance, pin_lock, fresh_table, netfilter, loader, last_table })
    }

    /// Makes a network's own link with all that hangs on it, completes it or repairs it.
    ///
    /// A macvlan network needs its parent to be there. The parent is brought up where it is down, since no station of
    /// the network could speak otherwise, and is not changed in any other way. A link of the wanted name without our
    /// mark is refused; see [`Networks::adopt`].
    pub async fn ensure(&self, name: &Name, spec: &NetworkSpec) -> Result<(), NetworkError> {
        own_link::ensure(&self.netlink, &self.instance, name, spec).await
    }

    /// Puts our mark on a link of the wanted name that something else made, then ensures it.
    pub async fn adopt(&self, name: &Name, spec: &NetworkSpec) -> Result<(), NetworkError> {
        own_link::adopt(&self.netlink, &self.instance, name, spec).await?;
        self.ensure(name, spec).await
    }

    /// Removes a network's own link, by its mark. One that is gone, or that is not ours, is left as it is.
    pub async fn remove(&self, name: &Name) -> Result<(), NetworkError> {
        own_link::remove(&self.netlink, &self.instance, name).await
    }

    /// Makes and pins a container's network namespace with loopback up, or takes the one that is there; makes, completes or
    /// repairs its interfaces, and removes those that bear our mark and are not listed.
    ///
    /// Neighbours are told of every address that is new on its hardware address (gratuitous ARP, unsolicited neighbour
    /// advertisement).
    pub async fn join(&self, container: &Name, endpoints: &[Endpoint]) -> Result<PathBuf, NetworkError> {
        let path = self.paths.network_namespace(container);
        let entered = namespace::create(&self.netlink, self.pin_lock.clone(), &path).await?;
        endpoint::ensure(&self.netlink, &entered, &self.mark(container), endpoints).await?;
        Ok(path)
    }

    /// Removes a container's network namespace and every link of it, on either side.
    pub async fn remove_namespace(&self, container: &Name) -> Result<(), NetworkError> {
        let (path, mark) = (self.paths.network_namespace(container), self.mark(container));
        let ends = match namespace::open(&path)? {
            Some(inside) => Some(endpoint::let_go(&path, &inside).await?),
            None => None,
        };
        namespace::unpin(&self.pin_lock, &path)?;
        match ends {
            Some(ends) => endpoint::await_end(&self.netlink, &mark, ends).await,
            None => endpoint::remove_host_ends(&self.netlink, &mark).await,
        }
    }

    /// Gives the alias of every link of a container.
    fn mark(&self, container: &Name) -> String {
        self.instance.mark(&Key::new(Kind::Container, container.clone()))
    }
}
