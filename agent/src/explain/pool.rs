//! Where the choice is made, who may come, and who is chosen from.

use agent_abi::IPPROTO_TCP;
use agent_abi::service::{
    BackendV2, FRONTEND_EXTERNAL, FRONTEND_LOCAL_INSIDE, FRONTEND_LOCAL_OUTSIDE, FRONTEND_LOOPBACK,
    FRONTEND_NODE_PORT, FRONTEND_SOURCE_RANGES, POOL_CLUSTER, POOL_LOCAL, PoolV1,
    SERVICE_BY_PACKET, SERVICE_DROP_LOCAL, ServiceV2, SlotKeyV1,
};
use agent_abi::settings::SettingsV2;
use model::SourceRanges;

use super::beside::{difference, emptiness};
use super::frontend::Found;
use super::source::is_off_cluster;
use super::{Connect, ExplainError, Facts, Packet, Step, Topic, Verdict, socket, some_of};
use crate::desired::Owner;

/// Who is chosen from.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) service: ServiceV2,
    pub(super) pool: PoolV1,
    /// Index of the pool.
    pub(super) index: usize,
    /// By slot, from the pool's first; those the tables lack are absent.
    pub(super) backends: Vec<(u32, u32, BackendV2)>,
    /// Whether `connect` chooses.
    pub(super) at_connect: bool,
}

impl Members {
    /// Those of a slot; all where none is chosen.
    pub(super) fn at(&self, chosen: Option<u32>) -> Vec<BackendV2> {
        let backends = self.backends.iter();
        backends
            .filter(|(slot, _, _)| chosen.is_none_or(|chosen| *slot == chosen))
            .map(|(_, _, value)| *value)
            .collect()
    }
}

/// What comes of looking for a pool.
pub(super) enum Pooled {
    /// There is somebody.
    Pool(Members),
    /// There is nobody, or not for this client.
    Nobody(Verdict, String),
}

/// Finds the pool of a frontend for a client.
pub(super) fn find(
    packet: &Packet,
    found: &Found<'_>,
    facts: &Facts<'_>,
    steps: &mut Vec<Step>,
) -> Result<Pooled, ExplainError> {
    let id = found.value.service;
    let Some(service) = facts.lookups.service(id)? else {
        let step = Step::new(
            Topic::Pool,
            format!("SERVICES_V2[{id}]"),
            "nothing",
            "a frontend without its service is rejected",
        );
        steps.push(step.because_of(found.object()).differing());
        let why = "the tables lack its service".to_owned();
        return Ok(Pooled::Nobody(Verdict::Rejected, why));
    };
    let (at_connect, step) = place(packet, found, &service, facts);
    steps.extend(step);
    if !at_connect && found.has(FRONTEND_SOURCE_RANGES) && !admit(packet, found, facts, steps)? {
        let why = format!("{} is in no source range", packet.client.address);
        return Ok(Pooled::Nobody(Verdict::Dropped, why));
    }
    let (index, why) = which(packet, found, &facts.lookups.settings()?);
    let pool = service.pools[index];
    let mut backends = Vec::new();
    let mut lacking = Vec::new();
    for slot in 0..pool.slots {
        let key = SlotKeyV1 {
            service: id,
            slot: pool.first_slot.wrapping_add(slot),
        };
        let backend = match facts.lookups.slot(key)? {
            Some(backend) => facts
                .lookups
                .backend(backend)?
                .map(|value| (backend, value)),
            None => None,
        };
        match backend {
            Some((backend, value)) => backends.push((slot, backend, value)),
            None => lacking.push(format!("SLOTS_V2[{id}, {}]", key.slot)),
        }
    }
    let name = if index == POOL_LOCAL {
        "this node's endpoints"
    } else {
        "every endpoint"
    };
    let looked_at = format!("SERVICES_V2[{id}], the pool of {name}");
    if pool.slots == 0 {
        let drop = index == POOL_LOCAL && service.flags & SERVICE_DROP_LOCAL != 0;
        let (verdict, told) = if drop {
            (
                Verdict::Dropped,
                "connections are dropped, for others' endpoints are not for this client",
            )
        } else {
            (Verdict::Rejected, "connections are refused at once")
        };
        let cause = emptiness(found, index, facts);
        let step = Step::new(
            Topic::Pool,
            looked_at,
            format!("it is empty: {cause}"),
            format!("{told} ({why})"),
        );
        steps.push(step.because_of(found.object()));
        steps.extend(difference(found, index, &[]));
        return Ok(Pooled::Nobody(verdict, cause));
    }
    let listed: Vec<String> = backends
        .iter()
        .map(|(_, id, value)| described(*id, value))
        .collect();
    let step = Step::new(
        Topic::Pool,
        looked_at,
        some_of(&listed),
        chosen_from(pool.slots, why),
    );
    steps.push(step.because_of(found.object()));
    if !lacking.is_empty() {
        let follows = "the choice is repeated, and the packet dropped when that does not help";
        let step = Step::new(Topic::Tables, some_of(&lacking), "no backend", follows);
        steps.push(step.because_of(found.object()).differing());
    }
    steps.extend(difference(found, index, &backends));
    Ok(Pooled::Pool(Members {
        service,
        pool,
        index,
        backends,
        at_connect,
    }))
}

