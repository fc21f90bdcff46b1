//! Containers: from an image's layers and a manifest to a running process tree, and back to nothing.
//!
//! Each room has one matter: the overlay root, the bundle's parts, the cgroup, what the kernel says of the process. The
//! OCI runtime that carries out a bundle is a program (`evenkeel oci`, runc, …), the supervisor that keeps it a
//! shim; networks and images are other modules'. Nothing here decides what is to be done.

pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod inside;
pub mod logs;
pub mod mountinfo;
pub mod process;
pub mod rootfs;
pub mod seccomp;
pub mod shim;
pub mod user;
