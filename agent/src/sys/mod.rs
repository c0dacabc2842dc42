//! The kernel, as values and small adapters; knows no Kubernetes.

pub mod bpffs;
pub mod cgroup;
pub mod clock;
pub mod conntrack;
pub mod echo;
pub mod file;
pub mod firewall;
pub mod kinds;
pub mod links;
pub mod lock;
pub mod map;
pub mod memory;
pub mod program_log;
pub mod qdisc;
pub mod socket;
pub mod sysctl;
pub mod vxlan;
pub mod xfrm;
