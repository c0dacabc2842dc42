//! Which backend, or which of several.

use std::collections::BTreeMap;

use agent_abi::hash;
use agent_abi::service::{
    AffinityKeyV1, BACKEND_IN_CLUSTER, BACKEND_IN_LOCAL, BackendV2, POOL_LOCAL, RING_CHUNK,
    RingKeyV1, SERVICE_AFFINITY, SERVICE_HASH, SERVICE_HASH_DESTINATION, SERVICE_HASH_PORT,
    SERVICE_HASH_SOURCE,
};

use super::frontend::Found;
use super::pool::{Members, described};
use super::{ExplainError, Facts, Packet, Step, Topic, socket, some_of};

const SECOND: u64 = 1_000_000_000;

/// The backends a new connection may get; none where the tables are not whole.
pub(super) fn choose(
    packet: &Packet,
    found: &Found<'_>,
    members: &Members,
    facts: &Facts<'_>,
    steps: &mut Vec<Step>,
) -> Result<Vec<BackendV2>, ExplainError> {
    // Affinity needs the client's address, so `connect` leaves such Services to the packets.
    if members.service.flags & SERVICE_AFFINITY != 0
        && let Some(kept) = affinity(packet, found, members, facts, steps)?
    {
        return Ok(vec![kept]);
    }
    let is_hashed = members.service.flags & SERVICE_HASH != 0;
    let lot = Lot::of(packet, found, members);
    match members.pool.ring {
        0 => Ok(alike(lot, found, members, steps)),
        _ if is_hashed => hashed(packet, found, members, facts, steps),
        _ => by_weight(lot, found, members, facts, steps),
    }
}

/// What decides where a Service leaves it to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lot {
    /// A random number, when a process connects.
    Random,
    /// The hash of the packet's five-tuple, of which the source port is not known.
    OfSomePort,
    /// This hash.
    Of(u32),
}

impl Lot {
    fn of(packet: &Packet, found: &Found<'_>, members: &Members) -> Self {
        if members.at_connect {
            Self::Random
        } else if packet.client.port.is_none() {
            Self::OfSomePort
        } else {
            Self::Of(hash::of_connection(&packet.tuple(), found.value.service))
        }
    }

    /// Which of `what` there are it chooses.
    fn says(self, what: &str) -> String {
        match self {
            Self::Random => format!("{what}, at random"),
            Self::OfSomePort => {
                format!("{what}, by a hash of the five-tuple: name the source port in --from")
            }
            Self::Of(number) => format!("{what}, by the hash {number:#010x} of the five-tuple"),
        }
    }
}

fn affinity(
    packet: &Packet,
    found: &Found<'_>,
    members: &Members,
    facts: &Facts<'_>,
    steps: &mut Vec<Step>,
) -> Result<Option<BackendV2>, ExplainError> {
    let (in_pool, name) = if members.index == POOL_LOCAL {
        (BACKEND_IN_LOCAL, "this node's endpoints")
    } else {
        (BACKEND_IN_CLUSTER, "every endpoint")
    };
    let service = found.value.service;
    let key = AffinityKeyV1 {
        address: packet.tuple().source,
        service,
        pool: u32::try_from(members.index).expect("invariant: there are two pools"),
    };
    let looked_at = format!(
        "AFFINITY_V2[{}, service {service}, {name}]",
        packet.client.address
    );
    let limit = members.service.affinity_seconds;
    let say = |found_there: String, follows: String| {
        Step::new(Topic::Affinity, &looked_at, found_there, follows).because_of(found.object())
    };
    let Some(entry) = facts.lookups.affinity(key)? else {
        let follows = format!("chosen anew, and kept until the client is silent for {limit} s");
        steps.push(say("nothing".to_owned(), follows));
        return Ok(None);
    };
    let idle = facts.lookups.now().saturating_sub(entry.last_seen);
    let backend = facts.lookups.backend(entry.backend)?;
    let usable = backend.filter(|backend| backend.flags & in_pool != 0);
    let what = match &backend {
        Some(value) => described(entry.backend, value),
        None => format!("backend {}, which is gone", entry.backend),
    };
    let what = format!("{what}, last used {} s ago", idle / SECOND);
    let kept = usable.filter(|_| idle <= u64::from(limit) * SECOND);
    steps.push(say(
        what,
        match (kept, usable) {
            (Some(_), _) => format!("kept, as {limit} s have not passed"),
            (None, Some(_)) => format!("{limit} s have passed: chosen anew"),
            (None, None) => "it gets no new connections: chosen anew".to_owned(),
        },
    ));
    Ok(kept)
}

