//! What goes over to this agent's tables when its programs take the place of others.
//!
//! Connections of the kernel's tracking, where another proxy has been (`takeover`), or those of
//! another build of the agent (`layout`); and, where policy is switched on, who began those that are
//! there (`seed`). The latter are copied before the programs are attached,
//! so that none is missed for a moment, and once more after, for what began in between.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::lb::ebpf::entries::address;
use crate::lb::ebpf::layout;
use crate::lb::ebpf::maps::was_policed;
use crate::lb::ebpf::takeover::{self, LIBERAL};
use crate::ownership::Ownership;
use crate::policy::ebpf::seed::{self, Seeds, Tracked};
use crate::settings;
use crate::sys::{clock, conntrack};

/// What is to go over.
#[derive(Debug)]
pub struct Handover {
    pins: PathBuf,
    kernel: bool,
    build: bool,
    policy: bool,
}

impl Handover {
    /// Looks for what is there, for a node where network policy is to be on or not; before the programs are loaded, whose maps are made then.
    ///
    /// # Errors
    /// Where it cannot be read, as that of a build whose connections this one cannot read.
    pub fn look(pins: PathBuf, policed: bool) -> Result<Self> {
        layout::check(&pins)?;
        Ok(Self {
            kernel: takeover::is_due(&pins)?,
            build: layout::is_due(&pins)?,
            // Where there are no settings, nobody was.
            policy: policed && !was_policed(&pins).unwrap_or(false),
            pins,
        })
    }

    /// Lets the kernel go on with its connections until they are here.
    ///
    /// # Errors
    /// Where a setting or map cannot be written.
    pub fn begin(&self, ownership: &mut Ownership) -> Result<()> {
        if !self.kernel {
            // Of an agent that ended between taking over and here.
            return settings::restore(ownership, LIBERAL);
        }
        settings::enable(ownership, LIBERAL)?;
        Ok(takeover::begin(&self.pins)?)
    }

    /// Right before the programs are attached.
    /// `pods` are the addresses of the node's pods.
    pub fn before_attaching(&self, pods: &BTreeSet<IpAddr>) {
        if self.build {
            self.convert();
        }
        self.seed(pods);
    }

    /// Right after. `node` are the node's addresses.
    pub fn finish(self, node: &[IpAddr], pods: &BTreeSet<IpAddr>, ownership: &mut Ownership) {
        if self.kernel {
            match takeover::finish(&self.pins, node) {
                Ok(0) => {}
                Ok(connections) => tracing::info!(
                    connections,
                    "took over from the kernel's connection tracking"
                ),
                Err(error) => tracing::warn!(
                    %error,
                    "connections of another proxy may break: they could not be taken over"
                ),
            }
            // The kernel sees all packets of those that stay with it, and none of the others.
            if let Err(error) = settings::restore(ownership, LIBERAL) {
                tracing::warn!(%error, setting = LIBERAL, "stays until --cleanup-config");
            }
        }
        if self.build {
            self.convert();
        }
        // What began in between.
        self.seed(pods);
        if let Err(error) = layout::remove_others(&self.pins) {
            tracing::warn!(%error, "maps of another build stay");
        }
    }

    /// Tells policy who began the connections that are there.
    fn seed(&self, pods: &BTreeSet<IpAddr>) {
        if !self.policy {
            return;
        }
        match seeds(pods).and_then(|seeds| Ok(seed::plant(&self.pins, &seeds)?)) {
            Ok(0) => {}
            Ok(connections) => {
                tracing::info!(connections, "known to network policy from before it was on");
            }
            Err(error) => tracing::warn!(
                %error,
                "connections of before may be judged from the side that answers"
            ),
        }
    }

    fn convert(&self) {
        match takeover::convert(&self.pins) {
            Ok(0) => {}
            Ok(entries) => tracing::info!(entries, "took over from another build"),
            Err(error) => tracing::warn!(
                %error,
                "connections of another build may break: they could not be taken over"
            ),
        }
    }
}

fn seeds(pods: &BTreeSet<IpAddr>) -> Result<Seeds> {
    let tracked = match conntrack::dump() {
        // A kernel without connection tracking has nothing to tell.
        Err(conntrack::Error::Unsupported(_)) => Vec::new(),
        flows => flows?,
    };
    let tracked: Vec<Tracked> = tracked
        .iter()
        .map(|flow| Tracked {
            original: takeover::tuple(&flow.original),
            reply: takeover::tuple(&flow.reply),
        })
        .collect();
    let pods = pods.iter().map(|pod| address(*pod)).collect();
    let now = clock::monotonic_nanoseconds();
    Ok(seed::seeds(&pods, &tracked, now))
}
