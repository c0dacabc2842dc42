//! The addresses of one Service port.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::{IpFamily, Kind, Problem, Service, ServicePort, ServiceType, TrafficPolicy};

use super::{Frontend, NodeContext, Pool, Scope};

/// The addresses of one port in one family. `cluster_ips` decide which families a Service has.
pub(super) fn frontends(
    service: &Service,
    cluster_ips: &[IpAddr],
    port: &ServicePort,
    family: IpFamily,
    node: &NodeContext,
) -> BTreeSet<Frontend> {
    let of_family = |address: &&IpAddr| IpFamily::of(**address) == family;
    let pool_of = |policy| match policy {
        TrafficPolicy::Cluster => Pool::Cluster,
        TrafficPolicy::Local => Pool::Local,
    };
    let internal = pool_of(service.internal_policy);
    let at_cluster_ip = |address: &IpAddr| Frontend {
        address: *address,
        port: port.port,
        protocol: port.protocol,
        scope: Scope::ClusterIp,
        inside: internal,
        outside: internal,
        direct_return: false,
    };
    let mut frontends: BTreeSet<Frontend> = cluster_ips
        .iter()
        .filter(of_family)
        .map(at_cluster_ip)
        .collect();
    if frontends.is_empty() {
        return frontends;
    }
    let from_outside = |address: IpAddr, number, scope| Frontend {
        address,
        port: number,
        protocol: port.protocol,
        scope,
        // Clients in the cluster have no way in of their own: they get every endpoint.
        inside: Pool::Cluster,
        outside: pool_of(service.external_policy),
        direct_return: matches!(scope, Scope::ExternalIp | Scope::LoadBalancer)
            && is_direct(service),
    };
    let on_nodes = matches!(
        service.service_type,
        ServiceType::NodePort | ServiceType::LoadBalancer
    );
    if let Some(number) = port.node_port.filter(|_| on_nodes) {
        let addresses = node.port_addresses.iter().filter(of_family);
        frontends.extend(addresses.map(|address| from_outside(*address, number, Scope::NodePort)));
        let loopback = node.loopback(family);
        frontends.extend(loopback.map(|address| from_outside(address, number, Scope::Loopback)));
    }
    let external = service.external_ips.iter().filter(of_family);
    frontends.extend(
        external
            .filter(|address| refusal(**address, node).is_none())
            .map(|address| from_outside(*address, port.port, Scope::ExternalIp)),
    );
    let balancers = service.load_balancer_ips.iter().filter(of_family);
    frontends.extend(
        balancers
            .filter(|address| !node.owns(**address))
            .map(|address| from_outside(*address, port.port, Scope::LoadBalancer)),
    );
    frontends
}

/// Addresses that a Service asks for and does not get.
pub(super) fn refused(service: &Service, node: &NodeContext) -> Vec<Problem> {
    let effect = "this address is not served";
    let problem = |field: &str, message: String| {
        Problem::new(Kind::Service, service.key.clone(), field, message, effect)
    };
    let external = service.external_ips.iter().filter_map(|address| {
        let why = refusal(*address, node)?;
        Some(problem("spec.externalIPs", format!("{address} {why}")))
    });
    let balancers = service.load_balancer_ips.iter().filter_map(|address| {
        let message = format!("{address} is the node's own");
        node.owns(*address)
            .then(|| problem("status.loadBalancer.ingress", message))
    });
    external.chain(balancers).collect()
}

/// Why an external IP is not served (CVE-2020-8554: whoever may write a Service could draw any
/// address to it).
fn refusal(address: IpAddr, node: &NodeContext) -> Option<String> {
    if node.owns(address) {
        return Some("is the node's own".to_owned());
    }
    let ranges = &node.exposure.external_ranges;
    if node.exposure.any_external || ranges.iter().any(|range| range.contains(&address)) {
        return None;
    }
    Some(if ranges.is_empty() {
        "is not served without --service-external-ip-range".to_owned()
    } else {
        "is outside of --service-external-ip-range".to_owned()
    })
}

/// Whether replies of its external addresses are to go to clients directly.
pub(super) fn is_direct(service: &Service) -> bool {
    service
        .tuning
        .as_ref()
        .is_some_and(|tuning| tuning.direct_return)
}
