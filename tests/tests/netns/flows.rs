//! `flows`: what happened to real traffic, as the agent tells it.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::harness::{
    Agent, AgentOptions, Process, ServiceSpec, Traffic, agent_program, eventually,
};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::policy::{PODS, app, enforce, from, is_dropped, label, start};

/// A running `flows --follow -o json`.
struct Follower {
    process: Process,
    output: PathBuf,
}

impl Follower {
    #[track_caller]
    fn start(cluster: &mut Cluster, node: &str, filter: &[&str]) -> Self {
        let output = cluster.lab.directory().join(format!("flows of {node}"));
        let file = File::create(&output).unwrap();
        let arguments = [&["flows", "--follow", "-o", "json"], filter].concat();
        let process = cluster.agent(node).ask_on(&arguments, file).unwrap();
        let follower = Self { process, output };
        let follows = |flow: &Value| flow["following"].is_string();
        eventually("it follows", || {
            Ok(follower.flows().iter().any(follows).then_some(()))
        })
        .unwrap();
        follower
    }

    /// What has come, each line an object of its own.
    #[track_caller]
    fn flows(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.output).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[track_caller]
    fn await_flow(&self, what: &str, wanted: &Value) -> Value {
        eventually(what, || {
            let flows = self.flows();
            let found = flows.iter().find(|flow| holds(flow, wanted)).cloned();
            let tail = flows.iter().rev().take(5);
            Ok(Some(found.with_context(|| {
                format!("{wanted} is not in {:#?}", tail.collect::<Vec<_>>())
            })?))
        })
        .unwrap()
    }
}

/// Whether all of `wanted` is in `found`.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
            let found = found.get(key).unwrap_or(&Value::Null);
            holds(found, wanted)
        }),
        _ => found == wanted,
    }
}

/// `flows` of a node's agent with these arguments.
#[track_caller]
fn ask(cluster: &mut Cluster, arguments: &[&str]) -> String {
    let arguments = [&["flows"], arguments].concat();
    let answer = cluster.agent("node1").ask(&arguments).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    answer.output
}

#[track_caller]
fn await_dropped(cluster: &Cluster, traffic: &Traffic) {
    let traffic = traffic.clone().count(1).timeout_milliseconds(250);
    let place = cluster.place(Uncovered("pod-a"));
    traffic.until("it is closed", &place, is_dropped).unwrap();
}

#[test]
fn a_drop_names_pods_service_policy_and_rule_and_what_passes_is_shown_to_who_follows() {
    let service = ServiceSpec::new("web", 10).tcp(80, 8080).endpoints(&["a1"]);
    let mut cluster = start(&["--config-sync-period", "1s"], &[&service]);
    let follower = Follower::start(&mut cluster, "node1", &[]);
    enforce(&cluster, "web", json!({"policyTypes": ["Ingress"]}));
    for v6 in [false, true] {
        let (ip, pod) = (service.ip(v6), cluster.lab.address("a1", v6));
        await_dropped(&cluster, &Traffic::connect(ip, 80));
        let dropped = json!({
            "verdict": "dropped",
            "reason": "policy_ingress",
            "direction": "ingress",
            "hook": "to-pod",
            "protocol": "tcp",
            "source": {"pod": "lab/pod-a"},
            "destination": {"address": pod.to_string(), "port": 8080, "pod": "lab/a1"},
            "service": {"name": "lab/web", "kind": "Service", "port": "tcp-80"},
            "policy": {"kind": "NetworkPolicy", "name": "lab/tested", "rule": null},
        });
        follower.await_flow("the drop", &dropped);
        // It left its own pod, which has no rules, for the Service's address.
        let left = json!({
            "verdict": "allowed",
            "hook": "from-pod",
            "source": {"pod": "lab/pod-a"},
            "destination": {"address": ip.to_string(), "port": 80},
            "peer": {"pod": "lab/a1", "port": 8080},
            "service": {"name": "lab/web"},
            "policy": null,
        });
        follower.await_flow("its first packet", &left);
    }
    let table = ask(&mut cluster, &["--verdict", "drop"]);
    let line = table.lines().nth(1).unwrap();
    for part in ["dropped", "lab/pod-a", "lab/a1", "lab/web", "lab/tested"] {
        assert!(line.contains(part), "{part} is not in {table}");
    }
    assert!(!table.contains("allowed"), "{table}");
    let of_other = ask(&mut cluster, &["--pod", "other/pod-b", "-o", "json"]);
    assert_eq!(of_other, "", "it has sent nothing");

    enforce(&cluster, "web", from(json!([app("db"), app("client")])));
    let open = Traffic::connect(service.ip(false), 80).count(1);
    open.clone()
        .until("it is open", &cluster.place(Uncovered("pod-a")), |report| {
            report.is_clean()
        })
        .unwrap();
    let allowed = json!({
        "verdict": "allowed",
        "hook": "to-pod",
        "source": {"pod": "lab/pod-a"},
        "destination": {"pod": "lab/a1"},
        "policy": {"name": "lab/tested", "rule": 0},
    });
    follower.await_flow("what passes", &allowed);
    let verdicts = |verdict: &str| {
        format!(
            r#"fairlead_policy_verdicts_total{{kind="NetworkPolicy",namespace="lab",policy="tested",direction="ingress",verdict="{verdict}"}}"#
        )
    };
    let agent = cluster.agent("node1");
    for name in [
        verdicts("dropped"),
        verdicts("allowed"),
        "fairlead_policy_identities".to_owned(),
        "fairlead_policy_entries".to_owned(),
        "fairlead_policy_largest_pod_entries".to_owned(),
        r#"fairlead_policy_pod_entries{namespace="lab",pod="a1"}"#.to_owned(),
        "fairlead_policy_apply_duration_seconds_count".to_owned(),
        "fairlead_compile_duration_seconds_count".to_owned(),
    ] {
        let value = agent.metric(&name).unwrap();
        assert!(value > Some(0.0), "{name}: {value:?}");
    }
    assert_eq!(agent.metric(&verdicts("audited")).unwrap(), Some(0.0));
    cluster.lab.manifests().remove("policies.yaml").unwrap();
    eventually("the counters of the policy go with it", || {
        let agent = cluster.agent("node1");
        let left = agent.metric(&verdicts("dropped"))?;
        let rules = agent.metric(r#"fairlead_map_entries{map="POLICY_RULES_V1"}"#)?;
        ensure!(left.is_none() && rules == Some(0.0), "{left:?} {rules:?}");
        Ok(Some(()))
    })
    .unwrap();
}

#[test]
fn an_audited_policy_says_what_it_would_drop_and_drops_nothing() {
    let cluster = start(&[], &[]);
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "tried",
            "namespace": "lab",
            "annotations": {"fairlead.io/policy-mode": "audit"},
        },
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
    });
    let manifests = cluster.lab.manifests();
    manifests.write("policies.yaml", &[policy]).unwrap();
    let (mut cluster, to) = (cluster, "a1");
    let traffic = Traffic::connect(cluster.lab.address(to, false), 8080).count(1);
    eventually("it is told", || {
        let report = cluster.run(Covered("pod-b"), &traffic);
        assert!(report.is_clean(), "{report:?}");
        let told = ask(&mut cluster, &["--verdict", "audit", "--pod", "lab/a1"]);
        let named = ["audited", "other/pod-b", "NetworkPolicy lab/tried"];
        ensure!(named.iter().all(|part| told.contains(part)), "{told}");
        Ok(Some(()))
    })
    .unwrap();
}

