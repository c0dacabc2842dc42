//! From another proxy to the agent and back, under load.

use tests::harness::other_proxy::{self, Rule};
use tests::harness::{Agent, AgentOptions, Flow, Traffic};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{expect_clean, web};

/// The rules for `web` with the endpoints `a1` and `b1`.
#[track_caller]
pub(crate) fn load(cluster: &Cluster, node: &str) {
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let address = |name| cluster.lab.address(name, v6);
        let rule = |address, port, masquerade| Rule {
            frontend: (address, port).into(),
            backends: ["a1", "b1"]
                .map(|pod| (cluster.lab.address(pod, v6), 8080).into())
                .into(),
            masquerade,
        };
        rules.push(rule(web().ip(v6), 80, false));
        rules.push(rule(address(node), 30080, true));
    }
    other_proxy::load(cluster.lab.place(node), &rules).unwrap();
}

/// TCP connections and UDP flows of pods and of the outside client.
fn flows(cluster: &Cluster) -> Vec<Flow> {
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let service = web().ip(v6);
        let node2 = cluster.lab.address("node2", v6);
        for (from, to, port) in [
            (Uncovered("pod-a"), service, 80),
            (Uncovered("pod-b"), service, 80),
            (Covered("client"), node2, 30080),
        ] {
            flows.push(cluster.flow(
                from,
                &Traffic::hold(to, port).workers(8).every_milliseconds(5),
            ));
            flows.push(cluster.flow(
                from,
                &Traffic::udp(to, port).workers(8).every_milliseconds(5),
            ));
        }
    }
    flows
}

#[test]
fn connections_of_another_proxy_survive_the_switch_and_the_way_back() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::without_agents(AgentOptions::default(), &[&service]);
    for node in ["node1", "node2"] {
        load(&cluster, node);
    }
    let of_the_other = flows(&cluster);
    let mut cluster = cluster.with_agents(&["node1", "node2"]);
    for agent in cluster.agents.values() {
        assert!(agent.log().contains("took over"), "{}", agent.log());
    }
    for node in ["node1", "node2"] {
        let liberal = cluster.lab.place(node).namespace.run(|| {
            let name = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
            Ok(std::fs::read_to_string(name)?)
        });
        assert_eq!(liberal.unwrap().trim(), "0", "{node}");
    }
    // The other proxy goes, rules and connections.
    for node in ["node1", "node2"] {
        other_proxy::unload(cluster.lab.place(node)).unwrap();
    }
    let of_the_agent = flows(&cluster);
    for flow in of_the_other {
        expect_clean(flow);
    }
    // And comes back, before the agent goes.
    for node in ["node1", "node2"] {
        load(&cluster, node);
        drop(cluster.agents.remove(node));
        let answer = Agent::cleanup(&cluster.lab, node, &[]).unwrap();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.output.contains("handed back"), "{answer:?}");
    }
    for flow in of_the_agent {
        expect_clean(flow);
    }
    // Once more: what was handed back and has ended since is still in the kernel's table.
    let of_the_other = flows(&cluster);
    let cluster = cluster.with_agents(&["node1", "node2"]);
    for node in ["node1", "node2"] {
        other_proxy::unload(cluster.lab.place(node)).unwrap();
    }
    for flow in of_the_other {
        expect_clean(flow);
    }
}
