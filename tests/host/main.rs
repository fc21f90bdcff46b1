//! The host ring: `evenkeel-host` against the real kernel, each test in namespaces of its own.

mod images;
mod networks;
