//! Connections that were there before policy was: who began them.
//!
//! Without this, the first packet that is seen of one would be judged as if it began it, though it
//! may be an answer. They are not let through: each is judged at its next packet, as what it is.
//! What is told by nobody, as by a kernel that tracks no connections, stays unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agent_abi::Address;
use agent_abi::connection::{CONNECTION_FORWARD, CONNECTION_TUNNEL, ConnectionV2, TupleV1};
use agent_abi::policy::{
    EPOCH_BEFORE, POLICY_CONNECTION_FROM_POD, POLICY_CONNECTIONS_MAP, PolicyConnectionV1,
};

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
pub type Seeds = BTreeMap<TupleV1, PolicyConnectionV1>;

/// What is known of the connections of `pods`: from the kernel's connection tracking, and from the
/// table of connections to Services. The latter knows better whom it sent a connection to.
pub fn seeds(
    pods: &BTreeSet<Address>,
    tracked: &[Tracked],
    balanced: &[(TupleV1, ConnectionV2)],
    now: u64,
) -> Seeds {
    let mut found = Seeds::new();
    let mut add = |key: TupleV1, (peer, peer_port), flags| {
        if pods.contains(&key.source) {
            let value = PolicyConnectionV1 {
                peer,
                last_seen: now,
                epoch: EPOCH_BEFORE,
                peer_port,
                flags,
                _pad: 0,
                interface: 0,
                _pad2: 0,
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
        add(*original, server, POLICY_CONNECTION_FROM_POD);
        add(*reply, client, 0);
    }
    for (key, value) in balanced {
        if value.flags & CONNECTION_TUNNEL != 0 {
            continue;
        }
        let rewritten = (value.rewrite.destination, value.rewrite.destination_port);
        let flags = if value.flags & CONNECTION_FORWARD != 0 {
            POLICY_CONNECTION_FROM_POD
        } else {
            0
        };
        add(*key, rewritten, flags);
    }
    found
}

/// Adds to the table what it does not know. The answer is their number.
///
/// # Errors
/// Where it cannot be read or written.
pub fn plant(pins: &Path, seeds: &Seeds) -> Result<usize, TableError> {
    let mut table: Table<TupleV1, PolicyConnectionV1> =
        Table::open_lru(pins, POLICY_CONNECTIONS_MAP)?;
    let mut planted = 0;
    for (key, value) in seeds {
        if table.get(*key)?.is_none() {
            table.put(*key, *value)?;
            planted += 1;
        }
    }
    Ok(planted)
}

#[cfg(test)]
mod tests {
    use agent_abi::connection::CONNECTION_PAD;
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

    fn check(
        tracked: &[Tracked],
        balanced: &[(TupleV1, ConnectionV2)],
        expected: &[(TupleV1, Socket, u8)],
    ) {
        let pods = [mapped_v4(POD.0)].into();
        let found = seeds(&pods, tracked, balanced, 7);
        let found: Vec<_> = found
            .into_iter()
            .map(|(key, value)| (key, value.peer, value.peer_port, value.flags, value.epoch))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, (peer, port), flags)| {
                (
                    *key,
                    mapped_v4(*peer),
                    port.to_be_bytes(),
                    *flags,
                    EPOCH_BEFORE,
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_kernel_tells_who_began_and_who_is_behind_a_translation() {
        let from = POLICY_CONNECTION_FROM_POD;
        // The pod asks a Service; somebody asks the pod by the node's address; others talk.
        let asks = Tracked {
            original: tuple(POD, SERVICE),
            reply: tuple(OTHER, POD),
        };
        check(&[asks], &[], &[(tuple(POD, SERVICE), OTHER, from)]);
        let asked = Tracked {
            original: tuple(OTHER, SERVICE),
            reply: tuple(POD, NODE),
        };
        check(&[asked], &[], &[(tuple(POD, NODE), OTHER, 0)]);
        let others = Tracked {
            original: tuple(OTHER, SERVICE),
            reply: tuple(NODE, OTHER),
        };
        check(&[others], &[], &[]);
    }

    #[test]
    fn what_was_balanced_here_is_known_by_its_backend_and_its_client() {
        let entry = |rewrite, flags| ConnectionV2 {
            rewrite,
            backend: 1,
            flags,
            host_interface: 0,
            host_mac: [0; 6],
            _pad: [0; CONNECTION_PAD],
            service: 1,
            last_seen: 0,
        };
        let forward = entry(tuple(POD, OTHER), CONNECTION_FORWARD);
        let back = entry(tuple(SERVICE, OTHER), 0);
        let tunnel = entry(tuple(POD, OTHER), CONNECTION_FORWARD | CONNECTION_TUNNEL);
        check(
            &[],
            &[
                (tuple(POD, SERVICE), forward),
                (tuple(POD, NODE), back),
                (tuple(POD, OTHER), tunnel),
            ],
            &[
                (tuple(POD, SERVICE), OTHER, POLICY_CONNECTION_FROM_POD),
                (tuple(POD, NODE), OTHER, 0),
            ],
        );
    }

    #[test]
    fn where_both_know_a_connection_the_table_of_connections_counts() {
        let balanced = ConnectionV2 {
            rewrite: tuple(POD, OTHER),
            backend: 1,
            flags: CONNECTION_FORWARD,
            host_interface: 0,
            host_mac: [0; 6],
            _pad: [0; CONNECTION_PAD],
            service: 1,
            last_seen: 0,
        };
        // The kernel saw it without the translation.
        let tracked = Tracked {
            original: tuple(POD, SERVICE),
            reply: tuple(SERVICE, POD),
        };
        check(
            &[tracked],
            &[(tuple(POD, SERVICE), balanced)],
            &[(tuple(POD, SERVICE), OTHER, POLICY_CONNECTION_FROM_POD)],
        );
    }
}
