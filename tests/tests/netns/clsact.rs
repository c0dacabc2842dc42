//! Programs as filters of `clsact` qdiscs, as before Linux 6.6, under running agents: qdiscs that others
//! delete, and the way from filters to links and back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tests::harness::{
    Agent, AgentOptions, Flow, ServiceSpec, Traffic, attachments, eventually, has_tcx, tc,
};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{expect_clean, tcp_and_udp, web};
use crate::policy::{app, enforce, from, is_dropped, start};

const FILTERS: &str = "--enable-tcx=false";
const LINKS: &str = "--enable-tcx=true";
/// The kernel tells `devices`, which answers twice a second at most, and otherwise looks every ten
/// seconds. An emulated processor, for which there is patience, needs longer.
const REPAIRED_WITHIN: Duration = Duration::from_secs(3);

/// How long an exchange may take, in milliseconds.
const PATIENT: u64 = 15_000;

/// `web` leads to `a1`, whose policy lets clients of its namespace in; `pod-b` is of another. `open` leads
/// to `b1`, which has none.
fn limited(flag: &str) -> Cluster {
    let service = web().endpoints(&["a1"]);
    let open = ServiceSpec::new("open", 11).both_on_nodes(80, 8080, 30081);
    let cluster = start(&[flag], &[&service, &open.endpoints(&["b1"])]);
    enforce(&cluster, "web", from(json!([app("client")])));
    for traffic in tcp_and_udp(cluster.lab.address("a1", false), 8080) {
        let once = traffic.count(1).timeout_milliseconds(250);
        let stranger = cluster.place(Uncovered("pod-b"));
        once.until("the policy is in force", &stranger, is_dropped)
            .unwrap();
    }
    cluster
}

/// Everything of [`limited`] is as it should be.
#[track_caller]
fn expect_limited(cluster: &Cluster) {
    let service = web();
    for v6 in [false, true] {
        let (pod, node) = (
            cluster.lab.address("a1", v6),
            cluster.lab.address("node1", v6),
        );
        for (place, to, port, is_open) in [
            (Uncovered("pod-c"), service.ip(v6), 80, true),
            (Covered("node1"), service.ip(v6), 80, true),
            (Uncovered("pod-a"), pod, 8080, true),
            (Uncovered("pod-b"), pod, 8080, false),
            (Uncovered("pod-b"), service.ip(v6), 80, false),
            (Covered("client"), node, 30080, false),
        ] {
            for traffic in tcp_and_udp(to, port) {
                let traffic = traffic.count(2);
                let report = match is_open {
                    true => cluster.run(place, &traffic),
                    false => cluster.run(place, &traffic.timeout_milliseconds(250)),
                };
                let held = if is_open {
                    report.is_clean()
                } else {
                    is_dropped(&report)
                };
                assert!(held, "{place:?} to {to}: {report:?}");
            }
        }
    }
}

/// TCP connections that policy lets pass. Where the programs are `unbroken`, UDP flows too, and those
/// to a node port, whose segments the node itself would answer to without the programs.
fn flows(cluster: &Cluster, unbroken: bool) -> Vec<Flow> {
    let service = web();
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let mut ways = vec![
            (Uncovered("pod-c"), service.ip(v6), 80),
            (Covered("node1"), service.ip(v6), 80),
            (Uncovered("pod-a"), cluster.lab.address("a1", v6), 8080),
            (Uncovered("pod-a"), cluster.lab.address("b1", v6), 8080),
        ];
        if unbroken {
            ways.push((Covered("client"), cluster.lab.address("node1", v6), 30081));
        }
        for (place, to, port) in ways {
            // A segment that is lost while a filter is away comes again; a datagram does not, however
            // long one waits for a busy machine.
            let patient = |traffic: Traffic| {
                let traffic = traffic.workers(2).every_milliseconds(5);
                traffic.timeout_milliseconds(PATIENT)
            };
            flows.push(cluster.flow(place, &patient(Traffic::hold(to, port))));
            if unbroken {
                flows.push(cluster.flow(place, &patient(Traffic::udp(to, port))));
            }
        }
    }
    flows
}

/// What is attached at a node's interfaces, by links and by filters.
fn attached(cluster: &Cluster, node: &str) -> (usize, usize) {
    let found = attachments(cluster.lab.place(node)).unwrap();
    let links = found.iter().filter(|line| line.ends_with("(tcx)")).count();
    (links, found.len() - links)
}

