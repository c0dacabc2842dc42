//! Network policy by eBPF programs: the maps of `agent_abi::policy`.

pub mod facility;
pub mod image;
pub mod interfaces;
mod left_out;
pub mod maps;
pub mod seed;
