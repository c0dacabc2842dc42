//! Junk in place of any part of an object: nothing panics, and nothing is lost without a word.

use serde_json::{Value, json};

use crate::Kind;
use crate::k8s::reduce;

/// An object of each kind in which every field that the model reads is set.
fn samples() -> Vec<(Kind, Value)> {
    let metadata = |labels: Value| json!({"namespace": "shop", "name": "web", "labels": labels});
    let selector = json!({"matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]});
    vec![
        (
            Kind::Service,
            json!({
                "metadata": {"namespace": "shop", "name": "web", "creationTimestamp": "2026-01-02T03:04:05Z",
                    "labels": {"service.kubernetes.io/service-proxy-name": "other"}},
                "spec": {"type": "NodePort", "clusterIPs": ["10.96.0.1", "fd00::1"], "publishNotReadyAddresses": true,
                    "ports": [{"name": "http", "protocol": "UDP", "port": 80, "nodePort": 30080}]},
            }),
        ),
        (
            Kind::Service,
            json!({
                "metadata": {"namespace": "shop", "name": "web",
                    "labels": {"service.kubernetes.io/service-proxy-name": "other"},
                    "annotations": {"kube-router.io/service.scheduler": "mh", "kube-router.io/service.schedflags": "flag-1",
                        "kube-router.io/service.dsr": "tunnel", "fairlead.io/weights": "node/node1=3, 10.0.0.1=2, *=0"}},
                "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.80"],
                    "loadBalancerSourceRanges": ["198.51.100.0/24"], "healthCheckNodePort": 30999,
                    "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
                    "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
                    "trafficDistribution": "PreferSameNode"},
                "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
            }),
        ),
        (
            Kind::EndpointSlice,
            json!({
                "metadata": {"namespace": "shop", "name": "web", "labels": {"kubernetes.io/service-name": "web"},
                    "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05.678Z"}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "protocol": "UDP", "port": 8080}],
                "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "node1", "zone": "a",
                    "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "node1"}]},
                    "conditions": {"ready": false, "serving": true, "terminating": true}}],
            }),
        ),
        (
            Kind::Node,
            json!({
                "metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": "a"}},
                "spec": {"podCIDRs": ["10.0.1.0/24"]},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
            }),
        ),
        (
            Kind::Node,
            json!({
                "metadata": {"name": "node1", "annotations": {"kube-router.io/pod-cidrs": "10.0.2.0/24,fd00:2::/64"}},
            }),
        ),
        (
            Kind::Pod,
            json!({
                "metadata": metadata(json!({"app": "web"})),
                "spec": {"nodeName": "node1", "hostNetwork": true,
                    "containers": [{"ports": [{"name": "http", "containerPort": 80, "hostPort": 8080,
                        "hostIP": "192.0.2.1", "protocol": "UDP"}]}]},
                "status": {"phase": "Failed", "podIPs": [{"ip": "10.0.0.1"}]},
            }),
        ),
        (
            Kind::Namespace,
            json!({"metadata": {"name": "shop", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z"}}),
        ),
        (
            Kind::NetworkPolicy,
            json!({
                "metadata": {"namespace": "shop", "name": "web", "annotations": {"fairlead.io/policy-mode": "audit"}},
                "spec": {"podSelector": selector, "policyTypes": ["Egress"],
                    "egress": [
                        {"to": [{"podSelector": selector, "namespaceSelector": selector}], "ports": [{"protocol": "UDP"}]},
                        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                            "ports": [{"protocol": "UDP", "port": 53, "endPort": 54}]},
                    ]},
            }),
        ),
        (
            Kind::ClusterNetworkPolicy,
            json!({
                "metadata": {"name": "guard"},
                "spec": {"tier": "Admin", "priority": 10,
                    "subject": {"pods": {"namespaceSelector": selector, "podSelector": selector}},
                    "ingress": [{"action": "Accept", "from": [{"namespaces": selector}]}],
                    "egress": [
                        {"action": "Deny", "to": [{"nodes": selector}, {"networks": ["10.0.0.0/8"]}],
                            "protocols": [{"tcp": {"destinationPort": {"number": 80}}},
                                {"udp": {"destinationPort": {"range": {"start": 1, "end": 9}}}}]},
                        {"action": "Pass", "to": [{"pods": {"namespaceSelector": selector, "podSelector": selector}}],
                            "protocols": [{"destinationNamedPort": "http"}]},
                    ]},
            }),
        ),
        (
            Kind::Secret,
            json!({
                "metadata": {"namespace": "shop", "name": "web"}, "type": "kubernetes.io/tls",
                "data": {"tls.key": "c2VjcmV0"}, "stringData": {"password": "c2VjcmV0"},
            }),
        ),
        (
            Kind::Endpoints,
            json!({"metadata": {"namespace": "shop", "name": "web", "annotations": {"a": "b"}}}),
        ),
        (
            Kind::Ingress,
            json!({
                "metadata": {"namespace": "shop", "name": "web", "annotations": {"a": "b"},
                    "creationTimestamp": "2026-01-02T03:04:05Z"},
                "spec": {"ingressClassName": "edge",
                    "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
                    "tls": [{"hosts": ["shop.example"], "secretName": "cert"}],
                    "rules": [{"host": "shop.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                        "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]},
            }),
        ),
        (
            Kind::IngressClass,
            json!({
                "metadata": {"name": "edge",
                    "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
                "spec": {"controller": "fairlead.io/edge"},
            }),
        ),
    ]
    .into_iter()
    .chain(gateway_samples())
    .collect()
}

fn gateway_samples() -> Vec<(Kind, Value)> {
    let metadata = json!({"namespace": "shop", "name": "web", "generation": 3,
        "creationTimestamp": "2026-01-02T03:04:05Z"});
    let parents = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "edge",
        "name": "public", "sectionName": "web", "port": 80}]);
    let backend = json!({"group": "", "kind": "Service", "namespace": "shop", "name": "web", "port": 80, "weight": 2});
    let stream = json!({"metadata": metadata, "spec": {"parentRefs": parents, "hostnames": ["db.example"],
        "rules": [{"backendRefs": [backend]}]}});
    let headers = json!({"set": [{"name": "a", "value": "b"}], "add": [{"name": "c", "value": "d"}], "remove": ["e"]});
    vec![
        (
            Kind::GatewayClass,
            json!({"metadata": {"name": "edge", "generation": 1}, "spec": {"controllerName": "fairlead.io/edge"}}),
        ),
        (
            Kind::Gateway,
            json!({
                "metadata": metadata,
                "spec": {"gatewayClassName": "edge", "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
                    "listeners": [{"name": "web", "hostname": "*.example", "port": 443, "protocol": "HTTPS",
                        "tls": {"mode": "Terminate",
                            "certificateRefs": [{"group": "", "kind": "Secret", "namespace": "certs", "name": "web"}]},
                        "allowedRoutes": {"kinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
                            "namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}}]},
            }),
        ),
        (
            Kind::HttpRoute,
            json!({
                "metadata": metadata,
                "spec": {"parentRefs": parents, "hostnames": ["shop.example"], "rules": [
                    {"matches": [{"path": {"type": "Exact", "value": "/a"}, "method": "GET",
                            "headers": [{"type": "Exact", "name": "x", "value": "y"}],
                            "queryParams": [{"type": "RegularExpression", "name": "x", "value": "y"}]}],
                        "filters": [
                            {"type": "RequestHeaderModifier", "requestHeaderModifier": headers},
                            {"type": "ResponseHeaderModifier", "responseHeaderModifier": headers},
                            {"type": "RequestMirror", "requestMirror": {"backendRef": backend}},
                            {"type": "URLRewrite", "urlRewrite": {"hostname": "in.example",
                                "path": {"type": "ReplaceFullPath", "replaceFullPath": "/b"}}}],
                        "backendRefs": [backend],
                        "timeouts": {"request": "10s", "backendRequest": "5s"}},
                    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "hostname": "a.example",
                        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}, "port": 8443, "statusCode": 301}}]},
                ]},
            }),
        ),
        (Kind::TlsRoute, stream.clone()),
        (Kind::TcpRoute, stream),
        (
            Kind::ReferenceGrant,
            json!({
                "metadata": {"namespace": "certs", "name": "web"},
                "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "edge"}],
                    "to": [{"group": "", "kind": "Secret", "name": "web"}]},
            }),
        ),
        (
            Kind::BackendTlsPolicy,
            json!({
                "metadata": metadata,
                "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "web", "sectionName": "https"}],
                    "validation": {"hostname": "in.example",
                        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}},
            }),
        ),
        (
            Kind::ConfigMap,
            json!({"metadata": {"namespace": "shop", "name": "ca"}, "data": {"ca.crt": "PEM"}}),
        ),
    ]
}

