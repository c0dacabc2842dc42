//! The maps. All are pinned by name, so they outlive the agent.
//!
//! Sizes here are the least useful ones; the agent sets the real ones when it loads the programs.

use agent_abi::Address;
use agent_abi::connection::{ConnectionV3, FragmentKeyV1, FragmentV2, TupleV1};
use agent_abi::counters::{COUNTERS, Counter, TrafficV1};
use agent_abi::crc32c;
use agent_abi::egress::{EgressAddressV1, EgressSourceV1};
use agent_abi::fast_path::FastDeviceV1;
use agent_abi::flow::{FLOWS_BYTES, LimitKeyV1, LimitV1};
use agent_abi::layout::{FieldV1, LAYOUT_FIELDS};
use agent_abi::policy::{
    EndpointV1, InterfaceAddressV1, NO_RULE, PolicyAddressV1, RuleKeyV1, RuleV1, VerdictKeyV1,
    VerdictV1,
};
use agent_abi::service::{
    ADDRESS_FRONTEND, ADDRESS_NODE, ALLOCATORS, AffinityKeyV1, AffinityV1, BackendV2,
    FrontendKeyV1, FrontendV2, RingChunkV1, RingKeyV1, ServiceV2, SlotKeyV1, SourceKeyV1,
};
use agent_abi::settings::{HANDING_BACK, SettingsV2, TAKING_OVER};
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, bpf_fib_lookup as FibLookup};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::xdp::DevMapHash;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};

use crate::fast_path::FastRoute;
use crate::fragment::{Held, HeldKey};
use crate::kernel;
use crate::packet::{Packet, QUOTED_V4, QUOTED_V6};
use crate::policy::{KEPT_DECISIONS, KeptDecision};
use crate::route::{self, Route};

#[map]
pub(crate) static FRONTENDS_V2: HashMap<FrontendKeyV1, FrontendV2> =
    HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SERVICES_V2: HashMap<u32, ServiceV2> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SLOTS_V2: HashMap<SlotKeyV1, u32> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static RINGS_V2: HashMap<RingKeyV1, RingChunkV1> =
    HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static BACKENDS_V2: HashMap<u32, BackendV2> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SOURCES_V2: LpmTrie<SourceKeyV1, u32> = LpmTrie::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static AFFINITY_V2: LruHashMap<AffinityKeyV1, AffinityV1> = LruHashMap::pinned(1024, 0);

/// Used by the agent alone; it lives here so that it is pinned with the maps whose ids it numbers.
#[map]
static ALLOCATOR_V2: Array<u32> = Array::pinned(ALLOCATORS, 0);

#[cfg_attr(not(feature = "next-layout"), map)]
#[cfg_attr(feature = "next-layout", map(name = "CONNECTIONS_V4"))]
pub(crate) static CONNECTIONS_V3: LruHashMap<TupleV1, ConnectionV3> = LruHashMap::pinned(1024, 0);

#[cfg_attr(not(feature = "next-layout"), map)]
#[cfg_attr(feature = "next-layout", map(name = "OPENING_V4"))]
pub(crate) static OPENING_V3: LruHashMap<TupleV1, ConnectionV3> = LruHashMap::pinned(1024, 0);

/// Written by the agent when it loads the programs, for agents of another version.
#[cfg_attr(not(feature = "next-layout"), map)]
#[cfg_attr(feature = "next-layout", map(name = "LAYOUT_V4"))]
static LAYOUT_V3: Array<FieldV1> = Array::pinned(LAYOUT_FIELDS, 0);

#[map]
pub(crate) static FRAGMENTS_V3: LruHashMap<FragmentKeyV1, FragmentV2> = LruHashMap::pinned(1024, 0);

/// Not pinned: what it holds is worth nothing a moment later.
#[map]
pub(crate) static HELD: LruHashMap<HeldKey, Held> = LruHashMap::with_max_entries(1024, 0);

