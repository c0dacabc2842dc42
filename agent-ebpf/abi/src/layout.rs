//! What a build says of its connections, for builds older and newer than it.
//!
//! The list is pinned beside the connections, with the same version in its name. Another build
//! reads from it where each field is, takes those it knows, and leaves out the others. So the list
//! itself never changes its form, and a field never its name or meaning. A build that changes the
//! layout of any map raises the version of the connections with it, since they hold other maps' ids.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::connection::{ConnectionV3, TupleV1};

/// Array of [`FieldV1`]; [`FIELDS`], then zeros.
#[cfg(not(feature = "next-layout"))]
pub const LAYOUT_MAP: &str = "LAYOUT_V3";
/// See above.
#[cfg(feature = "next-layout")]
pub const LAYOUT_MAP: &str = "LAYOUT_V4";
/// Elements of [`LAYOUT_MAP`]; in no version fewer, so that an older build reads all of them.
pub const LAYOUT_FIELDS: u32 = 64;

/// A field of the connections' keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FieldV1 {
    /// ASCII, then zeros.
    pub name: [u8; 24],
    /// Where it begins, in bytes.
    pub offset: u16,
    /// How many bytes it has.
    pub size: u16,
    /// `FIELD_*` bits.
    pub flags: u16,
    /// Zero.
    pub _pad: u16,
}

/// The field is of the key.
pub const FIELD_OF_KEY: u16 = 1;
/// Who does not know the field cannot go on with the connection.
pub const FIELD_ESSENTIAL: u16 = 2;

/// The fields of this build.
pub const FIELDS: [FieldV1; 14] = [
    key("source", offset_of!(TupleV1, source), 16),
    key("destination", offset_of!(TupleV1, destination), 16),
    key("source_port", offset_of!(TupleV1, source_port), 2),
    key("destination_port", offset_of!(TupleV1, destination_port), 2),
    key("protocol", offset_of!(TupleV1, protocol), 1),
    value("rewrite", offset_of!(ConnectionV3, rewrite), 40),
    value("backend", offset_of!(ConnectionV3, backend), 4),
    value("flags", offset_of!(ConnectionV3, flags), 4),
    value(
        "host_interface",
        offset_of!(ConnectionV3, host_interface),
        4,
    ),
    value("host_mac", offset_of!(ConnectionV3, host_mac), 6),
    value("service", offset_of!(ConnectionV3, service), 4),
    value("last_seen", offset_of!(ConnectionV3, last_seen), 8),
    value("epoch", offset_of!(ConnectionV3, epoch), 4),
    value("interface", offset_of!(ConnectionV3, interface), 4),
];

const fn key(name: &str, offset: usize, size: u16) -> FieldV1 {
    field(name, offset, size, FIELD_OF_KEY)
}

const fn value(name: &str, offset: usize, size: u16) -> FieldV1 {
    field(name, offset, size, 0)
}

/// A field at an offset of a structure.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the offset is asserted to fit"
)]
const fn field(name: &str, offset: usize, size: u16, flags: u16) -> FieldV1 {
    let bytes = name.as_bytes();
    let mut name = [0; 24];
    let mut index = 0;
    while index < bytes.len() {
        name[index] = bytes[index];
        index += 1;
    }
    assert!(offset <= u16::MAX as usize);
    FieldV1 {
        name,
        offset: offset as u16,
        size,
        flags,
        _pad: 0,
    }
}

const _: () = assert!(size_of::<FieldV1>() == 32 && offset_of!(FieldV1, flags) == 28);
