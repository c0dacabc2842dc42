//! `fairlead-cni` as a container runtime runs it, in network namespaces.
//!
//! Every test has a node of its own, so they run side by side. They need root, `cargo xtask build`
//! for the plugin, and the reference plugins (`cargo xtask setup`), and fail where one is missing.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod offloads;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod reclaim;
#[cfg(test)]
mod storm;
