//! What a Service's own settings do to real traffic.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use tests::harness::{AgentOptions, Process, ServiceSpec, Traffic};

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, expect_clean, tcp_and_udp, web};
use crate::routes::large;

/// An address of no node, of each family.
pub(crate) fn external(v6: bool) -> IpAddr {
    if v6 { "fd00:1b::80" } else { "203.0.113.80" }
        .parse()
        .unwrap()
}

/// [`web`] at the external addresses.
pub(crate) fn balanced() -> ServiceSpec {
    web().load_balancer(&[external(false), external(true)])
}

/// Sends what goes to the external addresses to a node.
#[track_caller]
pub(crate) fn route(cluster: &Cluster, node: &str) {
    for v6 in [false, true] {
        cluster.lab.route_to(external(v6), node).unwrap();
    }
}

/// Everything goes unanswered: dropped, not refused.
#[track_caller]
pub(crate) fn expect_dropped(cluster: &Cluster, from: crate::cluster::From, traffic: &Traffic) {
    let report = cluster.run(from, &traffic.clone().count(2).timeout_milliseconds(300));
    assert_eq!(
        report.errors.get("timeout"),
        Some(&2),
        "{from:?} {traffic:?}: {report:?}"
    );
}

#[test]
fn a_client_stays_with_its_backend_whichever_node_it_asks() {
    let service = web()
        .spec("sessionAffinity", "ClientIP")
        .endpoints(&["a1", "a2", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        // TCP and UDP are two ports of the Service, each with a choice of its own.
        let mut of_client = [BTreeSet::new(), BTreeSet::new()];
        for (from, to, port) in [
            (Covered("client"), cluster.lab.address("node1", v6), 30080),
            (Covered("client"), cluster.lab.address("node2", v6), 30080),
            (Covered("pod-a"), service.ip(v6), 80),
            (Uncovered("pod-a"), service.ip(v6), 80),
        ] {
            for (traffic, of_client) in tcp_and_udp(to, port).into_iter().zip(&mut of_client) {
                let report = cluster.run(from, &traffic.count(20));
                assert!(report.is_clean(), "{from:?}: {report:?}");
                assert_eq!(report.backends.len(), 1, "{from:?}: {report:?}");
                if matches!(from, Covered("client")) {
                    of_client.extend(report.backends.into_keys());
                }
            }
        }
        for of_client in of_client {
            assert_eq!(of_client.len(), 1, "{of_client:?}");
        }
    }
}

#[test]
fn a_load_balancers_address_is_open_to_its_source_ranges_alone() {
    let open = |ranges: &[&str]| {
        balanced()
            .spec("loadBalancerSourceRanges", json!(ranges))
            .endpoints(&["a1", "b1"])
    };
    let cluster = Cluster::start(&[&open(&["172.30.0.0/24", "fd00:30::/64", "10.244.0.0/16"])]);
    route(&cluster, "node1");
    for v6 in [false, true] {
        for traffic in tcp_and_udp(external(v6), 80) {
            cluster.expect_spread(Covered("client"), traffic.clone(), &["a1", "b1"]);
            if v6 {
                expect_dropped(&cluster, Covered("pod-b"), &traffic);
            } else {
                cluster.expect_spread(Covered("pod-b"), traffic, &["a1", "b1"]);
            }
        }
        // The ranges are the load balancer's alone.
        for traffic in tcp_and_udp(cluster.lab.address("node2", v6), 30080) {
            cluster.expect_spread(Covered("client"), traffic, &["a1", "b1"]);
        }
    }
}

/// Both addresses are the client's own, which is the load balancer here.
#[test]
fn a_load_balancers_address_that_asks_for_a_proxy_is_left_to_it() {
    let proxied = |v6| -> IpAddr {
        let text = if v6 { "fd00:1b::81" } else { "203.0.113.81" };
        text.parse().unwrap()
    };
    let service = balanced().endpoints(&["a1", "b1"]);
    let cluster = Cluster::without_agents(AgentOptions::default(), &[]);
    let mut documents = cluster.lab.documents(&service).unwrap();
    let mut ingress = Vec::new();
    for v6 in [false, true] {
        ingress.push(json!({"ip": external(v6), "ipMode": "VIP"}));
        ingress.push(json!({"ip": proxied(v6), "ipMode": "Proxy"}));
    }
    documents[0]["status"]["loadBalancer"]["ingress"] = ingress.into();
    let manifests = cluster.lab.manifests();
    manifests.write(&service.file(), &documents).unwrap();
    // The answers of what is not on the nodes need a way back to the pods.
    for (node, _) in cluster.lab.nodes() {
        for (network, via) in node.pod_networks.iter().zip(&node.addresses) {
            let line = format!("route add {network} via {via}\n");
            cluster.lab.router().ip(&line).unwrap();
        }
    }
    let balancer = cluster.lab.place("client");
    for v6 in [false, true] {
        let next = cluster.lab.address("client", v6);
        for address in [external(v6), proxied(v6)] {
            let line = format!("addr add {address} dev eth0 nodad\n");
            balancer.namespace.ip(&line).unwrap();
            let line = format!("route add {address} via {next}\n");
            cluster.lab.router().ip(&line).unwrap();
        }
    }
    let mut command = balancer.traffic();
    command.args(["serve", "--name", "balancer", "--port", "80"]);
    let _server = Process::listening("balancer", &mut command).unwrap();
    let cluster = cluster.with_agents(&["node1", "node2"]);
    for v6 in [false, true] {
        for from in [
            Covered("pod-a"),
            Uncovered("pod-a"),
            Covered("node1"),
            Uncovered("node2"),
        ] {
            let to = |address| Traffic::connect(address, 80);
            cluster.expect_spread(from, to(external(v6)), &["a1", "b1"]);
            cluster.expect_spread(from, to(proxied(v6)), &["balancer"]);
        }
    }
}

#[test]
fn external_ips_are_served_within_the_operators_ranges() {
    let service = web()
        .spec("externalIPs", json!([external(false), external(true)]))
        .endpoints(&["a1", "b1"]);
    let options =
        AgentOptions::flags(&["--service-external-ip-range", "203.0.113.0/24,fd00:1b::/64"]);
    let cluster = Cluster::start_with(options, &[&service]);
    route(&cluster, "node2");
    for v6 in [false, true] {
        for traffic in tcp_and_udp(external(v6), 80) {
            cluster.expect_spread(Covered("client"), traffic.clone(), &["a1", "b1"]);
            cluster.expect_spread(Covered("pod-a"), traffic, &["a1", "b1"]);
        }
    }
}

#[test]
fn a_node_reaches_its_node_ports_at_loopback_addresses() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for loopback in ["127.0.0.1", "::1"] {
        let loopback: IpAddr = loopback.parse().unwrap();
        for from in [Covered("node1"), Uncovered("node1")] {
            for traffic in tcp_and_udp(loopback, 30080) {
                cluster.expect_spread(from, traffic, &["a1", "b1"]);
            }
        }
        // A pod's loopback addresses are its own.
        for from in [Covered("pod-a"), Uncovered("pod-a")] {
            cluster.expect_refused(from, Traffic::connect(loopback, 30080));
        }
    }
}

