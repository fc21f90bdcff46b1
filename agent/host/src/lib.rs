//! All contact with kernel, disk and registry: [`Observer`] looks, [`Applier`] changes.
//!
//! Nothing is decided here. What is to be done comes as a plan from `evenkeel-plan`; this crate carries out one step of it
//! and reports what the kernel says. The only way to an [`Applier`] is the lock of the root, so a verb that
//! holds none cannot change anything.

pub mod container;
pub mod image;
pub mod network;
pub mod paths;
pub mod volume;

pub use paths::{Instance, Paths};
