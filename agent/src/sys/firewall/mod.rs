//! What others have the kernel's packet filter do: the chains of nftables, with those that iptables
//! makes there, and those of the older iptables.
//!
//! Read only, and as far as it tells what becomes of a packet that no rule names.

mod legacy;
mod nft;

use std::collections::BTreeSet;
use std::fmt;

pub use legacy::chains as legacy_chains;
pub use nft::chains as nft_chains;

/// One chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Who keeps it.
    pub kept_by: KeptBy,
    /// Its table's family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets come to it, if they do by themselves.
    pub filters: Option<Filters>,
}

/// What a chain does with the packets of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// The hook.
    pub hook: Hook,
    /// Whether what no rule decides about is dropped.
    pub drops: bool,
    /// Whether a rule may let packets pass.
    pub lets_some_pass: bool,
    /// UDP and TCP ports that rules which let packets pass compare with.
    pub ports: BTreeSet<u16>,
}

/// Hooks that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What is for the node.
    Input,
    /// What goes through it.
    Forward,
}

/// Who keeps a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptBy {
    /// nftables.
    Nft,
    /// iptables of the older kind.
    Legacy,
}

/// Family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        })
    }
}
