//! The servers of a backend: endpoints, nodes or pods as they are now.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{Cluster, Node, NodeAddressType, ObjectKey, PortName, Protocol};

use super::claim::{BackendSpec, Members, PodMember};
use super::plan::{Backend, Server, ServerState};
use super::value::Id;

/// Among servers that all count alike.
const WEIGHT: u16 = 1;

/// The backend with its servers, in the order of their names.
pub(super) fn fill(spec: &BackendSpec, cluster: &Cluster) -> Backend {
    let mut servers = match &spec.members {
        Members::Endpoints { service, port } => endpoints(cluster, service, port.as_ref()),
        Members::Nodes { node_port } => nodes(cluster, *node_port),
        Members::Pods(pods) => pods.iter().flat_map(of_pod).collect(),
        Members::Addresses(addresses, port) => {
            let each = addresses.iter();
            each.map(|address| server(*address, *port)).collect()
        }
    };
    servers.sort_by(|a, b| (&a.name, a.state as u8).cmp(&(&b.name, b.state as u8)));
    // An endpoint may be in two slices while the controller moves it.
    servers.dedup_by(|later, first| later.name == first.name);
    // Endpoints that end but still answer are used when nothing else is left (KEP-1669).
    if servers
        .iter()
        .all(|server| server.state == ServerState::Draining)
    {
        for server in &mut servers {
            server.state = ServerState::Active;
        }
    }
    Backend {
        servers,
        ..spec.backend.clone()
    }
}

fn server(address: IpAddr, port: NonZeroU16) -> Server {
    Server {
        name: Id::of_server(address, port),
        address,
        port,
        weight: WEIGHT,
        state: ServerState::Active,
        target: None,
    }
}

fn endpoints(cluster: &Cluster, service: &ObjectKey, name: Option<&PortName>) -> Vec<Server> {
    let mut servers = Vec::new();
    for slice in cluster.slices_of(service) {
        let port = slice.ports.iter().find(|port| {
            port.protocol == Protocol::Tcp && name.is_none_or(|name| port.name == *name)
        });
        let Some(port) = port.and_then(|port| port.port) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions;
            let state = if conditions.ready && !conditions.terminating {
                ServerState::Active
            } else if conditions.serving && conditions.terminating {
                ServerState::Draining
            } else {
                continue;
            };
            servers.push(Server {
                state,
                ..server(endpoint.address, port)
            });
        }
    }
    servers
}

fn nodes(cluster: &Cluster, port: NonZeroU16) -> Vec<Server> {
    let of = for_clients(cluster).into_iter().filter_map(|(key, node)| {
        let mut addresses = node.addresses.iter();
        let address = addresses.find(|at| at.address_type == NodeAddressType::InternalIp)?;
        Some(Server {
            target: Some(key.clone()),
            ..server(address.address, port)
        })
    });
    of.collect()
}

/// Nodes that a load balancer outside may lead clients to. Where none is ready, all are: then it is
/// their controller that is not well.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-exclude-from-external-load-balancers>
pub(super) fn for_clients(cluster: &Cluster) -> Vec<(&ObjectKey, &Node)> {
    const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    let mut nodes: Vec<(&ObjectKey, &Node)> = cluster
        .nodes()
        .map(|(key, node)| (key, &**node))
        .filter(|(_, node)| !node.labels.contains_key(EXCLUDED))
        .collect();
    if nodes.iter().any(|(_, node)| node.is_ready) {
        nodes.retain(|(_, node)| node.is_ready);
    }
    nodes
}

fn of_pod(member: &PodMember) -> Option<Server> {
    let PodMember {
        pod,
        addresses,
        port,
        weight,
        is_draining,
    } = member;
    // The first is the cluster's primary family; a second would count the pod twice.
    let address = *Arc::clone(addresses).first()?;
    let state = if *is_draining {
        ServerState::Draining
    } else {
        ServerState::Active
    };
    Some(Server {
        weight: *weight,
        state,
        target: Some(pod.clone()),
        ..server(address, *port)
    })
}
