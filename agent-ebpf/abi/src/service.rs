//! The service tables: frontend → service → pool → slot → backend.
//!
//! A new connection walks `FRONTENDS_V2[address, port, protocol]` → service id → one of the two
//! pools of `SERVICES_V2[id]` → a slot number → `SLOTS_V2[id, number]` → backend id →
//! `BACKENDS_V2[id]`. One frontend costs one entry, one endpoint costs one slot a pool and one
//! backend, so an endpoint's change is a constant number of writes.
//!
//! A pool with a ring goes one step further: the ring (`RINGS_V2`) says which slot, by a hash of
//! the packet or at random. Slots of such a pool are in the order of the backends' addresses, so
//! the ring depends on the set of backends alone: equal on every node, and shared by pools with
//! equal sets. A changed pool is written to other slots and switched to in one write.
//!
//! Ids of services, backends and rings are never used twice ([`ALLOCATOR_MAP`]), so an id held by
//! an old connection cannot come to mean another backend: a missing backend id *is* the stale
//! generation.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Hash: [`FrontendKeyV1`] → [`FrontendV2`].
pub const FRONTENDS_MAP: &str = "FRONTENDS_V2";
/// Hash: service id (`u32`) → [`ServiceV2`].
pub const SERVICES_MAP: &str = "SERVICES_V2";
/// Hash: [`SlotKeyV1`] → backend id (`u32`).
pub const SLOTS_MAP: &str = "SLOTS_V2";
/// Hash: backend id (`u32`) → [`BackendV2`].
pub const BACKENDS_MAP: &str = "BACKENDS_V2";
/// Hash: [`RingKeyV1`] → [`RingChunkV1`].
pub const RINGS_MAP: &str = "RINGS_V2";
/// Longest-prefix trie: [`SourceKeyV1`] → `u32` (1).
pub const SOURCES_MAP: &str = "SOURCES_V2";
/// LRU hash: [`AffinityKeyV1`] → [`AffinityV1`].
pub const AFFINITY_MAP: &str = "AFFINITY_V2";
/// Hash: [`Address`] → `u32`, `ADDRESS_*` bits. Says what an address is where the port is not known.
pub const ADDRESSES_MAP: &str = "ADDRESSES_V1";
/// Array of three `u32`: the next free ids. Written before the ids are used, so a crash skips ids
/// and never repeats one.
pub const ALLOCATOR_MAP: &str = "ALLOCATOR_V2";

/// Index of the next service id in [`ALLOCATOR_MAP`].
pub const NEXT_SERVICE: u32 = 0;
/// Index of the next backend id in [`ALLOCATOR_MAP`].
pub const NEXT_BACKEND: u32 = 1;
/// Index of the next ring id in [`ALLOCATOR_MAP`].
pub const NEXT_RING: u32 = 2;
/// Elements of [`ALLOCATOR_MAP`].
pub const ALLOCATORS: u32 = 3;

/// Key of [`FRONTENDS_MAP`]. Aligned, so that the programs copy it by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct FrontendKeyV1 {
    /// Address clients use.
    pub address: Address,
    /// Port clients use, network order.
    pub port: [u8; 2],
    /// IANA number.
    pub protocol: u8,
    /// Zero.
    pub _pad: u8,
}

/// Value of [`FRONTENDS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FrontendV2 {
    /// Key of [`SERVICES_MAP`].
    pub service: u32,
    /// `FRONTEND_*` bits.
    pub flags: u32,
}

/// The address belongs to this node.
pub const FRONTEND_NODE_PORT: u32 = 1;
/// Clients of this node and its pods get the local pool.
pub const FRONTEND_LOCAL_INSIDE: u32 = 2;
/// Clients from other machines get the local pool.
pub const FRONTEND_LOCAL_OUTSIDE: u32 = 4;
/// Only sources in [`SOURCES_MAP`] are served.
pub const FRONTEND_SOURCE_RANGES: u32 = 8;
/// Known outside the cluster: an external IP or a load balancer's.
pub const FRONTEND_EXTERNAL: u32 = 16;
/// Packets from other machines go to the backend's node as they are, and replies leave from there.
pub const FRONTEND_DIRECT_RETURN: u32 = 32;
/// A loopback address, for processes of the node alone.
pub const FRONTEND_LOOPBACK: u32 = 64;

/// A frontend has the address.
pub const ADDRESS_FRONTEND: u32 = 1;
/// A node has the address.
pub const ADDRESS_NODE: u32 = 2;

/// Backends to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PoolV1 {
    /// Number of slots in use.
    pub slots: u32,
    /// Number of the first of them.
    pub first_slot: u32,
    /// First part of the keys of [`RINGS_MAP`]; 0 for none: any slot at random.
    pub ring: u32,
    /// Entries of the ring.
    pub ring_size: u32,
}

/// Value of [`SERVICES_MAP`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ServiceV2 {
    /// Pool of every endpoint, and pool of those on this node. With an empty pool, connections are
    /// rejected, or dropped where a flag says so.
    pub pools: [PoolV1; 2],
    /// `SERVICE_*` bits.
    pub flags: u32,
    /// A client that was silent for longer is chosen for anew; with [`SERVICE_AFFINITY`].
    pub affinity_seconds: u32,
}

