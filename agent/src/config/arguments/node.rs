//! Flags of the node: its interfaces, and the room in the kernel's tables.

use clap::{ArgAction, Args};

use crate::lb::ebpf::programs::PolicyLimits;

/// Interfaces that are not found by themselves.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Interfaces")]
pub struct InterfaceArguments {
    /// Interfaces that lead to other machines; else those with a node address or a default route
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// Uplinks whose driver runs the path of direct server return before the stack has a packet;
    /// where it refuses, `status` says why, and packets take the way through tc. A veth sends so
    /// only while its other end has GRO on, or XDP
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub xdp_devices: Vec<String>,
    /// Attach to interfaces by tcx links where the kernel has them (Linux 6.6). `false`: as filters of
    /// clsact qdiscs, as on older kernels; a restart goes from one to the other under traffic
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub enable_tcx: bool,
}

/// How much the tables hold.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Table sizes")]
pub struct TableArguments {
    /// Most Service ports (one of each family); fixed when the tables are made
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    pub max_services: u32,
    /// Most endpoints of all Service ports together; fixed when the tables are made
    #[arg(long, value_name = "N", default_value_t = 524_288)]
    pub max_backends: u32,
    /// Entries of the connection table, two a connection; fixed when the table is made [default: by
    /// the machine's memory, 262144 for 16 GiB]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<u32>,
    /// Most verdicts of network policies, and prefixes of peers; fixed when the tables are made
    #[arg(
        long,
        value_name = "N",
        default_value_t = PolicyLimits::default().entries)]
    pub max_policy_entries: u32,
}
