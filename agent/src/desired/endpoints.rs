//! Which endpoints of a Service port get new connections, and which only finish what they have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{
    Cluster, Endpoint, EndpointSlice, IpFamily, ObjectKey, Service, ServicePort,
    TrafficDistribution, WeightedPeer,
};

use super::frontends::is_direct;
use super::{Backend, NodeContext, Pools, node};

/// What is known of one address and port; while the controller moves an endpoint it is in two
/// slices, and both count.
struct Candidate<'a> {
    endpoint: &'a Endpoint,
    ready: bool,
    draining: bool,
    local: bool,
}

type Candidates<'a> = BTreeMap<(IpAddr, NonZeroU16), Candidate<'a>>;

/// The backends of one port in one family.
pub(super) fn backends(
    service: &Service,
    cluster: &Cluster,
    port: &ServicePort,
    family: IpFamily,
    node: &NodeContext,
) -> Arc<[Backend]> {
    let slices = cluster.slices_of(&service.key);
    let slices = slices.filter(|slice| slice.family == family);
    let candidates = candidates(service, slices.map(AsRef::as_ref), port, node);
    let takes = |candidate: &Candidate<'_>| weight_of(service, candidate.endpoint) > 0;
    let here = keys(&in_force(&candidates, |candidate| {
        candidate.local && takes(candidate)
    }));
    let everywhere = keys(&near(in_force(&candidates, takes), service, node));
    let backends = candidates.iter().map(|((address, port), candidate)| {
        let weight = weight_of(service, candidate.endpoint);
        let in_pool = |pool: &BTreeSet<(IpAddr, NonZeroU16)>| pool.contains(&(*address, *port));
        Backend {
            address: *address,
            port: *port,
            local: candidate.local,
            pools: Pools {
                cluster: in_pool(&everywhere),
                local: in_pool(&here),
            },
            weight: weight.max(1),
            node: node_address(service, cluster, candidate.endpoint, family),
        }
    });
    backends.collect()
}

/// Endpoints on this node that get new connections and are not terminating.
pub(super) fn ready_here(service: &Service, cluster: &Cluster, node: &NodeContext) -> usize {
    let endpoints = cluster
        .slices_of(&service.key)
        .flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|endpoint| is_ready(service, endpoint) && is_local(endpoint, node));
    let here: BTreeSet<IpAddr> = here.map(|endpoint| endpoint.address).collect();
    // A pod of a dual-stack Service has an address of each family.
    let v4 = here.iter().filter(|address| address.is_ipv4()).count();
    v4.max(here.len() - v4)
}

fn candidates<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    node: &NodeContext,
) -> Candidates<'a> {
    let mut candidates = Candidates::new();
    for slice in slices {
        let ports = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol);
        for number in ports.filter_map(|p| p.port) {
            for endpoint in &slice.endpoints {
                let ready = is_ready(service, endpoint);
                let draining = endpoint.conditions.serving && endpoint.conditions.terminating;
                if !ready && !draining {
                    continue;
                }
                let candidate = candidates
                    .entry((endpoint.address, number))
                    .or_insert(Candidate {
                        endpoint,
                        ready,
                        draining,
                        local: false,
                    });
                candidate.ready |= ready;
                candidate.draining |= draining;
                candidate.local |= is_local(endpoint, node);
            }
        }
    }
    candidates
}

