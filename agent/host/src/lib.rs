//! All contact with kernel, disk and registry: [`Observer`] looks, [`Applier`] changes.
//!
//! Nothing is decided here. What is to be done comes as a plan from `evenkeel-plan`; this crate carries out one step of it
//! and reports what the kernel says. The only way to an [`Applier`] is the lock of the root, so a verb that
//! holds none cannot change anything.

pub mod apply;
mod attributes;
pub mod confined;
pub mod container;
pub mod image;
pub mod mountinfo;
pub mod mountpoint;
pub mod network;
pub mod observe;
pub mod paths;
pub mod tree;
pub mod volume;

pub use apply::{Applier, ApplyError, ContainerPlan, RootHeld};
pub use observe::{Known, ObserveError, Observer};
pub use paths::{Instance, Paths};

/// Joins an error with its causes into one line: `what: why: why`.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // A transparent variant says the same as its source.
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}
