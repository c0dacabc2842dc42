//! Where another build's connections have their fields.
//!
//! Every build pins a description beside its connections (`agent_abi::layout`). From it, an entry
//! of another build is read field by field: what this build does not know is left out, what the
//! other did not have is zero. Ids are of no use here, since they are looked up anew.

use std::path::Path;

use agent_abi::connection::{ConnectionV3, TupleV1};
use agent_abi::layout::{
    FIELD_ESSENTIAL, FIELD_OF_KEY, FIELDS, FieldV1, LAYOUT_FIELDS, LAYOUT_MAP,
};
use bytemuck::Zeroable as _;

use crate::sys::map::{List, TableError, foreign};

/// Version 1 described nothing. It had no `service`, and all else where it is in version 2.
const OF_VERSION_1: [(&[u8], u16, u16); 6] = [
    (b"rewrite", 0, 40),
    (b"backend", 40, 4),
    (b"flags", 44, 4),
    (b"host_interface", 48, 4),
    (b"host_mac", 52, 6),
    (b"last_seen", 64, 8),
];

/// What a connection cannot go on without.
const NEEDED: [&[u8]; 5] = [
    b"rewrite",
    b"flags",
    b"host_interface",
    b"host_mac",
    b"last_seen",
];

/// Where the values of another build have the fields of this one: both offsets, and how many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape(Vec<Place>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    theirs: usize,
    ours: usize,
    size: usize,
}

/// Writes what this build's connections look like beside them.
///
/// # Errors
/// Where the map is not there.
pub(super) fn describe(pins: &Path) -> Result<(), TableError> {
    let mut list = List::<FieldV1>::open(pins, LAYOUT_MAP)?;
    for (index, field) in (0..).zip(FIELDS) {
        list.set(index, field)?;
    }
    Ok(())
}

impl Shape {
    /// The shape of the connections of a version; `None` where they cannot be read here.
    pub(super) fn of_version(pins: &Path, version: u32) -> Option<Self> {
        if version == 1 {
            return Some(Self::of_values(&OF_VERSION_1));
        }
        let (base, _) = LAYOUT_MAP.rsplit_once("_V")?;
        let path = pins.join(format!("{base}_V{version}"));
        let fields: Vec<FieldV1> = foreign::list(&path, LAYOUT_FIELDS).ok()?;
        Self::of_fields(&fields)
    }

    fn of_fields(fields: &[FieldV1]) -> Option<Self> {
        let fields: Vec<&FieldV1> = fields
            .iter()
            .take_while(|field| field.name[0] != 0)
            .collect();
        let ours = |field: &FieldV1| {
            let is_key = |field: &FieldV1| field.flags & FIELD_OF_KEY;
            FIELDS
                .iter()
                .find(|known| known.name == field.name && is_key(known) == is_key(field))
        };
        // The five-tuple has the same form at all times.
        let keys = |fields: &mut dyn Iterator<Item = &FieldV1>| {
            let mut keys: Vec<_> = fields
                .filter(|field| field.flags & FIELD_OF_KEY != 0)
                .map(|field| (field.name, field.offset, field.size))
                .collect();
            keys.sort_unstable();
            keys
        };
        if keys(&mut fields.iter().copied()) != keys(&mut FIELDS.iter()) {
            return None;
        }
        let strange = |field: &&&FieldV1| match ours(field) {
            Some(known) => known.size != field.size,
            None => field.flags & FIELD_ESSENTIAL != 0,
        };
        if fields.iter().find(strange).is_some() {
            return None;
        }
        let values: Vec<(&[u8], u16, u16)> = fields
            .iter()
            .filter(|field| field.flags & FIELD_OF_KEY == 0)
            .map(|field| (name(field), field.offset, field.size))
            .collect();
        let complete = NEEDED
            .iter()
            .all(|needed| values.iter().any(|(name, ..)| name == needed));
        complete.then(|| Self::of_values(&values))
    }

