//! The harness of the suite: what the rings `tests/host` and `tests/e2e` stand on.
//!
//! [`sandboxed`] gives a test namespaces of its own and takes everything away after it, whatever became of it. The other
//! modules run programs, ask the kernel, wait, and make root file systems and images. Nothing here knows what a
//! right answer is: that stands in the tests.

pub mod ask;
pub mod faults;
pub mod images;
pub mod leftovers;
pub mod model;
pub mod program;
pub mod random;
pub mod registry;
pub mod rootfs;
pub mod sandbox;
pub mod store;
pub mod tarball;
pub mod vm;

pub use ask::eventually;
pub use program::{Run, run};
pub use sandbox::{Agent, Sandbox, sandboxed};
