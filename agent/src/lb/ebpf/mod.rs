//! Service load balancing by the eBPF programs.

pub mod attach;
pub mod maps;
pub mod programs;

include!(concat!(env!("OUT_DIR"), "/object.rs"));
