//! The flags: name, help, default and form of each stand here once, a group of `--help` a struct.
//!
//! `docs/flags.md` is made from these, and a test compares the two.

mod cluster;
mod command;
mod compatibility;
mod doctor;
mod node;
mod operation;
mod policy;
mod router;
mod services;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::duration;
pub use cluster::ClusterArguments;
pub use command::{Command, Output, Transport, View};
use compatibility::Compatibility;
pub use doctor::DoctorArguments;
pub use node::{InterfaceArguments, TableArguments};
pub use operation::{HealthAddr, LogFormat, OperationArguments, PathArguments, RemovalArguments};
pub use policy::{PolicyArguments, PolicyCommand};
pub use router::{CniArguments, EgressArguments, OverlayEncap, OverlayType, RouterArguments};
pub use services::{Dataplane, ExposureArguments, NodePortAddress, ServiceArguments};

/// A path as others know it too: the CNI plugin runs elsewhere, and news of files have absolute paths.
fn absolute(text: &str) -> io::Result<PathBuf> {
    std::path::absolute(text)
}

const EXAMPLES: &str = "\
Examples:
  fairlead-agent --kubeconfig /etc/kubernetes/kubeconfig    balance the Services of a cluster
  fairlead-agent --manifests examples/cluster               the same from a directory of YAML
  fairlead-agent status                                     what a running agent has done
  fairlead-agent services shop/web                          one Service, as the kernel has it
  fairlead-agent explain --from shop/cart --to shop/web     where a pod's connections go, and why
  fairlead-agent flows --follow                             what is dropped, and why
  fairlead-agent doctor                                     what on this node stands in the way
  fairlead-agent --cleanup-config --dry-run                 what a removal would remove";

/// Balances the Services of a Kubernetes cluster on this node, through eBPF.
///
/// Without a subcommand, runs the agent. When it ends, the kernel goes on balancing; the next start
/// takes over what is there. --cleanup-config removes it.
#[derive(Clone, Debug, Parser)]
#[command(name = "fairlead-agent", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true, args_override_self = true)]
pub struct Arguments {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where the cluster is heard of.
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// Services.
    #[command(flatten)]
    pub services: ServiceArguments,
    /// Their further addresses.
    #[command(flatten)]
    pub exposure: ExposureArguments,
    /// Network policy.
    #[command(flatten)]
    pub policy: PolicyArguments,
    /// The pod network.
    #[command(flatten)]
    pub router: RouterArguments,
    /// What container runtimes find.
    #[command(flatten)]
    pub cni: CniArguments,
    /// What leaves the cluster.
    #[command(flatten)]
    pub egress: EgressArguments,
    /// The node's interfaces.
    #[command(flatten)]
    pub interfaces: InterfaceArguments,
    /// The kernel's tables.
    #[command(flatten)]
    pub tables: TableArguments,
    /// Operation.
    #[command(flatten)]
    pub operation: OperationArguments,
    /// Removal.
    #[command(flatten)]
    pub removal: RemovalArguments,
    /// Flags of kube-router.
    #[command(flatten)]
    pub compatibility: Compatibility,
}

fn period(text: &str) -> Result<Duration, String> {
    let period = duration::parse(text)?;
    if period.is_zero() {
        Err("a period of 0 never ends; give 1s or more".to_owned())
    } else {
        Ok(period)
    }
}
