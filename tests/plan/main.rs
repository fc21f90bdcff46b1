//! The plan ring: data in, data out.
//!
//! `cases.rs` holds what a plan says in one situation, `properties.rs` what holds in all of them, `purity.rs` that
//! the planner cannot reach the host. Nothing here has a kernel, a disk or a clock.

mod cases;
mod limits;
mod properties;
mod purity;
mod random;
mod text;
