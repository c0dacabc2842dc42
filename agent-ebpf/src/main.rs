//! The eBPF programs: one file a hook, one a concern.
//!
//! | program | hook | minimum kernel | verdicts |
//! |---|---|---|---|
//! | `connect4`, `connect6` | cgroup `connect` | 5.18 (`bpf_set_retval`) | allow (rewritten or not), refuse |
//! | `uplink_ingress` | tc ingress of an uplink | 5.10 (`bpf_redirect_neigh`) | continue, redirect, drop |
//! | `workload_ingress` | tc ingress of a pod's host-side interface | 5.10 | continue, redirect, drop |
//! | `policed_ingress`, `policed_egress` | the same two at a pod's interface, with network policy | 5.10 | continue, redirect, drop |
//! | `edge` | XDP of an uplink, in the driver | 5.10 | pass, transmit, redirect, drop |
//! | `egress` | tc egress of either | 5.10 | continue, redirect, drop |
//! | `tunnel_egress` | tc egress of the overlay's IPIP device | 5.10 | continue |
//! | `baseline` | none: `fairlead-bench` runs it | 5.10 | continue |
//! | `wire` | XDP of a lab's router, for tests and `fairlead-bench` | 5.10 | pass, redirect |
//!
//! All maps are in [`maps`]; their layouts are `agent_abi`'s.

#![no_std]
#![no_main]

mod baseline;
mod connect;
mod connections;
#[cfg(feature = "debug")]
mod debug;
mod egress;
mod error;
mod fast_path;
mod flow;
mod forward;
mod fragment;
mod frame;
mod global;
mod icmp;
mod kernel;
mod linear;
mod maps;
mod mss;
mod overlay;
mod packet;
mod police;
mod policy;
mod reject;
mod rewrite;
mod route;
mod services;
mod source;
mod source_check;
mod tc;
mod tunnel;
mod wire;
mod xdp;

/// Tells the kernel that GPL-only helpers may be used.
#[expect(unsafe_code, reason = "the kernel reads the licence from this section")]
// SAFETY: the section holds exactly this NUL-terminated string, as the kernel's loader expects.
#[unsafe(link_section = "license")]
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can get here.
    loop {}
}
