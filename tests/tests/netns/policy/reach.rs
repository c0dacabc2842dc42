//! Pods that policy does not reach, and packets from addresses that are not the pod's.

use serde_json::{Value, json};
use tests::harness::{Traffic, eventually};

use super::{app, await_all, enforce, expect_all, from, start, to_pod};
use crate::cluster::Cluster;
use crate::cluster::From::Covered;

#[track_caller]
fn await_unenforced(cluster: &mut Cluster, pods: &[&str]) -> Value {
    let agent = cluster.agent("node1");
    eventually("the status says which pods are not reached", || {
        let status = agent.status()?;
        let rows = status["unenforced"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<_> = rows.iter().filter_map(|row| row["pod"].as_str()).collect();
        found.dedup();
        anyhow::ensure!(found == pods, "{rows:?}");
        let metric = agent.metric("fairlead_policy_unenforced_pods")?;
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let count = pods.len() as f64;
        anyhow::ensure!(metric == Some(count), "{metric:?}");
        Ok(Some(status["unenforced"].clone()))
    })
    .unwrap()
}

#[test]
fn a_pod_without_a_route_is_told_until_it_has_one() {
    let mut cluster = start(&[], &[]);
    let pod = to_pod(&cluster, "a1", 8080);
    enforce(&cluster, "web", json!({"policyTypes": ["Ingress"]}));
    await_all(&cluster, Covered("pod-a"), &pod, false);
    await_unenforced(&mut cluster, &[]);
    let node = cluster.lab.place("node1").namespace.clone();
    let address = cluster.lab.address("a1", false);
    node.ip(&format!("route del {address} dev p-a1\n")).unwrap();
    let told = await_unenforced(&mut cluster, &["lab/a1"]);
    assert_eq!(told[0]["address"], address.to_string());
    assert_eq!(told[0]["has_rules"], true);
    let text = cluster.agent("node1").ask(&["status"]).unwrap().output;
    assert!(text.contains("NOT ENFORCED"), "{text}");
    // That lasts, so it is a problem of the pod.
    eventually("the problem is told", || {
        let problems = cluster.agent("node1").status()?["problems"].to_string();
        anyhow::ensure!(problems.contains("lab/a1"), "{problems}");
        Ok(Some(()))
    })
    .unwrap();
    node.ip(&format!("route add {address} dev p-a1\n")).unwrap();
    await_unenforced(&mut cluster, &[]);
    // A pod whose interface is lost, and comes again as another one.
    node.ip("link set p-a2 down\nlink set p-a2 name elsewhere\n")
        .unwrap();
    await_unenforced(&mut cluster, &["lab/a2"]);
    let [v4, v6] = [false, true].map(|v6| cluster.lab.address("a2", v6));
    node.ip(&format!(
        "link set elsewhere up\nroute replace {v4} dev elsewhere\nroute replace {v6} dev elsewhere\n"
    ))
    .unwrap();
    await_unenforced(&mut cluster, &[]);
    enforce(&cluster, "web-2", json!({"policyTypes": ["Ingress"]}));
    await_all(
        &cluster,
        Covered("pod-a"),
        &to_pod(&cluster, "a2", 8080),
        false,
    );
    let problems = cluster.agent("node1").status().unwrap()["problems"].to_string();
    assert_eq!(problems, "[]");
}

#[test]
fn nobody_sends_from_an_address_that_is_another_pods() {
    let mut cluster = start(&[], &[]);
    let pod = to_pod(&cluster, "a1", 8080);
    enforce(&cluster, "web", from(json!([app("client")])));
    await_all(&cluster, Covered("pod-b"), &pod, false);
    expect_all(&cluster, Covered("pod-a"), &pod, true);
    let spoofed = r#"fairlead_drops_total{reason="spoofed"}"#;
    assert_eq!(cluster.agent("node1").metric(spoofed).unwrap(), Some(0.0));
    // Neighbour discovery, listeners' reports and the like are no spoofing.
    let namespace = cluster.lab.place("a2").namespace.clone();
    namespace.ip("link set eth0 down\n").unwrap();
    let mut lines = "link set eth0 up\n".to_owned();
    for (v6, gateway) in [(false, "169.254.1.1"), (true, "fe80::1")] {
        let own = cluster.lab.address("a2", v6);
        let another = cluster.lab.address("pod-a", v6);
        lines += &format!(
            "addr replace {own} dev eth0 nodad\naddr add {another} dev eth0 nodad\n\
             neigh replace {gateway} lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent\n\
             route replace default via {gateway} dev eth0 onlink\n"
        );
    }
    namespace.ip(&lines).unwrap();
    let before = cluster.agent("node1").metric(spoofed).unwrap();
    assert_eq!(before, Some(0.0));
    // `a2` is no client, and what it sends has the source that is asked for.
    for v6 in [false, true] {
        let (from, to) = (
            cluster.lab.address("pod-a", v6),
            cluster.lab.address("a1", v6),
        );
        let sent = namespace.run(|| {
            let socket = std::net::UdpSocket::bind((from, 0))?;
            Ok(socket.send_to(b"spoofed", (to, 8080))?)
        });
        sent.unwrap();
    }
    eventually("the packets are counted", || {
        let now = cluster.agent("node1").metric(spoofed)?;
        anyhow::ensure!(now >= Some(2.0), "{now:?}");
        Ok(Some(()))
    })
    .unwrap();
    // Its own address goes on, and so does whose address it was.
    let other = to_pod(&cluster, "b1", 8080);
    for traffic in &other {
        let report = cluster.run(Covered("pod-a"), &traffic.clone().count(1));
        assert!(report.is_clean(), "{report:?}");
    }
    let hold = Traffic::hold(cluster.lab.address("a1", false), 8080).count(5);
    assert!(cluster.run(Covered("pod-a"), &hold).is_clean());
}
