//! The programs and tables in the kernel, before anything of a network interface runs them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_abi::egress::EGRESS_SOURCES_MAP;
use agent_abi::tunnel::TUNNELS_MAP;
use anyhow::{Context as _, Result};
use tokio::sync::watch;

use super::connect;
use crate::cleanup::{LINKS, MAPS, PROGRAMS};
use crate::config::Config;
use crate::egress::maps::{EgressMap, SourceMap};
use crate::flows::log::Log;
use crate::handover::Handover;
use crate::lb::ebpf::attach::Attachments;
use crate::lb::ebpf::facility::ServiceMaps;
use crate::lb::ebpf::fast_path::FastPaths;
use crate::lb::ebpf::programs::Programs;
use crate::node_tables::{NodeTables, policy_maps};
use crate::ownership::Ownership;
use crate::policy::ebpf::facility::{InForce, PolicyMaps};
use crate::policy::ebpf::interfaces::Interfaces;
use crate::probe::Capabilities;
use crate::sys::map::Owned;
use crate::sys::program_log::ProgramLog;

/// What is in the kernel. Each table is opened once, by its only writer.
pub(super) struct Loaded {
    pub(super) pins: PathBuf,
    pub(super) programs: Programs,
    pub(super) attachments: Attachments,
    /// What is to go over from another proxy or build.
    pub(super) handover: Handover,
    /// How TCP of processes is balanced.
    pub(super) connect: String,
    pub(super) tables: NodeTables,
    pub(super) sources: SourceMap,
    pub(super) tunnels: Owned<u32, u32>,
    pub(super) log: Log,
    /// What is told of the policy tables, where policy is on.
    pub(super) in_force: Option<watch::Receiver<InForce>>,
    pub(super) fast_paths: FastPaths,
    /// Where policy is on.
    pub(super) interfaces: Option<Interfaces>,
    /// What the programs say, with `--debug-programs`.
    pub(super) said: Option<ProgramLog>,
}

impl Loaded {
    /// Loads `object`, and attaches what is of no interface.
    pub(super) fn load(
        object: &[u8],
        config: &Config,
        node: &Capabilities,
        ownership: &mut Ownership,
    ) -> Result<Self> {
        let Config {
            paths,
            limits,
            translation,
            ..
        } = config;
        let pins = paths.bpf_root.join(MAPS);
        let handover = Handover::look(pins.clone(), limits.policy.is_some())?;
        let mut programs = Programs::load(object, &pins, *limits)?;
        let said = programs.log();
        // Programs that are kept write to a log that nobody reads any more.
        if said.is_none() {
            programs.keep_in(&paths.bpf_root.join(PROGRAMS), object, &pins);
        }
        handover.begin(ownership)?;
        let attachments = Attachments::new(paths.bpf_root.join(LINKS), node.attach)
            .context("links cannot be pinned; check --bpf-root")?
            .hurrying(config.rcu_expedited);
        let connect = connect::attach(
            &mut programs,
            &attachments,
            node.cgroup2.as_deref(),
            paths.cgroup_root.as_deref(),
            translation.masquerade_all,
        )?;
        let tables = NodeTables {
            services: ServiceMaps::open(pins.clone(), translation.clone())?,
            policy: policy_maps(&pins, limits.policy.is_some())?,
            egress: EgressMap::open(&pins)?,
        };
        let sources = SourceMap::open(&pins, EGRESS_SOURCES_MAP)?;
        let tunnels = Owned::open(&pins, TUNNELS_MAP)?;
        let log = Log::open(&pins)?;
        let in_force = tables.policy.as_ref().map(PolicyMaps::in_force);
        let fast_paths = FastPaths::open(&pins)?;
        let mut interfaces = Interfaces::open(&pins)?;
        if limits.policy.is_none() {
            // What an earlier run wrote; an index may be another interface's later.
            interfaces.follow(BTreeMap::new())?;
        }
        let interfaces = limits.policy.is_some().then_some(interfaces);
        Ok(Self {
            pins,
            programs,
            attachments,
            handover,
            connect,
            tables,
            sources,
            tunnels,
            log,
            in_force,
            fast_paths,
            interfaces,
            said,
        })
    }
}
