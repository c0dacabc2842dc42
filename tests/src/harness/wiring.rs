//! How a lab is wired: which links, addresses and routes its namespaces get.
//!
//! `router` bridges the nodes of the first subnet, has a link to each other node, and is the way to
//! the outside client; it has no route out of the lab.
//! A pod's link is routed, as Calico does it: the pod's next hop is its node at an address that is
//! on no interface, and the node has a route to each of its pods.

use std::net::IpAddr;

use anyhow::{Result, bail};

use super::address::{self, Pair};
use super::{Lab, Namespace, NodeSpec, Place, PodNetwork, PodSpec, namespace};

/// Settings of every namespace.
pub(super) const SETTINGS: [(&str, &str); 3] = [
    // Else an IPv6 address is not usable for a second.
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    // The host's may be one that sends as fast as its clock says (BBR), whatever the network could do. This
    // one every kernel has.
    ("net/ipv4/tcp_congestion_control", "reno"),
];

impl Lab {
    pub(super) fn make_namespaces(&self) -> Result<()> {
        let pods = self.pods.values().map(|(_, place)| &place.namespace);
        let hosts: Vec<_> = self
            .nodes
            .iter()
            .map(|(_, place)| &place.namespace)
            .chain([&self.router])
            .collect();
        let all: Vec<_> = hosts
            .iter()
            .copied()
            .chain(pods)
            .chain([&self.client.namespace])
            .collect();
        let lines: Vec<_> = all
            .iter()
            .map(|namespace| format!("netns add {}\n", namespace.name()))
            .collect();
        namespace::batch(&[], &lines.concat())?;
        for namespace in all {
            let mut settings = SETTINGS.to_vec();
            if hosts.contains(&namespace) {
                // Strict on nodes, as distributions set it: what the programs send must not need
                // less. Of a router with more than one way to the nodes it would be wrong (RFC 3704
                // §2.3): direct answers come from any node, from the address of a Service.
                let filter = if *namespace == self.router { "2" } else { "1" };
                settings.extend([
                    ("net/ipv4/ip_forward", "1"),
                    ("net/ipv6/conf/all/forwarding", "1"),
                    ("net/ipv4/conf/all/rp_filter", filter),
                    ("net/ipv4/conf/default/rp_filter", filter),
                ]);
            }
            namespace.sysctl(&settings)?;
        }
        namespace::batch(&[], &self.links())
    }

    fn links(&self) -> String {
        let router = self.router.name();
        let mut lines = format!(
            "link add eth0 netns {} type veth peer name client netns {router}\n",
            self.client.namespace.name()
        );
        for (node, place) in &self.nodes {
            let name = place.namespace.name();
            lines += &format!(
                "link add eth0 netns {name} type veth peer name {} netns {router}\n",
                node.name
            );
        }
        for (pod, place) in self.pods_of_lab() {
            lines += &self.link_of(pod, &place.namespace);
        }
        lines
    }

    fn link_of(&self, pod: &PodSpec, namespace: &Namespace) -> String {
        let node = Namespace::of(&self.name, &pod.node);
        format!(
            "link add {} netns {} address {} type veth peer name eth0 netns {}\n",
            interface_of(&pod.name),
            node.name(),
            address::POD_GATEWAY_MAC,
            namespace.name()
        )
    }

    /// Gives a pod another link to its node, with its old addresses: as if it were deleted, and
    /// another one got them.
    pub fn replace_link(&self, pod: &str) -> Result<()> {
        let Some((pod, place)) = self.pods.get(pod) else {
            bail!("{pod}: no such pod");
        };
        place.namespace.ip("link del eth0\n")?;
        namespace::batch(&[], &self.link_of(pod, &place.namespace))?;
        place.namespace.ip(&pod_lines(pod))?;
        Namespace::of(&self.name, &pod.node).ip(&routes_to(pod))
    }

    pub(super) fn configure(&self) -> Result<()> {
        self.router.ip(&self.router_lines())?;
        let client = &self.client.namespace;
        client.ip(&format!(
            "link set lo up\nlink set eth0 up\n{}{}",
            assign("eth0", address::CLIENT),
            default_route("eth0", address::ROUTER_OUTSIDE)
        ))?;
        for (node, place) in &self.nodes {
            place.namespace.ip(&self.node_lines(node))?;
        }
        for (pod, place) in self.pods_of_lab() {
            place.namespace.ip(&pod_lines(pod))?;
        }
        Ok(())
    }

    /// The pods whose links the lab makes.
    fn pods_of_lab(&self) -> impl Iterator<Item = &(PodSpec, Place)> {
        let of_lab = self.pod_network != PodNetwork::OfPlugin;
        self.pods.values().filter(move |_| of_lab)
    }

