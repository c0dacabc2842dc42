//! Network policy in the kernel.

pub mod ebpf;
