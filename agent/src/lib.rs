//! The node agent as a library; `main.rs` is its thin binary.

pub mod applier;
pub mod bootstrap;
pub mod cleanup;
pub mod cni;
pub mod config;
pub mod control;
pub mod desired;
pub mod devices;
pub mod explain;
pub mod flows;
pub mod handover;
pub mod histogram;
pub mod latency;
pub mod lb;
pub mod node_tables;
pub mod ownership;
pub mod policy;
pub mod probe;
pub mod problems;
pub mod reconcile;
pub mod route;
pub mod runtime;
pub mod sandbox;
pub mod settings;
pub mod sys;
pub mod whatif;