/// Waits until what was deleted is back, which is not to take until the next look.
#[track_caller]
fn expect_repaired(cluster: &Cluster, whole: (usize, usize), deleted: &str) {
    let gone = Instant::now();
    eventually("the filters are back", || {
        let now = attached(cluster, "node1");
        anyhow::ensure!(now == whole, "{deleted}: {now:?} of {whole:?}");
        Ok(Some(()))
    })
    .unwrap();
    let took = gone.elapsed();
    eprintln!("{deleted} repaired within {took:?}");
    let is_emulated = std::env::var_os("FAIRLEAD_TEST_PATIENCE").is_some();
    assert!(is_emulated || took < REPAIRED_WITHIN, "{deleted}: {took:?}");
}

#[test]
fn a_qdisc_or_a_filter_that_is_deleted_is_repaired_and_connections_go_on() {
    let cluster = limited(FILTERS);
    let node = cluster.lab.place("node1").clone();
    let whole = attached(&cluster, "node1");
    assert_eq!(whole.0, 0, "{whole:?}");
    expect_limited(&cluster);
    let held = flows(&cluster, false);
    // As the lab names the pod's.
    for deleted in [
        &["qdisc del dev eth0 clsact"][..],
        &["qdisc del dev p-a1 clsact"],
        &["qdisc del dev lo clsact"],
        &["qdisc del dev eth0 clsact", "qdisc del dev p-a1 clsact"],
        &["filter del dev p-a1 ingress pref 61"],
        &["filter del dev p-a1 egress"],
        &["filter del dev eth0 ingress pref 61 handle 0x464c bpf"],
    ] {
        // The second time nothing but news is soon enough: at the first, somebody has looked.
        for _ in 0..2 {
            for line in deleted {
                tc(&node, &line.split(' ').collect::<Vec<_>>()).unwrap();
            }
            expect_repaired(&cluster, whole, &deleted.join(", "));
        }
        expect_limited(&cluster);
    }
    for flow in held {
        expect_clean(flow);
    }
    let log = cluster.agents["node1"].log();
    assert!(log.contains("made anew"), "{log}");
}

/// Of more news than the kernel keeps for an agent that is busy, the last ones are lost.
#[test]
fn a_filter_that_is_deleted_while_news_are_lost_is_repaired_too() {
    let options = AgentOptions::flags(&[FILTERS]);
    let mut cluster = Cluster::without_agents(options, &[]).with_agents(&["node1"]);
    let node = cluster.lab.place("node1").clone();
    let pair = "link add other type veth peer name another\n";
    let before = attached(&cluster, "node1").1;
    node.namespace.ip(pair).unwrap();
    eventually("the new interfaces have filters", || {
        Ok((attached(&cluster, "node1").1 == before + 4).then_some(()))
    })
    .unwrap();
    let whole = attached(&cluster, "node1");
    let delete = || tc(&node, &["filter", "del", "dev", "eth0", "ingress"]).unwrap();
    // The next look is ten seconds away.
    delete();
    expect_repaired(&cluster, whole, "before");
    let strangers = "dev other egress pref 7 protocol ip";
    let line =
        format!("filter add {strangers} u32 match u32 0 0 flowid 1:1\nfilter del {strangers}\n");
    let batch = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(batch.path(), line.repeat(2000)).unwrap();
    cluster
        .agent("node1")
        .process()
        .signal(Signal::STOP)
        .unwrap();
    tc(&node, &["-batch", &batch.path().display().to_string()]).unwrap();
    delete();
    cluster
        .agent("node1")
        .process()
        .signal(Signal::CONT)
        .unwrap();
    expect_repaired(&cluster, whole, "while it was stopped");
}

/// Has both agents attach the one way and then the other.
#[track_caller]
fn there_and_back(cluster: &mut Cluster) {
    for flag in [FILTERS, LINKS] {
        cluster.options = AgentOptions::flags(&["--run-firewall", flag]);
        for node in ["node1", "node2"] {
            cluster.agent(node).process().kill().unwrap();
            cluster.restart(node);
            eventually("the programs are attached the other way", || {
                let (links, filters) = attached(cluster, node);
                let done = match flag {
                    FILTERS => links == 0 && filters > 0,
                    _ => links > 0 && filters == 0,
                };
                anyhow::ensure!(done, "{flag}: {links} links, {filters} filters");
                Ok(Some(()))
            })
            .unwrap();
        }
        expect_limited(cluster);
    }
}