    fn of_values(values: &[(&[u8], u16, u16)]) -> Self {
        let place = |&(of, offset, size): &(&[u8], u16, u16)| {
            let ours = FIELDS
                .iter()
                .find(|known| known.flags & FIELD_OF_KEY == 0 && name(known) == of)?;
            Some(Place {
                theirs: offset.into(),
                ours: ours.offset.into(),
                size: size.into(),
            })
        };
        Self(values.iter().filter_map(place).collect())
    }

    /// Whether this is the shape of a pinned map of connections.
    pub(super) fn fits(&self, path: &Path) -> bool {
        let end = self.0.iter().map(|place| place.theirs + place.size).max();
        foreign::sizes(path).is_ok_and(|(key, value)| {
            key as usize == size_of::<TupleV1>() && end.is_some_and(|end| end <= value as usize)
        })
    }

    /// An entry in this build's form.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<ConnectionV3> {
        let mut connection = ConnectionV3::zeroed();
        let ours = bytemuck::bytes_of_mut(&mut connection);
        for place in &self.0 {
            let from = bytes.get(place.theirs..place.theirs + place.size)?;
            ours.get_mut(place.ours..place.ours + place.size)?
                .copy_from_slice(from);
        }
        Some(connection)
    }
}

fn name(field: &FieldV1) -> &[u8] {
    let end = field.name.iter().position(|byte| *byte == 0);
    &field.name[..end.unwrap_or(field.name.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, offset: u16, size: u16, flags: u16) -> FieldV1 {
        let mut field = FieldV1 {
            offset,
            size,
            flags,
            ..FieldV1::zeroed()
        };
        field.name[..name.len()].copy_from_slice(name.as_bytes());
        field
    }

    /// This build's fields with those of the values moved on, and others.
    fn moved(by: u16, more: &[FieldV1]) -> Vec<FieldV1> {
        let mut fields = FIELDS.to_vec();
        for field in &mut fields {
            if field.flags & FIELD_OF_KEY == 0 {
                field.offset += by;
            }
        }
        fields.extend(more);
        fields.push(FieldV1::zeroed());
        fields
    }

    #[test]
    fn fields_are_read_from_where_the_other_build_has_them() {
        let value = ConnectionV3 {
            backend: 9,
            flags: 5,
            service: 3,
            last_seen: 77,
            ..ConnectionV3::zeroed()
        };
        let unknown = named("weather", 0, 8, 0);
        let shape = Shape::of_fields(&moved(16, &[unknown])).unwrap();
        let bytes = [&[0xff; 16], bytemuck::bytes_of(&value)].concat();
        assert_eq!(shape.read(&bytes), Some(value));
        assert_eq!(shape.read(&bytes[..40]), None);
    }

    #[test]
    fn what_this_build_would_misread_it_does_not_read() {
        let mut without = FIELDS.to_vec();
        without.retain(|field| name(field) != b"last_seen");
        let mut other_key = FIELDS.to_vec();
        other_key[0].offset += 1;
        for (what, fields) in [
            (
                "an essential field",
                moved(8, &[named("zone", 0, 2, FIELD_ESSENTIAL)]),
            ),
            ("another size", moved(8, &[named("flags", 0, 8, 0)])),
            (
                "a longer key",
                moved(8, &[named("zone", 37, 2, FIELD_OF_KEY)]),
            ),
            ("another key", other_key),
            ("no time", without),
            ("nothing", vec![FieldV1::zeroed()]),
        ] {
            assert_eq!(Shape::of_fields(&fields), None, "{what}");
        }
    }

    #[test]
    fn version_1_had_no_service() {
        let shape = Shape::of_values(&OF_VERSION_1);
        let bytes = [1; 72];
        let read = shape.read(&bytes).unwrap();
        assert_eq!((read.service, read._pad[0]), (0, 0));
        assert_eq!(read.last_seen, u64::from_ne_bytes([1; 8]));
    }
}
