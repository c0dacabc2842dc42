//! Connections that go back to the kernel, for another proxy's rules to carry on.
//!
//! From [`begin`] on, connections that the tables do not know are the kernel's. [`hand_back`] then
//! gives it those they do know, the programs are detached, and [`settle`] looks after those that
//! ended in between. Only what has been heard of lately is handed over: an entry of a connection
//! that has ended would take a new one of the same port to the backend of the old.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_CLOSING, CONNECTION_FORWARD, CONNECTION_TUNNEL,
    CONNECTION_UNTRANSLATED, CONNECTIONS_MAP, ConnectionV3, OPENING_MAP, TupleV1,
};
use agent_abi::egress::has_backends;
use agent_abi::service::BACKENDS_MAP;
use agent_abi::service::BackendV2;
use agent_abi::settings::{HANDING_BACK, SETTINGS_MAP, SettingsV2, TAKEOVER_MAP};

use super::takeover::{TakeoverError, tuple_of};
use crate::sys::clock;
use crate::sys::conntrack::{self, Flow, Tuple};
use crate::sys::map::{List, Table, TableError};

/// Longest silence of a TCP connection before the kernel forgets it, as RFC 5382 REQ-5 demands of a
/// translator; the first packet sets the kernel's own time.
const TCP_IDLE: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
/// `nf_conntrack_udp_timeout_stream`.
const OTHERS_IDLE: Duration = Duration::from_secs(120);
/// A connection that only one side has sent for: the kernel's time for a SYN is longer, and TCP's
/// next SYN opens anew.
const OPENING_IDLE: Duration = Duration::from_secs(30);
/// What follows the first FIN arrives within a few round trips.
const CLOSING_TAIL: Duration = Duration::from_secs(10);

/// What became of the agent's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedBack {
    /// Connections the kernel goes on with.
    pub carried: usize,
    /// Connections it cannot go on with, or would not.
    pub left: usize,
}

/// Leaves connections that are not known to the kernel from now on. The answer is when.
///
/// # Errors
/// Where the map is not there.
pub fn begin(pins: &Path) -> Result<u64, TableError> {
    List::<u32>::open(pins, TAKEOVER_MAP)?.set(0, HANDING_BACK)?;
    Ok(clock::monotonic_nanoseconds())
}

/// Gives the connections to the kernel, which goes on translating them where it tracks and
/// translates at all, that is beside another proxy's rules.
///
/// # Errors
/// Where the agent's tables cannot be read.
pub fn hand_back(pins: &Path) -> Result<HandedBack, TableError> {
    let lifetimes = Lifetimes::read(pins)?;
    let backends: Table<u32, BackendV2> = Table::open(pins, BACKENDS_MAP)?;
    let backends: BTreeSet<u32> = backends.keys()?.into_iter().collect();
    let now = clock::monotonic_nanoseconds();
    let mut answer = HandedBack::default();
    for (key, value) in connections(pins)? {
        let there = !has_backends(value.service) || backends.contains(&value.backend);
        let (flow, result) = match lifetimes.fate(&key, &value, there, now) {
            None => continue,
            Some(Fate::Ended(original)) => {
                // The kernel may have known it before the agent took it over.
                if let Err(error) = forget(&original) {
                    tracing::debug!(%error, flow = %original, "stays in the kernel's table");
                }
                continue;
            }
            Some(Fate::GoesOn(flow)) => (flow, replace(&flow)),
        };
        match result {
            Ok(()) => answer.carried += 1,
            Err(error) => {
                tracing::debug!(%error, flow = %flow.original, "stays behind");
                answer.left += 1;
            }
        }
    }
    Ok(answer)
}

/// Sees to it that what has ended between `began` and the detaching of the programs does not stay
/// in the kernel's table, which has not seen it end. The programs are detached.
///
/// # Errors
/// Where a table cannot be read.
pub fn settle(pins: &Path, began: u64) -> Result<(), TakeoverError> {
    let lifetimes = Lifetimes::read(pins)?;
    let closing =
        |value: &ConnectionV3| value.flags & CONNECTION_CLOSING != 0 && value.last_seen >= began;
    let ended: Vec<Flow> = connections(pins)?
        .into_iter()
        .filter(|(_, value)| closing(value))
        .filter_map(
            |(key, value)| match lifetimes.fate(&key, &value, true, value.last_seen)? {
                Fate::GoesOn(flow) => Some(flow),
                Fate::Ended(_) => None,
            },
        )
        .collect();
    if ended.is_empty() {
        return Ok(());
    }
    // The kernel has followed the end of some of them by itself.
    let known = conntrack::dump()?;
    let open = |flow: &Flow| {
        let mut known = known.iter().filter(|known| known.is_established());
        known.any(|known| known.original == flow.original)
    };
    for flow in ended.into_iter().filter(open) {
        if let Err(error) = replace(&flow) {
            tracing::debug!(%error, flow = %flow.original, "stays until the kernel forgets it");
        }
    }
    Ok(())
}

