//! A whole virtual host: a Debian kernel in qemu, by software emulation alone, with a disk that can lose its power.
//!
//! [`prepare`] makes what all machines begin with, once for a build; a [`Machine`] is one boot on a [`Disk`]; what it is
//! ordered to run, and what came of it, goes over a virtual serial port ([`message`]).

pub mod disk;
mod image;
mod machine;
pub mod message;
mod nbd;

pub use crate::random::Random;
pub use disk::Disk;
pub use image::{Image, prepare};
pub use machine::{Init, Machine};
