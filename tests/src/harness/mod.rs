//! Labs: nodes, pods and an outside client as network namespaces, with the real kernel between.
//!
//! A [`Lab`] is built from nodes and pods (given by a test, or read from manifests), gets a
//! directory of manifests for the agents, and is taken down by its name alone, so nothing stays
//! behind even when a test panics. [`Agent`]s and traffic run as processes in a node's or pod's
//! network namespace and cgroup.
//!
//! No namespace of a lab has a route out of the lab, and the machine's own namespace gets no
//! route, link or address. Everything here needs root.

mod address;
mod agent;
mod builder;
mod cgroup;
mod cni;
mod dice;
pub mod driver;
mod edge_node;
mod flow;
mod kernel;
mod lab;
mod manifests;
mod namespace;
pub mod other_proxy;
mod place;
mod prober;
mod process;
mod runtime;
mod service;
mod teardown;
mod tun;
mod wait;
mod wire;
mod wiring;

pub use agent::{Agent, AgentOptions, Answer, agent_program, confgen_program};
pub use builder::{Builder, NodeSpec, PodNetwork, PodSpec};
pub use cgroup::unified_mount as cgroup_mount;
pub use cni::{Call, CniNode, Outcome, cni_program, ip, plugin_inventory, reference_plugin};
pub use dice::Dice;
pub use flow::{Flow, Traffic};
pub use kernel::{attachments, has_tcx, inventory, program_ids, tc};
pub use lab::Lab;
pub use manifests::{Manifests, documents};
pub use namespace::{Namespace, enter as enter_network};
pub use place::Place;
pub use prober::Prober;
pub use process::Process;
pub use runtime::Sandbox;
pub use service::ServiceSpec;
pub use teardown::{remains, remove};
pub use tun::Tun;
pub use wait::{eventually, poll};
pub use wire::Wire;
