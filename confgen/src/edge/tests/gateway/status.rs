use std::fmt::Write as _;

use expect_test::{Expect, expect};
use model::{Condition, Status};

use super::{CLASS, convention, gateway, route, service};
use crate::edge::tests::{cluster, listen};
use crate::edge::{EdgeConfig, IngressConvention, compile, statuses};

/// What every object is told, a line a condition.
fn told(config: &EdgeConfig, yaml: &str) -> String {
    let cluster = cluster(yaml);
    let plan = compile(&cluster, config);
    let mut text = String::new();
    for object in statuses(&cluster, config, &plan) {
        let name = format!("{} {}", object.kind, object.key);
        match &object.status {
            Status::Class(of) => conditions(&mut text, &name, of),
            Status::Gateway {
                addresses,
                conditions: of,
                listeners,
            } => {
                conditions(&mut text, &format!("{name} at {addresses:?}"), of);
                for listener in listeners {
                    let (kinds, attached) = (&listener.kinds, listener.attached);
                    let name = format!("  {} {kinds:?} {attached} attached", listener.name);
                    conditions(&mut text, &name, &listener.conditions);
                }
            }
            Status::Route { parents, .. } => {
                for (parent, of) in parents {
                    conditions(&mut text, &format!("{name} at {}", parent.target.name), of);
                }
            }
            Status::LoadBalancer(addresses) => writeln!(text, "{name} {addresses:?}").unwrap(),
        }
    }
    text
}

fn conditions(text: &mut String, name: &str, conditions: &[Condition]) {
    write!(text, "{name}:").unwrap();
    for condition in conditions {
        let not = if condition.is_true { "" } else { "not " };
        let reason = if condition.reason == condition.condition_type {
            String::new()
        } else {
            format!("({})", condition.reason)
        };
        write!(text, " {not}{}{reason}", condition.condition_type).unwrap();
    }
    writeln!(text, " g{}", conditions[0].generation).unwrap();
}

#[track_caller]
fn check(yaml: &[String], expected: Expect) {
    let yaml = format!("{CLASS}{}{}", service("infra", "web", 1), yaml.concat());
    let mut config = convention();
    if let Some(convention) = &mut config.gateway {
        convention.addresses = vec!["192.0.2.1".parse().unwrap()];
    }
    expected.assert_eq(&told(&config, &yaml));
}

const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";
const TO_WEB: &str = "rules: [{backendRefs: [{name: web, port: 8080}]}]";

