//! From IPVS, as kube-router programs it, to the agent.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use tests::harness::{AgentOptions, Flow, Place, Traffic, tc};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{expect_clean, web};

const NODES: [&str; 2] = ["node1", "node2"];
/// An emulated processor needs its time, and a datagram that is lost does not come for that.
const PATIENT: u64 = 30_000;

/// Runs a command in a node's namespace; whether it succeeded.
fn run(node: &Place, command: &str) -> bool {
    let words: Vec<&str> = command.split(' ').collect();
    let status = Command::new("nsenter")
        .arg(format!("--net={}", node.namespace.path().display()))
        .args(words)
        .status()
        .unwrap();
    status.success()
}

/// Has IPVS balance `frontend` in masquerade mode, as kube-router does with `vs/conntrack`.
#[track_caller]
fn balance(node: &Place, frontend: SocketAddr, backends: &[SocketAddr]) {
    for protocol in ["-t", "-u"] {
        let all = std::iter::once(format!("ipvsadm -A {protocol} {frontend} -s rr")).chain(
            backends
                .iter()
                .map(|to| format!("ipvsadm -a {protocol} {frontend} -r {to} -m -w 1")),
        );
        all.for_each(|command| assert!(run(node, &command), "{command}"));
    }
}

/// Makes a node what kube-router's service proxy makes of it.
#[track_caller]
fn kube_router(cluster: &Cluster, name: &str) {
    let node = cluster.lab.place(name);
    let service = web().ip(false);
    node.namespace
        .ip(&format!(
            "link add kube-dummy-if type dummy\nlink set kube-dummy-if up\naddr add {service}/32 dev kube-dummy-if\n"
        ))
        .unwrap();
    for setting in ["conntrack=1", "expire_nodest_conn=1", "conn_reuse_mode=0"] {
        assert!(run(node, &format!("sysctl -qw net.ipv4.vs.{setting}")));
    }
    for setting in ["arp_ignore=1", "arp_announce=2"] {
        assert!(run(
            node,
            &format!("sysctl -qw net.ipv4.conf.all.{setting}")
        ));
    }
    let backends = ["a1", "b1"].map(|pod| (cluster.lab.address(pod, false), 8080).into());
    let own: IpAddr = cluster.lab.address(name, false);
    balance(node, (service, 80).into(), &backends);
    balance(node, (own, 30080).into(), &backends);
    // As kube-router does, what IPVS has translated and nothing else: NAT that is not of a Service ends with
    // the rules.
    for command in [
        "nft add table ip kube-router",
        "nft add chain ip kube-router postrouting { type nat hook postrouting priority 100 ; }",
        &format!(
            "nft add rule ip kube-router postrouting ct original ip daddr {own} ip daddr 10.244.0.0/16 masquerade"
        ),
    ] {
        assert!(run(node, command), "{command}");
    }
}

#[test]
#[ignore = "needs a kernel with IPVS: `cargo xtask kernel DIR ipvs -- --ignored`"]
fn connections_of_ipvs_go_on_with_the_agent() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::without_agents(AgentOptions::default(), &[&service]);
    assert!(
        run(cluster.lab.place("node1"), "ipvsadm -L -n"),
        "this kernel has no IPVS, or there is no ipvsadm"
    );
    for name in NODES {
        kube_router(&cluster, name);
        // Before Linux 6.6 an interface sends nothing while it gets its qdisc.
        let mut interfaces = vec!["eth0"];
        interfaces.extend(match name {
            "node1" => &["p-a1", "p-pod-a", "p-pod-c"][..],
            _ => &["p-b1", "p-pod-b"],
        });
        for interface in interfaces {
            let qdisc = ["qdisc", "add", "dev", interface, "clsact"];
            tc(cluster.lab.place(name), &qdisc).unwrap();
        }
    }
    let (vip, node2) = (service.ip(false), cluster.lab.address("node2", false));
    let flows = || -> Vec<Flow> {
        let mut flows = Vec::new();
        for (place, to, port) in [
            (Uncovered("pod-a"), vip, 80),
            (Uncovered("pod-b"), vip, 80),
            (Covered("client"), node2, 30080),
        ] {
            // Two, of which the one goes to the one backend and the other to the other.
            for _ in 0..2 {
                for traffic in [Traffic::hold(to, port), Traffic::udp(to, port)] {
                    // An emulated processor has little left beside the verifier.
                    let traffic = traffic
                        .every_milliseconds(200)
                        .timeout_milliseconds(PATIENT);
                    flows.push(cluster.flow(place, &traffic));
                }
            }
        }
        flows
    };
    let of_ipvs = flows();
    let mut agents = std::collections::BTreeMap::new();
    for name in NODES {
        let agent = tests::harness::Agent::ready(&cluster.lab, name, &cluster.options).unwrap();
        assert!(agent.log().contains("took over"), "{}", agent.log());
        agents.insert(name, agent);
    }
    // Beside IPVS, and when it is gone.
    for flow in flows() {
        expect_clean(flow);
    }
    for name in NODES {
        let node = cluster.lab.place(name);
        assert!(run(node, "ipvsadm -C"));
        assert!(run(node, "nft delete table ip kube-router"));
        node.namespace.ip("link del kube-dummy-if\n").unwrap();
    }
    for flow in flows() {
        expect_clean(flow);
    }
    for flow in of_ipvs {
        let report = expect_clean(flow);
        assert_eq!(report.backends.len(), 1, "{report:?}");
    }
}