/// The pointers to every part of a value but the whole.
fn parts(value: &Value, at: &str, found: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(elements) => (0..)
            .map(|index: usize| index.to_string())
            .zip(elements)
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (name, value) in members {
        let pointer = format!("{at}/{name}");
        parts(value, &pointer, found);
        found.push(pointer);
    }
}

#[test]
fn whatever_junk_costs_is_reported() {
    for (kind, sample) in samples() {
        let whole = reduce(kind, &sample);
        assert_eq!(whole.problems, [], "{sample}");
        let mut pointers = Vec::new();
        parts(&sample, "", &mut pointers);
        for pointer in pointers {
            for junk in [
                json!({"junk": 1}),
                json!([["junk"]]),
                json!([]),
                json!(-70_000.5),
                json!(true),
                json!("j u n k"),
            ] {
                let mut object = sample.clone();
                let part = object.pointer_mut(&pointer).unwrap();
                // What is valid in itself, or an empty list where a list is expected, is no junk.
                let same_type = std::mem::discriminant(part) == std::mem::discriminant(&junk);
                let is_port = pointer.ends_with("/port") && junk.is_string();
                if same_type || (is_port && kind == Kind::NetworkPolicy) {
                    continue;
                }
                *part = junk;
                let reduced = reduce(kind, &object);
                assert_ne!(reduced.problems, [], "{kind} {pointer}: {object}");
                assert!(
                    reduced
                        .problems
                        .iter()
                        .all(|problem| !problem.effect.is_empty()
                            && !problem.message.contains("c2VjcmV0")),
                    "{:?}",
                    reduced.problems
                );
            }
        }
    }
}