#[test]
fn node_ports_are_served_at_the_addresses_that_the_flags_name() {
    let service = web().endpoints(&["a1", "b1"]);
    let second: [IpAddr; 2] = [[10, 9, 0, 1].into(), "fd00:9::1".parse().unwrap()];
    // Which of the node's own address and the second one serve.
    for (flags, own_serves, second_serves) in [
        (&[][..], true, false),
        (&["--nodeport-bindon-all-ip"][..], true, true),
        (
            &["--nodeport-addresses", "10.9.0.0/24,fd00:9::/64"],
            false,
            true,
        ),
    ] {
        let cluster = Cluster::without_agents(AgentOptions::flags(flags), &[&service]);
        let node1 = &cluster.lab.place("node1").namespace;
        node1
            .ip("addr add 10.9.0.1/24 dev eth0\naddr add fd00:9::1/64 dev eth0 nodad\n")
            .unwrap();
        for address in second {
            cluster.lab.route_to(address, "node1").unwrap();
        }
        let cluster = cluster.with_agents(&["node1", "node2"]);
        for (v6, second) in [false, true].into_iter().zip(second) {
            let own = cluster.lab.address("node1", v6);
            for (to, is_served) in [(own, own_serves), (second, second_serves)] {
                for traffic in tcp_and_udp(to, 30080) {
                    if is_served {
                        cluster.expect_spread(Covered("client"), traffic, &["a1", "b1"]);
                    } else {
                        cluster.expect_refused(Covered("client"), traffic);
                    }
                }
            }
        }
    }
}

