//! Many policies and many peers in the kernel's tables, and too many.

use std::env;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{AgentOptions, Traffic, eventually, poll};
use tests::traffic::Report;

use crate::cluster::Cluster;
use crate::cluster::From::{self, Covered};

/// Where `cargo xtask test chaos` says how many policies and pods there are.
const SCALE: &str = "FAIRLEAD_POLICY_SCALE";
/// Objects in one file.
const A_FILE: usize = 500;

fn scale() -> usize {
    let given = env::var(SCALE).ok();
    given.and_then(|given| given.parse().ok()).unwrap_or(300)
}

/// Writes objects as JSON, which is YAML and read in a fraction of the time.
#[track_caller]
fn write(cluster: &Cluster, name: &str, documents: &[Value]) {
    for (number, documents) in documents.chunks(A_FILE).enumerate() {
        let texts: Vec<_> = documents.iter().map(Value::to_string).collect();
        let file = format!("{name}-{number:04}.yaml");
        let manifests = cluster.lab.manifests();
        manifests.write_text(&file, &texts.join("\n---\n")).unwrap();
    }
}

fn remote_pod(number: usize) -> Value {
    let address = Ipv4Addr::from_bits(0x0a80_0001 + u32::try_from(number).unwrap());
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "lab", "name": format!("pod{number}"), "labels": {"unique": format!("u{number}")}},
        "spec": {"nodeName": "node2", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    })
}

fn policy(name: &str, app: &str, ingress: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "lab", "name": name},
        "spec": {"podSelector": {"matchLabels": {"app": app}}, "ingress": ingress},
    })
}

fn from_unique(label: &str) -> Value {
    json!([{"from": [{"podSelector": {"matchLabels": {"unique": label}}}]}])
}

/// `a1` is `app: web`, `a2` `app: db`; the label `unique` of `pod-a` is `mine`, or `other`.
fn label(cluster: &Cluster, unique: &str) {
    let pods = [
        ("a1", "lab", json!({"app": "web"})),
        ("a2", "lab", json!({"app": "db"})),
        ("pod-a", "lab", json!({"unique": unique})),
        ("pod-c", "lab", json!({"unique": "third"})),
    ];
    cluster.lab.apply_pods(&pods).unwrap();
}

fn is_open(cluster: &Cluster, from: From, pod: &str, port: u16) -> bool {
    let to = cluster.lab.address(pod, false);
    let traffic = Traffic::connect(to, port)
        .count(1)
        .timeout_milliseconds(250);
    let report: Report = cluster.run(from, &traffic);
    report.is_clean()
}

#[track_caller]
fn await_open(cluster: &Cluster, from: From, pod: &str, open: bool) {
    eventually("the change is in force", || {
        anyhow::ensure!(is_open(cluster, from, pod, 8080) == open, "{from:?} {pod}");
        Ok(Some(()))
    })
    .unwrap();
}

fn start(flags: &[&str]) -> Cluster {
    let flags = [&["--run-firewall"][..], flags].concat();
    let cluster = Cluster::without_agents(AgentOptions::flags(&flags), &[]);
    label(&cluster, "mine");
    cluster
}

/// The entries in use of a map.
#[track_caller]
fn entries(cluster: &mut Cluster, map: &str) -> usize {
    let status = cluster.agent("node1").status().unwrap();
    let maps = status["maps"].as_array().unwrap();
    let row = maps.iter().find(|row| row["map"] == map);
    let used = row.and_then(|row| row["used"].as_u64());
    usize::try_from(used.unwrap_or_else(|| panic!("{map}: {status}"))).unwrap()
}

#[test]
fn every_pod_may_be_a_class_of_its_own() {
    let count = scale();
    let cluster = start(&[]);
    let pods: Vec<_> = (0..count).map(remote_pod).collect();
    write(&cluster, "many-pods", &pods);
    // Labels that no selector names split nothing.
    write(
        &cluster,
        "policy",
        &[policy("web", "web", from_unique("mine"))],
    );
    let begun = Instant::now();
    let mut cluster = cluster.with_agents(&["node1"]);
    let few = entries(&mut cluster, "POLICY_VERDICTS_V1");
    assert!(few < 20, "{few}");
    await_open(&cluster, Covered("pod-c"), "a1", false);
    await_open(&cluster, Covered("pod-a"), "a1", true);
    eprintln!("{count} pods: in force after {:.1?}", begun.elapsed());
    // Now every one of them is named by a rule of its own.
    let begun = Instant::now();
    let policies: Vec<_> = (0..count)
        .map(|number| {
            let peer = from_unique(&format!("u{number}"));
            policy(&format!("of-{number}"), "web", peer)
        })
        .collect();
    write(&cluster, "many-policies", &policies);
    // The long lane's ten thousand take a debug build more than others wait for.
    let patience =
        Duration::from_secs(20) + Duration::from_millis(10) * u32::try_from(count).unwrap();
    let in_force = poll(patience, || {
        (entries(&mut cluster, "POLICY_IDENTITIES_V1") >= count).then_some(())
    });
    assert!(in_force.is_some(), "not every pod has an identity");
    let many = entries(&mut cluster, "POLICY_VERDICTS_V1");
    eprintln!(
        "{count} classes: in force after {:.1?}, {many} verdicts",
        begun.elapsed()
    );
    assert!(many >= count && many <= 4 * count + 20, "{many}");
    await_open(&cluster, Covered("pod-a"), "a1", true);
    assert!(!is_open(&cluster, Covered("pod-c"), "a1", 8080));
    let begun = Instant::now();
    label(&cluster, "other");
    await_open(&cluster, Covered("pod-a"), "a1", false);
    label(&cluster, "u7");
    await_open(&cluster, Covered("pod-a"), "a1", true);
    eprintln!("two labels: in force after {:.1?}", begun.elapsed());
}

