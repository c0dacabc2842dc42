//! What of the pods' traffic leaves the cluster under the node's address.
//!
//! [`Egress::compile`] gathers the networks that know pods by their own addresses: what is there is
//! reached without translation. Everything else is outside. Keys of the kernel's table first appear
//! in `egress::image`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Cluster, Kind, ObjectKey, Problem};

use super::NodeContext;

/// Most networks that are known. An entry takes about 100 bytes where it is used: those of 20,000
/// nodes of two families, where `--cluster-cidr` does not hold them. Of more, those that come last
/// in [`Why`] are left out, and a problem says so: what goes there is translated.
pub const MOST_NETWORKS: usize = 65_536;

/// Networks that no router sends on, or whose packets stay on the link: RFC 1122 §3.2.1.3, RFC 3927,
/// RFC 5771, RFC 919; RFC 4291 §2.4.
const NEVER_OUTSIDE: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

/// What the operator decides, where `--enable-pod-egress` is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressOptions {
    /// `--cluster-cidr`.
    pub cluster_cidrs: Vec<IpNet>,
    /// `--egress-excluded-cidrs`, and what is in the file.
    pub excluded: BTreeSet<IpNet>,
    /// What is wrong with the file.
    pub faults: Vec<Fault>,
}

/// Something wrong with the list of excluded networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: the flag and the file.
    pub place: String,
    /// What, with the line.
    pub what: String,
    /// What follows.
    pub effect: String,
}

/// Why packets to a network keep the pod's address. The first goes before the others where several
/// do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Loopback, link-local, multicast or broadcast.
    NeverOutside,
    /// `--cluster-cidr`.
    ClusterCidr,
    /// This node's pods.
    OwnPods,
    /// The operator's list.
    Excluded,
    /// Pods of a node.
    Pods(Arc<str>),
    /// An address of a node.
    Node(Arc<str>),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverOutside => f.write_str("never leaves the link"),
            Self::ClusterCidr => f.write_str("--cluster-cidr"),
            Self::OwnPods => f.write_str("pods of this node"),
            Self::Excluded => f.write_str("excluded"),
            Self::Pods(node) => write!(f, "pods of {node}"),
            Self::Node(node) => write!(f, "an address of {node}"),
        }
    }
}

/// Where packets keep the pod's address, and whose packets are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Pod networks of this node.
    pub pods: BTreeSet<IpNet>,
    /// Networks that know pods by their own addresses.
    pub kept: BTreeMap<IpNet, Why>,
    /// Networks that there was no room for.
    pub left_out: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Egress {
    /// `None` where packets leave as they are.
    pub fn compile(cluster: &Cluster, node: &NodeContext) -> Option<Self> {
        let options = node.egress.as_ref()?;
        let mut egress = Self {
            pods: node.pod_cidrs.iter().map(IpNet::trunc).collect(),
            ..Self::default()
        };
        let mut wanted: Vec<(Why, IpNet)> = NEVER_OUTSIDE
            .iter()
            .filter_map(|text| text.parse().ok())
            .map(|network| (Why::NeverOutside, network))
            .collect();
        let networks = |why: Why, of: &[IpNet]| -> Vec<(Why, IpNet)> {
            of.iter().map(|net| (why.clone(), net.trunc())).collect()
        };
        wanted.extend(networks(Why::ClusterCidr, &options.cluster_cidrs));
        wanted.extend(networks(Why::OwnPods, &node.pod_cidrs));
        wanted.extend(
            options
                .excluded
                .iter()
                .map(|net| (Why::Excluded, net.trunc())),
        );
        wanted.extend(
            node.own
                .iter()
                .map(|own| (Why::Node(Arc::clone(&node.name)), IpNet::from(*own))),
        );
        for (key, known) in cluster.nodes().filter(|(key, _)| *key.name != *node.name) {
            let pods = Why::Pods(Arc::clone(&key.name));
            wanted.extend(networks(pods, &known.pod_cidrs));
            let at = Why::Node(Arc::clone(&key.name));
            let addresses = known.addresses.iter();
            wanted.extend(addresses.map(|known| (at.clone(), IpNet::from(known.address))));
        }
        wanted.sort();
        for (why, network) in wanted {
            if egress.kept.len() < MOST_NETWORKS {
                egress.kept.entry(network).or_insert(why);
            } else if !egress.kept.contains_key(&network) {
                egress.left_out += 1;
            }
        }
        egress.problems = problems(options, node, egress.left_out);
        Some(egress)
    }

    /// Why packets to an address keep the pod's; `None` where they do not. Of several networks, the
    /// most specific one.
    pub fn why_kept(&self, to: IpAddr) -> Option<(&IpNet, &Why)> {
        let holding = self
            .kept
            .iter()
            .filter(|(network, _)| network.contains(&to));
        holding.max_by_key(|(network, _)| network.prefix_len())
    }

    /// Whether an address is a pod's of this node.
    pub fn is_pod(&self, address: IpAddr) -> bool {
        self.pods.iter().any(|network| network.contains(&address))
    }
}

