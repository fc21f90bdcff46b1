//! How far a fetch has come, told layer by layer.
//!
//! Nothing is drawn here: the command layer draws bars or prints lines from these events.

use evenkeel_schema::{Digest, Name};

/// Hears how far fetches have come. Called often and from several fetches at once: be quick.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: &Event<'_>);
}

/// One step of one layer of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub image: &'a Name,
    /// Digest of the layer's blob; `None` for a root file system's tarball, whose digest is not known before its end.
    pub layer: Option<&'a Digest>,
    pub phase: Phase,
}

impl Event<'_> {
    /// Gives the first twelve digits of the layer's digest, or `rootfs`.
    pub fn short_layer(&self) -> &str {
        self.layer.map_or("rootfs", |layer| &layer.hex()[..12])
    }
}

/// What happens with a layer. Sizes are bytes of its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its turn.
    Waiting {
        total: u64,
    },
    /// It comes from the registry or the archive.
    Downloading {
        current: u64,
        total: u64,
    },
    /// It came to its end, and its digest is compared.
    Verifying,
    Unpacking {
        current: u64,
        total: u64,
    },
    /// It was fetched and unpacked.
    Done,
    /// The store held it already.
    Exists,
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _: &Event<'_>) {}
}
