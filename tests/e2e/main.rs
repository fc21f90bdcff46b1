//! The end-to-end ring: the real programs in a sandbox, judged by what kernel, disk and output say.

mod harness;
mod images;
