//! Loading the eBPF programs with their pinned maps.
//!
//! From the object that `cargo xtask build` made, to programs in the kernel whose maps are the
//! pinned ones where those exist. Attaching is `attach`'s, reading and writing maps is `maps`'.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};

use super::kept::Kept;
use super::shape;
use crate::desired::egress::MOST_NETWORKS;
use crate::sys::map::{List, TableError};
use crate::sys::program_log::ProgramLog;
use agent_abi::connection::{CONNECTIONS_MAP, FRAGMENTS_MAP, HELD_MAP, OPENING_MAP};
use agent_abi::counters::TRAFFIC_MAP;
use agent_abi::crc32c::{self, CRC32C_MAP};
use agent_abi::egress::EGRESS_MAP;
use agent_abi::fast_path::{FAST_DEVICES_MAP, POD_NETWORKS_MAP};
use agent_abi::policy::{ENDPOINTS_MAP, IDENTITIES_MAP, INTERFACES_MAP, RULES_MAP, VERDICTS_MAP};
use agent_abi::service::{
    ADDRESSES_MAP, AFFINITY_MAP, BACKENDS_MAP, FRONTENDS_MAP, RINGS_MAP, SERVICES_MAP, SLOTS_MAP,
    SOURCES_MAP,
};
use agent_abi::settings::EDGE_DEVICES_MAP;
use aya::maps::xdp::DevMapHash;
use aya::maps::{MapData, MapError};
use aya::programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};

/// Most entries of each table. A table that exists keeps the size it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Service ports (a dual-stack port counts twice); 48 bytes each and a frontend of 64.
    pub services: u32,
    /// Endpoints of all service ports together; 136 bytes each with its slot.
    pub backends: u32,
    /// Entries of the connection table: two for each connection that is balanced per packet, and where
    /// policy is on, one for each other of each pod; 184 bytes each, reserved at start. The least recently
    /// used entry goes when it is full.
    pub connections: u32,
    /// Network policy; `None` where it is off.
    pub policy: Option<PolicyLimits>,
}

/// Most entries of the tables of network policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Verdicts of all sets together, and prefixes with an identity; about 100 bytes each where
    /// used. While a change goes on, sets that change are there twice.
    pub entries: u32,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        // 20 pods under the worst that `desired::policy` names.
        Self { entries: 1 << 20 }
    }
}

/// Pods of a node, at two addresses each, many times over.
const ENDPOINTS: u32 = 16_384;

/// Rules that have decided over something since they were made; 24 bytes a CPU each where used. Of
/// one more, nothing is counted.
const RULES: u32 = 65_536;
/// Addresses behind interfaces: of a pod, its two, and what goes for each family beside them.
const INTERFACES: u32 = 2 * ENDPOINTS;

/// Networks that know pods by their own addresses, and pod networks of this node; some are of one
/// family and some of the other, so there is room for the roots of both.
#[expect(clippy::cast_possible_truncation, reason = "it is a small number")]
const EGRESS: u32 = 2 * MOST_NETWORKS as u32;
/// Pod networks of other nodes: two a node, of more nodes than a cluster has.
const POD_NETWORKS: u32 = 16_384;

/// Cut packets whose later fragments are awaited; they come within milliseconds.
const FRAGMENTS: u32 = 8192;

impl Limits {
    /// Most addresses and ports: a service port has its cluster IP and a few node addresses.
    pub fn frontends(&self) -> u32 {
        self.services.saturating_mul(4)
    }

    /// Most slots: an endpoint has one in each pool, and a changing pool with a ring twice as many.
    fn slots(&self) -> u32 {
        self.backends.saturating_mul(2)
    }

    /// Most parts of rings: 64 entries each, about two an endpoint.
    fn ring_chunks(&self) -> u32 {
        self.backends.saturating_mul(2)
    }

    /// Most networks that load balancers' addresses are open to: a few a service port.
    fn sources(&self) -> u32 {
        self.services.saturating_mul(4)
    }

    /// Most addresses of frontends and nodes; no cluster has more nodes than Services.
    fn addresses(&self) -> u32 {
        self.frontends().saturating_mul(2)
    }

    /// Later fragments that wait for their first one, at 2.1 kB each: 1024 of them, 2 MB, beside
    /// 262,144 connections, 48 MB. They wait for milliseconds.
    fn held(&self) -> u32 {
        (self.connections / 256).max(64)
    }

