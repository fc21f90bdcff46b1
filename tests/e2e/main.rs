//! The end-to-end ring: the real programs in a sandbox, judged by what kernel, disk and output say.

mod agent;
mod bridge;
mod damage;
mod errors;
mod failpoints;
mod faults;
mod harness;
mod hostile;
mod images;
mod lifecycle;
mod macvlan;
mod memory;
mod quickstart;
mod registry;
mod removal;
mod rules;
mod runtime;
mod scale;
mod story;
mod unread;
mod verbs;
