//! Configurations of edge proxies, rendered from the watched model.
//!
//! ```text
//! cluster ─ edge::compile ─► EdgePlan ─ haproxy | nginx | templates ─► Rendered ─ apply ─► proxy
//! ```

pub mod apply;
pub mod commands;
pub mod config;
pub mod edge;
pub mod follow;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
pub mod haproxy;
#[cfg(test)]
mod live;
pub mod nginx;
pub mod output;
pub mod outside;
#[cfg(test)]
mod proxies;
pub mod render;
mod route;
#[cfg(test)]
mod samples;
pub mod serve;
#[cfg(test)]
mod speed;
pub mod targets;
