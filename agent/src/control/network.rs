//! The cluster's network as the agent knows it, for `doctor`.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{ClusterIps, NodeAddressType};
use serde::{Deserialize, Serialize};

use super::collect::Watched;
use crate::desired::route::Encapsulation;
use crate::route::image::DEVICES;

/// The nodes and the Services' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Whether every kind has been listed.
    pub synced: bool,
    /// Every node, this one too.
    pub nodes: Vec<NodeRow>,
    /// Cluster IPs.
    pub services: Vec<IpAddr>,
    /// Whether pod routes are kept.
    pub routed: bool,
    /// The overlay, where there is one.
    pub overlay: Option<OverlayRow>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Name.
    pub name: String,
    /// Internal addresses.
    pub addresses: Vec<IpAddr>,
    /// Networks of its pods.
    pub pod_networks: Vec<IpNet>,
}

/// The overlay as the agent of this node has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayRow {
    /// Its device.
    pub device: String,
    /// This node's address in it.
    pub local: Option<IpAddr>,
    /// Identifier and UDP port of VXLAN.
    pub vxlan: Option<(u32, u16)>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Nodes that are reached through it.
    pub peers: Vec<IpAddr>,
}

impl Watched {
    /// The answer to `network`.
    pub fn network(&self) -> Network {
        let view = self.view.borrow().clone();
        let desired = self.desired.borrow().clone();
        let nodes = view.cluster.nodes().map(|(_, node)| {
            let addresses = node.addresses.iter();
            let internal = addresses.filter(|at| at.address_type == NodeAddressType::InternalIp);
            NodeRow {
                name: node.key.name.to_string(),
                addresses: internal.map(|at| at.address).collect(),
                pod_networks: node.pod_cidrs.iter().map(IpNet::trunc).collect(),
            }
        });
        let services = view.cluster.services();
        let addresses = services.flat_map(|(_, service)| match &service.cluster_ips {
            ClusterIps::Assigned(addresses) => addresses.clone(),
            ClusterIps::Headless | ClusterIps::Pending => Vec::new(),
        });
        let routes = desired.as_ref().and_then(|wanted| wanted.routes.as_ref());
        let overlay = routes.and_then(|routes| routes.overlay.as_ref());
        Network {
            synced: view.synced,
            nodes: nodes.collect(),
            services: addresses.collect(),
            routed: routes.is_some(),
            overlay: overlay.map(|overlay| {
                let (device, vxlan) = match overlay.encapsulation {
                    Encapsulation::Vxlan { vni, port } => (DEVICES[0], Some((vni, port))),
                    Encapsulation::IpIp => (DEVICES[1], None),
                };
                OverlayRow {
                    device: device.to_owned(),
                    local: Some(overlay.local),
                    vxlan,
                    mtu: overlay.mtu,
                    peers: overlay.peers.keys().map(|(peer, _)| *peer).collect(),
                }
            }),
        }
    }
}
