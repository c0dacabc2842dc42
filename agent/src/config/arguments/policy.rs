//! Flags of network policy.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

use super::View;

/// Network policy.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network policy")]
pub struct PolicyArguments {
    /// Enforce network policies
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub run_firewall: bool,
    /// Let pods neither send nor receive, but to and from the node, until their policies are known;
    /// which addresses are pods' is said by the Node's podCIDRs
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub netpol_default_deny: bool,
    /// Let connections go on that were allowed when they began and that policies forbid by now; a
    /// ping is judged anew each time
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub netpol_keep_connections: bool,
}

/// What may be asked of network policy.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say which of the flows seen lately changed policies would cut, and which they would newly
    /// allow; the exit status is 3 where something would be cut
    WhatIf {
        /// NetworkPolicies and ClusterNetworkPolicies that are added, or take the place of those of
        /// their names; `-` for standard input
        #[arg(value_name = "FILE", required_unless_present = "delete")]
        files: Vec<PathBuf>,
        /// A policy that is gone: NAMESPACE/NAME, or NAME of a ClusterNetworkPolicy
        #[arg(long, value_name = "NAME")]
        delete: Vec<String>,
        /// How to show it.
        #[command(flatten)]
        view: View,
    },
}
