use expect_test::{Expect, expect};

use super::{CLASS, convention, gateway, route, service};
use crate::edge::compile;
use crate::edge::tests::{cluster, shown};

#[track_caller]
pub(super) fn check(yaml: &[String], expected: Expect) {
    let yaml = format!("{CLASS}{}{}", service("infra", "web", 1), yaml.concat());
    expected.assert_eq(&shown(&compile(&cluster(&yaml), &convention())));
}

pub(super) const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";
pub(super) const TO_WEB: &str = "rules: [{backendRefs: [{name: web, port: 8080}]}]";

pub(super) fn http_route(name: &str, spec: &str) -> String {
    route("HTTPRoute", name, spec)
}

#[test]
fn a_route_is_served_where_its_parent_takes_it() {
    check(
        &[gateway("gw", HTTP), http_route("web", TO_WEB)],
        expect![[r#"
            0.0.0.0:80 * / -> [10.0.0.1:3000]
        "#]],
    );
    // Another controller's class.
    let other = gateway("gw", HTTP).replace("gatewayClassName: edge", "gatewayClassName: other");
    check(&[other, http_route("web", TO_WEB)], expect![[r#""#]]);
    let by_name = format!("parentRefs: [{{name: gw, sectionName: none}}], {TO_WEB}");
    check(
        &[gateway("gw", HTTP), http_route("web", &by_name)],
        expect![[r#"
            0.0.0.0:80 * / Respond(404)
            ! HTTPRoute infra/web: spec.parentRefs[gw] no listener has this name and port (NoMatchingParent); the route is not attached there
        "#]],
    );
    let by_port = format!("parentRefs: [{{name: gw, port: 8080}}], {TO_WEB}");
    let two = format!("{HTTP}, {{name: other, port: 8080, protocol: HTTP}}");
    check(
        &[gateway("gw", &two), http_route("web", &by_port)],
        expect![[r#"
            0.0.0.0:80 * / Respond(404)
            0.0.0.0:8080 * / -> [10.0.0.1:3000]
        "#]],
    );
}

#[test]
fn hosts_are_what_route_and_listener_have_in_common() {
    let listener = "{name: http, port: 80, protocol: HTTP, hostname: '*.example.com'}";
    for (hostnames, expected) in [
        (
            "[]",
            expect![[r#"
            0.0.0.0:80 *.example.com / -> [10.0.0.1:3000]
        "#]],
        ),
        (
            "[a.example.com, example.com, b.example.org]",
            expect![[r#"
                0.0.0.0:80 a.example.com / -> [10.0.0.1:3000]
                0.0.0.0:80 *.example.com / Respond(404)
            "#]],
        ),
        (
            "['*.a.example.com']",
            expect![[r#"
            0.0.0.0:80 *.a.example.com / -> [10.0.0.1:3000]
            0.0.0.0:80 *.example.com / Respond(404)
        "#]],
        ),
        (
            "['*.com']",
            expect![[r#"
            0.0.0.0:80 *.example.com / -> [10.0.0.1:3000]
        "#]],
        ),
        (
            "[example.org]",
            expect![[r#"
            0.0.0.0:80 *.example.com / Respond(404)
            ! HTTPRoute infra/web: spec.parentRefs[gw] no host is a listener's too (NoMatchingListenerHostname); the route is not attached there
        "#]],
        ),
        // Not every host because this one is none.
        (
            "['a b']",
            expect![[r#"
            0.0.0.0:80 *.example.com / Respond(404)
            ! HTTPRoute infra/web: spec.parentRefs[gw] no host is a listener's too (NoMatchingListenerHostname); the route is not attached there
        "#]],
        ),
    ] {
        let spec = format!("hostnames: {hostnames}, {TO_WEB}");
        check(
            &[gateway("gw", listener), http_route("web", &spec)],
            expected,
        );
    }
}

#[test]
fn listeners_choose_namespaces_and_kinds() {
    let of_other = http_route(
        "web",
        &format!("parentRefs: [{{name: gw, namespace: infra}}], {TO_WEB}"),
    )
    .replace(
        "namespace: infra, name: web,",
        "namespace: shop, name: web,",
    );
    let namespace = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: web}}
---
"
    .to_owned();
    for (allowed, expected) in [
        (
            "{}",
            expect![[r#"
            0.0.0.0:80 * / Respond(404)
            ! HTTPRoute shop/web: spec.parentRefs[gw] no listener takes routes of this kind and namespace (NotAllowedByListeners); the route is not attached there
        "#]],
        ),
        (
            "{namespaces: {from: All}}",
            expect![[r#"
            0.0.0.0:80 * / -> [10.0.0.2:3000]
        "#]],
        ),
        (
            "{namespaces: {from: Selector, selector: {matchLabels: {team: web}}}}",
            expect![[r#"
                0.0.0.0:80 * / -> [10.0.0.2:3000]
            "#]],
        ),
        (
            "{namespaces: {from: Selector, selector: {matchLabels: {team: db}}}}",
            expect![[r#"
                0.0.0.0:80 * / Respond(404)
                ! HTTPRoute shop/web: spec.parentRefs[gw] no listener takes routes of this kind and namespace (NotAllowedByListeners); the route is not attached there
            "#]],
        ),
        (
            "{namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}",
            expect![[r#"
                0.0.0.0:80 * / Respond(404)
                ! Gateway infra/gw: spec.listeners[0] it takes HTTPRoute, not GRPCRoute of "gateway.networking.k8s.io" (InvalidRouteKinds); the listener is served without it, or not
                ! HTTPRoute shop/web: spec.parentRefs[gw] no listener takes routes of this kind and namespace (NotAllowedByListeners); the route is not attached there
            "#]],
        ),
        (
            "{namespaces: {from: All}, kinds: [{kind: HTTPRoute}, {kind: GRPCRoute}]}",
            expect![[r#"
                0.0.0.0:80 * / -> [10.0.0.2:3000]
                ! Gateway infra/gw: spec.listeners[0] it takes HTTPRoute, not GRPCRoute of "gateway.networking.k8s.io" (InvalidRouteKinds); the listener is served without it, or not
            "#]],
        ),
    ] {
        let listener =
            format!("{{name: http, port: 80, protocol: HTTP, allowedRoutes: {allowed}}}");
        let yaml = [
            namespace.clone(),
            service("shop", "web", 2),
            gateway("gw", &listener),
            of_other.clone(),
        ];
        check(&yaml, expected);
    }
}

#[test]
fn listeners_that_want_the_same_are_none_of_them_served() {
    for (listeners, expected) in [
        (
            "{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}",
            expect![[r#"
                ! Gateway infra/gw: spec.listeners[0] listener b has the same port and host (HostnameConflict); this listener is not served
                ! Gateway infra/gw: spec.listeners[1] listener a has the same port and host (HostnameConflict); this listener is not served
            "#]],
        ),
        (
            "{name: a, port: 80, protocol: HTTP, hostname: a.example}, {name: b, port: 80, protocol: HTTP}",
            expect![[r#"
                0.0.0.0:80 a.example / -> [10.0.0.1:3000]
                0.0.0.0:80 * / -> [10.0.0.1:3000]
            "#]],
        ),
        (
            "{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: TCP}",
            expect![[r#"
                ! Gateway infra/gw: spec.listeners[0] listener b speaks another protocol at port 80 (ProtocolConflict); this listener is not served
                ! Gateway infra/gw: spec.listeners[1] listener a speaks another protocol at port 80 (ProtocolConflict); this listener is not served
            "#]],
        ),
        (
            "{name: a, port: 80, protocol: UDP}",
            expect![[r#"
                ! Gateway infra/gw: spec.listeners[0] protocol UDP is not done as it is asked for; HTTP, HTTPS that ends here, TLS that is passed through and TCP are (UnsupportedProtocol); this listener is not served
                ! HTTPRoute infra/web: spec.parentRefs[gw] no listener takes routes of this kind and namespace (NotAllowedByListeners); the route is not attached there
            "#]],
        ),
    ] {
        check(
            &[gateway("gw", listeners), http_route("web", TO_WEB)],
            expected,
        );
    }
}