/// Those of some candidates that get new connections (KEP-1669): the ready ones; where there is
/// none, those that still serve while they terminate.
fn in_force<'a, 'b>(
    candidates: &'b Candidates<'a>,
    of: impl Fn(&Candidate<'a>) -> bool,
) -> BTreeMap<(IpAddr, NonZeroU16), &'b Candidate<'a>> {
    let some = || {
        candidates
            .iter()
            .filter(|(_, candidate)| of(candidate))
            .map(|(key, candidate)| (*key, candidate))
    };
    let ready: BTreeMap<_, _> = some().filter(|(_, candidate)| candidate.ready).collect();
    if ready.is_empty() {
        some().collect()
    } else {
        ready
    }
}

/// Those that are meant for this node, or near it; all where that would be none, or where it is
/// not known of every one (KEP-2433, KEP-3015, KEP-4444).
fn near<'a, 'b>(
    all: BTreeMap<(IpAddr, NonZeroU16), &'b Candidate<'a>>,
    service: &Service,
    node: &NodeContext,
) -> BTreeMap<(IpAddr, NonZeroU16), &'b Candidate<'a>> {
    let zone = node.zone.as_ref();
    let hinted_node = |endpoint: &Endpoint| {
        let hints = endpoint.placement.hints.as_ref();
        let hints = hints.filter(|hints| !hints.nodes.is_empty())?;
        Some(hints.nodes.contains(&node.name))
    };
    let hinted_zone = |endpoint: &Endpoint| {
        let hints = endpoint.placement.hints.as_ref();
        let hints = hints.filter(|hints| !hints.zones.is_empty())?;
        Some(hints.zones.contains(zone?))
    };
    let same_node =
        |endpoint: &Endpoint| Some(endpoint.placement.node_name.as_ref()? == &node.name);
    let same_zone = |endpoint: &Endpoint| Some(endpoint.placement.zone.as_ref()? == zone?);
    type Nearness<'f> = &'f dyn Fn(&Endpoint) -> Option<bool>;
    let by_preference: &[Nearness<'_>] = match service.distribution {
        TrafficDistribution::Hints => &[&hinted_zone],
        TrafficDistribution::PreferSameZone => &[&hinted_zone, &same_zone],
        TrafficDistribution::PreferSameNode => {
            &[&hinted_node, &same_node, &hinted_zone, &same_zone]
        }
    };
    for is_near in by_preference {
        let known = all
            .iter()
            .map(|(key, candidate)| Some((*key, is_near(candidate.endpoint)?)))
            .collect::<Option<BTreeMap<_, _>>>();
        let Some(known) = known else { continue };
        if known.values().any(|near| *near) {
            let mut all = all;
            all.retain(|key, _| known.get(key) == Some(&true));
            return all;
        }
    }
    all
}

fn keys<K: Copy + Ord, V>(map: &BTreeMap<K, V>) -> BTreeSet<K> {
    map.keys().copied().collect()
}

fn is_ready(service: &Service, endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready
        || (service.publish_not_ready_addresses && !endpoint.conditions.terminating)
}

fn is_local(endpoint: &Endpoint, node: &NodeContext) -> bool {
    endpoint.placement.node_name.as_deref() == Some(&*node.name)
}

/// 0 for no new connections.
fn weight_of(service: &Service, endpoint: &Endpoint) -> u16 {
    let Some(tuning) = &service.tuning else {
        return 1;
    };
    let fits = |peer: &WeightedPeer| match peer {
        WeightedPeer::Address(address) => *address == endpoint.address,
        WeightedPeer::Node(name) => endpoint.placement.node_name.as_ref() == Some(name),
        WeightedPeer::Zone(name) => endpoint.placement.zone.as_ref() == Some(name),
        WeightedPeer::Rest => true,
    };
    let found = tuning.weights.iter().find(|(peer, _)| fits(peer));
    found.map_or(1, |(_, weight)| *weight)
}

/// The address of an endpoint's node, where packets may go there as they are.
fn node_address(
    service: &Service,
    cluster: &Cluster,
    endpoint: &Endpoint,
    family: IpFamily,
) -> Option<IpAddr> {
    if !is_direct(service) {
        return None;
    }
    let key = ObjectKey::cluster_scoped(endpoint.placement.node_name.as_ref()?);
    node::addresses_of(cluster, &key)
        .into_iter()
        .find(|address| IpFamily::of(*address) == family)
}