/// Those that work, and those that only one side has sent for.
fn connections(pins: &Path) -> Result<Vec<(TupleV1, ConnectionV3)>, TableError> {
    let mut all = Vec::new();
    for map in [CONNECTIONS_MAP, OPENING_MAP] {
        let table: Table<TupleV1, ConnectionV3> = Table::open_lru(pins, map)?;
        all.extend(table.entries()?);
    }
    // The others are the kernel's already.
    all.retain(|(_, value)| value.flags & CONNECTION_UNTRANSLATED == 0);
    Ok(with_clients(all))
}

/// Adds the entries of clients that have sent one packet and have no answer: the programs have written
/// the one for the answer alone.
fn with_clients(mut all: Vec<(TupleV1, ConnectionV3)>) -> Vec<(TupleV1, ConnectionV3)> {
    let known: BTreeSet<TupleV1> = all.iter().map(|(key, _)| *key).collect();
    let absent = |(key, value): &(TupleV1, ConnectionV3)| {
        let of_client = value.rewrite.reversed();
        let is_reply = value.flags & (CONNECTION_FORWARD | CONNECTION_TUNNEL) == 0;
        (is_reply && !known.contains(&of_client)).then(|| {
            let client = ConnectionV3 {
                rewrite: key.reversed(),
                flags: value.flags | CONNECTION_FORWARD,
                ..*value
            };
            (of_client, client)
        })
    };
    let clients: Vec<_> = all.iter().filter_map(absent).collect();
    all.extend(clients);
    all
}

/// Makes an entry. One that is in its way is of an earlier connection, whose end the kernel has not
/// seen.
fn replace(flow: &Flow) -> Result<(), conntrack::Error> {
    match conntrack::create(flow) {
        Err(conntrack::Error::Exists(_)) => {}
        other => return other,
    }
    forget(&flow.original)?;
    forget(&flow.reply)?;
    conntrack::create(flow)
}

