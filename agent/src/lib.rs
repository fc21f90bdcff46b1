//! The program `evenkeel`: its verbs, the agent's loop, and what they remember.
//!
//! Stages do the work: `evenkeel-manifests` loads, `evenkeel-plan` decides, `evenkeel-host` looks and acts. Here they are
//! put together, triggered and reported. Nothing here speaks to the kernel about networks, images or containers by itself.

// They panic where nobody reads any more.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub mod agent;
pub mod commands;
pub mod fetch;
pub mod ledger;
pub mod lock;
mod memory;
pub mod reconcile;
pub mod report;
pub mod schedule;
pub mod session;
pub mod settings;
pub mod source;
pub mod watch;
