//! What fails around the programs: named with its cause, no more held up by it than depends on it, and healed once it is over.

mod calls;
mod clock;
mod disk;
mod kernel;
mod limits;
mod network;
mod registry;
mod state;
mod store;
