use expect_test::{Expect, expect};

use super::{cluster, config, shown};
use crate::edge::{EdgeConfig, IngressConvention, compile};

pub(super) fn convention() -> EdgeConfig {
    EdgeConfig {
        ingress: Some(IngressConvention {
            controller: "fairlead.io/edge".into(),
            class_name: Some("edge".into()),
            takes_classless: false,
            annotation_prefix: "nginx.ingress.kubernetes.io".into(),
        }),
        ..config()
    }
}

#[track_caller]
fn check(yaml: &str, expected: Expect) {
    let yaml = format!("{SERVICE}---\n{yaml}");
    expected.assert_eq(&shown(&compile(&cluster(&yaml), &convention())));
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: next}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: next-1, labels: {kubernetes.io/service-name: next}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.2]}]
";

fn ingress(name: &str, class: &str, annotations: &str, path: &str) -> String {
    let service = if name.contains("canary") {
        "next"
    } else {
        "web"
    };
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{namespace: shop, name: {name}, annotations: {{{annotations}}}}}
spec:
  {class}
  rules: [{{host: shop.example, http: {{paths: [{{{path}, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]
---
"
    )
}

const OURS: &str = "ingressClassName: edge";
const PREFIX: &str = "path: /a, pathType: Prefix";

#[test]
fn the_class_says_whose_an_ingress_is() {
    check(
        &ingress("own", OURS, "", PREFIX),
        expect![[r#"
        0.0.0.0:80 shop.example /a -> [10.0.0.1:8080]
    "#]],
    );
    check(
        &ingress("other", "ingressClassName: other", "", PREFIX),
        expect![""],
    );
    check(&ingress("none", "", "", PREFIX), expect![""]);
    let old = "kubernetes.io/ingress.class: edge";
    check(
        &ingress("old", "", old, PREFIX),
        expect![[r#"
        0.0.0.0:80 shop.example /a -> [10.0.0.1:8080]
    "#]],
    );
    let class = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: shiny, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}
spec: {controller: fairlead.io/edge}
---
";
    check(
        &(class.to_owned() + &ingress("default", "", "", PREFIX)),
        expect![[r#"
            0.0.0.0:80 shop.example /a -> [10.0.0.1:8080]
        "#]],
    );
    // The name is another controller's.
    let taken = class
        .replace("shiny", "edge")
        .replace("fairlead.io/edge", "other.io/x");
    check(&(taken + &ingress("own", OURS, "", PREFIX)), expect![""]);
}

fn annotated(annotations: &[(&str, &str)]) -> String {
    let each = annotations
        .iter()
        .map(|(name, value)| format!("nginx.ingress.kubernetes.io/{name}: {value:?}"));
    each.collect::<Vec<_>>().join(", ")
}

#[test]
fn rewrites_in_the_forms_that_people_use() {
    for (target, path, expected) in [
        (
            "/",
            "path: /a, pathType: Prefix",
            expect![[r#"
            0.0.0.0:80 shop.example /a RewritePath(Full(UrlPath("/"))) -> [10.0.0.1:8080]
        "#]],
        ),
        (
            "/$2",
            r"path: '/a(/|$)(.*)', pathType: ImplementationSpecific",
            expect![[r#"
                0.0.0.0:80 shop.example /a RewritePath(Prefix(UrlPath("/"))) -> [10.0.0.1:8080]
            "#]],
        ),
        (
            "/b/$1",
            r"path: '/a/(.*)', pathType: ImplementationSpecific",
            expect![[r#"
                0.0.0.0:80 shop.example /a RewritePath(Prefix(UrlPath("/b"))) -> [10.0.0.1:8080]
            "#]],
        ),
        (
            "/$3/x",
            r"path: '/a/(.*)', pathType: ImplementationSpecific",
            expect![[r#"
                0.0.0.0:80 shop.example /a Respond(503)
                ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/rewrite-target is "/$3/x"; a path, or a path before $1 or $2 at its end, can be translated; the Ingress answers 503: unchanged paths would mean others
            "#]],
        ),
    ] {
        let annotations = annotated(&[("rewrite-target", target), ("use-regex", "true")]);
        check(&ingress("web", OURS, &annotations, path), expected);
    }
}

#[test]
fn what_would_open_something_closes_it() {
    for (annotations, expected) in [
        (
            vec![("auth-url", "http://auth")],
            expect![[r#"
            0.0.0.0:80 shop.example /a Respond(503)
            ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/auth-url is not done by this edge; the Ingress answers 503: serving it without would open it
        "#]],
        ),
        (
            vec![("auth-tls-secret", "other/ca")],
            expect![[r#"
            0.0.0.0:80 shop.example /a Respond(503)
            ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/auth-tls-secret is not a Secret of the Ingress's namespace; the Ingress answers 503: serving it without would open it
        "#]],
        ),
        (
            vec![("whitelist-source-range", "everywhere")],
            expect![[r#"
            0.0.0.0:80 shop.example /a Respond(503)
            ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/whitelist-source-range has "everywhere", which is no network; it lets nobody in
        "#]],
        ),
        (
            vec![("denylist-source-range", "10.0.0.0/8, 192.0.2.0/33")],
            expect![[r#"
            0.0.0.0:80 shop.example /a Respond(503)
            ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/denylist-source-range has "192.0.2.0/33", which is no network; the Ingress answers 503: serving it without would open it
        "#]],
        ),
        // Who is left of a list of those let in is let in.
        (
            vec![("whitelist-source-range", "everywhere, 10.0.0.0/8")],
            expect![[r#"
            0.0.0.0:80 shop.example /a -> [10.0.0.1:8080]
            ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/whitelist-source-range has "everywhere", which is no network; it lets nobody in
        "#]],
        ),
        (
            vec![("auth-type", "basic"), ("auth-secret", "missing")],
            expect![[r#"
                0.0.0.0:80 shop.example /a -> [10.0.0.1:8080]
                ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/auth-secret is Secret shop/missing, which has no field auth; nobody is let in
            "#]],
        ),
    ] {
        check(
            &ingress("web", OURS, &annotated(&annotations), PREFIX),
            expected,
        );
    }
}

#[test]
fn snippets_and_unknown_ones_are_told() {
    let annotations = annotated(&[
        ("configuration-snippet", "} location / { return 200; }"),
        ("server-snippet", "x"),
        ("enable-cors", "true"),
        ("proxy-read-timeout", "soon"),
        ("permanent-redirect", "https://x/\nfoo"),
    ]);
    check(
        &ingress("web", OURS, &annotations, PREFIX),
        expect![[r#"
        0.0.0.0:80 shop.example /a -> [10.0.0.1:8080]
        ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/configuration-snippet is raw text for a configuration, which no tenant can give; the Ingress is served without it
        ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/enable-cors is not translated; the Ingress is served without it
        ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/permanent-redirect "/\nfoo" is not a path of letters, digits and -._~!+,=:@/%; the Ingress is served without it
        ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/proxy-read-timeout is "soon", not a number of seconds; the Ingress is served without it
        ! Ingress shop/web: metadata.annotations.nginx.ingress.kubernetes.io/server-snippet is raw text for a configuration, which no tenant can give; the Ingress is served without it
    "#]],
    );
}

#[test]
fn canaries_take_a_share_or_a_header() {
    let share = annotated(&[("canary", "true"), ("canary-weight", "20")]);
    let header = annotated(&[("canary", "true"), ("canary-by-header", "X-Next")]);
    let yaml = [
        ingress("web", OURS, "", PREFIX),
        ingress("canary-share", OURS, &share, PREFIX),
        ingress("canary-header", OURS, &header, PREFIX),
    ];
    check(
        &yaml.concat(),
        expect![[r#"
        0.0.0.0:80 shop.example /a -> [10.0.0.2:8080]
        0.0.0.0:80 shop.example /a -> [10.0.0.1:8080] x80 or -> [10.0.0.2:8080] x20
    "#]],
    );
}

#[test]
fn a_host_with_tls_sends_clear_text_there_even_when_its_secret_is_broken() {
    let tls = format!("{OURS}\n  tls: [{{hosts: [shop.example], secretName: cert}}]");
    check(
        &ingress("web", &tls, "", PREFIX),
        expect![[r#"
        0.0.0.0:80 shop.example /a Redirect(Redirect { to_https: Some(true), host: None, port: None, path: None, status: 308 })
        0.0.0.0:443 tls shop.example /a -> [10.0.0.1:8080]
        ! Ingress shop/web: spec.tls[0].secretName is Secret shop/cert, which is not there; the hosts are not served in TLS with it
    "#]],
    );
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let (crt, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let secret = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{namespace: shop, name: cert}}
stringData: {{tls.crt: {crt:?}, tls.key: {key:?}}}
---
"
    );
    check(
        &(secret.clone() + &ingress("web", &tls, "", PREFIX)),
        expect![[r#"
            0.0.0.0:80 shop.example /a Redirect(Redirect { to_https: Some(true), host: None, port: None, path: None, status: 308 })
            0.0.0.0:443 tls shop.example: certificate of shop/web
            0.0.0.0:443 tls shop.example /a -> [10.0.0.1:8080]
        "#]],
    );
    // Clients' certificates that cannot be checked are not done without.
    let clients = annotated(&[("auth-tls-secret", "shop/ca")]);
    check(
        &(secret.clone() + &ingress("web", &tls, &clients, PREFIX)),
        expect![[r#"
            0.0.0.0:80 shop.example /a Redirect(Redirect { to_https: Some(true), host: None, port: None, path: None, status: 308 })
            0.0.0.0:443 tls shop.example: closed by shop/web
            0.0.0.0:443 tls shop.example /a -> [10.0.0.1:8080]
            ! Ingress shop/web: metadata.annotations.auth-tls-secret names Secret shop/ca, whose ca.crt holds no certificate in PEM; its hosts are closed in TLS: without it they would be open
        "#]],
    );
    // Nor does another Ingress of the host, or of a wildcard that takes it, open it.
    let wildcard = ingress("wild", &tls, "", PREFIX).replace("shop.example", "'*.example'");
    let (strict, open) = (
        ingress("web", &tls, &clients, PREFIX),
        ingress("also", &tls, "", r#"path: /b, pathType: Prefix"#),
    );
    for other in [wildcard, open] {
        let yaml = format!("{SERVICE}---\n{secret}{strict}---\n{other}");
        let plan = compile(&cluster(&yaml), &convention());
        let text = shown(&plan);
        let line = "0.0.0.0:443 tls shop.example: closed by shop/web";
        assert!(text.lines().any(|it| it == line), "{text}");
    }
    let ca = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{namespace: shop, name: ca}}
stringData: {{ca.crt: {crt:?}}}
---
"
    );
    let open = ingress("also", &tls, "", r#"path: /b, pathType: Prefix"#);
    check(
        &format!("{secret}{ca}{strict}---\n{open}"),
        expect![[r#"
        0.0.0.0:80 shop.example /b Redirect(Redirect { to_https: Some(true), host: None, port: None, path: None, status: 308 })
        0.0.0.0:80 shop.example /a Redirect(Redirect { to_https: Some(true), host: None, port: None, path: None, status: 308 })
        0.0.0.0:443 tls shop.example: certificate of shop/web, clients too
        0.0.0.0:443 tls shop.example /b -> [10.0.0.1:8080]
        0.0.0.0:443 tls shop.example /a -> [10.0.0.1:8080]
    "#]],
    );
}

#[test]
fn paths_that_are_none_and_services_that_are_missing() {
    check(
        &ingress("web", OURS, "", r#"path: "/a { }", pathType: Exact"#),
        expect![[r#"
            ! Ingress shop/web: spec.rules[0].http.paths[0].path "/a { }" is not a path of letters, digits and -._~!+,=:@/%; this path is not served, the others are
        "#]],
    );
    let yaml = ingress("web", OURS, "", PREFIX).replace("number: 80", "number: 81");
    check(
        &yaml,
        expect![[r#"
        0.0.0.0:80 shop.example /a -> []
        ! Ingress shop/web: spec.rules[0].http.paths[0].backend is Service shop/web port 81, which is not there; requests are answered with 503
    "#]],
    );
}
