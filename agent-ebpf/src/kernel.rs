//! The kernel's helpers, each behind a function that is safe to call. All `unsafe` of the tc
//! programs is here; `connect` has the rest.
#![expect(unsafe_code, reason = "helpers are foreign functions")]

mod bytes;
mod context;
mod sockets;
mod values;
mod ways;

use aya_ebpf::helpers::generated;

pub(crate) use self::bytes::{
    become_copy, checksum_difference, copy, insert_after_link_header, insert_tunnel_header, load,
    load_first, remove_tunnel_header, replace_l3_checksum, replace_l4_checksum,
    replace_l4_checksum_v6, set_length, store, store_summed, store_v6,
};
pub(crate) use self::context::{
    Mark, ether_type, interface, is_for_this_host, is_marked, length, mark, segment_size, segments,
};
pub(crate) use self::sockets::has_listener;
pub(crate) use self::values::{
    affinity, connection, empty_flow, fast_device, fragment, held, limit, number, of_this_cpu,
};
pub(crate) use self::ways::{
    clone_in, fib_lookup, mtu, next_hop, redirect_in, redirect_out, redirect_to_neighbour,
    redirect_to_next_hop, redirect_to_peer, zeroed,
};

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes no argument.
    unsafe { generated::bpf_ktime_get_ns() }
}

/// Ticks since some time before the machine began.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    // SAFETY: takes no argument.
    unsafe { generated::bpf_jiffies64() }
}

/// A random number.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: takes no argument.
    unsafe { generated::bpf_get_prandom_u32() }
}

/// Makes the system call whose hook is running return `-errno` (5.18).
#[inline(always)]
pub(crate) fn set_return_value(errno: i32) {
    // SAFETY: takes a plain value.
    unsafe { generated::bpf_set_retval(-errno) };
}

/// The number of the cgroup of the process that is running (in cgroup hooks: 5.7).
#[inline(always)]
pub(crate) fn cgroup() -> u64 {
    // SAFETY: takes nothing.
    unsafe { generated::bpf_get_current_cgroup_id() }
}