#[test]
fn what_is_served_is_said_to_be() {
    let wide = "{name: http, port: 80, protocol: HTTP}, {name: db, port: 5432, protocol: TCP}";
    check(
        &[
            gateway("gw", wide),
            route("HTTPRoute", "a", TO_WEB),
            route("HTTPRoute", "b", TO_WEB),
            route("TCPRoute", "db", TO_WEB),
        ],
        expect![[r#"
            GatewayClass edge: Accepted g2
            Gateway infra/gw at [192.0.2.1]: Accepted Programmed g3
              http ["HTTPRoute"] 2 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
              db ["TCPRoute"] 1 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
            HTTPRoute infra/a at gw: Accepted ResolvedRefs g4
            HTTPRoute infra/b at gw: Accepted ResolvedRefs g4
            TCPRoute infra/db at gw: Accepted ResolvedRefs g4
        "#]],
    );
}

#[test]
fn each_fault_has_the_reason_of_the_specification() {
    let two = "{name: http, port: 80, protocol: HTTP, hostname: a.example}, {name: tls, port: 443, protocol: HTTPS}";
    for (yaml, expected) in [
        (
            route(
                "HTTPRoute",
                "web",
                &format!("hostnames: [b.example], {TO_WEB}"),
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 0 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  tls ["HTTPRoute"] 1 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
                HTTPRoute infra/web at gw: Accepted ResolvedRefs g4
            "#]],
        ),
        (
            route(
                "HTTPRoute",
                "web",
                &format!("parentRefs: [{{name: gw, sectionName: x}}], {TO_WEB}"),
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 0 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  tls ["HTTPRoute"] 0 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
                HTTPRoute infra/web at gw: not Accepted(NoMatchingParent) ResolvedRefs g4
            "#]],
        ),
        (
            route("TLSRoute", "web", TO_WEB),
            expect![[r#"
            GatewayClass edge: Accepted g2
            Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
              http ["HTTPRoute"] 0 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
              tls ["HTTPRoute"] 0 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
            TLSRoute infra/web at gw: not Accepted(NotAllowedByListeners) ResolvedRefs g4
        "#]],
        ),
        (
            route(
                "HTTPRoute",
                "web",
                "rules: [{backendRefs: [{name: none, port: 8080}]}]",
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 1 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  tls ["HTTPRoute"] 1 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
                HTTPRoute infra/web at gw: Accepted not ResolvedRefs(BackendNotFound) g4
            "#]],
        ),
        (
            route(
                "HTTPRoute",
                "web",
                "rules: [{backendRefs: [{name: web, namespace: shop, port: 8080}]}]",
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 1 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  tls ["HTTPRoute"] 1 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
                HTTPRoute infra/web at gw: Accepted not ResolvedRefs(RefNotPermitted) g4
            "#]],
        ),
        (
            route(
                "HTTPRoute",
                "web",
                "rules: [{backendRefs: [{group: x, kind: Y, name: web, port: 8080}]}]",
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 1 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  tls ["HTTPRoute"] 1 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
                HTTPRoute infra/web at gw: Accepted not ResolvedRefs(InvalidKind) g4
            "#]],
        ),
        (
            route(
                "HTTPRoute",
                "web",
                "rules: [{filters: [{type: CORS}], backendRefs: [{name: web, port: 8080}]}]",
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 1 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  tls ["HTTPRoute"] 1 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
                HTTPRoute infra/web at gw: not Accepted(UnsupportedValue) ResolvedRefs g4
            "#]],
        ),
        (
            route(
                "HTTPRoute",
                "web",
                "rules: [{backendRefs: [{name: web, port: 8080}]}, {filters: [{type: CORS}], backendRefs: [{name: web, port: 8080}]}]",
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 1 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  tls ["HTTPRoute"] 1 attached: Accepted not Programmed(Invalid) not ResolvedRefs(InvalidCertificateRef) not Conflicted(NoConflicts) g3
                HTTPRoute infra/web at gw: Accepted ResolvedRefs PartiallyInvalid(UnsupportedValue) g4
            "#]],
        ),
    ] {
        // The reader tells of filters that lack their part; the status does too.
        let yaml = yaml.replace("{type: CORS}", "{type: CORS, cors: {}}");
        check(&[gateway("gw", two), yaml], expected);
    }
}

#[test]
fn gateways_say_what_of_them_is_not_served() {
    let at = |address: &str| {
        gateway("gw", HTTP).replace(
            "listeners:",
            &format!("addresses: [{address}]\n  listeners:"),
        )
    };
    for (yaml, expected) in [
        (
            gateway(
                "gw",
                &format!("{HTTP}, {{name: b, port: 80, protocol: HTTP}}"),
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: not Accepted(ListenersNotValid) not Programmed(Invalid) g3
                  http ["HTTPRoute"] 0 attached: not Accepted(HostnameConflict) not Programmed(Invalid) ResolvedRefs Conflicted(HostnameConflict) g3
                  b ["HTTPRoute"] 0 attached: not Accepted(HostnameConflict) not Programmed(Invalid) ResolvedRefs Conflicted(HostnameConflict) g3
            "#]],
        ),
        (
            gateway(
                "gw",
                &format!("{HTTP}, {{name: b, port: 80, protocol: TCP}}"),
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: not Accepted(ListenersNotValid) not Programmed(Invalid) g3
                  http ["HTTPRoute"] 0 attached: not Accepted(ProtocolConflict) not Programmed(Invalid) ResolvedRefs Conflicted(ProtocolConflict) g3
                  b ["TCPRoute"] 0 attached: not Accepted(ProtocolConflict) not Programmed(Invalid) ResolvedRefs Conflicted(ProtocolConflict) g3
            "#]],
        ),
        (
            gateway(
                "gw",
                &format!("{HTTP}, {{name: b, port: 81, protocol: UDP}}"),
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted(ListenersNotValid) Programmed g3
                  http ["HTTPRoute"] 0 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                  b [] 0 attached: not Accepted(UnsupportedProtocol) not Programmed(Invalid) ResolvedRefs not Conflicted(NoConflicts) g3
            "#]],
        ),
        (
            gateway(
                "gw",
                "{name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}",
            ),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: Accepted Programmed g3
                  http [] 0 attached: Accepted Programmed not ResolvedRefs(InvalidRouteKinds) not Conflicted(NoConflicts) g3
            "#]],
        ),
        (
            at("{value: 192.0.2.1}"),
            expect![[r#"
            GatewayClass edge: Accepted g2
            Gateway infra/gw at [192.0.2.1]: Accepted Programmed g3
              http ["HTTPRoute"] 0 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
        "#]],
        ),
        (
            at("{value: 192.0.2.9}"),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at []: Accepted not Programmed(AddressNotUsable) g3
                  http ["HTTPRoute"] 0 attached: Accepted not Programmed(Invalid) ResolvedRefs not Conflicted(NoConflicts) g3
            "#]],
        ),
        (
            at("{type: Hostname, value: a.example}"),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at []: not Accepted(UnsupportedAddress) not Programmed(AddressNotAssigned) g3
                  http ["HTTPRoute"] 0 attached: Accepted not Programmed(Invalid) ResolvedRefs not Conflicted(NoConflicts) g3
            "#]],
        ),
        // An older Gateway has the port for bytes.
        (
            gateway("old", "{name: tcp, port: 80, protocol: TCP}")
                + &route(
                    "TCPRoute",
                    "tcp",
                    &format!("parentRefs: [{{name: old}}], {TO_WEB}"),
                )
                + &gateway("gw", HTTP),
            expect![[r#"
                GatewayClass edge: Accepted g2
                Gateway infra/gw at [192.0.2.1]: not Accepted(ListenersNotValid) not Programmed(Invalid) g3
                  http ["HTTPRoute"] 0 attached: not Accepted(PortUnavailable) not Programmed(Invalid) ResolvedRefs not Conflicted(NoConflicts) g3
                Gateway infra/old at [192.0.2.1]: Accepted Programmed g3
                  tcp ["TCPRoute"] 1 attached: Accepted Programmed ResolvedRefs not Conflicted(NoConflicts) g3
                TCPRoute infra/tcp at old: Accepted ResolvedRefs g4
            "#]],
        ),
    ] {
        check(&[yaml], expected);
    }
}

#[test]
fn ingresses_are_told_the_edges_addresses() {
    let mut config = EdgeConfig {
        ingress: Some(IngressConvention {
            controller: "fairlead.io/edge".into(),
            class_name: Some("edge".into()),
            takes_classless: false,
            annotation_prefix: "nginx.ingress.kubernetes.io".into(),
        }),
        gateway: None,
        ..convention()
    };
    let yaml = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: web}
spec: {ingressClassName: edge}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: other}
spec: {ingressClassName: other}
";
    assert_eq!(told(&config, yaml), "");
    config.listen.http = vec![listen("192.0.2.1:80"), listen("0.0.0.0:8080")];
    config.listen.https = vec![listen("192.0.2.1:443")];
    expect![[r#"
        Ingress shop/web [192.0.2.1]
    "#]]
    .assert_eq(&told(&config, yaml));
}
