//! A packet before the stack has it, behind functions that are safe to call. All `unsafe` of the
//! XDP program is here.
#![expect(
    unsafe_code,
    reason = "the packet is raw memory, and helpers are foreign functions"
)]

use core::ptr::from_mut;

use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_md};
use aya_ebpf::helpers::generated;

/// Index of the interface that the packet came in by.
#[inline(always)]
pub(crate) fn interface(xdp: *mut xdp_md) -> u32 {
    // SAFETY: `xdp` is the program's context; the verifier rewrites the access.
    unsafe { (*xdp).ingress_ifindex }
}

/// The frame's length in bytes.
#[inline(always)]
pub(crate) fn length(xdp: *mut xdp_md) -> usize {
    end(xdp).saturating_sub(start(xdp))
}

/// Reads `N` bytes of the frame.
#[inline(always)]
pub(crate) fn load<const N: usize>(xdp: *mut xdp_md, offset: u32) -> Option<[u8; N]> {
    let bytes = at::<N>(xdp, offset)?;
    // SAFETY: `at` has checked that `N` bytes are in the frame; bytes need no alignment.
    Some(unsafe { *bytes })
}

/// Writes bytes into the frame.
#[inline(always)]
pub(crate) fn store<const N: usize>(xdp: *mut xdp_md, offset: u32, bytes: &[u8; N]) -> Option<()> {
    let place = at::<N>(xdp, offset)?;
    // SAFETY: as for `load`; nobody else holds the frame while the program runs.
    unsafe { *place = *bytes };
    Some(())
}

/// Makes room of `length` bytes in front of the frame. Offsets count from there afterwards.
#[inline(always)]
pub(crate) fn make_room(xdp: *mut xdp_md, length: u32) -> Option<()> {
    // SAFETY: `xdp` is the program's context; every access to the frame asks anew where it is.
    let answer = unsafe { generated::bpf_xdp_adjust_head(xdp, -(length as i32)) };
    (answer == 0).then_some(())
}

/// Sends the frame by another interface, whose driver takes what others' send.
#[inline(always)]
pub(crate) fn redirect(interface: u32) -> u32 {
    // SAFETY: no pointer is passed.
    unsafe { generated::bpf_redirect(interface, 0) as u32 }
}

/// Looks a destination up in the node's routes; the answer is one of `BPF_FIB_LKUP_RET_*`.
#[inline(always)]
pub(crate) fn fib_lookup(xdp: *mut xdp_md, question: &mut FibLookup) -> i64 {
    // SAFETY: `xdp` is the program's context, `question` is readable and writable for its size.
    unsafe {
        generated::bpf_fib_lookup(
            xdp.cast(),
            from_mut(question).cast(),
            size_of::<FibLookup>() as i32,
            0,
        )
    }
}

/// The comparison that the verifier wants to see before each access.
#[inline(always)]
fn at<const N: usize>(xdp: *mut xdp_md, offset: u32) -> Option<*mut [u8; N]> {
    let place = start(xdp) + offset as usize;
    (place + N <= end(xdp)).then_some(place as *mut [u8; N])
}

#[inline(always)]
fn start(xdp: *mut xdp_md) -> usize {
    // SAFETY: `xdp` is the program's context; the verifier rewrites the access.
    unsafe { (*xdp).data as usize }
}

#[inline(always)]
fn end(xdp: *mut xdp_md) -> usize {
    // SAFETY: `xdp` is the program's context; the verifier rewrites the access.
    unsafe { (*xdp).data_end as usize }
}
