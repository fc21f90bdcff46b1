//! The rules that keep users' hosts safe, each by a test that breaks the thing on purpose.
//!
//! What one kind of fault shows by itself stands with that fault (`damage`, `faults`, `removal`), and ledger before deed in
//! `failpoints`. Here is what needs the whole: every way in which a rule could be broken, side by side.

mod blind;
mod order;
mod outlive;
mod secrets;
mod sources;
mod stopped;
mod volumes;
