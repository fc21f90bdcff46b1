//! The decision, and nothing else: Desired × Observed → Plan.
//!
//! Everything here is data in, data out: no file, socket, clock or kernel call, which the crate's dependencies and
//! a test enforce. `plan`, `diff`, `drift`, `apply` and the agent's loop all call the same [`plan`]; a drift report
//! is a plan that nobody executed.

mod addressing;
mod capability;
mod container;
mod decide;
mod desired;
mod drift;
mod endpoint;
mod filter;
mod firewall;
mod hosts;
mod image;
mod ipam;
mod link;
mod network;
mod observed;
mod order;
mod report;
mod step;
mod volume;
mod world;

pub use capability::*;
pub use container::{background_hint, command_of};
pub use decide::Options;
pub use desired::*;
pub use drift::*;
pub use endpoint::*;
pub use firewall::*;
pub use hosts::{HostNames, Hosts, namespace_holder};
pub use link::*;
pub use observed::*;
pub use report::*;
pub use step::*;

pub use evenkeel_schema::{Key, Kind, Name};

/// Decides what is to be done so that the host becomes as desired, and in which order.
///
/// Total and deterministic: the same two sides give the same plan, and an object that cannot be decided upon is a step
/// on hold with the reason, never an error for the whole.
pub fn plan(desired: &Desired, observed: &Observed, options: &Options) -> Plan {
    let world = world::World::decide(desired, observed, options);
    Plan {
        steps: order::steps(&world),
        firewall_unseen: world.firewall_unseen(),
        endpoints: world.addressing.endpoints,
        firewall_differs: world.filter.differs,
        firewall: world.filter.firewall,
        hosts: world.hosts,
    }
}