fn chosen_from(slots: u32, why: &str) -> String {
    match slots {
        1 => format!("it gets every connection ({why})"),
        _ => format!("one of these {slots} is chosen ({why})"),
    }
}

/// A backend for people.
pub(super) fn described(id: u32, value: &BackendV2) -> String {
    format!("{} (backend {id})", socket(&value.address, value.port))
}

/// Whether `connect` makes the choice, and why; nothing is to be said of other protocols.
fn place(
    packet: &Packet,
    found: &Found<'_>,
    service: &ServiceV2,
    facts: &Facts<'_>,
) -> (bool, Option<Step>) {
    if packet.target.protocol.number() != IPPROTO_TCP {
        return (false, None);
    }
    let step = |found: String, follows: &str| {
        Step::new(Topic::Where, "the connect programs", found, follows)
    };
    let by_packet = |why: String| {
        (
            false,
            Some(step(
                why,
                "chosen for the first packet, and each packet is translated",
            )),
        )
    };
    match facts.connect {
        _ if !packet.client.is_inside() => {
            by_packet("they see processes of this node alone".to_owned())
        }
        Connect::Absent(why) => by_packet(format!("not attached: {why}")),
        Connect::Attached(_) if found.has(FRONTEND_SOURCE_RANGES) => {
            by_packet("they leave an address with source ranges to the packets".to_owned())
        }
        Connect::Attached(_) if found.has(FRONTEND_LOOPBACK) => {
            by_packet("they leave loopback addresses to the packets: a pod has its own".to_owned())
        }
        Connect::Attached(_) if service.flags & SERVICE_BY_PACKET != 0 => by_packet(format!(
            "they leave service {} to the packets: a hash or affinity needs them",
            found.value.service
        )),
        Connect::Attached(cgroup) => (
            true,
            Some(step(
                format!("attached to {cgroup}"),
                "chosen when a process in there connects, once; packets of others, and of who listens at a local backend's port itself, go through the same tables",
            )),
        ),
    }
}

fn admit(
    packet: &Packet,
    found: &Found<'_>,
    facts: &Facts<'_>,
    steps: &mut Vec<Step>,
) -> Result<bool, ExplainError> {
    let (service, client) = (found.value.service, packet.client.address);
    let allowed = facts
        .lookups
        .is_source_allowed(service, packet.tuple().source)?;
    let ranges = match found.wanted.map(|wanted| &wanted.unit.sources) {
        Some(SourceRanges::Only(ranges)) => {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            format!(" of {}", some_of(&ranges))
        }
        Some(SourceRanges::Everybody) | None => String::new(),
    };
    let (what, follows) = if allowed {
        ("a range", "the client may come")
    } else {
        (
            "no range",
            "dropped: spec.loadBalancerSourceRanges does not hold the client",
        )
    };
    let step = Step::new(
        Topic::SourceRanges,
        format!("SOURCES_V2[{service}, {client}]"),
        format!("{what}{ranges}"),
        follows,
    );
    steps.push(step.because_of(found.object()));
    Ok(allowed)
}

/// The index of a client's pool, and why it is that.
fn which(packet: &Packet, found: &Found<'_>, settings: &SettingsV2) -> (usize, &'static str) {
    let is_of_cluster = is_off_cluster(settings, &packet.tuple().source) == Some(false);
    let inside = packet.client.is_inside() || is_of_cluster;
    let local = found.has(if inside {
        FRONTEND_LOCAL_INSIDE
    } else {
        FRONTEND_LOCAL_OUTSIDE
    });
    let index = if local { POOL_LOCAL } else { POOL_CLUSTER };
    let is_pod = matches!(found.object(), Some(key) if matches!(key.owner, Owner::Pod(_)));
    let at_cluster_ip = !found.has(FRONTEND_NODE_PORT | FRONTEND_EXTERNAL);
    let why = match (at_cluster_ip, local, inside) {
        _ if is_pod => "a host port leads to its pod",
        (true, true, _) => "internalTrafficPolicy: Local",
        (true, false, _) => "internalTrafficPolicy: Cluster",
        (false, true, _) => "externalTrafficPolicy: Local",
        (false, false, true) => {
            "clients inside get every endpoint, whatever externalTrafficPolicy says"
        }
        (false, false, false) => "externalTrafficPolicy: Cluster",
    };
    (index, why)
}