/// Written by the agent.
#[map]
static ADDRESSES_V1: HashMap<Address, u32> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

/// The interfaces that `edge` is attached to: their drivers are ready to transmit what it redirects.
/// Written by the agent. No node has more.
#[map]
pub(crate) static EDGE_DEVICES_V1: DevMapHash = DevMapHash::pinned(64, 0);

/// Written by the agent when it loads the programs.
#[map]
pub(crate) static CRC32C_V1: Array<crc32c::Table> = Array::pinned(1, 0);

#[map]
pub(crate) static SETTINGS_V2: Array<SettingsV2> = Array::pinned(1, 0);

#[map]
static TAKEOVER_V2: Array<u32> = Array::pinned(1, 0);

#[map]
static COUNTERS_V2: PerCpuArray<u64> = PerCpuArray::pinned(COUNTERS.len() as u32, 0);

#[map]
static TRAFFIC_V2: PerCpuHashMap<u32, TrafficV1> = PerCpuHashMap::pinned(1024, BPF_F_NO_PREALLOC);

/// Written by the agent.
#[map]
pub(crate) static EGRESS_V1: LpmTrie<EgressAddressV1, u32> =
    LpmTrie::pinned(1024, BPF_F_NO_PREALLOC);

/// Written by the agent. No node has more overlays.
#[map]
pub(crate) static TUNNELS_V1: HashMap<u32, u32> = HashMap::pinned(16, BPF_F_NO_PREALLOC);