fn problems(options: &EgressOptions, node: &NodeContext, left_out: usize) -> Vec<Problem> {
    let problem = |field: &str, message: String, effect: &str| {
        let key = ObjectKey::cluster_scoped(&node.name);
        Problem::new(Kind::Node, key, field, message, effect)
    };
    let mut problems: Vec<Problem> = options
        .faults
        .iter()
        .map(|fault| problem(&fault.place, fault.what.clone(), &fault.effect))
        .collect();
    if left_out > 0 {
        problems.push(problem(
            "spec.podCIDRs",
            format!("{left_out} networks of nodes more than the {MOST_NETWORKS} there is room for; give --cluster-cidr, which holds them all"),
            "what pods of this node send there gets the node's address",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use model::Event;
    use model::k8s::reduce;
    use serde_json::{Value, json};

    use super::*;
    use crate::desired::Desired;

    fn node(name: &str, pods: &[&str], addresses: &[&str]) -> Value {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        json!({"metadata": {"name": name}, "spec": {"podCIDRs": pods}, "status": {"addresses": addresses}})
    }

    fn apply(cluster: &mut Cluster, object: &Value) {
        let reduced = reduce(Kind::Node, object);
        cluster.apply(Event::Applied {
            kind: Kind::Node,
            key: reduced.key,
            object: reduced.object,
            problems: reduced.problems,
        });
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for object in [
            node(
                "node1",
                &["10.0.1.0/24", "fd00:1::/64"],
                &["172.31.0.1", "fd00:31::1"],
            ),
            node("node2", &["10.0.2.0/24"], &["172.31.0.2"]),
        ] {
            apply(&mut cluster, &object);
        }
        cluster
    }

    fn context(cluster: &Cluster, options: Option<EgressOptions>) -> NodeContext {
        NodeContext {
            egress: options.map(Arc::new),
            ..NodeContext::of(
                cluster,
                &"node1".into(),
                &Arc::default(),
                &BTreeSet::new(),
                1500,
            )
        }
    }

    fn options(cluster_cidrs: &[&str], excluded: &[&str]) -> EgressOptions {
        EgressOptions {
            cluster_cidrs: cluster_cidrs
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            excluded: excluded.iter().map(|text| text.parse().unwrap()).collect(),
            faults: Vec::new(),
        }
    }

    #[track_caller]
    fn check(egress: &Egress, expected: Expect) {
        let never = |(_, why): &(&IpNet, &Why)| **why != Why::NeverOutside;
        let mut text = String::new();
        for (network, why) in egress.kept.iter().filter(never) {
            text += &format!("{network}: {why}\n");
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn pods_nodes_the_cluster_and_what_the_operator_excludes_know_pods_by_their_addresses() {
        let cluster = cluster();
        let options = options(&["10.0.0.0/16"], &["192.0.2.7/24", "10.0.2.0/24"]);
        let egress = Egress::compile(&cluster, &context(&cluster, Some(options))).unwrap();
        check(
            &egress,
            expect![[r#"
            10.0.0.0/16: --cluster-cidr
            10.0.1.0/24: pods of this node
            10.0.2.0/24: excluded
            172.31.0.1/32: an address of node1
            172.31.0.2/32: an address of node2
            192.0.2.0/24: excluded
            fd00:1::/64: pods of this node
            fd00:31::1/128: an address of node1
        "#]],
        );
        for (to, expected) in [
            ("10.0.1.9", Some("pods of this node")),
            ("10.0.2.9", Some("excluded")),
            ("10.0.3.9", Some("--cluster-cidr")),
            ("172.31.0.2", Some("an address of node2")),
            ("192.0.2.255", Some("excluded")),
            ("224.0.0.251", Some("never leaves the link")),
            ("169.254.169.254", Some("never leaves the link")),
            ("fe80::1", Some("never leaves the link")),
            ("ff02::fb", Some("never leaves the link")),
            ("fd00:1::9", Some("pods of this node")),
            ("172.31.0.9", None),
            ("198.51.100.9", None),
            ("2001:db8::9", None),
        ] {
            let why = egress.why_kept(to.parse().unwrap());
            assert_eq!(
                why.map(|(_, why)| why.to_string()).as_deref(),
                expected,
                "{to}"
            );
        }
        assert!(egress.is_pod("10.0.1.9".parse().unwrap()));
        assert!(!egress.is_pod("10.0.2.9".parse().unwrap()));
    }

    #[test]
    fn nothing_is_wanted_where_it_is_off() {
        let cluster = cluster();
        assert_eq!(Egress::compile(&cluster, &context(&cluster, None)), None);
    }

    #[test]
    fn a_node_that_comes_changes_the_generation_and_one_that_is_the_same_does_not() {
        let mut cluster = cluster();
        let node1 = context(&cluster, Some(options(&[], &[])));
        let first = Desired::compile(&cluster, node1.clone());
        _ = cluster.take_changes();
        apply(
            &mut cluster,
            &node("node3", &["10.0.3.0/24"], &["172.31.0.3"]),
        );
        let changes = cluster.take_changes();
        let second = first.follow(&cluster, &changes, node1.clone());
        assert_ne!(second.generation, first.generation);
        assert_eq!(
            second.egress,
            Egress::compile(&cluster, &node1).map(Arc::new)
        );
        let list = context(&cluster, Some(options(&[], &["192.0.2.0/24"])));
        let nothing = cluster.take_changes();
        let third = second.follow(&cluster, &nothing, list.clone());
        assert_ne!(third.generation, second.generation);
        let fourth = third.follow(&cluster, &nothing, list);
        assert_eq!(fourth.generation, third.generation);
    }

    #[test]
    fn what_is_wrong_with_the_list_is_a_problem_of_the_node() {
        let cluster = cluster();
        let fault = Fault {
            place: "--egress-excluded-cidrs-file /etc/list".to_owned(),
            what: "line 2: `x` is no network".to_owned(),
            effect: "the list of before stays in force".to_owned(),
        };
        let options = EgressOptions {
            faults: vec![fault],
            ..EgressOptions::default()
        };
        let desired = Desired::compile(&cluster, context(&cluster, Some(options)));
        let problems: Vec<String> = desired.problems().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "Node node1: --egress-excluded-cidrs-file /etc/list line 2: `x` is no network; the list of before stays in force"
            ]
        );
    }

    #[test]
    fn there_is_room_for_so_many_networks_and_those_of_nodes_are_left_out_first() {
        let mut cluster = Cluster::default();
        let pods: Vec<String> = (0..MOST_NETWORKS)
            .map(|n| format!("10.{}.{}.{}/32", n >> 16, (n >> 8) & 255, n & 255))
            .collect();
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        apply(
            &mut cluster,
            &node("node1", &["10.200.1.0/24"], &["172.31.0.1"]),
        );
        apply(&mut cluster, &node("node2", &pods, &["172.31.0.2"]));
        let options = options(&[], &["192.0.2.0/24"]);
        let egress = Egress::compile(&cluster, &context(&cluster, Some(options))).unwrap();
        assert_eq!(egress.kept.len(), MOST_NETWORKS);
        // Those that never leave, this node's, the operator's: the rest is of node2, and both
        // nodes' addresses do not fit.
        assert_eq!(egress.left_out, NEVER_OUTSIDE.len() + 2 + 2);
        assert!(egress.kept.contains_key(&"192.0.2.0/24".parse().unwrap()));
        assert!(egress.problems[0].message.contains("--cluster-cidr"));
    }
}
