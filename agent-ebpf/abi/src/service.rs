//! The service tables: frontend → service → slot → backend.
//!
//! A new connection walks `FRONTENDS_V1[address, port, protocol]` → service id →
//! `SERVICES_V1[id].slots` → a slot number → `SLOTS_V1[id, number]` → backend id →
//! `BACKENDS_V1[id]`. One frontend costs one entry, one endpoint costs one slot and one backend,
//! so an endpoint's change is a constant number of writes.
//!
//! Ids of services and backends are never used twice ([`ALLOCATOR_MAP`]), so an id held by an old
//! connection cannot come to mean another backend: a missing backend id *is* the stale generation.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Hash: [`FrontendKeyV1`] → [`FrontendV1`].
pub const FRONTENDS_MAP: &str = "FRONTENDS_V1";
/// Hash: service id (`u32`) → [`ServiceV1`].
pub const SERVICES_MAP: &str = "SERVICES_V1";
/// Hash: [`SlotKeyV1`] → backend id (`u32`).
pub const SLOTS_MAP: &str = "SLOTS_V1";
/// Hash: backend id (`u32`) → [`BackendV1`].
pub const BACKENDS_MAP: &str = "BACKENDS_V1";
/// Array of two `u32`: the next free service id, the next free backend id. Written before the
/// ids are used, so a crash skips ids and never repeats one.
pub const ALLOCATOR_MAP: &str = "ALLOCATOR_V1";

/// Index of the next service id in [`ALLOCATOR_MAP`].
pub const NEXT_SERVICE: u32 = 0;
/// Index of the next backend id in [`ALLOCATOR_MAP`].
pub const NEXT_BACKEND: u32 = 1;

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
pub struct FrontendV1 {
    /// Key of [`SERVICES_MAP`].
    pub service: u32,
    /// `FRONTEND_*` bits.
    pub flags: u32,
}

/// The address belongs to this node: replies to clients leave with one of the node's own addresses.
pub const FRONTEND_NODE_PORT: u32 = 1;

/// Value of [`SERVICES_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ServiceV1 {
    /// Number of slots in use, `0..slots`. With none, connections are rejected.
    pub slots: u32,
}

/// Key of [`SLOTS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SlotKeyV1 {
    /// Service id.
    pub service: u32,
    /// `0..ServiceV1::slots`.
    pub slot: u32,
}

/// Value of [`BACKENDS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BackendV1 {
    /// Address of the endpoint.
    pub address: Address,
    /// Port of the endpoint, network order.
    pub port: [u8; 2],
    /// `BACKEND_*` bits.
    pub flags: u16,
    /// The service this backend belongs to; an endpoint of two services is two backends.
    pub service: u32,
}

/// The endpoint runs on this node, so its replies pass here and need no source translation.
pub const BACKEND_LOCAL: u16 = 1;

const _: () =
    assert!(size_of::<FrontendKeyV1>() == 20 && offset_of!(FrontendKeyV1, protocol) == 18);
const _: () = assert!(size_of::<FrontendV1>() == 8 && offset_of!(FrontendV1, flags) == 4);
const _: () = assert!(size_of::<ServiceV1>() == 4);
const _: () = assert!(size_of::<SlotKeyV1>() == 8 && offset_of!(SlotKeyV1, slot) == 4);
const _: () = assert!(size_of::<BackendV1>() == 24 && offset_of!(BackendV1, service) == 20);