/// Written by the agent. No node has more uplinks.
#[map]
pub(crate) static EGRESS_SOURCES_V1: HashMap<u32, EgressSourceV1> =
    HashMap::pinned(256, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static POLICY_IDENTITIES_V1: LpmTrie<PolicyAddressV1, u32> =
    LpmTrie::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static POLICY_VERDICTS_V1: LpmTrie<VerdictKeyV1, VerdictV1> =
    LpmTrie::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static POLICY_ENDPOINTS_V1: LpmTrie<PolicyAddressV1, EndpointV1> =
    LpmTrie::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static POLICY_INTERFACES_V1: LpmTrie<InterfaceAddressV1, u32> =
    LpmTrie::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
static POLICY_EPOCH_V1: Array<u32> = Array::pinned(1, 0);

/// Used by the agent alone, as `ALLOCATOR_V2`.
#[map]
static POLICY_ALLOCATOR_V1: Array<u32> = Array::pinned(agent_abi::policy::ALLOCATORS, 0);

#[map]
static POLICY_RULES_V1: PerCpuHashMap<RuleKeyV1, RuleV1> =
    PerCpuHashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static FLOWS_V1: RingBuf = RingBuf::pinned(FLOWS_BYTES, 0);

/// Written by the agent.
#[map]
static FLOWS_ASKED_V1: Array<u64> = Array::pinned(1, 0);

#[map]
pub(crate) static FLOW_LIMITS_V1: LruHashMap<LimitKeyV1, LimitV1> = LruHashMap::pinned(4096, 0);

/// Written by the agent.
#[map]
pub(crate) static FAST_DEVICES_V1: HashMap<u32, FastDeviceV1> =
    HashMap::pinned(1024, BPF_F_NO_PREALLOC);

/// Written by the agent.
#[map]
pub(crate) static POD_NETWORKS_V1: LpmTrie<PolicyAddressV1, u32> =
    LpmTrie::pinned(1024, BPF_F_NO_PREALLOC);

/// Room for what does not fit the 512 bytes of stack.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Room for a fragment, on its way to or from [`HELD`].
#[map]
static ROOM: PerCpuArray<Held> = PerCpuArray::with_max_entries(1, 0);

/// What the node's routes said.
#[map]
pub(crate) static ROUTES: PerCpuArray<Route> = PerCpuArray::with_max_entries(route::SLOTS, 0);

/// What they said of the fast path.
#[map]
pub(crate) static FAST_ROUTES: PerCpuArray<FastRoute> =
    PerCpuArray::with_max_entries(route::SLOTS, 0);

/// What policy has decided of late. Not pinned: other programs may decide otherwise.
#[map]
pub(crate) static DECISIONS: PerCpuArray<KeptDecision> =
    PerCpuArray::with_max_entries(KEPT_DECISIONS, 0);

/// See [`SCRATCH`]. A program run owns it from its start to its verdict.
#[repr(C)]
pub(crate) struct Scratch {
    /// The packet at hand.
    pub(crate) packet: Packet,
    /// What an ICMP error quotes, or a tunnel carries.
    pub(crate) inner: Packet,
    /// Key of a cut packet, and of a fragment of it.
    pub(crate) held: HeldKey,
    /// Key of a client's backend.
    pub(crate) affinity: AffinityKeyV1,
    /// Where a new connection goes to.
    pub(crate) frontend: FrontendV2,
    /// What the packet leaves as; a new connection's entry.
    pub(crate) forward: ConnectionV3,
    /// The entry of its replies.
    pub(crate) reply: ConnectionV3,
    /// Key of the entry of the other direction.
    pub(crate) reply_key: TupleV1,
    /// What an ICMP error quotes.
    pub(crate) quoted_v4: [u8; QUOTED_V4],
    /// What an ICMPv6 error quotes.
    pub(crate) quoted_v6: [u8; QUOTED_V6],
    /// A question to the node's routes.
    pub(crate) question: FibLookup,
    /// `CLOCK_MONOTONIC`, see [`Scratch::read_clock`].
    pub(crate) now: u64,
    /// The tick that it was read in.
    ticks: u64,
    /// Longest packet of the way that the packet at hand is too long for.
    pub(crate) longest: u32,
    /// Connections that the packet has begun, and that are not counted yet.
    pub(crate) begun: u64,
    /// Key of the entry with policy's verdict.
    pub(crate) policy_key: TupleV1,
    /// What is to be in it.
    pub(crate) policy: Judged,
    /// Who decided.
    pub(crate) decided: Decided,
    /// What the bucket of an event is found by.
    pub(crate) limit: LimitKeyV1,
    /// The `Counter` of the drop that the program is about to end with; 0 for none, since that one
    /// is no drop's.
    pub(crate) drop: u32,
    /// `CONNECTION_*` of the connection that policy was asked about last; 0 where nothing is known of it.
    pub(crate) policy_flags: u32,
    /// Epoch of policy when the packet's sender was judged, while the receiver is.
    pub(crate) sender_epoch: u32,
    /// Where the packet's way by the fast path is in `FAST_ROUTES`.
    pub(crate) fast_slot: u32,
    /// Interface that it leads to.
    pub(crate) fast_out: u32,
    /// 1 where policy has stopped it there.
    pub(crate) stopped: u32,
    /// Interface that the packet is at, or would have come to.
    pub(crate) interface: u32,
}

/// What policy says of a packet's connection.
pub(crate) struct Judged {
    /// The peer that it is judged for: the real backend or client.
    pub(crate) peer: Address,
    /// The peer's port where the pod began the connection, network order.
    pub(crate) peer_port: [u8; 2],
    /// As in `ConnectionV3`.
    pub(crate) epoch: u32,
    /// As in `ConnectionV3`.
    pub(crate) interface: u32,
    /// The bits of a verdict in its flags.
    pub(crate) flags: u32,
}

/// What is known of a decision of policy.
#[derive(Default)]
pub(crate) struct Decided {
    /// Rule; 0 for none.
    pub(crate) rule: u32,
    /// Service that the connection was made to; 0 where that is not known.
    pub(crate) service: u32,
    /// Whether the pod began the connection.
    pub(crate) begun_by_pod: bool,
}

impl Scratch {
    /// `CLOCK_MONOTONIC` in nanoseconds, as it was when a run of this CPU first asked in this tick: to
    /// read the clock takes longer than to find a connection, and all that is measured takes seconds.
    /// (`CLOCK_MONOTONIC_COARSE`, the same, needs 5.11.)
    #[inline(always)]
    pub(crate) fn read_clock(&mut self) -> u64 {
        let ticks = kernel::ticks();
        if self.ticks != ticks {
            self.ticks = ticks;
            self.now = kernel::now();
        }
        self.now
    }
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS_V2.get_ptr_mut(counter as u32) {
        *kernel::of_this_cpu(value) += 1;
    }
}

/// What passes through one service, as far as this CPU counts it.
#[inline(always)]
pub(crate) fn traffic(service: u32) -> Option<&'static mut TrafficV1> {
    if let Some(found) = TRAFFIC_V2.get_ptr_mut(&service) {
        return Some(kernel::of_this_cpu(found));
    }
    let nothing = TrafficV1 {
        connections: 0,
        packets_in: 0,
        bytes_in: 0,
        packets_out: 0,
        bytes_out: 0,
    };
    // A full table costs the figures of a Service, no packet.
    TRAFFIC_V2.insert(&service, &nothing, 0).ok()?;
    TRAFFIC_V2.get_ptr_mut(&service).map(kernel::of_this_cpu)
}