/// Index of the pool of every endpoint.
pub const POOL_CLUSTER: usize = 0;
/// Index of the pool of this node's endpoints. Who chooses in `connect` looks there for the process itself, so it
/// is filled where no frontend leads to it, too, but for Services that leave the choice to packets.
pub const POOL_LOCAL: usize = 1;

/// The choice needs the packet: `connect` leaves the connection alone.
pub const SERVICE_BY_PACKET: u32 = 1;
/// Rings are asked by the client's address.
pub const SERVICE_HASH_SOURCE: u32 = 2;
/// Rings are asked by the client's port.
pub const SERVICE_HASH_PORT: u32 = 4;
/// Rings are asked by the Service's address and port.
pub const SERVICE_HASH_DESTINATION: u32 = 8;
/// Connections of one client go to one backend.
pub const SERVICE_AFFINITY: u32 = 16;
/// There are endpoints, but none in the local pool: its connections are dropped, not rejected.
pub const SERVICE_DROP_LOCAL: u32 = 32;
/// Any of the bits that ask a ring by a hash.
pub const SERVICE_HASH: u32 = SERVICE_HASH_SOURCE | SERVICE_HASH_PORT | SERVICE_HASH_DESTINATION;

/// Slot numbers of the second pool begin here, those of the first at 0.
pub const SLOTS_OF_LOCAL: u32 = 1 << 30;
/// A pool with a ring has its slots here or without this bit, in turns.
pub const SLOTS_OTHER_BANK: u32 = 1 << 31;

/// Key of [`SLOTS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SlotKeyV1 {
    /// Service id.
    pub service: u32,
    /// `PoolV1::first_slot ..` and `slots` on.
    pub slot: u32,
}

/// Entries of a ring in one [`RingChunkV1`].
pub const RING_CHUNK: usize = 64;

/// Key of [`RINGS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct RingKeyV1 {
    /// Ring id.
    pub ring: u32,
    /// Index of the entry, divided by [`RING_CHUNK`].
    pub chunk: u32,
}

/// Value of [`RINGS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct RingChunkV1 {
    /// Which of the pool's slots, counted from its first.
    pub slots: [u16; RING_CHUNK],
}

/// Value of [`BACKENDS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BackendV2 {
    /// Address of the endpoint.
    pub address: Address,
    /// Port of the endpoint, network order.
    pub port: [u8; 2],
    /// `BACKEND_*` bits.
    pub flags: u16,
    /// The service this backend belongs to; an endpoint of two services is two backends.
    pub service: u32,
    /// Address of its node, where packets may be sent to it as they are; else all zero.
    pub node: Address,
}

/// The endpoint runs on this node, so its replies pass here and need no source translation.
pub const BACKEND_LOCAL: u16 = 1;
/// Gets new connections of the pool of every endpoint.
pub const BACKEND_IN_CLUSTER: u16 = 2;
/// Gets new connections of the local pool.
pub const BACKEND_IN_LOCAL: u16 = 4;

/// Data of the keys of [`SOURCES_MAP`]; the prefix counts the service's 32 bits and those of the
/// mapped address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SourceKeyV1 {
    /// Service id.
    pub service: u32,
    /// Address of a client.
    pub address: Address,
}

/// Key of [`AFFINITY_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct AffinityKeyV1 {
    /// Address of the client.
    pub address: Address,
    /// Service id.
    pub service: u32,
    /// Index of the pool.
    pub pool: u32,
}

/// Value of [`AFFINITY_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct AffinityV1 {
    /// Backend id.
    pub backend: u32,
    /// Zero.
    pub _pad: u32,
    /// `CLOCK_MONOTONIC` nanoseconds of the client's last connection.
    pub last_seen: u64,
}

const _: () =
    assert!(size_of::<FrontendKeyV1>() == 20 && offset_of!(FrontendKeyV1, protocol) == 18);
const _: () = assert!(size_of::<FrontendV2>() == 8 && offset_of!(FrontendV2, flags) == 4);
const _: () = assert!(size_of::<PoolV1>() == 16 && offset_of!(PoolV1, ring_size) == 12);
const _: () = assert!(size_of::<ServiceV2>() == 40 && offset_of!(ServiceV2, flags) == 32);
const _: () = assert!(size_of::<SlotKeyV1>() == 8 && offset_of!(SlotKeyV1, slot) == 4);
const _: () = assert!(size_of::<RingKeyV1>() == 8 && size_of::<RingChunkV1>() == 128);
const _: () = assert!(size_of::<BackendV2>() == 40 && offset_of!(BackendV2, node) == 24);
const _: () = assert!(size_of::<SourceKeyV1>() == 20 && size_of::<AffinityKeyV1>() == 24);
const _: () = assert!(size_of::<AffinityV1>() == 16 && offset_of!(AffinityV1, last_seen) == 8);