#[test]
fn many_policies_are_in_force_together_and_one_is_changed_alone() {
    let count = scale();
    let cluster = start(&[]);
    let mut policies: Vec<_> = (0..count)
        .map(|number| {
            let port = 10_000 + number;
            let app = ["web", "db", "none"][number % 3];
            policy(
                &format!("p{number}"),
                app,
                json!([{"ports": [{"port": port}]}]),
            )
        })
        .collect();
    policies[0] = policy("p0", "web", from_unique("mine"));
    write(&cluster, "many", &policies);
    let begun = Instant::now();
    let mut cluster = cluster.with_agents(&["node1"]);
    eprintln!("{count} policies: ready after {:.1?}", begun.elapsed());
    await_open(&cluster, Covered("pod-a"), "a1", true);
    assert!(!is_open(&cluster, Covered("pod-c"), "a1", 8080));
    assert!(!is_open(&cluster, Covered("pod-a"), "a2", 8080));
    await_open(&cluster, Covered("node1"), "a2", true);
    let before = cluster
        .agent("node1")
        .metric("fairlead_map_operations_total");
    let before = before.unwrap().unwrap();
    // The file that holds it is read again; what is the same in it is not written.
    policies[0] = policy("p0", "web", from_unique("third"));
    let begun = Instant::now();
    write(&cluster, "many", &policies[..A_FILE.min(count)]);
    await_open(&cluster, Covered("pod-c"), "a1", true);
    eprintln!("one change: in force after {:.1?}", begun.elapsed());
    assert!(!is_open(&cluster, Covered("pod-a"), "a1", 8080));
    let after = cluster
        .agent("node1")
        .metric("fairlead_map_operations_total");
    let written = after.unwrap().unwrap() - before;
    eprintln!("{written} map operations");
    assert!(
        written < 10.0 + f64::from(u32::try_from(count).unwrap()),
        "{written}"
    );
    for number in 0..count.div_ceil(A_FILE) {
        let manifests = cluster.lab.manifests();
        manifests.remove(&format!("many-{number:04}.yaml")).unwrap();
    }
    // One after the other in one pass.
    await_open(&cluster, Covered("pod-a"), "a2", true);
    await_open(&cluster, Covered("pod-a"), "a1", true);
}

#[test]
fn a_full_table_closes_what_does_not_fit_and_nothing_else() {
    let mut cluster = start(&["--max-policy-entries", "64"]).with_agents(&["node1"]);
    let ports: Vec<_> = (0..100)
        .map(|number| json!({"port": 20_000 + 3 * number}))
        .collect();
    let small = policy("small", "web", from_unique("mine"));
    let large = policy(
        "large",
        "db",
        json!([{"ports": ports}, {"ports": [{"port": 8080}]}]),
    );
    write(&cluster, "small", &[small]);
    await_open(&cluster, Covered("pod-c"), "a1", false);
    await_open(&cluster, Covered("pod-a"), "a1", true);
    await_open(&cluster, Covered("pod-a"), "a2", true);
    write(&cluster, "large", &[large]);
    await_open(&cluster, Covered("pod-a"), "a2", false);
    // What is measured is the table's size, and not what a policy says.
    eventually("the status says what does not fit", || {
        let status = cluster.agent("node1").status()?.to_string();
        anyhow::ensure!(status.contains("--max-policy-entries"), "{status}");
        Ok(Some(()))
    })
    .unwrap();
    await_open(&cluster, Covered("pod-a"), "a1", true);
    assert!(!is_open(&cluster, Covered("pod-c"), "a1", 8080));
    await_open(&cluster, Covered("node1"), "a2", true);
    // The other policy follows its changes all the same.
    label(&cluster, "other");
    await_open(&cluster, Covered("pod-a"), "a1", false);
    label(&cluster, "mine");
    await_open(&cluster, Covered("pod-a"), "a1", true);
    cluster.lab.manifests().remove("large-0000.yaml").unwrap();
    await_open(&cluster, Covered("pod-a"), "a2", true);
    let status = cluster.agent("node1").status().unwrap().to_string();
    assert!(!status.contains("--max-policy-entries"), "{status}");
}
