//! Service load balancing by the eBPF programs.

pub mod attach;
pub mod facility;
pub mod image;
pub mod maps;
pub mod programs;

include!(concat!(env!("OUT_DIR"), "/object.rs"));

#[cfg(test)]
mod tests;
