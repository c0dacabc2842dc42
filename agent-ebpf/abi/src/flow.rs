//! What the programs tell of single connections: what was dropped, and on request what passed.
//!
//! A drop is told of while its bucket of [`LIMITS_MAP`] has room; what is not told is counted, and
//! the next event of that bucket says how many there were. Connections that pass are told of while
//! [`ASKED_MAP`] says so, and not later than the time that stands there: an agent that died costs
//! nothing.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;
use crate::connection::TupleV1;

/// Ring buffer of [`FlowV1`]. What does not fit is counted (`Counter::FlowsLost`).
pub const FLOWS_MAP: &str = "FLOWS_V1";
/// Bytes of [`FLOWS_MAP`]: 5,000 events, what a thousand buckets of drops may say in half a second.
pub const FLOWS_BYTES: u32 = 512 * 1024;
/// Array of one `u64`: `CLOCK_MONOTONIC` nanoseconds until which connections that pass are told of.
pub const ASKED_MAP: &str = "FLOWS_ASKED_V1";
/// LRU hash: [`LimitKeyV1`] → [`LimitV1`].
pub const LIMITS_MAP: &str = "FLOW_LIMITS_V1";

/// Events that a bucket lets through at once.
pub const LIMIT_BURST: u64 = 10;
/// Nanoseconds after which it lets another one through.
pub const LIMIT_INTERVAL: u64 = 100_000_000;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowV1 {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub time: u64,
    /// The packet, as the pod has it on its wire. Of ICMP the ports are the identifier; addresses
    /// are zero where they could not be read.
    pub tuple: TupleV1,
    /// Who is really at the other end: the backend, or the client behind the node's address. Zero
    /// where that is not known. Of [`HOOK_CONNECT`] it begins with the cgroup ([`FlowV1::cgroup`]).
    pub peer: Address,
    /// Rule of the policy tables that decided; 0 for none.
    pub rule: u32,
    /// Service; 0 where that is not known.
    pub service: u32,
    /// Interface.
    pub interface: u32,
    /// Index of the `Counter` that says why: a drop's reason.
    pub reason: u32,
    /// Events of the same bucket that were not told since the last one that was.
    pub suppressed: u32,
    /// Port of `peer`, network order; 0 where not known.
    pub peer_port: [u8; 2],
    /// `HOOK_*`.
    pub hook: u8,
    /// `FLOW_*`.
    pub verdict: u8,
    /// Whether the pod began the connection: which of its directions has the rule. 0 or 1.
    pub begun_by_pod: u8,
    /// Zero.
    pub _pad: [u8; 7],
}

impl FlowV1 {
    /// The number of the cgroup of a process that was refused at `connect`; 0 of other events.
    pub fn cgroup(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.peer;
        match self.hook {
            HOOK_CONNECT => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            _ => 0,
        }
    }
}

/// What `peer` is for a process in a cgroup.
pub fn peer_of_cgroup(cgroup: u64) -> Address {
    let mut peer = [0; 16];
    let [a, b, c, d, e, f, g, h] = cgroup.to_ne_bytes();
    [
        peer[0], peer[1], peer[2], peer[3], peer[4], peer[5], peer[6], peer[7],
    ] = [a, b, c, d, e, f, g, h];
    peer
}

/// The packet was dropped.
pub const FLOW_DROPPED: u8 = 0;
/// The first packet of a connection passed.
pub const FLOW_ALLOWED: u8 = 1;
/// It passed, and an audited policy would drop it.
pub const FLOW_AUDITED: u8 = 2;
/// The packet was answered with an error.
pub const FLOW_REJECTED: u8 = 3;

/// From another machine.
pub const HOOK_UPLINK: u8 = 0;
/// From a pod.
pub const HOOK_FROM_POD: u8 = 1;
/// From the node's stack, to another machine or to a pod.
pub const HOOK_EGRESS: u8 = 2;
/// From another machine, in the driver.
pub const HOOK_XDP: u8 = 3;
/// To a pod, where policy judges.
pub const HOOK_TO_POD: u8 = 4;
/// At `connect` of a process of the node or of a pod. It has no address yet: the source is the
/// unspecified one, port 0. Its cgroup tells who it is.
pub const HOOK_CONNECT: u8 = 5;

/// Key of [`LIMITS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct LimitKeyV1 {
    /// The pod, or the cgroup of a process; zero in the bucket that lets new ones begin, since a sender may
    /// claim as many addresses as it likes.
    pub address: Address,
    /// Index of the `Counter`.
    pub reason: u32,
    /// Interface; of a process the Service.
    pub interface: u32,
}

/// Value of [`LIMITS_MAP`]: a bucket (GCRA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LimitV1 {
    /// When it is full again, `CLOCK_MONOTONIC` nanoseconds.
    pub full_at: u64,
    /// What was not told since the last that was.
    pub suppressed: u64,
}

const _: () = assert!(size_of::<FlowV1>() == 96 && offset_of!(FlowV1, verdict) == 87);
const _: () = assert!(size_of::<LimitKeyV1>() == 24 && size_of::<LimitV1>() == 16);
