//! What a Service says of how its endpoints are spoken to, by every convention that leads there.

use expect_test::{Expect, expect};

use super::{cluster, config, endpoints, gateway, ingress, pods, services};
use crate::edge::{BackendProtocol, EdgeConfig, compile};

/// Service `web` with what is annotated, and everything that may lead to it.
fn yaml(annotations: &str, of_ingress: &str) -> String {
    let service = format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: infra, name: web, annotations: {{domain: d.example, proto: http, {annotations}}}}}
spec: {{type: NodePort, clusterIP: 10.96.0.1, ports: [{{name: http, port: 8080, nodePort: 30080, appProtocol: kubernetes.io/h2c}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: infra, name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 3000}}]
endpoints: [{{addresses: [10.0.0.1]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{namespace: infra, name: web, annotations: {{{of_ingress}}}}}
spec:
  ingressClassName: edge
  rules: [{{host: i.example, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 8080}}}}}}}}]}}}}]
---
"
    );
    let listener = "{name: http, port: 8081, protocol: HTTP}";
    let rule = "rules: [{backendRefs: [{name: web, port: 8080}]}]";
    gateway::CLASS.to_owned()
        + &service
        + &gateway::gateway("gw", listener)
        + &gateway::route("HTTPRoute", "r", rule)
}

/// What each backend speaks, by the kind of object that leads to it.
#[track_caller]
fn check(config: &EdgeConfig, yaml: &str, expected: Expect) {
    let plan = compile(&cluster(yaml), config);
    let mut lines: Vec<String> = plan
        .backends
        .values()
        .map(|backend| {
            let protocol = match backend.protocol {
                BackendProtocol::Http => "http",
                BackendProtocol::H2c => "h2c",
                BackendProtocol::Https(_) => "https",
                BackendProtocol::Tcp => "tcp",
            };
            let proxy = if backend.sends_proxy_protocol {
                " after PROXY"
            } else {
                ""
            };
            format!("{} {protocol}{proxy}", backend.origin.kind)
        })
        .chain(plan.problems.iter().map(|problem| format!("! {problem}")))
        .collect();
    lines.sort();
    expected.assert_eq(&lines.join("\n"));
}

fn all() -> EdgeConfig {
    EdgeConfig {
        endpoints: endpoints::convention().endpoints,
        services: services::convention().services,
        ingress: ingress::convention().ingress,
        gateway: gateway::convention().gateway,
        ..config()
    }
}

#[test]
fn every_convention_asks_the_service() {
    let asked = "fairlead.io/send-proxy-protocol: v2";
    check(
        &all(),
        &yaml(asked, ""),
        expect![[r#"
            HTTPRoute h2c after PROXY
            Ingress h2c after PROXY
            Service h2c after PROXY
            Service h2c after PROXY"#]],
    );
}

#[test]
fn an_ingress_says_itself_what_is_spoken() {
    let config = EdgeConfig {
        ingress: all().ingress,
        ..config()
    };
    let asked = r#"nginx.ingress.kubernetes.io/backend-protocol: "HTTP""#;
    check(&config, &yaml("", asked), expect!["Ingress http"]);
}

#[test]
fn a_word_that_makes_no_sense_is_told_once() {
    check(
        &all(),
        &yaml("fairlead.io/send-proxy-protocol: 'yes'", ""),
        expect![[r#"
            ! Service infra/web: metadata.annotations.fairlead.io/send-proxy-protocol is "yes", not "v2"; its endpoints are spoken to without the PROXY protocol
            HTTPRoute h2c
            Ingress h2c
            Service h2c
            Service h2c"#]],
    );
}

#[test]
fn pods_are_told_the_client_where_their_convention_says_so() {
    let yaml = pods::namespace("shop", r#"{"shop.example": {}}"#)
        + &pods::pod(
            ("shop", "a"),
            r#"[{"basePath": "/", "containerPort": "8080"}]"#,
            "10.0.0.1",
            "",
        );
    for (sends, expected) in [
        (false, expect!["Pod http"]),
        (true, expect!["Pod http after PROXY"]),
    ] {
        let mut convention = pods::convention("public");
        convention.sends_proxy_protocol = sends;
        check(&pods::config_of(convention), &yaml, expected);
    }
}
