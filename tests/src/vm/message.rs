//! What test and guest say to each other over the virtual serial port: a JSON document on each line.

use serde::{Deserialize, Serialize};

/// The port's name, in `/dev/virtio-ports` of the guest.
pub const PORT: &str = "evenkeel.test";

/// A line of shell for the guest to run to its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub line: String,
}

/// What the guest says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// It listens; the first word of each boot.
    Ready,
    /// What came of the last order; no code where a signal ended it.
    Done { code: Option<i32>, stdout: String, stderr: String },
}