#[test]
fn a_field_of_a_policy_that_nobody_knows_is_reported_wherever_it_is() {
    let is_policy = |kind| matches!(kind, Kind::NetworkPolicy | Kind::ClusterNetworkPolicy);
    let mut added = 0;
    for (kind, sample) in samples().into_iter().filter(|(kind, _)| is_policy(*kind)) {
        let mut pointers = vec!["/spec".to_owned()];
        parts(&sample["spec"], "/spec", &mut pointers);
        for pointer in pointers {
            // Labels have any name.
            if pointer.ends_with("/matchLabels") {
                continue;
            }
            let mut object = sample.clone();
            let part = object.pointer_mut(&pointer).unwrap();
            let Some(members) = part.as_object_mut() else {
                continue;
            };
            members.insert("narrows".to_owned(), json!({"by": "this"}));
            added += 1;
            let problems = reduce(kind, &object).problems;
            let named = problems.iter().any(|problem| {
                problem.field.ends_with("narrows") || problem.message.contains("exactly one")
            });
            assert!(named, "{kind} {pointer}: {problems:?}");
        }
    }
    assert!(added > 20, "{added}");
}

#[test]
fn a_part_that_is_null_is_absent() {
    for (kind, sample) in samples() {
        let mut pointers = Vec::new();
        parts(&sample, "", &mut pointers);
        for pointer in pointers {
            let mut null = sample.clone();
            *null.pointer_mut(&pointer).unwrap() = Value::Null;
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut absent = sample.clone();
            // An element of a list cannot be absent.
            let Some(members) = absent.pointer_mut(parent).unwrap().as_object_mut() else {
                let _total = reduce(kind, &null);
                continue;
            };
            members.remove(&name.replace("~1", "/"));
            let is_map = ["labels", "annotations", "matchLabels", "data", "stringData"];
            if !is_map.iter().any(|name| parent.ends_with(name)) {
                assert_eq!(reduce(kind, &null), reduce(kind, &absent), "{pointer}");
            }
        }
    }
}
