//! Service load balancing by the eBPF programs.

pub mod addresses;
pub mod attach;
pub mod audit;
pub mod clsact;
pub mod entries;
pub mod facility;
pub mod fast_path;
mod fill;
mod fullness;
pub mod handback;
pub mod image;
mod kept;
mod known;
pub mod layout;
pub mod maps;
mod pool;
pub mod programs;
mod room;
pub mod settings;
mod shape;
mod shares;
pub mod tables;
pub mod takeover;
mod writer;
pub mod xdp;

include!(concat!(env!("OUT_DIR"), "/object.rs"));

#[cfg(test)]
mod tests;
