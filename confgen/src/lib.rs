//! Configurations of edge proxies, rendered from the watched model.
//!
//! ```text
//! cluster ─ edge::compile ─► EdgePlan ─ haproxy | nginx | templates ─► Rendered ─ apply ─► proxy
//! ```

pub mod commands;
pub mod config;
pub mod edge;
pub mod follow;
pub mod output;
