//! What routes and listeners refer to: Services, Secrets and policies, with their grants.

use expect_test::expect;

use super::attachment::{HTTP, TO_WEB, check, http_route};
use super::{CLASS, convention, gateway, route, service};
use crate::edge::compile;
use crate::edge::tests::{cluster, shown};

fn grant(from: &str, to: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{namespace: shop, name: grant}}
spec:
  from: [{{group: gateway.networking.k8s.io, {from}}}]
  to: [{{group: '', {to}}}]
---
"
    )
}

#[test]
fn references_into_other_namespaces_need_a_grant_that_fits() {
    let spec = "rules: [{backendRefs: [{name: web, namespace: shop, port: 8080}]}]";
    for (grant, expected) in [
        (
            String::new(),
            expect![[r#"
            0.0.0.0:80 * / Respond(500)
            ! HTTPRoute infra/web: spec.rules no ReferenceGrant lets it refer to Service shop/web (RefNotPermitted); its share of requests is not served
        "#]],
        ),
        (
            grant("kind: HTTPRoute, namespace: infra", "kind: Service"),
            expect![[r#"
                0.0.0.0:80 * / -> [10.0.0.2:3000]
            "#]],
        ),
        (
            grant(
                "kind: HTTPRoute, namespace: infra",
                "kind: Service, name: web",
            ),
            expect![[r#"
                0.0.0.0:80 * / -> [10.0.0.2:3000]
            "#]],
        ),
        (
            grant(
                "kind: HTTPRoute, namespace: infra",
                "kind: Service, name: other",
            ),
            expect![[r#"
                0.0.0.0:80 * / Respond(500)
                ! HTTPRoute infra/web: spec.rules no ReferenceGrant lets it refer to Service shop/web (RefNotPermitted); its share of requests is not served
            "#]],
        ),
        (
            grant("kind: TLSRoute, namespace: infra", "kind: Service"),
            expect![[r#"
                0.0.0.0:80 * / Respond(500)
                ! HTTPRoute infra/web: spec.rules no ReferenceGrant lets it refer to Service shop/web (RefNotPermitted); its share of requests is not served
            "#]],
        ),
        (
            grant("kind: HTTPRoute, namespace: other", "kind: Service"),
            expect![[r#"
                0.0.0.0:80 * / Respond(500)
                ! HTTPRoute infra/web: spec.rules no ReferenceGrant lets it refer to Service shop/web (RefNotPermitted); its share of requests is not served
            "#]],
        ),
        (
            grant("kind: HTTPRoute, namespace: infra", "kind: Secret"),
            expect![[r#"
                0.0.0.0:80 * / Respond(500)
                ! HTTPRoute infra/web: spec.rules no ReferenceGrant lets it refer to Service shop/web (RefNotPermitted); its share of requests is not served
            "#]],
        ),
    ] {
        let yaml = [
            service("shop", "web", 2),
            grant,
            gateway("gw", HTTP),
            http_route("web", spec),
        ];
        check(&yaml, expected);
    }
}

#[test]
fn certificates_are_granted_checked_and_never_done_without() {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let (crt, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let secret = |namespace: &str| {
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{namespace: {namespace}, name: cert}}
stringData: {{tls.crt: {crt:?}, tls.key: {key:?}}}
---
"
        )
    };
    let listener = |tls: &str| {
        format!(
            "{{name: https, port: 443, protocol: HTTPS, hostname: '*.example', tls: {{{tls}}}}}"
        )
    };
    let own = "certificateRefs: [{name: cert}]";
    let others = "certificateRefs: [{name: cert, namespace: shop}]";
    let granted = grant(
        "kind: Gateway, namespace: infra",
        "kind: Secret, name: cert",
    );
    for (yaml, tls, expected) in [
        (
            secret("infra"),
            own,
            expect![[r#"
            0.0.0.0:443 tls shop.example: certificate of infra/gw
            0.0.0.0:443 tls shop.example / -> [10.0.0.1:3000]
            0.0.0.0:443 tls *.example: certificate of infra/gw
            0.0.0.0:443 tls *.example / Respond(404)
        "#]],
        ),
        (
            String::new(),
            own,
            expect![[r#"
            ! Gateway infra/gw: spec.listeners[0] Secret infra/cert is not there (InvalidCertificateRef); the listener is served without it, or not
        "#]],
        ),
        (
            secret("shop"),
            others,
            expect![[r#"
            ! Gateway infra/gw: spec.listeners[0] no ReferenceGrant lets it refer to Secret shop/cert (RefNotPermitted); the listener is served without it, or not
        "#]],
        ),
        (
            secret("shop") + &granted,
            others,
            expect![[r#"
            0.0.0.0:443 tls shop.example: certificate of infra/gw
            0.0.0.0:443 tls shop.example / -> [10.0.0.1:3000]
            0.0.0.0:443 tls *.example: certificate of infra/gw
            0.0.0.0:443 tls *.example / Respond(404)
        "#]],
        ),
        (
            secret("infra"),
            "mode: Terminate",
            expect![[r#"
            ! Gateway infra/gw: spec.listeners[0] it names no certificate (InvalidCertificateRef); the listener is served without it, or not
        "#]],
        ),
        (
            secret("infra"),
            "certificateRefs: [{name: cert}], frontendValidation: {caCertificateRefs: []}",
            expect![[r#"
                ! Gateway infra/gw: spec.listeners[0] clients' certificates are asked for, which is not done; without them the listener would be open (UnsupportedValue); this listener is not served
                ! HTTPRoute infra/web: spec.parentRefs[gw] no listener takes routes of this kind and namespace (NotAllowedByListeners); the route is not attached there
            "#]],
        ),
    ] {
        let spec = format!("hostnames: [shop.example], {TO_WEB}");
        let gateway = gateway("gw", &listener(tls));
        check(&[yaml, gateway, http_route("web", &spec)], expected);
    }
}

#[test]
fn streams_go_by_server_name_or_by_port() {
    let listeners = "{name: tls, port: 443, protocol: TLS, hostname: '*.example', tls: {mode: Passthrough}}, \
                     {name: tcp, port: 5432, protocol: TCP}";
    let yaml = [
        gateway("gw", listeners),
        route(
            "TLSRoute",
            "tls",
            &format!("hostnames: [db.example, other.org], {TO_WEB}"),
        ),
        route("TCPRoute", "tcp", TO_WEB),
        route("TCPRoute", "late", TO_WEB).replace("2026-02", "2026-03"),
        // Not of this protocol.
        http_route("web", TO_WEB),
    ];
    check(
        &yaml,
        expect![[r#"
        0.0.0.0:443 tls db.example passed through -> [10.0.0.1:3000]
        0.0.0.0:5432 tcp -> [10.0.0.1:3000]
        lost: TCPRoute infra/late port 5432: TCPRoute infra/tcp is older
        ! HTTPRoute infra/web: spec.parentRefs[gw] no listener takes routes of this kind and namespace (NotAllowedByListeners); the route is not attached there
    "#]],
    );
    let missing = "rules: [{backendRefs: [{name: none, port: 1}]}]";
    let yaml = [gateway("gw", listeners), route("TCPRoute", "tcp", missing)];
    check(
        &yaml,
        expect![[r#"
        0.0.0.0:5432 tcp -> []
        ! TCPRoute infra/tcp: spec.rules Service infra/none is not there (BackendNotFound); its share of requests is not served
    "#]],
    );
}

#[test]
fn policies_of_backends_are_kept_or_the_backend_is_not_spoken_to() {
    let made = rcgen::generate_simple_self_signed(vec!["in.example".to_owned()]).unwrap();
    let authorities = format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{namespace: infra, name: ca}}
data: {{ca.crt: {:?}}}
---
",
        made.cert.pem()
    );
    let policy = |section: &str, validation: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{namespace: infra, name: tls}}
spec:
  targetRefs: [{{group: '', kind: Service, name: web{section}}}]
  validation: {{hostname: in.example, {validation}}}
---
"
        )
    };
    let by_map = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";
    for (policy, expected) in [
        (
            policy("", by_map),
            expect![[r#"
            0.0.0.0:80 * / -> [10.0.0.1:3000]
            Https(BackendTls { server_name: Some(Hostname("in.example")), 
        "#]],
        ),
        (
            policy(", sectionName: http", by_map),
            expect![[r#"
            0.0.0.0:80 * / -> [10.0.0.1:3000]
            Https(BackendTls { server_name: Some(Hostname("in.example")), 
        "#]],
        ),
        (
            policy(", sectionName: other", by_map),
            expect![[r#"
            0.0.0.0:80 * / -> [10.0.0.1:3000]
            Http
        "#]],
        ),
        (
            policy("", &by_map.replace("name: ca", "name: none")),
            expect![[r#"
                0.0.0.0:80 * / Respond(500)
                ! HTTPRoute infra/web: spec.rules BackendTLSPolicy infra/tls: ConfigMap infra/none holds no ca.crt (BackendNotFound); its share of requests is not served
            "#]],
        ),
        (
            policy("", "wellKnownCACertificates: System"),
            expect![[r#"
                0.0.0.0:80 * / Respond(500)
                ! HTTPRoute infra/web: spec.rules BackendTLSPolicy infra/tls: validation.wellKnownCACertificates is not done (BackendNotFound); its share of requests is not served
            "#]],
        ),
    ] {
        let yaml = format!(
            "{CLASS}{}{authorities}{policy}{}{}",
            service("infra", "web", 1),
            gateway("gw", HTTP),
            http_route("web", TO_WEB)
        );
        let plan = compile(&cluster(&yaml), &convention());
        let mut text = shown(&plan);
        for backend in plan.backends.values() {
            let protocol = format!("{:?}", backend.protocol);
            text += protocol.split("authorities").next().unwrap();
            text += "\n";
        }
        expected.assert_eq(&text);
    }
}
