//! How a lab is wired: which links, addresses and routes its namespaces get.
//!
//! `router` bridges the nodes and is the way to the outside client; it has no route out of the lab.
//! A pod's link is routed, as Calico does it: the pod's next hop is its node at an address that is
//! on no interface, and the node has a route to each of its pods.

use std::net::IpAddr;

use anyhow::{Result, bail};

use super::address::{self, Pair};
use super::{Lab, Namespace, NodeSpec, PodSpec, namespace};

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
            // Without it an IPv6 address is not usable for a second.
            let mut settings = vec![
                ("net/ipv6/conf/all/accept_dad", "0"),
                ("net/ipv6/conf/default/accept_dad", "0"),
            ];
            if hosts.contains(&namespace) {
                settings.extend([
                    ("net/ipv4/ip_forward", "1"),
                    ("net/ipv6/conf/all/forwarding", "1"),
                    // Strict, as distributions set it: what the programs send must not need less.
                    ("net/ipv4/conf/all/rp_filter", "1"),
                    ("net/ipv4/conf/default/rp_filter", "1"),
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
        for (pod, place) in self.pods.values() {
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
        for (pod, place) in self.pods.values() {
            place.namespace.ip(&pod_lines(pod))?;
        }
        Ok(())
    }

    fn router_lines(&self) -> String {
        let mut lines =
            "link set lo up\nlink add nodes type bridge\nlink set nodes up\nlink set client up\n"
                .to_owned();
        for (node, _) in &self.nodes {
            lines += &format!("link set {0} master nodes\nlink set {0} up\n", node.name);
        }
        lines + &assign("nodes", address::ROUTER) + &assign("client", address::ROUTER_OUTSIDE)
    }

    fn node_lines(&self, node: &NodeSpec) -> String {
        let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
        for address in &node.addresses {
            lines += &format!(
                "addr add {address}/{} dev eth0 nodad\n",
                if address.is_ipv4() { 24 } else { 64 }
            );
        }
        lines += &way_out();
        lines += &self.routes_to_pods(|other| other != node);
        for (pod, _) in self.pods.values().filter(|(pod, _)| pod.node == node.name) {
            lines += &routes_to(pod);
        }
        lines
    }

    /// Routes to the pods of the nodes chosen, for who is on the nodes' network.
    pub(super) fn routes_to_pods(&self, chosen: impl Fn(&NodeSpec) -> bool) -> String {
        let mut lines = String::new();
        for (node, _) in self.nodes.iter().filter(|(node, _)| chosen(node)) {
            for network in &node.pod_networks {
                let same_family = |address: &&IpAddr| address.is_ipv6() == network.contains(':');
                if let Some(via) = node.addresses.iter().find(same_family) {
                    lines += &format!("route add {network} via {via} dev eth0\n");
                }
            }
        }
        lines
    }
}

/// The way out of the nodes' network: to the client.
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

fn assign(interface: &str, (v4, v6): Pair) -> String {
    format!("addr add {v4}/24 dev {interface}\naddr add {v6}/64 dev {interface} nodad\n")
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
