//! What changes, and in which order, cannot be seen in the plan.

use proptest::prelude::*;

use super::{apply, cluster, config};
use crate::edge::value::Id;
use crate::edge::{
    Action, Compiler, EdgeConfig, EdgePlan, EndpointsConvention, Filter, Listener, compile,
};

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

/// A change of a Gateway, of what it refers to, or of what refers to it. Some texts are hostile.
fn gateway_change() -> impl Strategy<Value = String> {
    let text = |good: &'static [&'static str]| {
        prop_oneof![
            6 => prop::sample::select(good).prop_map(str::to_owned),
            1 => r#"[ -~]{0,12}"#,
        ]
    };
    let meta = |kind: &str, version: &str, name: u8, year: u32| {
        format!(
            "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\n\
             metadata: {{namespace: ns{}, name: x{name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}\n",
            name % 2
        )
    };
    let gateway = (0..2_u8, 2020..2023_u32, text(&["a.example", "*.example", ""]), text(&["HTTP", "TCP", "TLS"]), 80..82_u16)
        .prop_map(move |(name, year, host, protocol, port)| {
            meta("Gateway", "v1", name, year)
                + &format!(
                    "spec: {{gatewayClassName: edge, listeners: [\
                     {{name: a, port: 80, protocol: HTTP, allowedRoutes: {{namespaces: {{from: All}}}}}}, \
                     {{name: b, port: {port}, protocol: {protocol:?}, hostname: {host:?}, tls: {{mode: Passthrough}}}}]}}\n"
                )
        });
    let route = (
        0..4_u8,
        2020..2023_u32,
        0..2_u8,
        text(&["a.example", "b.example", "*.example"]),
        text(&["/", "/a", "/a/", "/b"]),
        prop::sample::select(vec!["HTTPRoute", "TLSRoute", "TCPRoute"]),
        prop::collection::vec((0..4_u8, 0..3_u32), 0..3),
    );
    let route = route.prop_map(move |(name, year, gateway, host, path, kind, backends)| {
        let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
        let backends = backends.iter().map(|(service, weight)| {
            format!("{{name: s{service}, namespace: ns{}, port: 80, weight: {weight}}}", service % 2)
        });
        meta(kind, version, name, year)
            + &format!(
                "spec: {{parentRefs: [{{name: x{gateway}, namespace: ns{gateway}}}], hostnames: [{host:?}], rules: [\
                 {{matches: [{{path: {{value: {path:?}}}}}], backendRefs: [{}]}}]}}\n",
                backends.collect::<Vec<_>>().join(", ")
            )
    });
    let grant = (0..2_u8, prop::sample::select(vec!["HTTPRoute", "TLSRoute"])).prop_map(move |(name, kind)| {
        meta("ReferenceGrant", "v1beta1", name, 2020)
            + &format!(
                "spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: ns{}}}], to: [{{group: '', kind: Service}}]}}\n",
                1 - name
            )
    });
    prop_oneof![1 => gateway, 3 => route, 1 => grant, 3 => change()]
}

/// Backends that a plan's rules lead to.
fn led_to(plan: &EdgePlan) -> Vec<&Id> {
    let mut forwards = Vec::new();
    let mut mirrors = Vec::new();
    let mut hosts = Vec::new();
    for listener in plan.listeners.values() {
        match listener {
            Listener::Http(http) => hosts.extend(http.hosts.values()),
            Listener::Tls(tls) => {
                hosts.extend(tls.http.hosts.values());
                forwards.extend(tls.passthrough.values().map(|route| &route.forward));
            }
            Listener::Tcp(tcp) => forwards.push(&tcp.forward),
        }
    }
    for rule in hosts.iter().flat_map(|host| &host.rules) {
        if let Action::Forward(forward) = &rule.action {
            forwards.push(forward);
        }
        mirrors.extend(rule.filters.iter().filter_map(|filter| match filter {
            Filter::Mirror(id) => Some(id),
            Filter::RequestHeader(_)
            | Filter::ResponseHeader(_)
            | Filter::RewriteHost(_)
            | Filter::RewritePath(_) => None,
        }));
    }
    let ids = forwards.into_iter().flat_map(|forward| &forward.to);
    ids.map(|(id, _)| id).chain(mirrors).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gateways_in_any_order_give_the_plan_of_the_end(changes in prop::collection::vec(gateway_change(), 1..24)) {
        let config = super::gateway::convention();
        let mut cluster = cluster(super::gateway::CLASS);
        let mut compiler = Compiler::new(config.clone());
        cluster.take_changes();
        compiler.whole(&cluster);
        for change in &changes {
            apply(&mut cluster, change);
            let changed = cluster.take_changes();
            let plan = compiler.update(&cluster, &changed).clone();
            for id in led_to(&plan) {
                prop_assert!(plan.backends.contains_key(id), "{id} is no backend");
            }
            prop_assert_eq!(plan, compile(&cluster, &config));
        }
        // Nor does the order in which they came decide who wins.
        let mut last = std::collections::BTreeMap::new();
        for change in &changes {
            let name = change.split(", labels").next().unwrap_or_default();
            let name = name.split(", creationTimestamp").next().unwrap_or_default();
            last.insert(name.to_owned(), change);
        }
        let mut other = super::cluster(super::gateway::CLASS);
        for change in last.values().rev() {
            apply(&mut other, change);
        }
        prop_assert_eq!(compile(&cluster, &config), compile(&other, &config));
    }

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
