//! The decision, and nothing else: Desired × Observed → Plan.
//!
//! Everything here is data in, data out: no file, socket, clock or kernel call, which the crate's dependencies and
//! a test enforce. `plan`, `diff`, `drift`, `apply` and the agent's loop all call the same [`plan`]; a drift report
//! is a plan that nobody executed.

mod capability;
mod desired;
mod drift;
mod endpoint;
mod firewall;
mod hosts;
mod link;
mod observed;
mod report;
mod step;

pub use capability::*;
pub use desired::*;
pub use drift::*;
pub use endpoint::*;
pub use firewall::*;
pub use hosts::Hosts;
pub use link::*;
pub use observed::*;
pub use report::*;
pub use step::*;

pub use evenkeel_schema::{Key, Kind, Name};
