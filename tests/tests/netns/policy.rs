//! Network policy with real pods and real traffic.

mod before;
mod first_packet;
mod identities;
mod limits;
mod paths;
mod reach;
mod removed;
mod what_if;

use std::net::IpAddr;

use serde_json::{Value, json};
use tests::harness::{Agent, AgentOptions, ServiceSpec, Traffic, eventually};
use tests::traffic::Report;

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, From, expect_clean, tcp_and_udp, web};

const POLICIES: &str = "policies.yaml";

/// `a1` and `a2` are `app: web`, `b1` is `app: db`; `pod-a` and `pod-c` are clients beside them,
/// `pod-b` is in another namespace.
pub(crate) const PODS: [(&str, &str, &str); 6] = [
    ("a1", "lab", "web"),
    ("a2", "lab", "web-2"),
    ("b1", "lab", "db"),
    ("pod-a", "lab", "client"),
    ("pod-c", "lab", "client"),
    ("pod-b", "other", "client"),
];

#[track_caller]
pub(crate) fn start(flags: &[&str], services: &[&ServiceSpec]) -> Cluster {
    let flags = [&["--run-firewall"][..], flags].concat();
    let cluster = Cluster::without_agents(AgentOptions::flags(&flags), services);
    label(&cluster, &PODS);
    cluster.with_agents(&["node1", "node2"])
}

/// Writes the pods, with their label `app`.
#[track_caller]
pub(crate) fn label(cluster: &Cluster, pods: &[(&str, &str, &str)]) {
    let pods: Vec<_> = pods
        .iter()
        .map(|(name, namespace, app)| (*name, *namespace, json!({"app": app})))
        .collect();
    cluster.lab.apply_pods(&pods).unwrap();
    let namespaces = ["lab", "other"].map(
        |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": name}}}),
    );
    let manifests = cluster.lab.manifests();
    manifests.write("namespaces.yaml", &namespaces).unwrap();
}

/// Puts one policy in force, for pods of `app` in `lab`.
#[track_caller]
pub(crate) fn enforce(cluster: &Cluster, app: &str, rules: Value) {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}});
    spec.as_object_mut()
        .unwrap()
        .extend(rules.as_object().unwrap().clone());
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "tested", "namespace": "lab"},
        "spec": spec,
    });
    cluster.lab.manifests().write(POLICIES, &[policy]).unwrap();
}

pub(crate) fn from(peers: Value) -> Value {
    json!({"policyTypes": ["Ingress"], "ingress": [{"from": peers}]})
}

pub(crate) fn app(name: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": name}}})
}

/// TCP and UDP of both families to a port of a pod.
fn to_pod(cluster: &Cluster, pod: &str, port: u16) -> Vec<Traffic> {
    to(|v6| cluster.lab.address(pod, v6), port)
}

fn to(address: impl Fn(bool) -> IpAddr, port: u16) -> Vec<Traffic> {
    [false, true]
        .into_iter()
        .flat_map(|v6| tcp_and_udp(address(v6), port))
        .collect()
}

pub(crate) fn is_dropped(report: &Report) -> bool {
    report.answered == 0 && report.errors.get("timeout") == Some(&report.attempts)
}

#[track_caller]
fn await_all(cluster: &Cluster, place: From, traffic: &[Traffic], open: bool) {
    let what = if open { "it is open" } else { "it is closed" };
    for traffic in traffic {
        let traffic = traffic.clone().count(1).timeout_milliseconds(250);
        let wanted = |report: &Report| {
            if open {
                report.is_clean()
            } else {
                is_dropped(report)
            }
        };
        traffic.until(what, &cluster.place(place), wanted).unwrap();
    }
}

#[track_caller]
fn expect_all(cluster: &Cluster, place: From, traffic: &[Traffic], open: bool) {
    for traffic in traffic {
        let once = traffic.clone().count(1);
        // What is open may take its time on a busy machine.
        let (report, found) = if open {
            let report = cluster.run(place, &once);
            let found = report.is_clean();
            (report, found)
        } else {
            let report = cluster.run(place, &once.timeout_milliseconds(250));
            let found = is_dropped(&report);
            (report, found)
        };
        assert!(found, "{place:?} {traffic:?}: {report:?}");
    }
}

