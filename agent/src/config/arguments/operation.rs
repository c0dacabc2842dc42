//! Flags of how the agent is operated: files, addresses, log, removal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, ValueEnum};

use super::absolute;
use crate::config::Paths;

/// How the agent is operated.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operation")]
pub struct OperationArguments {
    /// Where things are kept.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Where /healthz, /readyz and /metrics are served; empty for nowhere
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:20244")]
    pub health_addr: HealthAddr,
    /// Show the traffic of Services in /metrics under kube-router's names too
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub kube_router_metrics: bool,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// More log; twice for everything
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbosity: u8,
    /// Have the kernel hurry (/sys/kernel/rcu_expedited) while programs are attached or detached, and
    /// while the CNI plugin removes an interface: a moment each, but for the whole machine. Without it,
    /// pods start and end some 20 ms later
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub rcu_expedited: bool,
    /// Load programs that say in the log what they do with each packet: slow, and many lines
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub debug_programs: bool,
}

/// Removal.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Removal")]
pub struct RemovalArguments {
    /// Remove everything the agent has put on this node, and end
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub cleanup_config: bool,
    /// With --cleanup-config: only list it
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, requires = "cleanup_config")]
    pub dry_run: bool,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line an event
    Text,
    /// A JSON object an event
    Json,
}

/// Where things are kept.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operation")]
pub struct PathArguments {
    /// Directory for files that outlive the agent
    #[arg(long, value_name = "DIR", default_value = "/var/lib/fairlead", value_parser = absolute)]
    pub state_dir: PathBuf,
    /// Directory for maps and links; a bpffs is mounted on it where it is not on one
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/fairlead", value_parser = absolute)]
    pub bpf_root: PathBuf,
    /// cgroup v2 directory whose processes are balanced when they connect; else the root of the
    /// hierarchy
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub cgroup_root: Option<PathBuf>,
    /// Unix socket for `status`, `services`, `explain` and `flows`
    #[arg(long, value_name = "PATH", default_value = "/run/fairlead/agent.sock", value_parser = absolute)]
    pub socket: PathBuf,
}

impl From<PathArguments> for Paths {
    fn from(
        PathArguments {
            state_dir,
            bpf_root,
            cgroup_root,
            socket,
        }: PathArguments,
    ) -> Self {
        Self {
            state_dir,
            bpf_root,
            cgroup_root,
            socket,
        }
    }
}

/// `--health-addr`, of which the empty text means nowhere.
#[derive(Clone, Copy, Debug)]
pub struct HealthAddr(pub Option<SocketAddr>);

impl FromStr for HealthAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text
            .parse()
            .map_err(|_| format!("`{text}` is not an address and port such as 127.0.0.1:20244"))?;
        Ok(Self(Some(address)))
    }
}