#[test]
fn nothing_that_passes_is_told_once_nobody_follows() {
    let mut cluster = start(&[], &[]);
    let to = cluster.lab.address("a1", false);
    let connect = |cluster: &Cluster| {
        let report = cluster.run(Covered("pod-a"), &Traffic::connect(to, 8080).count(1));
        assert!(report.is_clean(), "{report:?}");
    };
    connect(&cluster);
    assert_eq!(ask(&mut cluster, &["-o", "json"]), "");
    let mut follower = Follower::start(&mut cluster, "node1", &["--pod", "lab/a1"]);
    let passed = json!({"verdict": "allowed", "destination": {"pod": "lab/a1"}});
    connect(&cluster);
    follower.await_flow("who follows is told", &passed);
    follower.process.kill().unwrap();
    eventually("what passes is told no longer", || {
        let before = ask(&mut cluster, &["-o", "json"]).lines().count();
        connect(&cluster);
        std::thread::sleep(std::time::Duration::from_millis(100));
        let after = ask(&mut cluster, &["-o", "json"]).lines().count();
        ensure!(before == after, "{before} {after}");
        Ok(Some(()))
    })
    .unwrap();
}

#[test]
fn people_who_follow_are_told_beside_the_table_from_when_on() {
    let cluster = start(&[], &[]);
    let file = |name: &str| cluster.lab.directory().join(name);
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let mut command = cluster.lab.place("node1").command(agent_program().unwrap());
    command
        .args(["flows", "--follow", "--pod", "lab/a1", "--socket"])
        .arg(file("node1/agent.sock"))
        .stdin(Stdio::null())
        .stdout(File::create(file("table")).unwrap())
        .stderr(File::create(file("beside")).unwrap());
    let _follower = Process::start("flows", &mut command).unwrap();
    eventually("it follows", || {
        Ok(read("beside").contains("following since").then_some(()))
    })
    .unwrap();
    let to = cluster.lab.address("a1", false);
    let report = cluster.run(Covered("pod-a"), &Traffic::connect(to, 8080).count(1));
    assert!(report.is_clean(), "{report:?}");
    eventually("the first connection is in the table", || {
        let table = read("table");
        ensure!(table.contains("lab/pod-a"), "{table}");
        Ok(Some(()))
    })
    .unwrap();
    let table = read("table");
    assert!(
        table.starts_with("TIME") && !table.contains("following"),
        "{table}"
    );
}

