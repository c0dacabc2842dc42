//! Connections that were there before policy was: who began them.
//!
//! Without this, the first packet that is seen of one would be judged as if it began it, though it
//! may be an answer. They are not let through: each is judged at its next packet, as what it is.
//! What is told by nobody, as by a kernel that tracks no connections, stays unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agent_abi::Address;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_FORWARD, CONNECTION_UNTRANSLATED, CONNECTIONS_MAP,
    ConnectionV3, EPOCH_UNJUDGED, OPENING_MAP, TupleV1,
};
use bytemuck::Zeroable as _;

use crate::sys::map::{Table, TableError};

/// A connection as the kernel tracks it: its first packet as it was sent, and its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The direction of its first packet, before any translation.
    pub original: TupleV1,
    /// The other direction, before any translation.
    pub reply: TupleV1,
}

/// Connections by what a pod sends of them.
pub type Seeds = BTreeMap<TupleV1, ConnectionV3>;

/// What the kernel's connection tracking knows of the connections of `pods`.
pub fn seeds(pods: &BTreeSet<Address>, tracked: &[Tracked], now: u64) -> Seeds {
    let mut found = Seeds::new();
    let mut add = |key: TupleV1, (destination, destination_port), flags| {
        if pods.contains(&key.source) {
            let value = ConnectionV3 {
                rewrite: TupleV1 {
                    destination,
                    destination_port,
                    ..key
                },
                flags: CONNECTION_UNTRANSLATED | CONNECTION_ANSWERED | flags,
                last_seen: now,
                epoch: EPOCH_UNJUDGED,
                ..ConnectionV3::zeroed()
            };
            found.insert(key, value);
        }
    };
    for Tracked { original, reply } in tracked {
        // Translation on the way shows in the other direction only.
        let (server, client) = (
            (reply.source, reply.source_port),
            (original.source, original.source_port),
        );
        add(*original, server, CONNECTION_FORWARD);
        add(*reply, client, 0);
    }
    found
}

/// Adds to the tables what they do not know. The answer is their number.
///
/// # Errors
/// Where it cannot be read or written.
pub fn plant(pins: &Path, seeds: &Seeds) -> Result<usize, TableError> {
    let mut table: Table<TupleV1, ConnectionV3> = Table::open_lru(pins, CONNECTIONS_MAP)?;
    let opening: Table<TupleV1, ConnectionV3> = Table::open_lru(pins, OPENING_MAP)?;
    let mut planted = 0;
    for (key, value) in seeds {
        if table.get(*key)?.is_none() && opening.get(*key)?.is_none() {
            table.put(*key, *value)?;
            planted += 1;
        }
    }
    Ok(planted)
}

#[cfg(test)]
mod tests {
    use agent_abi::mapped_v4;

    use super::*;

    fn tuple(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> TupleV1 {
        TupleV1 {
            source: mapped_v4(from.0),
            destination: mapped_v4(to.0),
            source_port: from.1.to_be_bytes(),
            destination_port: to.1.to_be_bytes(),
            protocol: 6,
            _pad: [0; 3],
        }
    }

    type Socket = ([u8; 4], u16);

    const POD: Socket = ([10, 0, 1, 5], 8080);
    const OTHER: Socket = ([10, 0, 2, 7], 40_000);
    const SERVICE: Socket = ([10, 96, 0, 10], 80);
    const NODE: Socket = ([172, 31, 0, 1], 61_000);

    #[track_caller]
    fn check(tracked: Tracked, expected: &[(TupleV1, Socket, u32)]) {
        let pods = [mapped_v4(POD.0)].into();
        let found = seeds(&pods, &[tracked], 7);
        let found: Vec<_> = found
            .into_iter()
            .map(|(key, value)| (key, value.rewrite, value.flags))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, (peer, port), flags)| {
                let rewrite = TupleV1 {
                    destination: mapped_v4(*peer),
                    destination_port: port.to_be_bytes(),
                    ..*key
                };
                let of_all = CONNECTION_UNTRANSLATED | CONNECTION_ANSWERED;
                (*key, rewrite, of_all | flags)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_kernel_tells_who_began_and_who_is_behind_a_translation() {
        let from = CONNECTION_FORWARD;
        // The pod asks a Service; somebody asks the pod by the node's address; others talk.
        let asks = Tracked {
            original: tuple(POD, SERVICE),
            reply: tuple(OTHER, POD),
        };
        check(asks, &[(tuple(POD, SERVICE), OTHER, from)]);
        let asked = Tracked {
            original: tuple(OTHER, SERVICE),
            reply: tuple(POD, NODE),
        };
        check(asked, &[(tuple(POD, NODE), OTHER, 0)]);
        let others = Tracked {
            original: tuple(OTHER, SERVICE),
            reply: tuple(NODE, OTHER),
        };
        check(others, &[]);
    }
}
