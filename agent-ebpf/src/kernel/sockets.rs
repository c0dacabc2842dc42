//! The sockets of a process's own network namespace.
#![expect(unsafe_code, reason = "helpers are foreign functions")]

use core::ptr::from_mut;

use agent_abi::{Address, is_v4};
use aya_ebpf::bindings::{bpf_sock_addr, bpf_sock_tuple};
use aya_ebpf::helpers::generated;

/// `BPF_F_CURRENT_NETNS`.
const OWN_NAMESPACE: u64 = u64::MAX;
/// Sizes of the two forms of `bpf_sock_tuple`, which say which one it is.
const V4_TUPLE: u32 = 12;
const V6_TUPLE: u32 = 36;

/// Whether somebody in the namespace of the process that connects listens on TCP at the address and port,
/// or at the port of every address: of two pods that listen at one port, each has a listener then.
#[inline(always)]
pub(crate) fn has_listener(context: *mut bpf_sock_addr, address: &Address, port: [u8; 2]) -> bool {
    // SAFETY: the structure is a union of integers; all zero is a value of each.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let port = u16::from_ne_bytes(port);
    let size = if is_v4(address) {
        let [.., a, b, c, d] = *address;
        tuple.__bindgen_anon_1.ipv4.daddr = u32::from_ne_bytes([a, b, c, d]);
        tuple.__bindgen_anon_1.ipv4.dport = port;
        V4_TUPLE
    } else {
        tuple.__bindgen_anon_1.ipv6.daddr = crate::route::words(address);
        tuple.__bindgen_anon_1.ipv6.dport = port;
        V6_TUPLE
    };
    // SAFETY: `context` is the program's; `tuple` is readable for `size`.
    let socket = unsafe {
        generated::bpf_sk_lookup_tcp(context.cast(), from_mut(&mut tuple), size, OWN_NAMESPACE, 0)
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the socket is the one that was looked up, and is not used any more.
    unsafe { generated::bpf_sk_release(socket.cast()) };
    true
}
