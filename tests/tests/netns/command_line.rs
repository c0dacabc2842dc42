//! What an operator gets wrong, and is told.

use std::time::Duration;

use tests::harness::{Agent, AgentOptions};

use crate::cluster::Cluster;

/// The agent ends with `code` and its last line on standard error holds every word.
#[track_caller]
fn check(options: AgentOptions, code: i32, words: &[&str]) {
    let cluster = Cluster::without_agents(options, &[]);
    let mut agent = Agent::start(&cluster.lab, "node1", &cluster.options).unwrap();
    let status = agent.process().wait(Duration::from_secs(10)).unwrap();
    let error = agent.log();
    assert_eq!(status.code(), Some(code), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn an_unknown_flag_is_named() {
    check(
        AgentOptions::flags(&["--no-such-flag"]),
        2,
        &["--no-such-flag"],
    );
}

#[test]
fn an_unknown_dataplane_is_named_with_those_there_are() {
    check(
        AgentOptions::flags(&["--dataplane", "carrier-pigeon"]),
        2,
        &["carrier-pigeon", "ebpf"],
    );
}

#[test]
fn a_missing_directory_of_manifests_is_named() {
    let source = Some(vec!["--manifests".to_owned(), "/nowhere/at/all".to_owned()]);
    check(
        AgentOptions {
            source,
            ..AgentOptions::default()
        },
        1,
        &["/nowhere/at/all"],
    );
}

#[test]
fn a_directory_that_is_no_cgroup_is_named() {
    check(
        AgentOptions::flags(&["--cgroup-root", "/proc"]),
        1,
        &["/proc", "cgroup"],
    );
}

#[test]
fn views_without_an_agent_name_the_socket() {
    let cluster = Cluster::without_agents(AgentOptions::default(), &[]);
    for view in ["status", "services"] {
        let answer = Agent::run(
            &cluster.lab,
            "node1",
            &[view, "--socket", "/nowhere/agent.sock"],
        )
        .unwrap();
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.error.contains("/nowhere/agent.sock"), "{answer:?}");
    }
}
