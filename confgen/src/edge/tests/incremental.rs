//! What changes, and in which order, cannot be seen in the plan.

use proptest::prelude::*;

use super::{apply, cluster, config};
use crate::edge::{Compiler, EdgeConfig, EndpointsConvention, compile};

fn convention() -> EdgeConfig {
    EdgeConfig {
        endpoints: Some(EndpointsConvention {
            domain_annotation: "domain".into(),
            protocol_annotation: "proto".into(),
        }),
        ..config()
    }
}

/// A change of one of four Services or of its slice.
fn change() -> impl Strategy<Value = String> {
    let service = (
        0..4_u8,
        prop::sample::select(vec!["http", "https", "redis"]),
        0..3_u8,
        2020..2024_u32,
    );
    let service = service.prop_map(|(name, proto, domain, year)| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{namespace: ns{}, name: s{name}, creationTimestamp: '{year}-01-01T00:00:00Z', annotations: {{domain: d{domain}.example, proto: {proto}}}}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: web, port: 80}}]}}
",
            name % 2
        )
    });
    let slice = (
        0..4_u8,
        prop::sample::select(vec!["web", "other"]),
        prop::collection::btree_set(1..6_u8, 0..4),
    );
    let slice = slice.prop_map(|(name, port, addresses)| {
        let endpoints = addresses.iter().map(|last| {
            format!("{{addresses: [10.0.0.{last}], conditions: {{ready: {}, serving: true, terminating: {}}}}}", last % 2 == 0, last % 3 == 0)
        });
        let endpoints = endpoints.collect::<Vec<_>>().join(", ");
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: ns{}, name: s{name}-1, labels: {{kubernetes.io/service-name: s{name}}}}}
addressType: IPv4
ports: [{{name: {port}, port: 8080}}]
endpoints: [{endpoints}]
",
            name % 2
        )
    });
    prop_oneof![1 => service, 3 => slice]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn following_changes_gives_the_plan_of_the_end(changes in prop::collection::vec(change(), 1..20)) {
        let config = convention();
        let mut cluster = cluster("");
        let mut compiler = Compiler::new(config.clone());
        cluster.take_changes();
        compiler.whole(&cluster);
        for change in &changes {
            apply(&mut cluster, change);
            let changed = cluster.take_changes();
            let plan = compiler.update(&cluster, &changed).clone();
            prop_assert_eq!(plan, compile(&cluster, &config));
        }
    }
}

#[test]
fn a_change_of_endpoints_leaves_everything_else_where_it_was() {
    let text = |last: u8| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{namespace: a, name: s, annotations: {{domain: d.example, proto: http}}}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: web, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: a, name: s-1, labels: {{kubernetes.io/service-name: s}}}}
addressType: IPv4
ports: [{{name: web, port: 8080}}]
endpoints: [{{addresses: [10.0.0.{last}]}}]
"
        )
    };
    let mut cluster = cluster(&text(1));
    cluster.take_changes();
    let mut compiler = Compiler::new(convention());
    let before = compiler.whole(&cluster).clone();
    apply(&mut cluster, &text(2));
    let changed = cluster.take_changes();
    let after = compiler.update(&cluster, &changed).clone();
    assert_ne!(before.backends, after.backends);
    assert!(std::sync::Arc::ptr_eq(&before.listeners, &after.listeners));
}