fn forget(tuple: &Tuple) -> Result<(), conntrack::Error> {
    match conntrack::delete(tuple) {
        Err(conntrack::Error::Absent(_)) => Ok(()),
        other => other,
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    GoesOn(Flow),
    Ended(Tuple),
}

/// How long the agent keeps a silent connection.
#[derive(Clone, Copy, Debug)]
struct Lifetimes {
    tcp: Duration,
    udp: Duration,
}

impl Lifetimes {
    fn read(pins: &Path) -> Result<Self, TableError> {
        let settings = List::<SettingsV2>::open(pins, SETTINGS_MAP)?.get(0)?;
        Ok(Self {
            tcp: Duration::from_secs(settings.tcp_seconds.into()),
            udp: Duration::from_secs(settings.udp_seconds.into()),
        })
    }

    /// `None` for the other entry of a connection, and for one that answers do not pass here.
    fn fate(&self, key: &TupleV1, value: &ConnectionV3, there: bool, now: u64) -> Option<Fate> {
        let flags = value.flags;
        if flags & CONNECTION_FORWARD == 0 || flags & CONNECTION_TUNNEL != 0 {
            return None;
        }
        let original = tuple_of(key);
        let (lifetime, at_most) = if flags & CONNECTION_CLOSING != 0 {
            (CLOSING_TAIL, CLOSING_TAIL)
        } else if flags & CONNECTION_ANSWERED == 0 {
            (OPENING_IDLE, OPENING_IDLE)
        } else if key.protocol == Tuple::UDP {
            (self.udp, OTHERS_IDLE)
        } else {
            (self.tcp, TCP_IDLE)
        };
        let idle = Duration::from_nanos(now.saturating_sub(value.last_seen));
        let rest = lifetime.saturating_sub(idle).min(at_most);
        // A datagram may go to any backend; a TCP connection has no other than its own.
        let moves = !there && key.protocol == Tuple::UDP;
        if rest.is_zero() || moves {
            return Some(Fate::Ended(original));
        }
        let reply = tuple_of(&value.rewrite.reversed());
        Some(Fate::GoesOn(Flow::established(original, reply, rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_abi::mapped_v4;

    const NOW: u64 = 1_000_000_000_000_000;

    fn fate(protocol: u8, flags: u32, idle_seconds: u64, there: bool) -> Option<Fate> {
        let key = TupleV1 {
            source: mapped_v4([10, 244, 1, 5]),
            destination: mapped_v4([10, 96, 0, 10]),
            source_port: 4000_u16.to_be_bytes(),
            destination_port: 80_u16.to_be_bytes(),
            protocol,
            _pad: [0; 3],
        };
        let value = ConnectionV3 {
            rewrite: TupleV1 {
                destination: mapped_v4([10, 244, 2, 7]),
                destination_port: 8080_u16.to_be_bytes(),
                ..key
            },
            flags,
            last_seen: NOW - idle_seconds * 1_000_000_000,
            ..bytemuck::Zeroable::zeroed()
        };
        let lifetimes = Lifetimes {
            tcp: Duration::from_secs(86_400),
            udp: Duration::from_secs(300),
        };
        lifetimes.fate(&key, &value, there, NOW)
    }

    #[track_caller]
    fn check(protocol: u8, flags: u32, idle_seconds: u64, expected: Option<u64>) {
        let seconds = match fate(protocol, flags, idle_seconds, true) {
            Some(Fate::GoesOn(flow)) => {
                assert_eq!(flow.original.destination.to_string(), "10.96.0.10:80");
                assert_eq!(flow.reply.source.to_string(), "10.244.2.7:8080");
                Some(flow.timeout.as_secs())
            }
            Some(Fate::Ended(_)) | None => None,
        };
        assert_eq!(seconds, expected);
    }

    #[test]
    fn what_was_heard_lately_goes_on_for_the_rest_of_its_time_or_a_translators() {
        const OPEN: u32 = CONNECTION_FORWARD | CONNECTION_ANSWERED;
        const CLOSING: u32 = OPEN | CONNECTION_CLOSING;
        check(Tuple::TCP, OPEN, 0, Some(7440));
        check(Tuple::TCP, OPEN, 86_000, Some(400));
        check(Tuple::TCP, OPEN, 86_400, None);
        check(Tuple::TCP, CLOSING, 4, Some(6));
        check(Tuple::TCP, CLOSING, 10, None);
        check(Tuple::TCP, CONNECTION_FORWARD, 1, Some(29));
        check(Tuple::TCP, CONNECTION_FORWARD, 31, None);
        check(Tuple::UDP, OPEN, 0, Some(120));
        check(Tuple::UDP, OPEN, 200, Some(100));
        check(Tuple::UDP, OPEN, 301, None);
    }

    #[test]
    fn a_client_without_an_answer_is_known_by_the_entry_for_the_answer() {
        let client = TupleV1 {
            source: mapped_v4([10, 244, 1, 5]),
            destination: mapped_v4([10, 96, 0, 10]),
            source_port: 4000_u16.to_be_bytes(),
            destination_port: 80_u16.to_be_bytes(),
            protocol: Tuple::TCP,
            _pad: [0; 3],
        };
        let translated = TupleV1 {
            destination: mapped_v4([10, 244, 2, 7]),
            ..client
        };
        let entry = |rewrite, flags| ConnectionV3 {
            rewrite,
            flags,
            ..bytemuck::Zeroable::zeroed()
        };
        let forward = (client, entry(translated, CONNECTION_FORWARD));
        let reply = (translated.reversed(), entry(client.reversed(), 0));
        let both = vec![reply, forward];
        assert_eq!(with_clients(vec![reply]), both);
        assert_eq!(with_clients(both.clone()), both);
    }

    #[test]
    fn a_flow_without_its_backend_is_given_up_and_a_tcp_connection_is_not() {
        const OPEN: u32 = CONNECTION_FORWARD | CONNECTION_ANSWERED;
        assert!(matches!(
            fate(Tuple::UDP, OPEN, 1, false),
            Some(Fate::Ended(_))
        ));
        assert!(matches!(
            fate(Tuple::TCP, OPEN, 1, false),
            Some(Fate::GoesOn(_))
        ));
    }

    #[test]
    fn a_connection_is_handed_over_once_and_one_in_a_tunnel_is_not() {
        assert_eq!(fate(Tuple::TCP, CONNECTION_ANSWERED, 1, true), None);
        let tunnelled = CONNECTION_FORWARD | CONNECTION_TUNNEL;
        assert_eq!(fate(Tuple::TCP, tunnelled, 1, true), None);
    }
}
