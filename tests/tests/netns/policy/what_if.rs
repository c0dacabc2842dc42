//! `policy what-if`, and connections that a policy forbids by now.

use std::path::PathBuf;

use serde_json::{Value, json};
use tests::harness::{Answer, Traffic};

use super::{app, await_all, enforce, from, start, to_pod};
use crate::cluster::From::Covered;
use crate::cluster::{Cluster, expect_clean};

#[track_caller]
fn ask(cluster: &mut Cluster, arguments: &[&str]) -> Answer {
    let arguments = [&["policy", "what-if"], arguments].concat();
    cluster.agent("node1").ask(&arguments).unwrap()
}

fn file(cluster: &Cluster, rules: &Value) -> PathBuf {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    spec.as_object_mut()
        .unwrap()
        .extend(rules.as_object().unwrap().clone());
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "tested", "namespace": "lab"}, "spec": spec});
    let path = cluster.lab.directory().join("changed.yaml");
    std::fs::write(&path, policy.to_string()).unwrap();
    path
}

#[test]
fn what_if_tells_of_traffic_that_goes_on_and_of_what_was_cut() {
    let mut cluster = start(&[], &[]);
    let pod = to_pod(&cluster, "a1", 8080);
    enforce(&cluster, "web", from(json!([app("client")])));
    await_all(&cluster, Covered("pod-b"), &pod, false);
    let address = cluster.lab.address("a1", false);
    let flow = cluster.flow(Covered("pod-a"), &Traffic::hold(address, 8080));
    let is_seen = Traffic::hold(address, 8080).count(3);
    assert!(cluster.run(Covered("pod-a"), &is_seen).is_clean());

    // The database may come, and the clients no longer may.
    let path = file(&cluster, &from(json!([app("db")])));
    let path = path.to_str().unwrap();
    let answer = ask(&mut cluster, &[path, "--output", "json"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    let told: Value = serde_json::from_str(&answer.output).unwrap();
    let cut = told["cut"].as_array().unwrap();
    let expected = json!({"pod": "lab/a1", "direction": "ingress", "peer_object": "Pod lab/pod-a",
        "protocol": "tcp", "port": 8080});
    let found = cut.iter().find(|row| {
        let fields = expected.as_object().unwrap().iter();
        fields
            .into_iter()
            .all(|(field, value)| row[field] == *value)
    });
    let found = found.unwrap_or_else(|| panic!("{expected} is not in {told:#}"));
    assert_eq!(found["now"]["policy"], "NetworkPolicy lab/tested");
    assert_eq!(found["now"]["rule"], 0);
    assert_eq!(found["then"]["outcome"], "deny");
    let table = ask(&mut cluster, &[path]).output;
    assert!(
        table.contains("Would be cut") && table.contains("lab/a1"),
        "{table}"
    );

    // More is allowed: nothing is cut.
    let path = file(&cluster, &from(json!([app("client"), app("db")])));
    let answer = ask(&mut cluster, &[path.to_str().unwrap()]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let answer = ask(&mut cluster, &["--delete", "lab/tested"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let answer = ask(&mut cluster, &["--delete", "lab/absent"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.error.contains("lab/absent"), "{answer:?}");

    let path = file(
        &cluster,
        &from(json!([{"ipBlock": {"cidr": "10.0.0.0/33"}}])),
    );
    let answer = ask(&mut cluster, &[path.to_str().unwrap()]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for word in [
        "changed.yaml",
        "lab/tested",
        "spec.ingress[0].from[0].ipBlock.cidr",
    ] {
        assert!(answer.error.contains(word), "{answer:?}");
    }
    // Nothing has changed by being asked about.
    expect_clean(flow);
    await_all(&cluster, Covered("pod-b"), &pod, false);

    // What was cut would be allowed again.
    let cut = cluster.flow(
        Covered("pod-a"),
        &Traffic::hold(address, 8080).timeout_milliseconds(300),
    );
    enforce(&cluster, "web", from(json!([app("db")])));
    await_all(&cluster, Covered("pod-a"), &pod, false);
    let path = file(&cluster, &from(json!([app("client")])));
    let answer = ask(&mut cluster, &[path.to_str().unwrap(), "-o", "json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let told: Value = serde_json::from_str(&answer.output).unwrap();
    assert!(
        told["allowed"].to_string().contains("lab/pod-a"),
        "{told:#}"
    );
    assert!(!cut.stop().unwrap().is_clean());
}

#[test]
fn connections_that_are_forbidden_by_now_are_cut_unless_they_are_to_be_kept() {
    for (flags, is_kept) in [
        (&[][..], false),
        (&["--netpol-keep-connections"], true),
        (&["--netpol-keep-connections=false"], false),
    ] {
        let cluster = start(flags, &[]);
        let pod = to_pod(&cluster, "a1", 8080);
        enforce(&cluster, "web", from(json!([app("client")])));
        await_all(&cluster, Covered("pod-b"), &pod, false);
        let flows: Vec<_> = [false, true]
            .into_iter()
            .flat_map(|v6| {
                let to = cluster.lab.address("a1", v6);
                [Traffic::hold(to, 8080), Traffic::udp(to, 8080)]
            })
            .map(|traffic| cluster.flow(Covered("pod-a"), &traffic.timeout_milliseconds(300)))
            .collect();
        for round in 0..2 {
            // The second change finds connections that were kept through the first.
            let peers = json!([app("db"), {"ipBlock": {"cidr": format!("10.9.{round}.0/24")}}]);
            enforce(&cluster, "web", from(peers));
            await_all(&cluster, Covered("pod-a"), &pod, false);
        }
        for flow in flows {
            let report = flow.stop().unwrap();
            assert!(report.answered > 0, "{flags:?} {report:?}");
            assert_eq!(report.is_clean(), is_kept, "{flags:?} {report:?}");
        }
    }
}