#[test]
fn a_pod_is_open_to_whom_the_rules_in_force_name() {
    let service = web().endpoints(&["a1"]);
    let cluster = start(&[], &[&service]);
    let pod = to_pod(&cluster, "a1", 8080);
    let node_port = to(|v6| cluster.lab.address("node1", v6), 30080);
    let check = |open: &[From], closed: &[From]| {
        for place in open {
            await_all(&cluster, *place, &pod, true);
        }
        for place in closed {
            await_all(&cluster, *place, &pod, false);
        }
        // The node reaches its pods whatever the rules are.
        expect_all(&cluster, Covered("node1"), &pod, true);
    };
    let (a, b) = (Covered("pod-a"), Covered("pod-b"));
    check(&[a, b], &[]);
    enforce(&cluster, "web", json!({"policyTypes": ["Ingress"]}));
    check(&[], &[a, b]);
    await_all(&cluster, Covered("client"), &node_port, false);
    expect_all(&cluster, b, &to_pod(&cluster, "a2", 8080), true);
    enforce(&cluster, "web", from(json!([app("client")])));
    check(&[a], &[b]);
    enforce(
        &cluster,
        "web",
        from(json!([{"namespaceSelector": {"matchLabels": {"team": "other"}}}])),
    );
    check(&[b], &[a]);
    let outside = |except: Value| {
        from(json!([
            {"ipBlock": {"cidr": "172.30.0.0/16", "except": except}},
            {"ipBlock": {"cidr": "fd00:30::/64"}},
        ]))
    };
    enforce(&cluster, "web", outside(json!([])));
    await_all(&cluster, Covered("client"), &node_port, true);
    check(&[], &[a, b]);
    enforce(&cluster, "web", outside(json!(["172.30.0.2/32"])));
    await_all(&cluster, Covered("client"), &node_port[..2], false);
    expect_all(&cluster, Covered("client"), &node_port[2..], true);
    enforce(
        &cluster,
        "web",
        json!({"policyTypes": ["Ingress"], "ingress": [{"from": [app("client")], "ports": [
            {"port": "http", "protocol": "TCP"}, {"port": 8080, "protocol": "UDP"}]}]}),
    );
    check(&[a], &[b]);
    expect_all(&cluster, a, &to_pod(&cluster, "a1", 9090), false);
    cluster.lab.manifests().remove(POLICIES).unwrap();
    check(&[a, b], &[]);
}

#[test]
fn a_relabelled_pod_gets_and_loses_what_its_label_gives() {
    let cluster = start(&[], &[]);
    let pod = to_pod(&cluster, "a1", 8080);
    let client = Covered("pod-a");
    enforce(&cluster, "web", from(json!([app("guest")])));
    await_all(&cluster, client, &pod, false);
    let relabelled = PODS.map(|(name, namespace, app)| match name {
        "pod-a" => (name, namespace, "guest"),
        _ => (name, namespace, app),
    });
    label(&cluster, &relabelled);
    await_all(&cluster, client, &pod, true);
    // What goes on is cut with the label that allowed it.
    let (v4, v6) = (
        cluster.lab.address("a1", false),
        cluster.lab.address("a1", true),
    );
    let held =
        [v4, v6].map(|to| cluster.flow(client, &Traffic::hold(to, 8080).timeout_milliseconds(500)));
    label(&cluster, &PODS);
    await_all(&cluster, client, &pod, false);
    for flow in held {
        let report = flow.stop().unwrap();
        assert!(report.answered > 0 && !report.is_clean(), "{report:?}");
    }
}

#[test]
fn what_a_pod_sends_through_a_service_is_judged_by_the_backend() {
    let (web, db) = (
        ServiceSpec::new("web", 10)
            .tcp(80, 8080)
            .udp(80, 8080)
            .endpoints(&["a1"]),
        ServiceSpec::new("db", 11)
            .tcp(80, 8080)
            .udp(80, 8080)
            .endpoints(&["b1"]),
    );
    let mut cluster = start(&[], &[&web, &db]);
    let (to_web, to_db) = (to(|v6| web.ip(v6), 80), to(|v6| db.ip(v6), 80));
    let ports = json!([{"port": 8080, "protocol": "TCP"}, {"port": 8080, "protocol": "UDP"}]);
    for (name, open, closed) in [("web", &to_web, &to_db), ("db", &to_db, &to_web)] {
        enforce(
            &cluster,
            "client",
            json!({"policyTypes": ["Egress", "Ingress"], "egress": [{"to": [app(name)], "ports": ports}]}),
        );
        for place in [Covered("pod-a"), Uncovered("pod-a")] {
            await_all(&cluster, place, open, true);
            await_all(&cluster, place, closed, false);
        }
        let forbidden = if name == "web" {
            "lab/db:80"
        } else {
            "lab/web:80"
        };
        let question = [
            "explain",
            "--from",
            "lab/pod-a",
            "--to",
            forbidden,
            "--proto",
            "tcp",
        ];
        let answer = cluster.agent("node1").ask(&question).unwrap();
        assert!(
            answer.output.contains("NetworkPolicy lab/tested"),
            "{answer:?}"
        );
        assert!(answer.output.contains("is dropped"), "{answer:?}");
        // Of the same labels in another namespace nothing was said.
        expect_all(&cluster, Covered("pod-b"), closed, true);
    }
}

