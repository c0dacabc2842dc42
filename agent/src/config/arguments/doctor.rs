//! Arguments of `doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{HealthAddr, View};

/// What is checked, and how.
#[derive(Clone, Debug, Args)]
pub struct DoctorArguments {
    /// Only the checks of these names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// List the checks, and run none
    #[arg(long)]
    pub list: bool,
    /// Send nothing to other nodes
    #[arg(long)]
    pub no_probe: bool,
    /// Where no agent runs: URL of an API server to ask
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub master: Vec<String>,
    /// Where no agent runs: kubeconfig with the API server to ask
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Directory for maps and links
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/fairlead")]
    pub bpf_root: PathBuf,
    /// Directory of CNI configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where no agent runs: UDP port that VXLAN will have
    #[arg(long, value_name = "PORT", default_value_t = 4789)]
    pub overlay_encap_port: u16,
    /// Where no agent runs: identifier that VXLAN will have
    #[arg(long, value_name = "N", default_value_t = 7100)]
    pub overlay_vni: u32,
    /// Where no agent runs: where health checks will be answered
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:20244")]
    pub health_addr: HealthAddr,
    /// Where the node's files are: its /etc and /run; in a container, where the host's are mounted
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub node_root: PathBuf,
    /// How to show it.
    #[command(flatten)]
    pub view: View,
}
