//! The addresses of one Service port.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::{IpFamily, Kind, Problem, Service, ServicePort, ServiceType, TrafficPolicy};

use super::{Frontend, NodeContext, Pool, Scope};

/// Addresses of a Service that are served.
pub(super) struct Served<'a> {
    /// They decide which families a Service has.
    pub(super) cluster_ips: &'a [IpAddr],
    /// What is left of `spec.externalIPs`.
    pub(super) external_ips: Vec<IpAddr>,
}

impl<'a> Served<'a> {
    /// Those of a Service on a node, among all `nodes`' addresses; and the addresses that it asks for
    /// and does not get.
    pub(super) fn of(
        service: &Service,
        cluster_ips: &'a [IpAddr],
        node: &NodeContext,
        nodes: &BTreeSet<IpAddr>,
    ) -> (Self, Vec<Problem>) {
        let effect = "this address is not served";
        let problem = |field: &str, message: String| {
            Problem::new(Kind::Service, service.key.clone(), field, message, effect)
        };
        let mut problems = Vec::new();
        let mut external_ips = Vec::new();
        for address in &service.external_ips {
            match refusal(*address, node, nodes) {
                None => external_ips.push(*address),
                Some(why) => {
                    problems.push(problem("spec.externalIPs", format!("{address} {why}")));
                }
            }
        }
        let owned = service.load_balancer_ips.iter();
        problems.extend(owned.filter(|address| node.owns(**address)).map(|address| {
            let message = format!("{address} is the node's own");
            problem("status.loadBalancer.ingress", message)
        }));
        let served = Self {
            cluster_ips,
            external_ips,
        };
        (served, problems)
    }
}

/// The addresses of one port in one family.
pub(super) fn frontends(
    service: &Service,
    served: &Served<'_>,
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
    let mut frontends: Vec<Frontend> = served
        .cluster_ips
        .iter()
        .filter(of_family)
        .map(at_cluster_ip)
        .collect();
    if frontends.is_empty() {
        return BTreeSet::new();
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
    let balancers = service.load_balancer_ips.iter().filter(of_family);
    frontends.extend(
        balancers
            .filter(|address| !node.owns(**address))
            .map(|address| from_outside(*address, port.port, Scope::LoadBalancer)),
    );
    let external = served.external_ips.iter().filter(of_family);
    frontends.extend(external.map(|address| from_outside(*address, port.port, Scope::ExternalIp)));
    // Of one address that is several things, the first counts: a load balancer's source ranges hold for it
    // though it is an external IP, too.
    let mut taken = BTreeSet::new();
    frontends.retain(|frontend| taken.insert((frontend.address, frontend.port)));
    frontends.into_iter().collect()
}

/// Why an external IP is not served (CVE-2020-8554: whoever may write a Service could draw any
/// address to it).
fn refusal(address: IpAddr, node: &NodeContext, nodes: &BTreeSet<IpAddr>) -> Option<String> {
    if node.owns(address) {
        return Some("is the node's own".to_owned());
    }
    if nodes.contains(&address) {
        return Some("is a node's own".to_owned());
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
