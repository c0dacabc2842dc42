//! Network policy by eBPF programs: the maps of `agent_abi::policy`.

pub mod facility;
pub mod image;
pub mod interfaces;
mod lost;
pub mod maps;
pub mod seed;
