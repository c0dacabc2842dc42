//! One pod's host ports, to units of balancing.

use std::sync::Arc;

use model::{IpFamily, Kind, Pod, PortName, Problem, SessionAffinity, SourceRanges};

use super::compiled::Compiled;
use super::{
    Backend, Choice, Frontend, LbService, LbServiceKey, NodeContext, Owner, Pool, Pools, Scope,
};

/// Compiles one pod; `None` where it has no host ports on this node. Pods in the node's network
/// have the port themselves.
pub(super) fn compile(pod: &Pod, node: &NodeContext) -> Option<Compiled> {
    let is_here = pod.node_name.as_deref() == Some(&*node.name);
    if !is_here || pod.host_network || pod.finished || pod.host_ports.is_empty() {
        return None;
    }
    let mut compiled = Compiled {
        created_unix_seconds: pod.created_unix_seconds,
        ..Compiled::default()
    };
    for host_port in &pod.host_ports {
        for address in &pod.addresses {
            let family = IpFamily::of(*address);
            let served = |candidate: &&std::net::IpAddr| {
                IpFamily::of(**candidate) == family
                    && host_port
                        .host_ip
                        .is_none_or(|host_ip| host_ip == **candidate)
            };
            let frontends: Arc<[Frontend]> = node
                .port_addresses
                .iter()
                .filter(served)
                .map(|address| Frontend {
                    address: *address,
                    port: host_port.host_port,
                    protocol: host_port.protocol,
                    scope: Scope::HostPort,
                    inside: Pool::Cluster,
                    outside: Pool::Cluster,
                    direct_return: false,
                })
                .collect();
            let key = LbServiceKey {
                owner: Owner::Pod(pod.key.clone()),
                port: PortName::new(Some(&match host_port.host_ip {
                    None => format!("hostport-{}", host_port.host_port),
                    Some(at) => format!("hostport-{}-{at}", host_port.host_port),
                })),
                protocol: host_port.protocol,
                family,
            };
            let backend = Backend {
                address: *address,
                port: host_port.container_port,
                local: true,
                pools: Pools {
                    cluster: true,
                    local: false,
                },
                weight: 1,
                node: None,
            };
            if let Some(at) = host_port.host_ip
                && frontends.is_empty()
                && IpFamily::of(at) == family
            {
                compiled.problems.push(Problem::new(
                    Kind::Pod,
                    pod.key.clone(),
                    "spec.containers.ports.hostIP",
                    format!("{at} is none of the addresses that this node serves ports at"),
                    format!("host port {} is not served", host_port.host_port),
                ));
            }
            if !frontends.is_empty() {
                compiled.units.push((
                    key,
                    Arc::new(LbService {
                        frontends,
                        backends: [backend].into(),
                        choice: Choice::Random,
                        affinity: SessionAffinity::None,
                        sources: SourceRanges::Everybody,
                    }),
                ));
            }
        }
    }
    compiled.settle();
    Some(compiled)
}