/// Among endpoints that weigh the same.
fn alike(lot: Lot, found: &Found<'_>, members: &Members, steps: &mut Vec<Step>) -> Vec<BackendV2> {
    let looked_at = format!("SERVICES_V2[{}], the ring", found.value.service);
    let chosen = match lot {
        Lot::Of(number) => number.checked_rem(members.pool.slots),
        Lot::Random | Lot::OfSomePort => None,
    };
    let backends = members.at(chosen);
    let (what, follows) = match (members.backends.as_slice(), backends.as_slice()) {
        ([(_, _, only)], _) => ("one endpoint", socket(&only.address, only.port).to_string()),
        (_, [one]) => {
            let which = format!("slot {} of {}", chosen.unwrap_or(0), members.pool.slots);
            let follows = format!("{}: {}", lot.says(&which), socket(&one.address, one.port));
            ("no ring: the endpoints weigh the same", follows)
        }
        _ => {
            let any = format!("any of {} slots", members.pool.slots);
            ("no ring: the endpoints weigh the same", lot.says(&any))
        }
    };
    steps.push(Step::new(Topic::Choice, looked_at, what, follows).because_of(found.object()));
    backends
}

fn hashed(
    packet: &Packet,
    found: &Found<'_>,
    members: &Members,
    facts: &Facts<'_>,
    steps: &mut Vec<Step>,
) -> Result<Vec<BackendV2>, ExplainError> {
    let flags = members.service.flags;
    let number = hash::of_packet(&packet.tuple(), flags);
    let Members { pool, backends, .. } = members;
    let Some(at) = number.checked_rem(pool.ring_size) else {
        return Ok(Vec::new());
    };
    let named = [
        (SERVICE_HASH_SOURCE, "the client's address"),
        (SERVICE_HASH_PORT, "its port"),
        (SERVICE_HASH_DESTINATION, "the Service's address and port"),
    ];
    let parts: Vec<&str> = named
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| *name)
        .collect();
    let assumed = if flags & SERVICE_HASH_PORT != 0 && packet.client.port.is_none() {
        "; computed for source port 0, as --from names none"
    } else {
        ""
    };
    let slot = slot_at(pool.ring, at, facts)?;
    let chosen = backends.iter().find(|(of, _, _)| Some(*of) == slot);
    let follows = match chosen {
        Some((_, id, value)) => format!("always {}", described(*id, value)),
        None => "the tables lack it: the packet is dropped".to_owned(),
    };
    let step = Step::new(
        Topic::Choice,
        format!("RINGS_V2[{}], entry {at} of {}", pool.ring, pool.ring_size),
        format!(
            "hash {number:#010x} of the protocol, {}{assumed}",
            parts.join(", ")
        ),
        follows,
    )
    .because_of(found.object());
    steps.push(if chosen.is_some() {
        step
    } else {
        step.differing()
    });
    Ok(chosen.map(|(_, _, value)| *value).into_iter().collect())
}

fn by_weight(
    lot: Lot,
    found: &Found<'_>,
    members: &Members,
    facts: &Facts<'_>,
    steps: &mut Vec<Step>,
) -> Result<Vec<BackendV2>, ExplainError> {
    let Members { pool, backends, .. } = members;
    let mut entries: BTreeMap<u32, u32> = BTreeMap::new();
    for at in 0..pool.ring_size {
        if let Some(slot) = slot_at(pool.ring, at, facts)? {
            *entries.entry(slot).or_default() += 1;
        }
    }
    let share = |slot: &u32| {
        let held = entries.get(slot).copied().unwrap_or(0);
        f64::from(held) * 100.0 / f64::from(pool.ring_size.max(1))
    };
    let shares: Vec<String> = backends
        .iter()
        .map(|(slot, _, value)| {
            format!(
                "{} {:.0} %",
                socket(&value.address, value.port),
                share(slot)
            )
        })
        .collect();
    let chosen = match lot {
        Lot::Of(number) => match number.checked_rem(pool.ring_size) {
            Some(at) => slot_at(pool.ring, at, facts)?,
            None => None,
        },
        Lot::Random | Lot::OfSomePort => None,
    };
    let left = members.at(chosen);
    let follows = match left.as_slice() {
        [one] => format!(
            "{}: {}",
            lot.says("one entry"),
            socket(&one.address, one.port)
        ),
        _ => format!("{}; so each endpoint by its weight", lot.says("any entry")),
    };
    let step = Step::new(
        Topic::Choice,
        format!("RINGS_V2[{}], {} entries", pool.ring, pool.ring_size),
        some_of(&shares),
        follows,
    );
    steps.push(step.because_of(found.object()));
    Ok(left)
}

/// What an entry of a ring says.
fn slot_at(ring: u32, at: u32, facts: &Facts<'_>) -> Result<Option<u32>, ExplainError> {
    let size = u32::try_from(RING_CHUNK).unwrap_or(u32::MAX);
    let key = RingKeyV1 {
        ring,
        chunk: at / size,
    };
    let within = usize::try_from(at % size).unwrap_or(usize::MAX);
    let chunk = facts.lookups.ring(key)?;
    Ok(chunk.and_then(|chunk| chunk.slots.get(within).copied().map(u32::from)))
}
