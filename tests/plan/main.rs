//! The plan ring: data in, data out.
//!
//! `cases.rs` holds what a plan says in one situation, in the words of `text.rs`; `properties.rs` what holds in all of them, on
//! manifests and hosts from `random.rs`; `limits.rs` what a network has no more room for; `purity.rs` that the planner cannot
//! reach the host. Manifests are read from files that the tests write; nothing else here has a disk, a kernel or a clock.

mod cases;
mod limits;
mod properties;
mod purity;
mod random;
mod text;