#[test]
fn from_links_to_filters_and_back_nothing_is_lost() {
    if !has_tcx() {
        eprintln!("this kernel has no tcx: there is nothing to go from or to");
        return;
    }
    let mut cluster = limited(LINKS);
    let by_links = attached(&cluster, "node1");
    assert_eq!(by_links.1, 0, "{by_links:?}");
    let fast_path =
        |cluster: &Cluster| cluster.agents["node1"].status().unwrap()["fast_path"].clone();
    let fast = fast_path(&cluster);
    // The kernel stops sending by an interface for the moment in which it gets its first qdisc.
    let held = flows(&cluster, false);
    there_and_back(&mut cluster);
    held.into_iter().for_each(|flow| drop(expect_clean(flow)));
    // It stays.
    let held = flows(&cluster, true);
    there_and_back(&mut cluster);
    held.into_iter().for_each(|flow| drop(expect_clean(flow)));
    assert_eq!(attached(&cluster, "node1"), by_links);
    assert_eq!(fast_path(&cluster), fast);
    cluster.agents.remove("node1");
    let answer = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let qdiscs = tc(cluster.lab.place("node1"), &["qdisc"]).unwrap();
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
}

#[test]
fn cleanup_takes_filters_and_their_qdiscs_back() {
    let mut cluster = limited(FILTERS);
    let place = cluster.lab.place("node1").clone();
    // One of them is somebody else's too.
    let strangers = "filter add dev eth0 egress pref 7 protocol ip u32 match u32 0 0 flowid 1:1";
    tc(&place, &strangers.split(' ').collect::<Vec<_>>()).unwrap();
    cluster.agents.remove("node1");
    let answer = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let left = attachments(&place).unwrap();
    assert!(left.iter().all(|line| line.contains("u32")), "{left:?}");
    let qdiscs = tc(&place, &["qdisc"]).unwrap();
    assert_eq!(qdiscs.matches("clsact").count(), 1, "{qdiscs}");
}

/// Where a node's programs are kept, by their names.
fn kept(cluster: &Cluster, node: &str, program: &str) -> PathBuf {
    let directory = cluster.lab.bpf_root(node).join("programs");
    let entries = std::fs::read_dir(&directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(program)
    };
    let mut found = paths.filter(is_it);
    found
        .next()
        .unwrap_or_else(|| panic!("no {program} in {}", directory.display()))
}

/// Puts filters beside the links of a node.
#[track_caller]
fn both_ways(cluster: &Cluster, node: &str) {
    let place = cluster.lab.place(node);
    for line in attachments(place).unwrap() {
        let Some(line) = line.strip_suffix(" (tcx)") else {
            continue;
        };
        let parts: Vec<&str> = line
            .split([' ', ':'])
            .filter(|part| !part.is_empty())
            .collect();
        let [_, interface, direction, program] = parts[..] else {
            panic!("{line}");
        };
        let program = kept(cluster, node, program).display().to_string();
        let qdisc = tc(place, &["qdisc", "show", "dev", interface]).unwrap();
        if !qdisc.contains("clsact") {
            tc(place, &["qdisc", "add", "dev", interface, "clsact"]).unwrap();
        }
        let filter = ["filter", "add", "dev", interface, direction];
        let own = ["pref", "61", "handle", "0x464c", "bpf", "direct-action"];
        let pinned = ["object-pinned", &*program];
        tc(place, &[&filter[..], &own, &pinned].concat()).unwrap();
    }
}

#[test]
fn a_packet_that_passes_a_link_and_a_filter_is_as_after_one_of_them() {
    if !has_tcx() {
        eprintln!("this kernel has no tcx: there is nothing to go from or to");
        return;
    }
    let cluster = limited(LINKS);
    for node in ["node1", "node2"] {
        both_ways(&cluster, node);
        let (links, filters) = attached(&cluster, node);
        assert!(links > 0 && links == filters, "{links} links, {filters}");
    }
    expect_limited(&cluster);
    let held = flows(&cluster, true);
    expect_limited(&cluster);
    for flow in held {
        expect_clean(flow);
    }
}
