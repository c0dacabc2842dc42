//! Direct return from one node to two others: which way answers take, and what stays while endpoints
//! change.

use std::collections::BTreeSet;

use tests::harness::{AgentOptions, Flow, ServiceSpec, Traffic};
use tests::traffic::Report;

use crate::cluster::From::Covered;
use crate::cluster::{Cluster, expect_clean, tcp_and_udp};
use crate::conntrack::nft;
use crate::options::{balanced, external, route};

const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// Drops at the router what `node1` sends, but for tunnels, and what finds neighbours.
const TUNNELS_ALONE: &str = "
table netdev lab {
    chain from_node1 {
        type filter hook ingress device \"node1\" priority filter; policy drop;
        ether type arp accept
        meta protocol ip ip protocol 4 accept
        meta protocol ip6 ip6 nexthdr { 41, 58 } accept
    }
}
";

fn direct() -> ServiceSpec {
    balanced().annotation("fairlead.io/dsr", "true")
}

/// Three nodes; what goes to the external addresses goes to the first one, which sends on nothing but
/// tunnels.
#[track_caller]
fn start(service: &ServiceSpec) -> Cluster {
    let cluster = Cluster::of_three_nodes(AgentOptions::default(), &[service]);
    let cluster = cluster.with_agents(&NODES);
    route(&cluster, "node1");
    nft(cluster.lab.router(), TUNNELS_ALONE).unwrap();
    cluster
}

/// Four connections and four flows of UDP of each family.
#[track_caller]
fn flows(cluster: &Cluster) -> Vec<(bool, Flow)> {
    let mut flows = Vec::new();
    for v6 in [false, true] {
        for traffic in [
            Traffic::hold(external(v6), 80),
            Traffic::udp(external(v6), 80),
        ] {
            flows.push((v6, cluster.flow(Covered("client"), &traffic.workers(4))));
        }
    }
    flows
}

/// All of them have been answered by these pods alone, which saw the client.
#[track_caller]
fn expect_answered(cluster: &Cluster, flows: Vec<(bool, Flow)>, pods: &[&str]) {
    for (v6, flow) in flows {
        let report = expect_clean(flow);
        let backends: Vec<_> = report.backends.keys().collect();
        assert_eq!(backends, pods, "{report:?}");
        let client = cluster.lab.address("client", v6).to_string();
        assert_eq!(report.seen_as, BTreeSet::from([client]));
    }
}

/// What begins now is answered by these pods.
#[track_caller]
fn await_new(cluster: &Cluster, pods: &[&str]) {
    for v6 in [false, true] {
        for traffic in tcp_and_udp(external(v6), 80) {
            cluster.await_spread(Covered("client"), traffic, pods);
        }
    }
}

#[test]
fn answers_of_direct_return_go_past_the_node_that_was_asked() {
    let service = direct().endpoints(&["b1", "c1"]);
    let cluster = start(&service);
    for v6 in [false, true] {
        let client = cluster.lab.address("client", v6).to_string();
        for traffic in tcp_and_udp(external(v6), 80) {
            let report = cluster.expect_spread(Covered("client"), traffic, &["b1", "c1"]);
            assert_eq!(report.seen_as, BTreeSet::from([client.clone()]));
        }
    }
    // Without it everything passes that node, both ways.
    let masqueraded = balanced().endpoints(&["b1", "c1"]);
    cluster.lab.apply(&masqueraded).unwrap();
    for v6 in [false, true] {
        for traffic in tcp_and_udp(external(v6), 80) {
            let traffic = traffic.count(2).timeout_milliseconds(300);
            let is_lost = |report: &Report| report.answered == 0;
            let place = cluster.place(Covered("client"));
            traffic.until("it is lost", &place, is_lost).unwrap();
        }
    }
}

#[test]
fn with_direct_return_a_terminating_endpoint_keeps_what_it_has_and_gets_nothing_new() {
    let service = direct().endpoints(&["b1"]);
    let cluster = start(&service);
    let flows = flows(&cluster);
    for pods in [&["c1"][..], &["c1", "pod-d"], &["c1"]] {
        let service = service.clone().endpoints(pods).terminating("b1");
        cluster.lab.apply(&service).unwrap();
        await_new(&cluster, pods);
    }
    expect_answered(&cluster, flows, &["b1"]);
}

#[test]
fn with_direct_return_nothing_moves_while_endpoints_come_and_go() {
    let service = direct().endpoints(&["b1"]);
    let cluster = start(&service);
    let flows = flows(&cluster);
    for pods in [
        &["b1", "c1"][..],
        &["b1", "c1", "pod-b", "pod-d"],
        &["b1", "pod-d"],
        &["b1"],
    ] {
        cluster.lab.apply(&service.clone().endpoints(pods)).unwrap();
        await_new(&cluster, pods);
    }
    expect_answered(&cluster, flows, &["b1"]);
}