#[test]
fn policy_outlives_the_agent_and_an_unchanged_one_is_not_written_again() {
    let service = web().endpoints(&["a2"]);
    let mut cluster = start(&[], &[&service]);
    let pod = to_pod(&cluster, "a1", 8080);
    let (a, b) = (Covered("pod-a"), Covered("pod-b"));
    enforce(&cluster, "web", from(json!([app("client")])));
    await_all(&cluster, b, &pod, false);
    let flow = cluster.flow(a, &Traffic::hold(cluster.lab.address("a1", false), 8080));
    for node in ["node1", "node2"] {
        cluster.agent(node).process().kill().unwrap();
    }
    expect_all(&cluster, a, &pod, true);
    expect_all(&cluster, b, &pod, false);
    for node in ["node1", "node2"] {
        cluster.restart(node);
    }
    expect_all(&cluster, b, &pod, false);
    expect_all(&cluster, a, &pod, true);
    let status = cluster.agent("node1").status().unwrap();
    let written = status["apply"]["operations_total"].as_u64();
    assert_eq!(written, Some(0), "{status}");
    // What changed while the agent was away is in force once it is back.
    cluster.agent("node1").process().kill().unwrap();
    enforce(
        &cluster,
        "web",
        from(json!([{"namespaceSelector": {"matchLabels": {"team": "other"}}}, app("client")])),
    );
    expect_all(&cluster, b, &pod, false);
    cluster.restart("node1");
    expect_all(&cluster, b, &pod, true);
    expect_clean(flow);
    let status = cluster.agent("node1").status().unwrap();
    let maps = status["maps"].to_string();
    assert!(maps.contains("POLICY_VERDICTS_V1"), "{maps}");
}

#[test]
fn changes_under_traffic_drop_nothing_that_is_allowed_and_pass_nothing_else() {
    let service = web().endpoints(&["a1"]);
    let cluster = start(&[], &[&service]);
    let pod = to_pod(&cluster, "a1", 8080);
    enforce(&cluster, "web", from(json!([app("client")])));
    await_all(&cluster, Covered("pod-b"), &pod, false);
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let address = cluster.lab.address("a1", v6);
        for (place, to, port) in [
            (Covered("pod-a"), address, 8080),
            (Uncovered("pod-c"), service.ip(v6), 80),
        ] {
            for traffic in [
                Traffic::connect(to, port).every_milliseconds(5),
                Traffic::hold(to, port).workers(2).every_milliseconds(5),
                Traffic::udp(to, port).every_milliseconds(5),
            ] {
                flows.push(cluster.flow(place, &traffic));
            }
        }
    }
    for round in 0..6 {
        // Other classes of peers, other ports, other sets; what matters stays as it is.
        let mut peers = vec![
            app("client"),
            json!({"ipBlock": {"cidr": format!("10.9.{round}.0/24")}}),
        ];
        if round % 2 == 0 {
            peers.push(app("db"));
        }
        enforce(&cluster, "web", from(json!(peers)));
        expect_all(&cluster, Covered("pod-b"), &pod, false);
        expect_all(&cluster, Covered("a2"), &pod, false);
    }
    for flow in flows {
        expect_clean(flow);
    }
}

#[test]
fn a_pod_is_closed_until_it_is_known_and_policies_mean_nothing_where_they_are_not_enforced() {
    let options = AgentOptions::flags(&["--run-firewall", "--netpol-default-deny"]);
    let mut cluster = Cluster::without_agents(options, &[]).with_agents(&["node1", "node2"]);
    let pod = to_pod(&cluster, "a1", 8080);
    expect_all(&cluster, Covered("pod-a"), &pod, false);
    expect_all(&cluster, Covered("pod-b"), &pod, false);
    expect_all(&cluster, Covered("node1"), &pod, true);
    label(&cluster, &PODS);
    await_all(&cluster, Covered("pod-a"), &pod, true);
    await_all(&cluster, Covered("pod-b"), &pod, true);
    enforce(&cluster, "web", json!({"policyTypes": ["Ingress"]}));
    await_all(&cluster, Covered("pod-b"), &pod, false);
    for node in ["node1", "node2"] {
        cluster.agent(node).process().kill().unwrap();
    }
    cluster.options = AgentOptions::flags(&["--run-firewall=false"]);
    for node in ["node1", "node2"] {
        cluster.restart(node);
    }
    await_all(&cluster, Covered("pod-b"), &pod, true);
    let agents = std::mem::take(&mut cluster.agents);
    drop(agents);
    let answer = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.output.contains("POLICY_VERDICTS_V1"), "{answer:?}");
    assert!(!cluster.lab.bpf_root("node1").join("maps").exists());
}

#[test]
fn a_policy_that_does_not_fit_closes_its_pods_and_says_so() {
    // The node's own addresses fit, and no peer.
    let mut cluster = start(&["--max-policy-entries", "2"], &[]);
    let pod = to_pod(&cluster, "a1", 8080);
    await_all(&cluster, Covered("pod-a"), &pod, true);
    enforce(&cluster, "web", from(json!([app("client")])));
    eventually("the status says what is full", || {
        let status = cluster.agent("node1").status()?.to_string();
        anyhow::ensure!(status.contains("--max-policy-entries"), "{status}");
        Ok(Some(()))
    })
    .unwrap();
    expect_all(&cluster, Covered("pod-a"), &pod, false);
    expect_all(&cluster, Covered("node1"), &pod, true);
    expect_all(
        &cluster,
        Covered("pod-a"),
        &to_pod(&cluster, "a2", 8080),
        true,
    );
    cluster.lab.manifests().remove(POLICIES).unwrap();
    await_all(&cluster, Covered("pod-a"), &pod, true);
}
