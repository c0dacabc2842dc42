//! `/metrics`: what was sent is what is counted.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use tests::harness::{AgentOptions, ServiceSpec, Traffic, eventually};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};

/// Exchanges of one flow.
const EXCHANGES: u64 = 20;

fn labels(service: &str, protocol: &str, family: &str) -> String {
    format!(
        r#"namespace="lab",service="{service}",port="{protocol}-80",protocol="{protocol}",family="{family}""#
    )
}

/// A counter of node1's agent, 0 where it is not there yet.
#[track_caller]
fn value(cluster: &mut Cluster, name: &str) -> f64 {
    let agent = cluster.agent("node1");
    agent.metric(name).unwrap().unwrap_or(0.0)
}

#[test]
fn traffic_of_a_service_is_counted_as_it_was_sent() {
    let service = ServiceSpec::new("web", 10)
        .tcp(80, 8080)
        .udp(80, 8080)
        .endpoints(&["b1"]);
    let options = AgentOptions::flags(&["--kube-router-metrics"]);
    let mut cluster = Cluster::start_with(options, &[&service]);
    for (v6, family, header) in [(false, "ipv4", 20), (true, "ipv6", 40)] {
        let ip = service.ip(v6);
        let udp = labels("web", "udp", family);
        let fresh = Traffic::udp_fresh(ip, 80).count(EXCHANGES);
        assert!(cluster.run(Uncovered("pod-a"), &fresh).is_clean());
        let counted = |what: &str| format!("fairlead_service_{what}_total{{{udp}}}");
        let directed = |what: &str, way: &str| {
            format!(r#"fairlead_service_{what}_total{{{udp},direction="{way}"}}"#)
        };
        let (sent, found) = (
            EXCHANGES as f64,
            value(&mut cluster, &counted("connections")),
        );
        assert_eq!(found, sent, "a datagram is a connection here");
        for way in ["in", "out"] {
            let packets = value(&mut cluster, &directed("packets", way));
            assert_eq!(packets, sent, "{family} {way}");
        }
        // Sequence numbers of one and of two digits, each with a line feed.
        let payload = f64::from(10 * 2 + 10 * 3);
        let bytes = value(&mut cluster, &directed("bytes", "in"));
        assert_eq!(bytes, sent * f64::from(header + 8) + payload, "{family}");
        let alias = format!(
            r#"kube_router_service_packets_in{{svc_namespace="lab",service_name="web",service_vip="{ip}",protocol="udp",port="80"}}"#
        );
        assert_eq!(value(&mut cluster, &alias), sent);

        let tcp = labels("web", "tcp", family);
        let connections = format!("fairlead_service_connections_total{{{tcp}}}");
        let packets = format!(r#"fairlead_service_packets_total{{{tcp},direction="in"}}"#);
        let connect = Traffic::connect(ip, 80).count(EXCHANGES);
        assert!(cluster.run(Covered("pod-a"), &connect).is_clean());
        assert_eq!(value(&mut cluster, &connections), sent);
        assert_eq!(value(&mut cluster, &packets), 0.0, "balanced at connect");
        assert!(cluster.run(Uncovered("pod-a"), &connect).is_clean());
        assert_eq!(value(&mut cluster, &connections), 2.0 * sent);
        // SYN, ACK, the line, an ACK of the answer or of the end, and FIN or RST.
        let found = value(&mut cluster, &packets);
        assert!((3.0 * sent..=8.0 * sent).contains(&found), "{found}");
    }
    for map in [
        "CONNECTIONS_V3",
        "OPENING_V3",
        "AFFINITY_V2",
        "FRAGMENTS_V3",
        "TRAFFIC_V2",
    ] {
        let max = value(
            &mut cluster,
            &format!(r#"fairlead_map_max_entries{{map="{map}"}}"#),
        );
        assert!(max > 0.0, "{map}");
    }
    let counted = value(&mut cluster, r#"fairlead_map_entries{map="TRAFFIC_V2"}"#);
    assert_eq!(counted, 4.0, "two protocols, two families");
}

#[test]
fn packets_that_a_local_policy_drops_are_counted_by_reason() {
    let service = ServiceSpec::new("web", 10)
        .udp(80, 8080)
        .spec("internalTrafficPolicy", "Local")
        .endpoints(&["b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let drops = r#"fairlead_drops_total{reason="no_local_endpoint"}"#;
    assert_eq!(value(&mut cluster, drops), 0.0);
    for (v6, expected) in [(false, 3.0), (true, 6.0)] {
        let traffic = Traffic::udp_fresh(service.ip(v6), 80).count(3);
        let report = cluster.run(Uncovered("pod-a"), &traffic.timeout_milliseconds(100));
        assert_eq!(report.errors.get("timeout"), Some(&3), "{report:?}");
        assert_eq!(value(&mut cluster, drops), expected);
    }
}

#[test]
fn traffic_of_a_departed_service_is_forgotten() {
    let service = ServiceSpec::new("web", 10).udp(80, 8080).endpoints(&["a1"]);
    let options = AgentOptions::flags(&["--config-sync-period", "1s"]);
    let mut cluster = Cluster::start_with(options, &[&service]);
    let traffic = Traffic::udp_fresh(service.ip(false), 80).count(3);
    assert!(cluster.run(Uncovered("pod-a"), &traffic).is_clean());
    let entries = r#"fairlead_map_entries{map="TRAFFIC_V2"}"#;
    assert_eq!(value(&mut cluster, entries), 1.0);
    let file = service.file();
    cluster.lab.manifests().remove(&file).unwrap();
    eventually("the entry is gone", || {
        let found = cluster.agent("node1").metric(entries)?;
        ensure!(found == Some(0.0), "{found:?}");
        Ok(Some(()))
    })
    .unwrap();
}

#[test]
fn the_latency_of_a_change_is_measured_from_its_trigger() {
    let service = ServiceSpec::new("web", 10).udp(80, 8080).endpoints(&["a1"]);
    let mut cluster = Cluster::start(&[&service]);
    let count = "fairlead_programming_latency_seconds_count";
    assert_eq!(
        value(&mut cluster, count),
        0.0,
        "the first sync does not count"
    );
    let now = Timestamp::now();
    let changed = service.endpoints(&["a1", "a2"]).annotation(
        "endpoints.kubernetes.io/last-change-trigger-time",
        &(now - Duration::from_secs(10)).to_string(),
    );
    cluster.lab.apply(&changed).unwrap();
    eventually("both slices are measured", || {
        let agent = cluster.agent("node1");
        let found = agent.metric(count)?;
        ensure!(found == Some(2.0), "{found:?}");
        let sum = agent.metric("fairlead_programming_latency_seconds_sum")?;
        let sum = sum.context("no sum")?;
        assert!((20.0..40.0).contains(&sum), "{sum}");
        let last = agent.metric("fairlead_last_successful_apply_timestamp_seconds")?;
        assert!(last.unwrap() >= now.as_second() as f64, "{last:?}");
        Ok(Some(()))
    })
    .unwrap();
}
