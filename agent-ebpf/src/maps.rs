//! The maps. All are pinned by name, so they outlive the agent.
//!
//! Sizes here are the least useful ones; the agent sets the real ones when it loads the programs.

use agent_abi::connection::{ConnectionV1, TupleV1};
use agent_abi::counters::{COUNTERS, Counter};
use agent_abi::service::{BackendV1, FrontendKeyV1, FrontendV1, ServiceV1, SlotKeyV1};
use agent_abi::settings::SettingsV1;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, bpf_fib_lookup as FibLookup};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};

use crate::kernel;
use crate::packet::{Packet, QUOTED_V4, QUOTED_V6};

#[map]
pub(crate) static FRONTENDS_V1: HashMap<FrontendKeyV1, FrontendV1> =
    HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SERVICES_V1: HashMap<u32, ServiceV1> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SLOTS_V1: HashMap<SlotKeyV1, u32> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static BACKENDS_V1: HashMap<u32, BackendV1> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

/// Used by the agent alone; it lives here so that it is pinned with the maps whose ids it numbers.
#[map]
static ALLOCATOR_V1: Array<u32> = Array::pinned(2, 0);

#[map]
pub(crate) static CONNECTIONS_V1: LruHashMap<TupleV1, ConnectionV1> = LruHashMap::pinned(1024, 0);

#[map]
pub(crate) static SETTINGS_V1: Array<SettingsV1> = Array::pinned(1, 0);

#[map]
static COUNTERS_V1: PerCpuArray<u64> = PerCpuArray::pinned(COUNTERS.len() as u32, 0);

/// Room for what does not fit the 512 bytes of stack.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// See [`SCRATCH`]. A program run owns it from its start to its verdict.
#[repr(C)]
pub(crate) struct Scratch {
    /// The packet at hand.
    pub(crate) packet: Packet,
    /// A new connection's entry.
    pub(crate) forward: ConnectionV1,
    /// The entry of its replies.
    pub(crate) reply: ConnectionV1,
    /// Key of the entry of the other direction.
    pub(crate) reply_key: TupleV1,
    /// What an ICMP error quotes.
    pub(crate) quoted_v4: [u8; QUOTED_V4],
    /// What an ICMPv6 error quotes.
    pub(crate) quoted_v6: [u8; QUOTED_V6],
    /// A question to the node's routes.
    pub(crate) route: FibLookup,
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS_V1.get_ptr_mut(counter as u32) {
        *kernel::of_this_cpu(value) += 1;
    }
}

/// The scratch space of this CPU.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    SCRATCH.get_ptr_mut(0).map(kernel::of_this_cpu)
}

/// The node's settings; absent until the agent has written them, which it does before it attaches.
#[inline(always)]
pub(crate) fn settings() -> Option<&'static SettingsV1> {
    SETTINGS_V1.get(0)
}
