//! Flags of where the cluster is heard of.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::period;

/// Where the cluster is heard of, and who the node is in it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArguments {
    /// URL of an API server; several are tried in order
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub master: Vec<String>,
    /// Kubeconfig with the API server and credentials; without it, those of the Pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Directory of Kubernetes YAML to follow instead of an API server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["master", "kubeconfig"])]
    pub manifests: Option<PathBuf>,
    /// Name of this node in the cluster; else the environment's NODE_NAME, else the host name
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    #[arg(long, hide = true, env = "NODE_NAME", value_name = "NAME")]
    /// NODE_NAME of the environment.
    pub node_name_from_environment: Option<String>,
    /// How often the tables are read back and mended, and kinds listed whose watch is refused
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = period)]
    pub config_sync_period: Duration,
}
