//! Service load balancing, one folder a dataplane.

pub mod ebpf;
pub mod ring;
