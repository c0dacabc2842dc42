//! The page, read back strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use agent_abi::counters::{COUNTERS, TrafficV1};
use model::{IpFamily, ObjectKey, PortName, Protocol};

use super::super::rates::{Earlier, Rates};
use super::super::report::{Apply, CounterRow, ProblemRow, SourceRow};
use super::*;
use crate::desired::{LbServiceKey, Owner};

/// Samples of one family, by their name with labels, in order.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, f64)>,
}

/// Reads a page; whatever a scraper could object to panics.
#[track_caller]
fn read(page: &str) -> BTreeMap<String, Family> {
    let lines = page.strip_suffix("# EOF\n").expect("ends with EOF").lines();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let (mut helped, mut current) = (String::new(), String::new());
    for line in lines {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!help.is_empty(), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert_eq!(helped, name, "HELP comes before TYPE");
            let kind = kind.to_owned();
            let samples = Vec::new();
            let old = families.insert(name.to_owned(), Family { kind, samples });
            assert!(old.is_none(), "{name} comes twice");
            current = name.to_owned();
        } else {
            let (sample, value) = line.rsplit_once(' ').expect(line);
            assert!(seen.insert(sample.to_owned()), "{sample} comes twice");
            let name = sample.split('{').next().unwrap();
            let family = families.get_mut(&current).expect("TYPE before samples");
            let suffixes: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_sum", "_count", "_bucket"],
                other => panic!("{current}: {other}"),
            };
            let suffix = name.strip_prefix(current.as_str());
            assert!(
                suffix.is_some_and(|suffix| suffixes.contains(&suffix)),
                "{line} in {current}"
            );
            family
                .samples
                .push((sample.to_owned(), value.parse().expect(line)));
        }
    }
    families
}

fn unit(owner: Owner, family: IpFamily) -> LbServiceKey {
    LbServiceKey {
        owner,
        port: PortName::new(Some("dns")),
        protocol: Protocol::Udp,
        family,
    }
}

fn measured() -> Measured {
    let key = ObjectKey::new("shop", "web");
    let row = |unit, cluster_ip: Option<&str>| TrafficRow {
        unit,
        cluster_ip: cluster_ip.map(|text| text.parse().unwrap()),
        traffic: TrafficV1 {
            connections: 1,
            packets_in: 2,
            bytes_in: 300,
            packets_out: 4,
            bytes_out: 500,
        },
    };
    let mut measured = Measured {
        status: Status {
            version: "0.1.0".into(),
            sources: vec![SourceRow {
                kind: "Service".into(),
                state: "watching".into(),
                reason: None,
            }],
            apply: Apply {
                applied_generation: Some(4),
                applies_total: 7,
                ..Apply::default()
            },
            maps: vec![MapRow {
                map: "SERVICES_V2".into(),
                used: 4,
                max: 4,
                full: true,
            }],
            counters: (7..)
                .zip(COUNTERS)
                .map(|(value, (_, name))| CounterRow {
                    name: name.into(),
                    value,
                })
                .collect(),
            problems: vec![ProblemRow {
                kind: "Node".into(),
                object: "node\"1\n".into(),
                field: String::new(),
                message: String::new(),
                effect: String::new(),
            }],
            ..Status::default()
        },
        succeeded_at: Some(UNIX_EPOCH + Duration::from_millis(1_500)),
        service_ports: 2,
        traffic: vec![
            row(
                unit(Owner::Service(key.clone()), IpFamily::V4),
                Some("10.96.0.10:53"),
            ),
            row(
                unit(Owner::Service(key.clone()), IpFamily::V6),
                Some("[fd00:96::10]:53"),
            ),
            row(unit(Owner::Pod(key), IpFamily::V4), None),
        ],
        policy: Some(Policy {
            verdicts: BTreeMap::from([(
                ["NetworkPolicy", "shop", "closed", "ingress"].map(str::to_owned),
                [1, 2, 3],
            )]),
            pods: [("a", 30), ("b", 7)]
                .map(|(name, entries)| (ObjectKey::new("shop", name), entries))
                .into(),
            ..Policy::default()
        }),
        ..Measured::default()
    };
    for milliseconds in [1, 3, 3, 100_000] {
        measured
            .durations
            .observe(Duration::from_millis(milliseconds));
    }
    measured
}

#[test]
fn every_value_is_where_a_scraper_looks_for_it() {
    let page = measured().page().unwrap();
    read(&page);
    for line in [
        r#"fairlead_build_info{version="0.1.0"} 1"#,
        "fairlead_applied_generation 4",
        "fairlead_applies_total 7",
        "fairlead_last_successful_apply_timestamp_seconds 1.5",
        r#"fairlead_map_full{map="SERVICES_V2"} 1"#,
        r#"fairlead_map_entries{map="SERVICES_V2"} 4"#,
        r#"fairlead_problems{kind="Node"} 1"#,
        r#"fairlead_problems{kind="Service"} 0"#,
        "fairlead_service_ports 2",
        "fairlead_packets_translated_total 10",
        r#"fairlead_policy_verdicts_total{kind="NetworkPolicy",namespace="shop",policy="closed",direction="ingress",verdict="allowed"} 1"#,
        r#"fairlead_policy_verdicts_total{kind="NetworkPolicy",namespace="shop",policy="closed",direction="ingress",verdict="audited"} 3"#,
        "fairlead_policy_largest_pod_entries 30",
        r#"fairlead_policy_pod_entries{namespace="shop",pod="b"} 7"#,
        "fairlead_policy_identities 0",
        r#"fairlead_drops_total{reason="no_local_endpoint"} 19"#,
        r#"fairlead_service_connections_total{namespace="shop",service="web",port="dns",protocol="udp",family="ipv4"} 1"#,
        r#"fairlead_service_packets_total{namespace="shop",service="web",port="dns",protocol="udp",family="ipv6",direction="in"} 2"#,
        r#"fairlead_service_bytes_total{namespace="shop",service="web",port="dns",protocol="udp",family="ipv6",direction="out"} 500"#,
        r#"fairlead_host_port_packets_total{namespace="shop",pod="web",port="dns",protocol="udp",family="ipv4",direction="out"} 4"#,
    ] {
        let found = page.lines().any(|found| found == line);
        assert!(found, "{line} is not in\n{page}");
    }
}

