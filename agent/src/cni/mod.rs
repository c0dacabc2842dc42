//! The node as container runtimes see it: the CNI configuration, and the plugin's program.

pub mod conflist;
pub mod install;
pub mod reclaim;
pub mod routes;
pub mod stores;
