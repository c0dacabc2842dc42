//! What goes wrong: the code, a text that says what to do, and nothing left behind.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::harness::{Call, CniNode, cni_program};

fn node() -> CniNode {
    let node = CniNode::new().unwrap();
    node.create(&["c1".to_owned(), "c2".to_owned()]).unwrap();
    node
}

#[track_caller]
fn refused(node: &CniNode, call: &Call, config: &Value, code: u64, words: &[&str]) {
    let outcome = node.run(&cni_program().unwrap(), call, config).unwrap();
    let version = outcome
        .output
        .as_ref()
        .map(|output| output["cniVersion"].clone());
    assert!(
        version.is_some_and(|version| version.is_string()),
        "{outcome:?}"
    );
    let (found, text) = outcome.error().unwrap();
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_environment_is_checked() {
    let node = node();
    let config = node.config(&json!({})).unwrap();
    let good = node.call("ADD", "c1");
    let with = |change: &dyn Fn(&mut Call)| {
        let mut call = good.clone();
        change(&mut call);
        call
    };
    let netns = |path: &str| with(&|call| call.netns = Some(PathBuf::from(path)));
    for (call, code, word) in [
        (with(&|call| call.command = "add"), 4, "CNI_COMMAND"),
        (
            with(&|call| call.container = String::new()),
            4,
            "CNI_CONTAINERID",
        ),
        (
            with(&|call| call.arguments = "A=B".to_owned()),
            4,
            "CNI_ARGS",
        ),
        (with(&|call| call.netns = None), 4, "CNI_NETNS"),
        (netns("/run/netns/none"), 3, "/run/netns/none"),
        (netns("/etc/passwd"), 4, "no network namespace"),
        (
            netns(&node.namespace.path().display().to_string()),
            4,
            "node's own",
        ),
    ] {
        refused(&node, &call, &config, code, &[word]);
    }
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
}

#[test]
fn the_configuration_is_checked() {
    let node = node();
    let call = node.call("ADD", "c1");
    refused(&node, &call, &json!("not an object"), 6, &["JSON"]);
    for (more, code, word) in [
        (
            json!({"cniVersion": "0.2.0"}),
            1,
            "0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
        (json!({"bridge": "cni0"}), 2, "`bridge`: \"cni0\""),
        (json!({"ranges": []}), 11, "no pod network"),
        (json!({"ranges": null}), 7, "`ranges` is missing"),
        (json!({"prevResult": {"cniVersion": "1.1.0"}}), 7, "first"),
        (
            json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1000}}}),
            7,
            "bandwidth",
        ),
        (
            json!({"runtimeConfig": {"ips": ["10.244.2.7"]}}),
            7,
            "10.244.2.7",
        ),
        (
            json!({"runtimeConfig": {"ips": ["10.244.1.255"]}}),
            7,
            "broadcast",
        ),
        (
            json!({"agentSocket": "/nonexistent", "agentWaitSeconds": 0}),
            11,
            "/nonexistent",
        ),
    ] {
        let config = node.config(&more).unwrap();
        refused(&node, &call, &config, code, &[word]);
    }
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
}

#[test]
fn an_attachment_is_made_once() {
    let node = node();
    let config = node.config(&json!({})).unwrap();
    node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
    let before = node.inventory().unwrap();
    refused(&node, &node.call("ADD", "c1"), &config, 101, &["DEL"]);
    // The namespace is another by now: the lease says it.
    let mut call = node.call("ADD", "c1");
    call.netns = Some(node.container("c2").path());
    refused(&node, &call, &config, 101, &["Pod shop/c1", "10.244.1.2"]);
    assert_eq!(node.inventory().unwrap(), before);
    // Another plugin's interface.
    node.container("c2")
        .ip("link add eth0 type veth peer name x\n")
        .unwrap();
    refused(&node, &node.call("ADD", "c2"), &config, 101, &["eth0"]);
    assert_eq!(node.inventory().unwrap(), before);
}

#[test]
fn addresses_that_are_held_and_ranges_that_are_full_say_by_whom() {
    let node = node();
    let config = node.config(&json!({"ranges": ["10.244.1.0/30"]})).unwrap();
    node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
    let before = node.inventory().unwrap();
    let second = node.call("ADD", "c2");
    refused(
        &node,
        &second,
        &config,
        102,
        &["10.244.1.0/30", "1 by shop"],
    );
    let mut asked = config.clone();
    asked["runtimeConfig"] = json!({"ips": ["10.244.1.2"]});
    refused(
        &node,
        &second,
        &asked,
        103,
        &["10.244.1.2", "Pod shop/c1", "container c1"],
    );
    assert_eq!(node.inventory().unwrap(), before);
    node.invoke("DEL", "c1", &config).unwrap();
    node.invoke("ADD", "c2", &asked).unwrap().result().unwrap();
}

#[test]
fn a_step_that_fails_undoes_those_before() {
    let node = node();
    let config = node.config(&json!({})).unwrap();
    // Somebody else's route to the address that will be given.
    node.namespace
        .ip("route add 10.244.1.2/32 dev lo\n")
        .unwrap();
    refused(
        &node,
        &node.call("ADD", "c1"),
        &config,
        100,
        &["route to 10.244.1.2", "exists"],
    );
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
    node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let node = node();
    let call = node.call("ADD", "c1");
    let in_the_way = node.directory().join("file");
    fs::write(&in_the_way, "").unwrap();
    let below = in_the_way.join("state");
    // Nothing can be made in /proc, not even by root.
    for directory in [below.as_path(), "/proc/fairlead".as_ref()] {
        let config = node.config(&json!({"stateDir": directory})).unwrap();
        refused(&node, &call, &config, 5, &[directory.to_str().unwrap()]);
    }
    let read_only = node.directory().join("read-only");
    fs::create_dir(&read_only).unwrap();
    let mounted = rustix::mount::mount(
        "none",
        &read_only,
        "tmpfs",
        rustix::mount::MountFlags::RDONLY,
        None,
    );
    mounted.unwrap();
    let config = node.config(&json!({"stateDir": read_only})).unwrap();
    refused(&node, &call, &config, 5, &["read-only", "stateDir"]);
    let outcome = node.invoke("DEL", "c1", &config).unwrap();
    assert_eq!(outcome.code, Some(0), "there is no lease: {outcome:?}");
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
}