#[test]
fn a_pods_host_port_is_served_on_its_node() {
    let cluster = Cluster::start(&[]);
    let addresses: Vec<_> = [false, true]
        .map(|v6| json!({"ip": cluster.lab.address("a1", v6)}))
        .into();
    let ports: Vec<_> = ["TCP", "UDP"]
        .map(|protocol| json!({"containerPort": 8080, "hostPort": 8081, "protocol": protocol}))
        .into();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a1", "namespace": "lab"},
        "spec": {"nodeName": "node1", "containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": addresses}});
    cluster.lab.manifests().write("a1.yaml", &[pod]).unwrap();
    for v6 in [false, true] {
        for traffic in tcp_and_udp(cluster.lab.address("node1", v6), 8081) {
            cluster.await_spread(Covered("client"), traffic.clone(), &["a1"]);
            cluster.expect_spread(Covered("pod-b"), traffic.clone(), &["a1"]);
            cluster.expect_spread(Covered("pod-c"), traffic, &["a1"]);
        }
        for traffic in tcp_and_udp(cluster.lab.address("node2", v6), 8081) {
            cluster.expect_refused(Covered("client"), traffic);
        }
    }
}

#[test]
fn with_direct_return_a_remote_backend_sees_the_client_and_answers_it_directly() {
    let service = balanced()
        .annotation("kube-router.io/service.dsr", "tunnel")
        .endpoints(&["b1"]);
    let cluster = Cluster::start(&[&service]);
    route(&cluster, "node1");
    for v6 in [false, true] {
        let client = cluster.lab.address("client", v6).to_string();
        for traffic in tcp_and_udp(external(v6), 80) {
            let report = cluster.expect_spread(Covered("client"), traffic, &["b1"]);
            assert_eq!(report.seen_as, BTreeSet::from([client.clone()]));
        }
    }
}

#[test]
fn another_node_takes_a_connection_over_in_the_middle() {
    for scheduler in ["", "mh"] {
        let mut service = balanced().annotation("kube-router.io/service.dsr", "tunnel");
        if !scheduler.is_empty() {
            service = service.annotation("kube-router.io/service.scheduler", scheduler);
        }
        // Nodes that chose apart would send every other connection to an endpoint that resets it.
        let service = service.endpoints(&["a1", "b1"]);
        let cluster = Cluster::start(&[&service]);
        route(&cluster, "node1");
        let held = |v6| Traffic::hold(external(v6), 80).workers(8);
        let flows = [false, true].map(|v6| cluster.flow(Covered("client"), &held(v6)));
        for node in ["node2", "node1", "node2"] {
            route(&cluster, node);
        }
        for flow in flows {
            expect_clean(flow);
        }
    }
}

#[test]
fn with_direct_return_segments_too_large_for_the_tunnel_are_told_and_sent_anew() {
    let service = balanced()
        .tcp(81, large::SERVER)
        .annotation("kube-router.io/service.dsr", "tunnel")
        .endpoints(&["b1"]);
    let cluster = Cluster::start(&[&service]);
    route(&cluster, "node1");
    // Of many segments in one the tunnel makes shorter ones, each alone has to be told.
    let client = &cluster.lab.place("client").namespace;
    client.ip("link set eth0 gso_max_segs 1\n").unwrap();
    for v6 in [false, true] {
        let by = SocketAddr::new(external(v6), 81);
        large::large_tcp_by(&cluster.lab, "client", "b1", by, 1 << 20);
    }
}

#[test]
fn udp_flows_stay_with_a_terminating_endpoint_until_it_is_gone() {
    let service = web().endpoints(&["b1"]);
    let cluster = Cluster::start(&[&service]);
    let flow = cluster.flow(
        Covered("pod-a"),
        &Traffic::udp(service.ip(false), 80).every_milliseconds(5),
    );
    cluster
        .lab
        .apply(&service.clone().endpoints(&["a1"]).terminating("b1"))
        .unwrap();
    cluster.await_spread(
        Covered("pod-c"),
        Traffic::udp_fresh(service.ip(false), 80),
        &["a1"],
    );
    let report = expect_clean(flow);
    assert_eq!(report.backends.keys().collect::<Vec<_>>(), ["b1"]);
}
