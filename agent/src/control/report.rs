//! Answers to `status` and `services`, as they travel and as `--output json` prints them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Answer to `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Name of the node.
    pub node: String,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Dataplane in force.
    pub dataplane: String,
    /// How TCP of processes is balanced.
    pub connect: String,
    /// Whether every kind has been listed.
    pub synced: bool,
    /// How well each kind is heard of.
    pub sources: Vec<SourceRow>,
    /// The last apply.
    pub apply: Apply,
    /// Fullness of the tables.
    pub maps: Vec<MapRow>,
    /// Interfaces.
    pub devices: Vec<DeviceRow>,
    /// Counters of the programs.
    pub counters: Vec<CounterRow>,
    /// What is wrong with objects of the cluster.
    pub problems: Vec<ProblemRow>,
    /// Pods of this node that network policy does not reach.
    #[serde(default)]
    pub unenforced: Vec<UnenforcedRow>,
    /// Pod routes, where they are kept.
    #[serde(default)]
    pub routing: Option<Routing>,
    /// What leaves the cluster, where that is masqueraded.
    #[serde(default)]
    pub egress: Option<EgressReport>,
    /// What skips the host's stack.
    #[serde(default)]
    pub fast_path: Option<FastPathRow>,
    /// How something that was asked for is done.
    #[serde(default)]
    pub notes: Vec<NoteRow>,
    /// Flags that were given and change nothing.
    pub flags_without_effect: Vec<String>,
}

/// What skips the host's stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastPathRow {
    /// Why nothing does.
    pub off: Option<String>,
    /// Interfaces of pods that packets are handed to straight.
    pub pods: usize,
    /// Networks of pods of other nodes that packets are sent to straight.
    pub networks: usize,
    /// Interfaces of pods that it leaves out, and why.
    pub left_out: Vec<String>,
}

/// Pod routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// How each pod network of other nodes is reached.
    pub routes: Vec<RouteRow>,
    /// This node's pod networks.
    pub pod_networks: Vec<String>,
    /// Largest packet of pods in bytes.
    pub pod_mtu: Option<u32>,
    /// The overlay's device and what it is.
    pub overlay: Option<String>,
    /// Routes to pods of other nodes in the kernel.
    pub in_kernel: usize,
    /// Seconds since the last apply ended.
    pub seconds_ago: Option<f64>,
    /// Applies since the agent's start.
    pub applies_total: u64,
    /// Applies that failed, in whole or in part.
    pub failed_total: u64,
    /// Writes since the agent's start.
    pub operations_total: u64,
    /// Writes that mended what somebody else had changed.
    pub repaired_total: u64,
    /// What could not be done, and why.
    pub failures: Vec<String>,
    /// What is installed for container runtimes.
    pub cni: Option<String>,
    /// What is wrong with that, and what to do.
    pub cni_error: Option<String>,
}

/// What leaves the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressReport {
    /// Whose packets are looked at.
    pub pod_networks: Vec<String>,
    /// What they leave as, by uplink.
    pub sources: BTreeMap<String, Vec<String>>,
    /// Networks that know pods by their own addresses, the first thousand of them.
    pub kept: Vec<EgressRow>,
    /// All of them.
    pub kept_total: usize,
    /// Those there is no room for.
    pub left_out: usize,
}

/// A network where packets keep the pod's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRow {
    /// The network.
    pub network: String,
    /// Why.
    pub why: String,
}

/// The way to a pod network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// The network.
    pub network: String,
    /// Its node.
    pub node: String,
    /// How it is reached.
    pub way: String,
    /// Why so.
    pub why: String,
    /// Why it is not in force.
    pub error: Option<String>,
}

/// The last apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Apply {
    /// Generation that is wanted.
    pub desired_generation: Option<u64>,
    /// Generation that is in force.
    pub applied_generation: Option<u64>,
    /// Seconds since the last apply ended.
    pub seconds_ago: Option<f64>,
    /// How long it took.
    pub took_milliseconds: f64,
    /// Writes it did.
    pub operations: u64,
    /// Writes since the agent's start.
    pub operations_total: u64,
    /// Writes that mended what somebody else had changed.
    pub repaired_total: u64,
    /// The same by map and by what was wrong.
    #[serde(default)]
    pub divergences: Vec<DivergenceRow>,
    /// Applies since the agent's start.
    pub applies_total: u64,
    /// Applies that failed, in whole or in part.
    pub failed_total: u64,
    /// Why the last one ended early.
    pub error: Option<String>,
    /// What of the policies has no room. Its pods are closed.
    #[serde(default)]
    pub no_room: Option<String>,
    /// What of it is not in force, and why.
    pub failures: Vec<String>,
}

/// Entries of one map that were wrong in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergenceRow {
    /// Name of the map.
    pub map: String,
    /// `missing`, `different` or `extra`.
    pub kind: String,
    /// How many, since the agent's start.
    pub count: u64,
}

/// One kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRow {
    /// Kind.
    pub kind: String,
    /// `listing`, `watching` or `degraded`.
    pub state: String,
    /// Why it is degraded.
    pub reason: Option<String>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRow {
    /// Name.
    pub map: String,
    /// Entries in use.
    pub used: u64,
    /// Entries it can hold.
    pub max: u64,
    /// Whether a new entry has no room, or drives out another.
    pub full: bool,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Name.
    pub name: String,
    /// `uplink`, `workload`, or why it is ignored; with `xdp` where the driver runs the edge path.
    pub role: String,
    /// Why the programs are not there.
    pub error: Option<String>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Name.
    pub name: String,
    /// Value since the tables were made.
    pub value: u64,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRow {
    /// Kind of the object.
    pub kind: String,
    /// `namespace/name`.
    pub object: String,
    /// Path of the field.
    pub field: String,
    /// What was found.
    pub message: String,
    /// What follows.
    pub effect: String,
}

/// An address of a pod at which network policy is not enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnenforcedRow {
    /// `namespace/name`.
    pub pod: String,
    /// The address.
    pub address: String,
    /// Whether a policy selects the pod.
    pub has_rules: bool,
    /// Why.
    pub reason: String,
}

/// A remark about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRow {
    /// Kind, namespace and name.
    pub object: String,
    /// The remark.
    pub note: String,
}

/// Answer to `services`: one entry a Service port and family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The Services.
    pub services: Vec<ServiceRow>,
}

/// One Service port in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// `namespace/name`.
    pub service: String,
    /// Kind of that object: a Service, or a Pod with host ports.
    pub owner: String,
    /// Name of the port.
    pub port: String,
    /// Protocol.
    pub protocol: String,
    /// Addresses and ports.
    pub frontends: Vec<FrontendRow>,
    /// Endpoints that are wanted or there.
    pub backends: Vec<BackendRow>,
    /// Service id in the kernel.
    pub id: Option<u32>,
    /// Slots in use in the kernel.
    pub slots: Option<u32>,
    /// `ok`, `rejecting` (no endpoint), or what differs.
    pub state: String,
}

/// One frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendRow {
    /// Address and port.
    pub address: String,
    /// Kind of address: `ClusterIP`, `NodePort`, `LoadBalancer` and so on.
    pub scope: String,
    /// Whether the kernel has it.
    pub in_kernel: bool,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRow {
    /// Address and port.
    pub address: String,
    /// Whether it runs on this node.
    pub local: bool,
    /// Whether it only finishes what it has begun.
    pub draining: bool,
    /// Whether it is wanted.
    pub desired: bool,
    /// Backend id in the kernel.
    pub id: Option<u32>,
}
