//! The shim against the real runc and the real kernel.
//!
//! Every test has a container of its own and ends everything that it started, also when it fails. What is asserted is
//! what the kernel and the files say; the shim's own word is only compared with them.

mod container;
mod end;
mod health;
mod log;
mod start;
