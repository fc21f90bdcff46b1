//! container

pub mod logs;
pub mod shim;
