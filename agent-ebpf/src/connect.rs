//! The cgroup `connect` hooks: TCP from this node is balanced once, when it connects, and runs at
//! full speed from then on.
//!
//! UDP is left to the packet path: a connected UDP socket would stay with its backend after the
//! backend is gone. So are node ports at loopback addresses, which are the node's own and no pod's, and
//! who might be connecting to itself, which is to see the Service's address.
#![expect(
    unsafe_code,
    reason = "the context is a raw pointer whose fields the verifier rewrites"
)]

use agent_abi::counters::Counter;
use agent_abi::service::{FRONTEND_LOOPBACK, FRONTEND_SOURCE_RANGES};
use agent_abi::{Address, IPPROTO_TCP, mapped_v4};
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::flow;
use crate::kernel;
use crate::maps::{self, count};
use crate::route::words;
use crate::services::{self, Choice};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// Reads or writes one field of the context.
macro_rules! field {
    ($context:ident . $($field:tt)+) => {
        // SAFETY: the context pointer is valid for the run; the verifier checks and rewrites the
        // access.
        unsafe { (*$context).$($field)+ }
    };
}

/// Balances `connect` of IPv4 sockets.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(context: SockAddrContext) -> i32 {
    let address = context.sock_addr;
    let destination = mapped_v4(field!(address.user_ip4).to_ne_bytes());
    let Some(target) = target(address, destination) else {
        return ALLOW;
    };
    match target {
        Target::Backend {
            address: backend,
            port,
        } => {
            let [.., a, b, c, d] = backend;
            field!(address.user_ip4 = u32::from_ne_bytes([a, b, c, d]));
            set_port(address, port);
            ALLOW
        }
        Target::Refused => REFUSE,
    }
}

/// Balances `connect` of IPv6 sockets, to IPv4 addresses (mapped) too.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(context: SockAddrContext) -> i32 {
    let address = context.sock_addr;
    let mut destination = [0; 16];
    let words_of_user = [
        field!(address.user_ip6[0]),
        field!(address.user_ip6[1]),
        field!(address.user_ip6[2]),
        field!(address.user_ip6[3]),
    ];
    for (index, word) in words_of_user.iter().enumerate() {
        destination[index * 4..index * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let Some(target) = target(address, destination) else {
        return ALLOW;
    };
    match target {
        Target::Backend {
            address: backend,
            port,
        } => {
            let words = words(&backend);
            field!(address.user_ip6[0] = words[0]);
            field!(address.user_ip6[1] = words[1]);
            field!(address.user_ip6[2] = words[2]);
            field!(address.user_ip6[3] = words[3]);
            set_port(address, port);
            ALLOW
        }
        Target::Refused => REFUSE,
    }
}

enum Target {
    Backend { address: Address, port: [u8; 2] },
    Refused,
}

/// Where a `connect` to `destination` goes instead; `None` where it is no business of ours.
#[inline(always)]
fn target(context: *mut bpf_sock_addr, destination: Address) -> Option<Target> {
    if field!(context.protocol) != u32::from(IPPROTO_TCP) {
        return None;
    }
    let [first, second, ..] = field!(context.user_port).to_ne_bytes();
    let frontend = services::frontend(destination, [first, second], IPPROTO_TCP)?;
    if frontend.flags & (FRONTEND_SOURCE_RANGES | FRONTEND_LOOPBACK) != 0 {
        return None;
    }
    match services::choose_at_connect(context, frontend) {
        Choice::Backend { backend, .. } => {
            count(Counter::SocketConnections);
            if let Some(traffic) = maps::traffic(frontend.service) {
                traffic.connections += 1;
            }
            Some(Target::Backend {
                address: backend.address,
                port: backend.port,
            })
        }
        Choice::NoEndpoint => {
            count(Counter::SocketRejected);
            flow::tell_refused(&destination, [first, second], frontend.service);
            kernel::set_return_value(ECONNREFUSED);
            Some(Target::Refused)
        }
        // Unchanged, the connection is balanced, or dropped, by its first packet.
        Choice::Unsettled | Choice::ByPacket | Choice::NoLocalEndpoint => None,
    }
}

#[inline(always)]
fn set_port(context: *mut bpf_sock_addr, port: [u8; 2]) {
    field!(context.user_port = u32::from_ne_bytes([port[0], port[1], 0, 0]));
}
