//! Subcommands: what to do instead of running.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use model::Protocol;
use serde::{Deserialize, Serialize};

use super::{DoctorArguments, PolicyCommand};
use crate::config::duration;
use crate::explain::ask::{Destination, Sender};
use crate::flows::filter::Filter;

const OF_DOCTOR: &str = "\
Changes nothing. Exit status 1 where a check fails. Without a running agent, what only it knows is
told as such. docs/doctor.md lists the checks.

Examples:
  fairlead-agent doctor                                     all checks
  fairlead-agent doctor --only mtu,reach                    packets of full size to the other nodes
  fairlead-agent doctor --kubeconfig FILE                   before installing, with the API server
  fairlead-agent doctor --no-probe -o json                  for machines, with no packet sent";

const OF_FLOWS: &str = "\
Of each pod and reason, 10 events are told of at once and then 10 a second; what is left out is
counted beside the next one. The newest 4096 are kept.

Examples:
  fairlead-agent flows --verdict drop                       what was dropped, and by which rule
  fairlead-agent flows --follow --pod shop/cart             what becomes of one pod's connections
  fairlead-agent flows --since 5m -o json                   one JSON object a line";

/// What to do instead of running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show what the agent of this node has heard, wants and has done
    Status(View),
    /// Show Services as wanted and as the kernel holds them
    Services {
        /// NAME or NAMESPACE/NAME: this Service with its endpoints
        name: Option<String>,
        /// How to show it.
        #[command(flatten)]
        view: View,
    },
    /// Explain what becomes of a connection, step by step, from the kernel's tables
    Explain {
        /// Client: NAMESPACE/POD of this node, or ADDRESS; with :PORT for one connection
        #[arg(long, value_name = "CLIENT")]
        from: Sender,
        /// What it asks for: NAMESPACE/SERVICE[:PORT], or ADDRESS:PORT
        #[arg(long, value_name = "SERVICE")]
        to: Destination,
        /// Protocol; else that of the Service's port, or TCP
        #[arg(long = "proto", value_enum)]
        protocol: Option<Transport>,
        /// How to show it.
        #[command(flatten)]
        view: View,
    },
    /// Show what became of single connections: drops, refusals and audited verdicts as they are
    /// kept, with --follow those that come and every connection that passes
    #[command(after_help = OF_FLOWS)]
    Flows {
        /// Go on with what comes, until interrupted; says on stderr when it begins to, in JSON with
        /// `{"following": TIME}` between what is kept and what comes
        #[arg(long, short)]
        follow: bool,
        /// Of those that are kept, the newest N
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Of those that are kept, those of this last time
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        since: Option<Duration>,
        /// Which.
        #[command(flatten)]
        filter: Filter,
        /// How to show it.
        #[command(flatten)]
        view: View,
    },
    /// Check what on this node stands in the way, before installing and while the agent runs, each
    /// with what to do about it
    #[command(after_help = OF_DOCTOR)]
    Doctor(Box<DoctorArguments>),
    /// Ask about network policies
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// Protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Transport {
    /// As the model has it.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
        }
    }
}

/// How to ask a running agent.
#[derive(Clone, Debug, Args)]
pub struct View {
    /// Unix socket of the agent
    #[arg(long, value_name = "PATH", default_value = "/run/fairlead/agent.sock")]
    pub socket: PathBuf,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For machines
    Json,
}
