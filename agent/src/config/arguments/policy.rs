//! Flags of network policy.

use clap::{ArgAction, Args};

use crate::lb::ebpf::programs::PolicyLimits;

/// Network policy.
#[derive(Clone, Debug, Args)]
pub struct PolicyArguments {
    /// Enforce network policies
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Network policy")]
    pub run_firewall: bool,
    /// Let pods neither send nor receive, but to and from the node, until their policies are known;
    /// which addresses are pods' is said by the Node's podCIDRs
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Network policy")]
    pub netpol_default_deny: bool,
    /// Most verdicts of network policies, and prefixes of peers; fixed when the tables are made
    #[arg(
        long,
        value_name = "N",
        default_value_t = PolicyLimits::default().entries,
        help_heading = "Network policy"
    )]
    pub max_policy_entries: u32,
}
