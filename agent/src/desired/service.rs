//! One Service and its EndpointSlices, to units of balancing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use model::{
    ClusterIps, Endpoint, EndpointSlice, IpFamily, Problem, Service, ServicePort, ServiceType,
};

use super::{Backend, Frontend, LbService, LbServiceKey, NodeContext, Scope, Units};

/// What one Service asks for, before others' claims are considered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Age of the Service, which decides conflicts.
    pub created_unix_seconds: i64,
    /// Its units.
    pub units: Units,
    /// Findings about it.
    pub problems: Vec<Problem>,
}

/// Compiles one Service. Headless and ExternalName Services, those without an address yet, and
/// those that a label gives to another proxy ask for nothing.
pub fn compile(service: &Service, slices: &[&EndpointSlice], node: &NodeContext) -> Compiled {
    let mut compiled = Compiled {
        created_unix_seconds: service.created_unix_seconds,
        ..Compiled::default()
    };
    let ClusterIps::Assigned(cluster_ips) = &service.cluster_ips else {
        return compiled;
    };
    if service.proxy_name.is_some() || service.service_type == ServiceType::ExternalName {
        return compiled;
    }
    for port in &service.ports {
        for family in [IpFamily::V4, IpFamily::V6] {
            let frontends = frontends(service, cluster_ips, port, family, node);
            if frontends.is_empty() {
                continue;
            }
            let key = LbServiceKey {
                service: service.key.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
                family,
            };
            let backends = backends(slices, port, family, node);
            compiled.units.insert(
                key,
                LbService {
                    frontends,
                    backends,
                },
            );
        }
    }
    compiled
}

fn frontends(
    service: &Service,
    cluster_ips: &[IpAddr],
    port: &ServicePort,
    family: IpFamily,
    node: &NodeContext,
) -> BTreeSet<Frontend> {
    let at = |address: IpAddr, port_number: NonZeroU16, scope| Frontend {
        address,
        port: port_number,
        protocol: port.protocol,
        scope,
    };
    let of_family = |address: &&IpAddr| IpFamily::of(**address) == family;
    let mut frontends: BTreeSet<Frontend> = cluster_ips
        .iter()
        .filter(of_family)
        .map(|address| at(*address, port.port, Scope::ClusterIp))
        .collect();
    // Kubernetes gives a Service its families by its cluster IPs; node ports follow them.
    let on_nodes = matches!(
        service.service_type,
        ServiceType::NodePort | ServiceType::LoadBalancer
    );
    if on_nodes
        && !frontends.is_empty()
        && let Some(node_port) = port.node_port
    {
        frontends.extend(
            node.addresses
                .iter()
                .filter(of_family)
                .map(|address| at(*address, node_port, Scope::NodePort)),
        );
    }
    frontends
}

/// The endpoints that may get new connections (KEP-1669): the ready ones; where there is none,
/// those that still serve while they terminate.
fn backends(
    slices: &[&EndpointSlice],
    port: &ServicePort,
    family: IpFamily,
    node: &NodeContext,
) -> BTreeSet<Backend> {
    let mut ready = BTreeMap::new();
    let mut draining = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.family == family) {
        let ports = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol);
        for number in ports.filter_map(|p| p.port) {
            for endpoint in &slice.endpoints {
                let conditions = endpoint.conditions;
                let group = if conditions.ready {
                    &mut ready
                } else if conditions.serving && conditions.terminating {
                    &mut draining
                } else {
                    continue;
                };
                // While the controller moves an endpoint it is in two slices; it is local if
                // either says so.
                *group.entry((endpoint.address, number)).or_insert(false) |=
                    is_local(endpoint, node);
            }
        }
    }
    let chosen = if ready.is_empty() { draining } else { ready };
    chosen
        .into_iter()
        .map(|((address, port), local)| Backend {
            address,
            port,
            local,
        })
        .collect()
}

fn is_local(endpoint: &Endpoint, node: &NodeContext) -> bool {
    endpoint.node_name.as_deref() == Some(&*node.name)
}
