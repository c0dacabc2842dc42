//! What a look-up in a map gives.
#![expect(unsafe_code, reason = "map values are raw pointers")]

use core::mem::MaybeUninit;

use agent_abi::connection::{ConnectionV3, FragmentV2};
use agent_abi::fast_path::FastDeviceV1;
use agent_abi::flow::{FlowV1, LimitV1};
use agent_abi::service::AffinityV1;

use crate::fragment::Held;

/// Says what the compiler cannot know of what a look-up gives, and without which it reads and writes each
/// field byte by byte.
#[inline(always)]
fn aligned<T>(value: *mut T) -> *mut T {
    const { assert!(align_of::<T>() <= 8) };
    // SAFETY: the kernel puts values of maps at multiples of eight bytes.
    unsafe { core::hint::assert_unchecked(value.is_aligned()) };
    value
}

/// A value of a per-CPU map.
#[inline(always)]
pub(crate) fn of_this_cpu<T>(value: *mut T) -> &'static mut T {
    // SAFETY: the pointer comes from a lookup of this program run in a per-CPU array whose values
    // live as long as the program; no other CPU sees the value, and a tc or cgroup program is not
    // interrupted by another program that uses the same value. An XDP program runs where tc ingress
    // does, in the softirq of reception, and ends before the packet's tc programs begin.
    unsafe { &mut *aligned(value) }
}

/// A value of the connection table.
#[inline(always)]
pub(crate) fn connection(value: *mut ConnectionV3) -> &'static mut ConnectionV3 {
    // SAFETY: the pointer comes from a lookup of this program run; the kernel keeps the element's
    // memory until the run ends. Other CPUs may write the same fields: `rewrite` and `backend` are
    // never changed after insertion, a lost update of another costs one refresh, or one more question to
    // policy, whose `epoch` is written last.
    unsafe { &mut *aligned(value) }
}

/// A bucket of events.
#[inline(always)]
pub(crate) fn limit(value: *mut LimitV1) -> &'static mut LimitV1 {
    // SAFETY: as for `connection`; a lost update costs or gives one event.
    unsafe { &mut *aligned(value) }
}

/// A value of the table of interfaces of the fast path.
#[inline(always)]
pub(crate) fn fast_device(value: *const FastDeviceV1) -> &'static FastDeviceV1 {
    // SAFETY: as for `connection`; entries are replaced whole.
    unsafe { &*value }
}

/// Room for an event, all zero.
#[inline(always)]
pub(crate) fn empty_flow(room: &mut MaybeUninit<FlowV1>) -> &mut FlowV1 {
    // SAFETY: the event holds integers and byte arrays; all zero is a value of each.
    room.write(unsafe { core::mem::zeroed() })
}

/// A value of the table of clients' backends.
#[inline(always)]
pub(crate) fn affinity(value: *mut AffinityV1) -> &'static mut AffinityV1 {
    // SAFETY: as for `connection`; `backend` is never changed after insertion.
    unsafe { &mut *aligned(value) }
}

/// A value of the table of fragments.
#[inline(always)]
pub(crate) fn fragment(value: *const FragmentV2) -> FragmentV2 {
    // SAFETY: the pointer comes from a lookup of this program run; entries are replaced whole.
    unsafe { *value }
}

/// A value of the table of kept fragments.
#[inline(always)]
pub(crate) fn held(value: *const Held) -> &'static Held {
    // SAFETY: as for `connection`. Another program may drive the entry out and put another there;
    // who reads it has to see that the entry was still its own afterwards.
    unsafe { &*value }
}

/// A number that the agent has written, 0 where it has written none.
#[inline(always)]
pub(crate) fn number(value: Option<*const u32>) -> u32 {
    // SAFETY: the pointer comes from a lookup of this program run in a map that is not preallocated.
    value.map_or(0, |value| unsafe { *value })
}
