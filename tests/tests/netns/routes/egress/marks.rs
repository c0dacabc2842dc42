//! What a pod says of its packets before they reach the node.

use tests::harness::tc;

use super::{expect_seen_as, start};

/// The mark of what this node's programs have let pass as it is (`Mark::Passed`).
const PASSED: &str = "1:fa1e";

#[test]
fn a_pod_cannot_mark_its_packets_as_seen() {
    let (network, _outside) = start(&[]);
    let pod = network.lab.place("a");
    tc(pod, &["qdisc", "add", "dev", "eth0", "clsact"]).unwrap();
    for protocol in ["ip", "ipv6"] {
        tc(
            pod,
            &[
                "filter", "add", "dev", "eth0", "egress", "protocol", protocol, "u32", "match",
                "u32", "0", "0", "flowid", PASSED,
            ],
        )
        .unwrap();
    }
    expect_seen_as(&network, "a", "node1");
}
