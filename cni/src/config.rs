//! The network configuration: what stands in the conflist, and what the runtime adds.
//!
//! A DEL reads only what says where the leases are ([`Place`]), so that it works for what another
//! version or another configuration made.

mod document;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{CniError, Code};
use crate::name::Mac;
use crate::range::Range;
pub use document::Document;

/// Where the leases of a network are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The network's name.
    pub network: String,
    /// `stateDir`.
    pub state_dir: PathBuf,
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the leases are.
    pub place: Place,
    /// Where addresses come from; a pod gets one of each family. None where the node has no pod
    /// network any more: what is there can be looked at and taken back, and nothing new be made.
    pub ranges: Vec<Range>,
    /// Largest packet in bytes; the uplink's where not given.
    pub mtu: Option<u32>,
    /// Whom to ask before a pod may send.
    pub agent: Option<AgentAt>,
    /// Passed on to the runtime.
    pub dns: Option<Map<String, Value>>,
    /// Addresses that the runtime asks for.
    pub addresses: Vec<IpAddr>,
    /// Hardware address that the runtime asks for.
    pub mac: Option<Mac>,
    /// Whether the kernel may be hurried where something is taken back.
    pub hurries: bool,
}

impl Config {
    /// The ranges, of which there has to be one.
    ///
    /// # Errors
    /// Where the node has no pod network; `code` is the error's.
    pub fn some_ranges(&self, code: Code) -> Result<&[Range], CniError> {
        if self.ranges.is_empty() {
            return Err(CniError::new(
                code,
                "the node has no pod network, so there are no addresses",
                "`ranges` is empty; the agent fills it in when the Node has `spec.podCIDRs` again: see `fairlead-agent status`",
            ));
        }
        Ok(&self.ranges)
    }
}

/// The agent's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentAt {
    /// Path of the socket.
    pub socket: PathBuf,
    /// How long to wait for an agent that is away.
    pub wait: Duration,
}
