//! The host ring: `evenkeel-host` against the real kernel, each test in namespaces of its own.

mod containers;
mod images;
mod networks;
