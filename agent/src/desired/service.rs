//! One Service and its EndpointSlices, to units of balancing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use model::{
    Cluster, ClusterIps, IpFamily, Scheduler, Service, ServiceType, SessionAffinity, SourceRanges,
    TrafficPolicy,
};

use super::compiled::Compiled;
use super::endpoints::{backends, ready_here};
use super::frontends::{Served, frontends, is_direct};
use super::route::mtu;
use super::{Choice, HealthCheck, LbService, LbServiceKey, NodeContext, Owner};

/// Compiles one Service. Headless and ExternalName Services, those without an address yet, and
/// those that a label gives to another proxy ask for nothing.
pub(super) fn compile(
    service: &Service,
    cluster: &Cluster,
    node: &NodeContext,
    nodes: &BTreeSet<IpAddr>,
) -> Compiled {
    let mut compiled = Compiled {
        created_unix_seconds: service.created_unix_seconds,
        ..Compiled::default()
    };
    let ClusterIps::Assigned(cluster_ips) = &service.cluster_ips else {
        return compiled;
    };
    let foreign = service.proxy_name.as_deref();
    if foreign.is_some_and(|name| name != "kube-router" && name != "fairlead")
        || service.service_type == ServiceType::ExternalName
    {
        return compiled;
    }
    let (choice, note) = choice(service);
    compiled.notes.extend(note);
    compiled.notes.extend(scheduler_flags(service));
    if is_direct(service) && node.mtu != 0 {
        let [v4, v6] = [IpFamily::V4, IpFamily::V6].map(|f| mtu::of_direct_return(node.mtu, f));
        compiled.notes.push(format!(
            "direct server return: clients' packets of up to {v4} bytes (IPv4) and {v6} (IPv6) fit the tunnel; who sends larger ones is told"
        ));
    }
    let (served, problems) = Served::of(service, cluster_ips, node, nodes);
    for port in &service.ports {
        for family in [IpFamily::V4, IpFamily::V6] {
            let frontends = frontends(service, &served, port, family, node);
            if frontends.is_empty() {
                continue;
            }
            let key = LbServiceKey {
                owner: Owner::Service(service.key.clone()),
                port: port.name.clone(),
                protocol: port.protocol,
                family,
            };
            let unit = LbService {
                frontends: frontends.into_iter().collect(),
                backends: backends(service, cluster, port, family, node),
                choice,
                affinity: service.session_affinity,
                sources: sources(service, family),
            };
            compiled.units.push((key, Arc::new(unit)));
        }
    }
    compiled.settle();
    compiled.problems = problems;
    compiled.health_check = service
        .health_check_node_port
        .filter(|_| {
            service.service_type == ServiceType::LoadBalancer
                && service.external_policy == TrafficPolicy::Local
        })
        .map(|port| HealthCheck {
            port,
            service: service.key.clone(),
            local_endpoints: ready_here(service, cluster, node),
        });
    compiled
}

/// How backends are chosen, and what to say where that is only the nearest to what was asked for.
fn choice(service: &Service) -> (Choice, Option<String>) {
    let hash = |source, port, destination| Choice::Hash {
        source,
        port,
        destination,
    };
    let scheduler = service.tuning.as_ref().and_then(|tuning| tuning.scheduler);
    if let SessionAffinity::ClientIp { .. } = service.session_affinity {
        let note =
            scheduler.map(|_| "sessionAffinity decides; the scheduler is ignored".to_owned());
        return (hash(true, false, false), note);
    }
    let nearest = |name: &str| {
        Some(format!(
            "scheduler {name}: chosen at random, which is nearest"
        ))
    };
    match scheduler {
        // Every node has to choose alike, or a flow that moves to another node would break.
        None if is_direct(service) => (hash(true, true, true), None),
        None | Some(Scheduler::Random) if !is_direct(service) => (Choice::Random, None),
        Some(Scheduler::RoundRobin) if !is_direct(service) => (Choice::Random, nearest("rr")),
        Some(Scheduler::LeastConnections) if !is_direct(service) => (Choice::Random, nearest("lc")),
        Some(Scheduler::SourceHash) => (hash(true, false, false), None),
        Some(Scheduler::DestinationHash) => (hash(false, false, true), None),
        Some(Scheduler::Maglev { with_port }) => (hash(true, with_port, false), None),
        None | Some(Scheduler::Random | Scheduler::RoundRobin | Scheduler::LeastConnections) => (
            hash(true, true, true),
            Some(
                "direct server return: chosen by consistent hashing of addresses and ports"
                    .to_owned(),
            ),
        ),
    }
}

/// What becomes of the flags of IPVS's scheduler, but for that of the port, which does what it says.
fn scheduler_flags(service: &Service) -> Vec<String> {
    let Some(tuning) = &service.tuning else {
        return Vec::new();
    };
    let is_hashed = matches!(tuning.scheduler, Some(Scheduler::Maglev { .. }))
        && service.session_affinity == SessionAffinity::None;
    let told = tuning.scheduler_flags.iter().filter_map(|flag| {
        let what = match flag {
            _ if !is_hashed => "counts for scheduler mh alone; ignored",
            1 => "endpoints that take nothing new are in no table, so another takes their place in any case",
            2 => return None,
            _ => "means nothing to scheduler mh; ignored",
        };
        Some(format!("schedflags flag-{flag}: {what}"))
    });
    told.collect()
}

/// The ranges of a family. Where none of the family is given, nobody of it may come.
fn sources(service: &Service, family: IpFamily) -> SourceRanges {
    match &service.source_ranges {
        SourceRanges::Everybody => SourceRanges::Everybody,
        SourceRanges::Only(ranges) => SourceRanges::Only(
            ranges
                .iter()
                .filter(|range| IpFamily::of(range.addr()) == family)
                .copied()
                .collect(),
        ),
    }
}
