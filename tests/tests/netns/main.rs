//! Agents, Services and real traffic in labs of network namespaces.
//!
//! Every test has a lab of its own (see `tests::harness`), so they run side by side. They need
//! root, and `cargo xtask build` for the agent, and fail where either is missing.

#[cfg(test)]
mod api_server;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod balancing;
#[cfg(test)]
mod bootstrap;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod choice;
#[cfg(test)]
mod cleanup;
#[cfg(test)]
mod clsact;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod conntrack;
#[cfg(test)]
mod direct_return;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod flows;
#[cfg(test)]
mod fragments;
#[cfg(test)]
mod handback;
#[cfg(test)]
mod headerless;
#[cfg(test)]
mod health_check;
#[cfg(test)]
mod hurry;
#[cfg(test)]
mod ipvs;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod node_port;
#[cfg(test)]
mod options;
#[cfg(test)]
#[path = "../bpf/pieces.rs"]
mod pieces;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod policy_chaos;
#[cfg(test)]
mod policy_scale;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod sctp;
#[cfg(test)]
mod shared_ports;
#[cfg(test)]
mod takeover;
#[cfg(test)]
mod timeouts;
#[cfg(test)]
mod traffic_policy;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod xdp;