    fn router_lines(&self) -> String {
        let mut lines =
            "link set lo up\nlink add nodes type bridge\nlink set nodes up\nlink set client up\n"
                .to_owned();
        for (node, _) in &self.nodes {
            let name = &node.name;
            lines += &format!("link set {name} up\n");
            if node.addresses.iter().all(|node| is_bridged(*node)) {
                lines += &format!("link set {name} master nodes\n");
            } else {
                let routers = node.addresses.iter().map(|node| address::router_of(*node));
                lines.extend(routers.map(|router| assigned(name, router)));
            }
        }
        lines + &assign("nodes", address::ROUTER) + &assign("client", address::ROUTER_OUTSIDE)
    }

    fn node_lines(&self, node: &NodeSpec) -> String {
        let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
        for address in &node.addresses {
            lines += &assigned("eth0", *address);
            let router = address::router_of(*address);
            lines += &format!("route add default via {router} dev eth0\n");
        }
        if self.pod_network == PodNetwork::OfLab {
            lines += &self.routes_to_pods(|other| other != node);
        }
        for (pod, _) in self.pods_of_lab().filter(|(pod, _)| pod.node == node.name) {
            lines += &routes_to(pod);
        }
        lines
    }

    /// Routes to the pods of the nodes chosen, for who is on the router's bridge.
    pub(super) fn routes_to_pods(&self, chosen: impl Fn(&NodeSpec) -> bool) -> String {
        let mut lines = String::new();
        for (network, node) in self.pod_networks(chosen) {
            let via = if is_bridged(node) {
                node
            } else {
                address::router_of_bridge(node)
            };
            lines += &format!("route add {network} via {via} dev eth0\n");
        }
        lines
    }

    /// The router's own routes to the pods of nodes elsewhere.
    pub(super) fn routes_elsewhere(&self) -> String {
        let elsewhere = self
            .pod_networks(|_| true)
            .filter(|(_, node)| !is_bridged(*node));
        elsewhere
            .map(|(network, node)| format!("route add {network} via {node}\n"))
            .collect()
    }

    /// Networks of the pods of the nodes chosen, with the node's address of the family.
    fn pod_networks(
        &self,
        chosen: impl Fn(&NodeSpec) -> bool,
    ) -> impl Iterator<Item = (&String, IpAddr)> {
        let nodes = self.nodes.iter().filter(move |(node, _)| chosen(node));
        nodes.flat_map(|(node, _)| {
            node.pod_networks.iter().filter_map(|network| {
                let same_family = |address: &&IpAddr| address.is_ipv6() == network.contains(':');
                let via = node.addresses.iter().find(same_family);
                via.map(|via| (network, *via))
            })
        })
    }
}

/// Whether a node's address is on the router's bridge.
fn is_bridged(node: IpAddr) -> bool {
    address::router_of(node) == address::router_of_bridge(node)
}

/// The way out of the router's bridge: to the client.
pub(super) fn way_out() -> String {
    default_route("eth0", address::ROUTER)
}

fn routes_to(pod: &PodSpec) -> String {
    let interface = interface_of(&pod.name);
    let mut lines = format!("link set {interface} up\n");
    for address in &pod.addresses {
        lines += &format!("route add {address} dev {interface}\n");
    }
    lines
}

/// The node's end of a pod's link.
fn interface_of(pod: &str) -> String {
    format!("p-{pod}")
}

fn assign(interface: &str, pair: Pair) -> String {
    let lines = address::both(pair).map(|address| assigned(interface, address));
    lines.concat()
}

fn assigned(interface: &str, address: IpAddr) -> String {
    let length = if address.is_ipv4() { 24 } else { 64 };
    format!("addr add {address}/{length} dev {interface} nodad\n")
}

fn default_route(interface: &str, (v4, v6): Pair) -> String {
    format!(
        "route add default via {v4} dev {interface}\nroute add default via {v6} dev {interface}\n"
    )
}

fn pod_lines(pod: &PodSpec) -> String {
    let (gateway_v4, gateway_v6) = address::POD_GATEWAY;
    let mac = address::POD_GATEWAY_MAC;
    let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
    for address in &pod.addresses {
        lines += &format!("addr add {address} dev eth0 nodad\n");
    }
    for (gateway, v6) in [(IpAddr::from(gateway_v4), false), (gateway_v6.into(), true)] {
        if pod.addresses.iter().any(|address| address.is_ipv6() == v6) {
            lines += &format!("neigh add {gateway} lladdr {mac} dev eth0 nud permanent\n");
            lines += &format!("route add default via {gateway} dev eth0 onlink\n");
        }
    }
    lines
}