#[test]
fn every_counter_of_the_programs_is_a_drop_or_a_counter_of_its_own() {
    let families = read(&measured().page().unwrap());
    for (_, name) in COUNTERS {
        let (family, sample) = match name.strip_prefix("drop_") {
            Some(reason) => (
                "fairlead_drops".to_owned(),
                format!("fairlead_drops_total{{reason=\"{reason}\"}}"),
            ),
            None => (format!("fairlead_{name}"), format!("fairlead_{name}_total")),
        };
        let found = &families[&family];
        assert_eq!(found.kind, "counter", "{name}");
        assert!(
            found.samples.iter().any(|(found, _)| *found == sample),
            "{name}"
        );
    }
}

#[test]
fn buckets_of_histograms_add_up() {
    let families = read(&measured().page().unwrap());
    let histograms: Vec<_> = families
        .iter()
        .filter(|(_, family)| family.kind == "histogram")
        .collect();
    let names: Vec<_> = histograms.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "fairlead_apply_duration_seconds",
            "fairlead_compile_duration_seconds",
            "fairlead_policy_apply_duration_seconds",
            "fairlead_programming_latency_seconds"
        ]
    );
    for (name, family) in histograms {
        let value = |suffix: &str| {
            let wanted = format!("{name}{suffix}");
            let mut samples = family.samples.iter();
            samples.find(|(sample, _)| *sample == wanted).unwrap().1
        };
        let prefix = format!("{name}_bucket{{le=\"");
        let buckets: Vec<(f64, f64)> = family
            .samples
            .iter()
            .filter_map(|(sample, count)| {
                let bound = sample.strip_prefix(&prefix)?.strip_suffix("\"}").unwrap();
                Some((bound.replace("+Inf", "inf").parse().unwrap(), *count))
            })
            .collect();
        let rises = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        assert!(buckets.windows(2).all(rises), "{name}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, value("_count"))));
    }
    let durations = &families["fairlead_apply_duration_seconds"].samples;
    assert_eq!(durations[0].1, 100.007);
    assert_eq!(durations[1].1, 4.0);
}

#[test]
fn names_of_kube_router_are_there_on_demand() {
    let without = measured().page().unwrap();
    assert!(!without.contains("kube_router"));
    let page = Measured {
        kube_router: Some(rates()),
        ..measured()
    }
    .page()
    .unwrap();
    let families = read(&page);
    let names: Vec<_> = families
        .keys()
        .filter_map(|name| name.strip_prefix("kube_router_service_"))
        .collect();
    assert_eq!(
        names,
        [
            "bps_in",
            "bps_out",
            "bytes_in",
            "bytes_out",
            "cps",
            "packets_in",
            "packets_out",
            "pps_in",
            "pps_out",
            "total_connections"
        ]
    );
    let labels = |vip| {
        format!(
            r#"kube_router_service_bytes_out{{svc_namespace="shop",service_name="web",service_vip="{vip}",protocol="udp",port="53"}}"#
        )
    };
    assert_eq!(
        families["kube_router_service_bytes_out"].samples,
        [
            (labels("10.96.0.10"), 500.0),
            (labels("fd00:96::10"), 500.0)
        ]
    );
    let of = |name: &str| {
        families[name]
            .samples
            .iter()
            .map(|(_, value)| *value)
            .collect::<Vec<_>>()
    };
    // Of the other family nothing was seen before.
    assert_eq!(of("kube_router_service_bps_out"), [250.0]);
    assert_eq!(of("kube_router_service_cps"), [0.5]);
}

/// Two seconds after a scrape that saw nothing of the first unit, and of the others no word.
fn rates() -> Rates {
    let (earlier, begun) = (Earlier::default(), Instant::now());
    let rows = measured().traffic;
    let mut first = rows[..1].to_vec();
    first[0].traffic = TrafficV1 {
        connections: rows[0].traffic.connections - 1,
        ..TrafficV1::default()
    };
    assert_eq!(earlier.rates(begun, &first), Rates::new());
    // Too soon for another.
    let soon = begun + Duration::from_millis(999);
    assert_eq!(earlier.rates(soon, &rows), Rates::new());
    let rates = earlier.rates(begun + Duration::from_secs(2), &rows);
    assert_eq!(earlier.rates(begun + Duration::from_secs(2), &[]), rates);
    rates
}
