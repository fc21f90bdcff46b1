//! The harness of the suite: what its rings and its benchmark stand on.
//!
//! [`sandboxed`] gives a test namespaces of its own and takes everything away after it, whatever became of it; [`vm`] gives it
//! a whole virtual host. The other modules run programs, ask the kernel, wait, make root file systems and images, and serve
//! these with and without faults. What a right answer is stands in the tests, but for two judges that several of them
//! need: [`model`] says what becomes of a host by a plan, [`store`] whether an image store is sound.

pub mod ask;
pub mod faulty_registry;
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
