//! `--cleanup-config`.

use tests::harness::{Agent, Traffic, inventory, tc};

use crate::cluster::Cluster;
use crate::cluster::From::Covered;
use crate::cluster::web;

#[test]
fn cleanup_removes_what_the_agent_made_and_nothing_else() {
    let service = web().endpoints(&["a1", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let place = cluster.lab.place("node1").clone();
    tc(&place, &["qdisc", "add", "dev", "eth0", "clsact"]).unwrap();
    tc(
        &place,
        &[
            "filter", "add", "dev", "eth0", "ingress", "pref", "7", "protocol", "ip", "u32",
            "match", "u32", "0", "0", "flowid", "1:1",
        ],
    )
    .unwrap();
    let foreign_pin = cluster.lab.bpf_root("node1").join("somebody-else");
    std::fs::create_dir(&foreign_pin).unwrap();
    cluster.agents.remove("node1");

    let before = inventory(&cluster.lab, "node1").unwrap();
    let rehearsed = Agent::cleanup(&cluster.lab, "node1", &["--dry-run"]).unwrap();
    assert_eq!(rehearsed.code, Some(0), "{rehearsed:?}");
    assert!(rehearsed.output.lines().count() > 3, "{rehearsed:?}");
    assert_eq!(inventory(&cluster.lab, "node1").unwrap(), before);
    cluster.expect_spread(
        Covered("pod-a"),
        Traffic::connect(service.ip(false), 80),
        &["a1", "b1"],
    );

    let removed = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let left = inventory(&cluster.lab, "node1").unwrap();
    assert_eq!(left, Vec::<String>::new());
    let filters = tc(&place, &["filter", "show", "dev", "eth0", "ingress"]).unwrap();
    assert!(filters.contains("u32"), "{filters:?}");
    assert!(foreign_pin.exists());
    let probe = Traffic::connect(service.ip(false), 80)
        .count(1)
        .timeout_milliseconds(300);
    assert_eq!(cluster.run(Covered("pod-a"), &probe).answered, 0);

    let again = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.output.contains("nothing"), "{again:?}");
    // The other node has its own, untouched.
    cluster.expect_spread(
        Covered("pod-b"),
        Traffic::connect(service.ip(true), 80),
        &["a1", "b1"],
    );
}

#[test]
fn cleanup_of_a_node_without_traces_finds_nothing() {
    let cluster = Cluster::without_agents(Default::default(), &[]);
    for flags in [&["--dry-run"][..], &[]] {
        let answer = Agent::cleanup(&cluster.lab, "node1", flags).unwrap();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.output.contains("nothing"), "{answer:?}");
    }
}

#[test]
fn an_agent_that_starts_after_a_cleanup_programs_everything_again() {
    let service = web().endpoints(&["b1"]);
    let mut cluster = Cluster::start(&[&service]);
    cluster.agents.remove("node1");
    assert_eq!(
        Agent::cleanup(&cluster.lab, "node1", &[]).unwrap().code,
        Some(0)
    );
    cluster.restart("node1");
    cluster.expect_spread(
        Covered("pod-a"),
        Traffic::connect(service.ip(false), 80),
        &["b1"],
    );
    cluster.expect_spread(
        Covered("client"),
        Traffic::udp_fresh(cluster.lab.address("node1", true), 30080),
        &["b1"],
    );
}