#[test]
fn what_was_dropped_while_the_agent_was_away_is_told_by_the_next_one() {
    let mut cluster = start(&[], &[]);
    let pod = Traffic::udp_fresh(cluster.lab.address("a1", false), 8080);
    enforce(&cluster, "web", from(json!([app("db")])));
    await_dropped(&cluster, &pod);
    let follower = Follower::start(&mut cluster, "node1", &[]);
    cluster.agent("node1").process().kill().unwrap();
    let report = cluster.run(
        Covered("pod-c"),
        &pod.clone().count(3).timeout_milliseconds(50),
    );
    assert!(is_dropped(&report), "{report:?}");
    drop(follower);
    cluster.restart("node1");
    eventually("the drop is there, with its policy", || {
        let told = ask(&mut cluster, &["--pod", "lab/pod-c", "--since", "1m"]);
        ensure!(told.contains("NetworkPolicy lab/tested"), "{told}");
        Ok(Some(()))
    })
    .unwrap();
    let status = cluster.agent("node1").status().unwrap();
    let lost = status["counters"].as_array().unwrap().iter();
    let lost = lost.clone().find(|row| row["name"] == "flows_lost");
    assert_eq!(lost.unwrap()["value"], 0, "{status}");
    cluster.agents.clear();
    let answer = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    for map in [
        "FLOWS_V1",
        "FLOWS_ASKED_V1",
        "FLOW_LIMITS_V1",
        "POLICY_RULES_V1",
    ] {
        assert!(answer.output.contains(map), "{map}: {answer:?}");
    }
}

#[test]
fn without_policy_the_service_path_tells_of_its_drops() {
    let local = ServiceSpec::new("local", 10)
        .udp(80, 8080)
        .spec("internalTrafficPolicy", "Local")
        .endpoints(&["b1"]);
    let empty = ServiceSpec::new("empty", 11).udp(80, 8080);
    let cluster = Cluster::without_agents(AgentOptions::default(), &[&local, &empty]);
    label(&cluster, &PODS);
    let mut cluster = cluster.with_agents(&["node1", "node2"]);
    for (service, verdict, reason) in [
        (&local, "dropped", "no_local_endpoint"),
        (&empty, "rejected", "packets_rejected"),
    ] {
        for v6 in [false, true] {
            let traffic = Traffic::udp_fresh(service.ip(v6), 80).count(1);
            cluster.run(Uncovered("pod-a"), &traffic.timeout_milliseconds(100));
        }
        let name = format!(
            "lab/{}",
            if reason == "no_local_endpoint" {
                "local"
            } else {
                "empty"
            }
        );
        eventually("both are told", || {
            let told = ask(&mut cluster, &["--service", &name, "-o", "json"]);
            let flows: Vec<Value> = told
                .lines()
                .map(serde_json::from_str)
                .collect::<Result<_, _>>()?;
            let wanted =
                json!({"verdict": verdict, "reason": reason, "source": {"pod": "lab/pod-a"}});
            let found = flows.iter().filter(|flow| holds(flow, &wanted)).count();
            ensure!(found >= 2, "{told}");
            Ok(Some(()))
        })
        .unwrap();
    }
}

#[test]
fn programs_say_what_they_do_only_when_asked_to() {
    let service = ServiceSpec::new("web", 10).udp(80, 8080).endpoints(&["a1"]);
    let said = |cluster: &mut Cluster| {
        let traffic = Traffic::udp_fresh(service.ip(false), 80).count(1);
        assert!(cluster.run(Uncovered("pod-a"), &traffic).is_clean());
        let line = format!("{} 80 verdict", service.ip(false));
        std::thread::sleep(std::time::Duration::from_millis(200));
        cluster.agent("node1").log().contains(&line)
    };
    let mut cluster = start(&[], &[&service]);
    assert!(!said(&mut cluster));
    cluster.agent("node1").process().kill().unwrap();
    cluster.options = AgentOptions::flags(&["--run-firewall", "--debug-programs"]);
    cluster.restart("node1");
    assert!(said(&mut cluster), "{}", cluster.agent("node1").log());
}

#[test]
fn a_process_that_is_refused_as_it_connects_is_told_of() {
    let service = ServiceSpec::new("empty", 20).tcp(80, 8080);
    let mut cluster = start(&[], &[&service]);
    let pods = [("pod-a", "lab", json!({}))];
    cluster.lab.apply_pods(&pods).unwrap();
    let follower = Follower::start(&mut cluster, "node1", &["--verdict", "reject"]);
    for v6 in [false, true] {
        let to = service.ip(v6);
        for (client, pod) in [("pod-a", Some("lab/pod-a")), ("node1", None)] {
            let report = cluster.run(Covered(client), &Traffic::connect(to, 80).count(1));
            assert_eq!(
                report.errors.get("refused"),
                Some(&1),
                "{client}: {report:?}"
            );
            let refused = json!({
                "verdict": "rejected",
                "reason": "socket_rejected",
                "hook": "connect",
                "protocol": "tcp",
                "source": {"pod": pod},
                "destination": {"address": to.to_string(), "port": 80},
                "service": {"name": "lab/empty", "kind": "Service"},
            });
            follower.await_flow("the refusal", &refused);
        }
    }
}