    /// Connections that one side alone has sent for. A quarter of the others: a flood should drive
    /// out itself before it matters.
    fn opening(&self) -> u32 {
        (self.connections / 4).max(1)
    }
}

/// Attempts at loading a program, as libbpf makes them.
const LOAD_ATTEMPTS: u32 = 5;

/// The tc programs without network policy, and with it.
const FREE: [&str; 3] = ["uplink_ingress", "workload_ingress", "egress"];
const POLICED: [&str; 4] = [
    "uplink_ingress",
    "policed_ingress",
    "policed_egress",
    "egress",
];

/// Why the programs are not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory of the pinned maps.
    #[error("cannot create {path}, where the tables are kept; is it on a bpffs? check --bpf-root")]
    Pins {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The object, its maps.
    #[error("the kernel refuses the eBPF tables; it must be 5.10 or later with BPF and BTF")]
    Object(#[source] Box<EbpfError>),
    /// A table that the programs read from.
    #[error("the eBPF tables cannot be filled")]
    Table(#[source] TableError),
    /// A program or table that the object should hold.
    #[error("the eBPF object has no {0}; build it again with `cargo xtask build`")]
    Missing(&'static str),
    /// One program.
    #[error("the kernel refuses the eBPF program {program}{}", in_the_verifiers_words(.refusal))]
    Program {
        /// Its name.
        program: &'static str,
        /// The cause, with the verifier's log, which is long.
        refusal: Box<ProgramError>,
    },
}

/// The loaded programs.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    kept: Option<Kept>,
    found: BTreeMap<&'static str, SchedClassifier>,
    policed: bool,
}

impl Programs {
    /// Puts the programs of `object` into the kernel, with the maps pinned below `pins`.
    ///
    /// # Errors
    /// [`LoadError`] where the kernel refuses; nothing is attached then, and pinned maps that were
    /// there before are as they were.
    pub fn load(object: &[u8], pins: &Path, limits: Limits) -> Result<Self, LoadError> {
        std::fs::create_dir_all(pins).map_err(|source| LoadError::Pins {
            path: pins.into(),
            source,
        })?;
        // Without policy its tables are there too, and stay empty: room is taken as entries come.
        let entries = limits.policy.unwrap_or_default().entries;
        let ebpf = EbpfLoader::new()
            // The programs read no kernel structure, so nothing is relocated by the kernel's types,
            // which take 20 MB to read.
            .btf(None)
            .default_map_pin_directory(pins)
            .map_max_entries(FRONTENDS_MAP, limits.frontends())
            .map_max_entries(SERVICES_MAP, limits.services)
            .map_max_entries(SLOTS_MAP, limits.slots())
            .map_max_entries(BACKENDS_MAP, limits.backends)
            .map_max_entries(RINGS_MAP, limits.ring_chunks())
            .map_max_entries(SOURCES_MAP, limits.sources())
            .map_max_entries(AFFINITY_MAP, limits.opening())
            .map_max_entries(CONNECTIONS_MAP, limits.connections)
            .map_max_entries(OPENING_MAP, limits.opening())
            .map_max_entries(FRAGMENTS_MAP, FRAGMENTS)
            .map_max_entries(HELD_MAP, limits.held())
            .map_max_entries(ADDRESSES_MAP, limits.addresses())
            .map_max_entries(TRAFFIC_MAP, limits.services)
            .map_max_entries(IDENTITIES_MAP, entries)
            .map_max_entries(VERDICTS_MAP, entries)
            .map_max_entries(ENDPOINTS_MAP, ENDPOINTS)
            .map_max_entries(INTERFACES_MAP, INTERFACES)
            .map_max_entries(RULES_MAP, RULES)
            .map_max_entries(EGRESS_MAP, EGRESS)
            .map_max_entries(FAST_DEVICES_MAP, ENDPOINTS)
            .map_max_entries(POD_NETWORKS_MAP, POD_NETWORKS)
            .load(object)
            .map_err(|error| LoadError::Object(Box::new(error)))?;
        let mut table = Box::new([[[0; 256]; 4]; 16]);
        crc32c::fill(&mut table);
        List::<crc32c::Table>::open(pins, CRC32C_MAP)
            .and_then(|mut map| map.set(0, *table))
            .and_then(|()| shape::describe(pins))
            .map_err(LoadError::Table)?;
        Ok(Self {
            ebpf,
            kept: None,
            found: BTreeMap::new(),
            policed: limits.policy.is_some(),
        })
    }

    /// Whether network policy is on.
    pub fn are_policed(&self) -> bool {
        self.policed
    }

    /// What the programs say of themselves; `None` where the object's say nothing.
    pub fn log(&mut self) -> Option<ProgramLog> {
        ProgramLog::of(&mut self.ebpf)
    }

    /// Takes tc programs that an agent with the same `object` has left in `directory`, and leaves
    /// those it loads there, for a start without the verifier's work.
    pub fn keep_in(&mut self, directory: &Path, object: &[u8], pins: &Path) {
        match Kept::open(directory, object, pins) {
            Ok(kept) => self.kept = Some(kept),
            Err(error) => tracing::debug!(%error, "programs are not kept for the next start"),
        }
    }

    /// Puts the tc programs into the kernel, so that attaching them takes no time.
    ///
    /// # Errors
    /// [`LoadError::Program`] where the verifier refuses one.
    pub fn load_classifiers(&mut self) -> Result<(), LoadError> {
        let names: &[&'static str] = if self.policed { &POLICED } else { &FREE };
        names
            .iter()
            .try_for_each(|name| self.classifier(name).map(drop))
    }

    /// A tc program, in the kernel.
    ///
    /// # Errors
    /// [`LoadError::Program`] where the verifier refuses it.
    pub fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, LoadError> {
        let program: &mut SchedClassifier = find(&mut self.ebpf, name)?;
        if program.fd().is_ok() {
            return Ok(program);
        }
        match self.found.entry(name) {
            Entry::Occupied(found) => return Ok(found.into_mut()),
            Entry::Vacant(place) => {
                if let Some(found) = self.kept.as_ref().and_then(|kept| kept.find(name)) {
                    return Ok(place.insert(found));
                }
            }
        }
        load_once(false, || program.load()).map_err(refused(name))?;
        if let Some(kept) = &self.kept {
            kept.keep(name, program);
        }
        Ok(program)
    }

    /// An XDP program, in the kernel.
    ///
    /// # Errors
    /// [`LoadError::Program`] where the verifier refuses it.
    pub fn xdp(&mut self, name: &'static str) -> Result<&mut Xdp, LoadError> {
        let program: &mut Xdp = find(&mut self.ebpf, name)?;
        load_once(program.fd().is_ok(), || program.load()).map_err(refused(name))?;
        Ok(program)
    }

    /// The interfaces that packets may be redirected to before the stack has them.
    ///
    /// # Errors
    /// Where the object has no such table.
    pub fn edge_devices(&mut self) -> Result<DevMapHash<&mut MapData>, LoadError> {
        let map = self
            .ebpf
            .map_mut(EDGE_DEVICES_MAP)
            .ok_or(LoadError::Missing(EDGE_DEVICES_MAP))?;
        DevMapHash::try_from(map)
            .map_err(|error: MapError| LoadError::Object(Box::new(EbpfError::MapError(error))))
    }

    /// A cgroup `connect` program, in the kernel.
    ///
    /// # Errors
    /// [`LoadError::Program`] where the verifier refuses it (it needs Linux 5.18).
    pub fn connect(&mut self, name: &'static str) -> Result<&mut CgroupSockAddr, LoadError> {
        let program: &mut CgroupSockAddr = find(&mut self.ebpf, name)?;
        load_once(program.fd().is_ok(), || program.load()).map_err(refused(name))?;
        Ok(program)
    }
}

/// A program of the object, of the type it should have.
fn find<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    program.try_into().map_err(refused(name))
}

fn refused(program: &'static str) -> impl FnOnce(ProgramError) -> LoadError {
    move |refusal| LoadError::Program {
        program,
        refusal: Box::new(refusal),
    }
}

/// Why the verifier refuses a program, which is the last of its log but for figures, with what the kernel says.
fn in_the_verifiers_words(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return format!(": {error}");
    };
    let log = verifier_log.to_string();
    let is_figure = |line: &&str| {
        ["verification time", "stack depth", "processed "]
            .iter()
            .any(|figure| line.starts_with(figure))
    };
    let reason = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !is_figure(line));
    match reason {
        Some(reason) => format!(": {reason} ({io_error})"),
        None => format!(": {io_error}"),
    }
}

/// Loads a program that is not. The verifier gives up where the thread has a signal to see to, and is to be
/// asked again.
fn load_once(
    loaded: bool,
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    if loaded {
        return Ok(());
    }
    for _ in 1..LOAD_ATTEMPTS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    load()
}