/// How often a rule decided, as far as this CPU counts it.
#[inline(always)]
pub(crate) fn rule(key: &RuleKeyV1) -> Option<&'static mut RuleV1> {
    if key.rule == NO_RULE {
        return None;
    }
    if let Some(found) = POLICY_RULES_V1.get_ptr_mut(key) {
        return Some(kernel::of_this_cpu(found));
    }
    let nothing = RuleV1 {
        allowed: 0,
        dropped: 0,
        audited: 0,
    };
    // A full table costs the figures of a rule, no packet.
    POLICY_RULES_V1.insert(key, &nothing, 0).ok()?;
    POLICY_RULES_V1.get_ptr_mut(key).map(kernel::of_this_cpu)
}

/// Until when connections that pass are told of.
#[inline(always)]
pub(crate) fn flows_asked_until() -> u64 {
    FLOWS_ASKED_V1.get(0).copied().unwrap_or(0)
}

/// The scratch space of this CPU.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    SCRATCH.get_ptr_mut(0).map(kernel::of_this_cpu)
}

/// The room for a fragment of this CPU.
#[inline(always)]
pub(crate) fn room() -> Option<&'static mut Held> {
    ROOM.get_ptr_mut(0).map(kernel::of_this_cpu)
}

/// Whether an address is one of the cluster's nodes'.
#[inline(always)]
pub(crate) fn is_node(address: &Address) -> bool {
    kernel::number(ADDRESSES_V1.get_ptr(address)) & ADDRESS_NODE != 0
}

/// Whether an address is a frontend's.
#[inline(always)]
pub(crate) fn is_frontend(address: &Address) -> bool {
    kernel::number(ADDRESSES_V1.get_ptr(address)) & ADDRESS_FRONTEND != 0
}

/// Whether a packet of a connection that is not known is the kernel's, since connections come from
/// another proxy or go to it. `begins` says whether the packet is the first of one.
#[inline(always)]
pub(crate) fn is_the_kernels(begins: bool) -> bool {
    TAKEOVER_V2
        .get(0)
        .is_some_and(|value| *value == HANDING_BACK || (*value == TAKING_OVER && !begins))
}

/// Whether any connection is another proxy's, since they come from it or go to it.
#[inline(always)]
pub(crate) fn is_taken_over() -> bool {
    TAKEOVER_V2.get(0).is_some_and(|value| *value != 0)
}

/// How often the policy tables have changed.
#[inline(always)]
pub(crate) fn policy_epoch() -> u32 {
    POLICY_EPOCH_V1.get(0).copied().unwrap_or(0)
}

/// The node's settings; absent until the agent has written them, which it does before it attaches.
#[inline(always)]
pub(crate) fn settings() -> Option<&'static SettingsV2> {
    SETTINGS_V2.get(0)
}
