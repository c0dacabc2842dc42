//! SCTP between sockets. What becomes of each packet is bpf's `sctp` and `flows`.

use tests::harness::{AgentOptions, ServiceSpec, Traffic};

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, expect_clean};

/// An emulated processor needs its time.
const PATIENT: u64 = 30_000;
/// All but one in a thousand runs see both of two backends.
const ASSOCIATIONS: usize = 10;

#[test]
#[ignore = "needs a kernel with SCTP: `cargo xtask kernel DIR sctp -- --ignored`"]
fn associations_reach_each_backend_and_outlive_the_agent() {
    let service = ServiceSpec::new("web", 10)
        .sctp_on_nodes(80, 8080, 30080)
        .endpoints(&["a1", "b1"]);
    let mut cluster = Cluster::start_with(AgentOptions::default(), &[&service]);
    let hold = |to, port| {
        Traffic::hold_sctp(to, port)
            .every_milliseconds(200)
            .timeout_milliseconds(PATIENT)
    };
    let mut kept = Vec::new();
    for v6 in [false, true] {
        let node = cluster.lab.address("node1", v6);
        let client = cluster.lab.address("client", v6).to_string();
        let pod = cluster.lab.address("pod-a", v6).to_string();
        for (from, to, port, seen) in [
            // A pod's address is kept; from outside, that of a client whose backend is here.
            (Uncovered("pod-a"), service.ip(v6), 80, vec![pod]),
            (
                Covered("client"),
                node,
                30080,
                vec![client, node.to_string()],
            ),
        ] {
            let traffic = hold(to, port).workers(ASSOCIATIONS);
            let report = cluster.run(from, &traffic.clone().count(3));
            assert!(report.is_clean(), "{from:?} {to}: {report:?}");
            let backends: Vec<_> = report.backends.keys().map(String::as_str).collect();
            assert_eq!(backends, ["a1", "b1"], "{from:?} {to}");
            let seen_as: Vec<_> = report.seen_as.iter().cloned().collect();
            assert_eq!(seen_as, seen, "{from:?} {to}");
            kept.push(cluster.flow(from, &traffic));
        }
    }
    cluster.agent("node1").process().kill().unwrap();
    cluster.restart("node1");
    for flow in kept {
        expect_clean(flow);
    }
}
