//! A cluster of IPv6 alone.

use std::net::IpAddr;

use tests::harness::{Process, ip};

use super::{Network, PORT};
use crate::routes::{Families, NODES};

#[test]
fn a_cluster_of_ipv6_alone_has_pods_services_and_masquerade() {
    let network = Network::start(Families::V6, 1500, &["--run-firewall"]);
    network.announce(&[
        ("one", "node1", "web"),
        ("two", "node2", "web"),
        ("three", "node3", "web"),
    ]);
    NODES.iter().for_each(|node| network.await_routes(node, 2));
    let pods: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .zip(NODES)
        .map(|(name, node)| {
            network.lab.await_plugin(node).unwrap();
            network.plug(node, name, None).0
        })
        .collect();
    for pod in &pods {
        assert_eq!(pod.addresses.len(), 1, "{:?}", pod.addresses);
        assert!(pod.addresses[0].is_ipv6());
        let v4 = ip(&pod.place.namespace, &["-4", "addr", "show", "dev", "eth0"]).unwrap();
        assert_eq!(v4, "");
    }
    // In the subnet, and through the overlay, which is IPv6 as well.
    for from in &pods {
        pods.iter().for_each(|to| from.reaches(to.address(true)));
        from.reaches(network.lab.address("a", true));
    }
    let service: IpAddr = "fd00:96::70".parse().unwrap();
    network.serve(service, &[&pods[0], &pods[1], &pods[2]]);
    for pod in &pods {
        network.await_spread(pod, service, &["one", "three", "two"]);
    }
    // Itself, when it is the only one.
    network.serve(service, &[&pods[2]]);
    network.await_spread(&pods[2], service, &["three"]);
    network.await_spread(&pods[0], service, &["three"]);
    // Out of the cluster, as the node.
    let mut outside = network.lab.place("client").traffic();
    outside.args(["serve", "--name", "outside", "--port", &PORT.to_string()]);
    let _outside = Process::listening("outside", &mut outside).unwrap();
    let client = network.lab.address("client", true);
    for (pod, node) in pods
        .iter()
        .zip(["fd00:31::11", "fd00:31::12", "fd00:31:1::13"])
    {
        for report in pod.asks(client) {
            assert!(report.is_clean(), "{node}: {report:?}");
            let seen: Vec<_> = report.seen_as.into_iter().collect();
            assert_eq!(seen, [node]);
        }
    }
    for pod in &pods {
        network.unplug(pod);
    }
    for node in NODES {
        assert_eq!(network.pods_of_plugin(node), Vec::<String>::new(), "{node}");
    }
}
