//! The end-to-end ring: the real programs in a sandbox, judged by what kernel, disk and output say.

mod agent;
mod bridge;
mod damage;
mod disk_full;
mod errors;
mod failpoints;
mod faults_clock;
mod faults_kernel;
mod faults_limits;
mod faults_network;
mod faults_state;
mod harness;
mod hostile;
mod images;
mod lifecycle;
mod macvlan;
mod memory;
mod quickstart;
mod registry;
mod registry_faults;
mod removal;
mod runtime;
mod scale;
mod story;
mod verbs;
