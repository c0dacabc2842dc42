//! Service load balancing by the eBPF programs.

pub mod addresses;
pub mod attach;
pub mod audit;
pub mod clsact;
pub mod facility;
pub mod fast_path;
mod fill;
pub mod handback;
pub mod image;
mod kept;
pub mod layout;
pub mod maps;
mod pool;
pub mod programs;
mod shape;
pub mod tables;
pub mod takeover;
pub mod xdp;

include!(concat!(env!("OUT_DIR"), "/object.rs"));

#[cfg(test)]
mod tests;
