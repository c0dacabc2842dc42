use expect_test::{Expect, expect};
use model::{Event, Kind, LabelSelector, ObjectKey, Requirement};

use super::{cluster, config, listen, shown};
use crate::edge::value::HeaderName;
use crate::edge::{Compiler, EdgeConfig, MissingKey, PodsConvention, Unknown, compile};

pub(super) fn convention(name: &str) -> PodsConvention {
    PodsConvention {
        name: name.into(),
        selector: LabelSelector {
            requirements: vec![Requirement::In("routable".into(), vec!["true".into()])],
        },
        hosts_annotation: "hosts".into(),
        paths_annotation: "paths".into(),
        secret_name: "routing".into(),
        key_field: "api-key".into(),
        key_header: HeaderName::parse("X-Routing-Api-Key").unwrap(),
        key_is_base64: true,
        missing_key: MissingKey::Refuse,
        health_checks: true,
        sends_proxy_protocol: false,
        redirects_to_tls: false,
        http: listen("0.0.0.0:80"),
        https: Some(listen("0.0.0.0:443")),
        unknown_path: Unknown::Status(404),
    }
}

pub(super) fn config_of(convention: PodsConvention) -> EdgeConfig {
    EdgeConfig {
        pods: vec![convention],
        ..config()
    }
}

#[track_caller]
fn check(yaml: &str, expected: Expect) {
    let config = config_of(convention("public"));
    expected.assert_eq(&shown(&compile(&cluster(yaml), &config)));
}

pub(super) fn namespace(name: &str, hosts: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {{routable: 'true'}}, annotations: {{hosts: '{hosts}'}}}}
---
"
    )
}

pub(super) fn pod(key: (&str, &str), paths: &str, address: &str, more: &str) -> String {
    let (namespace, name) = key;
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{namespace: {namespace}, name: {name}, labels: {{routable: 'true'}}, annotations: {{paths: '{paths}'}}{more}}}
spec: {{containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}, {{containerPort: 443}}], readinessProbe: {{httpGet: {{path: /ready, port: web}}, periodSeconds: 3}}}}]}}
status: {{phase: Running, podIP: '{address}', conditions: [{{type: Ready, status: 'True'}}]}}
---
"
    )
}

fn secret(namespace: &str, fields: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{namespace: {namespace}, name: routing}}
stringData: {{{fields}}}
---
"
    )
}

const WEB: &str = r#"[{"basePath": "/", "containerPort": "8080"}]"#;

#[test]
fn hosts_paths_weights_targets_and_keys() {
    let yaml = [
        namespace("shop", r#"{"api.example": {}, "192.0.2.9": {}}"#),
        secret("shop", "api-key: open-sesame"),
        pod(("shop", "a"), WEB, "10.0.0.1", ""),
        pod(
            ("shop", "b"),
            r#"[{"basePath": "/users", "containerPort": 443, "targetPath": "/v2", "weight": 3}]"#,
            "2001:db8::2",
            "",
        ),
    ];
    check(
        &yaml.concat(),
        expect![[r#"
            0.0.0.0:80 192.0.2.9 /users with a key in x-routing-api-key RewritePath(Prefix(UrlPath("/v2"))) -> [[2001:db8::2]:443*3] checked by Http { path: UrlPath("/ready"), host: None, is_tls: false } Some(8080)
            0.0.0.0:80 192.0.2.9 / with a key in x-routing-api-key -> [10.0.0.1:8080] checked by Http { path: UrlPath("/ready"), host: None, is_tls: false } None
            0.0.0.0:80 api.example /users with a key in x-routing-api-key RewritePath(Prefix(UrlPath("/v2"))) -> [[2001:db8::2]:443*3] checked by Http { path: UrlPath("/ready"), host: None, is_tls: false } Some(8080)
            0.0.0.0:80 api.example / with a key in x-routing-api-key -> [10.0.0.1:8080] checked by Http { path: UrlPath("/ready"), host: None, is_tls: false } None
        "#]],
    );
}

/// In the original a Secret's deletion, or any change of another one, let everybody in.
#[test]
fn a_missing_key_lets_nobody_in() {
    let of = |secret: &str| {
        let yaml = [
            namespace("shop", r#"{"api.example": {}}"#),
            secret.to_owned(),
            pod(("shop", "a"), WEB, "10.0.0.1", ""),
        ];
        let plan = compile(&cluster(&yaml.concat()), &config_of(convention("public")));
        shown(&plan)
    };
    for secret in [
        String::new(),
        secret("shop", "other: x"),
        secret("shop", "api-key: ''"),
    ] {
        assert!(
            of(&secret).contains("with no key in x-routing-api-key"),
            "{}",
            of(&secret)
        );
    }
}

/// In the original two pods of one name in two namespaces replaced each other.
#[test]
fn pods_of_one_name_in_two_namespaces_are_two() {
    let yaml = [
        namespace("a", r#"{"a.example": {}}"#),
        namespace("b", r#"{"b.example": {}}"#),
        pod(("a", "web-0"), WEB, "10.0.0.1", ""),
        pod(("b", "web-0"), WEB, "10.0.0.2", ""),
    ];
    let text = shown(&compile(
        &cluster(&yaml.concat()),
        &config_of(convention("p")),
    ));
    let servers: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once("-> "))
        .collect();
    assert_eq!(servers.len(), 2, "{text}");
    assert!(servers[0].1.starts_with("[10.0.0.1:8080]"), "{text}");
    assert!(servers[1].1.starts_with("[10.0.0.2:8080]"), "{text}");
}

/// In the original an ssl object without all of its members ended the process, and a missing
/// Secret dropped the host without a word.
#[test]
fn tls_that_cannot_be_had_closes_the_host_and_says_why() {
    let reference =
        |key: &str| format!(r#"{{"valueFrom": {{"secretKeyRef": {{"key": "{key}"}}}}}}"#);
    let (certificate, key) = (reference("crt"), reference("key"));
    let tls = format!(r#"{{"ssl": {{"certificate": {certificate}, "certificateKey": {key}}}}}"#);
    let hosts = format!(
        r#"{{"half.example": {{"ssl": {{"certificate": {certificate}}}}}, "tls.example": {tls}}}"#
    );
    let yaml = [
        namespace("shop", &hosts),
        secret("shop", "api-key: k, crt: junk, key: junk"),
        pod(("shop", "a"), WEB, "10.0.0.1", ""),
    ];
    check(
        &yaml.concat(),
        expect![[r#"
            ! Namespace shop: metadata.annotations.hosts["half.example"] makes no sense: missing field `certificateKey`; this host is not served
            ! Secret shop/routing: data.crt holds no certificate in PEM; host tls.example is not served
        "#]],
    );
}

#[test]
fn a_certificate_and_its_key_serve_the_host_in_tls_alone() {
    let made = rcgen::generate_simple_self_signed(vec!["tls.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["tls.example".to_owned()]).unwrap();
    let reference =
        |key: &str| format!(r#"{{"valueFrom": {{"secretKeyRef": {{"key": "{key}"}}}}}}"#);
    let (crt, key) = (reference("crt"), reference("key"));
    let tls = format!(
        r#"{{"tls.example": {{"ssl": {{"certificate": {crt}, "certificateKey": {key}, "clientCertificate": {crt}}}}}}}"#
    );
    let of = |pem: String| {
        let yaml = [
            namespace("shop", &tls),
            secret(
                "shop",
                &format!("api-key: k, crt: {:?}, key: {pem:?}", made.cert.pem()),
            ),
            pod(("shop", "a"), WEB, "10.0.0.1", ""),
        ];
        let mut convention = convention("p");
        convention.redirects_to_tls = true;
        shown(&compile(&cluster(&yaml.concat()), &config_of(convention)))
    };
    expect![[r#"
        0.0.0.0:80 tls.example / Redirect(Redirect { to_https: Some(true), host: None, port: None, path: None, status: 308 })
        0.0.0.0:443 tls tls.example: certificate of shop/routing, clients too
        0.0.0.0:443 tls tls.example / with a key in x-routing-api-key -> [10.0.0.1:8080] checked by Http { path: UrlPath("/ready"), host: None, is_tls: false } None
    "#]]
    .assert_eq(&of(made.signing_key.serialize_pem()));
    expect![[r#"
        ! Secret shop/routing: data.crt holds a key that is not the certificate's; host tls.example is not served
    "#]]
    .assert_eq(&of(other.signing_key.serialize_pem()));
}

/// In the original not ready and ending pods got traffic, one bad entry dropped all of a pod's
/// paths, and a path could be any text.
#[test]
fn entries_and_pods_count_one_by_one() {
    let yaml = [
        namespace("shop", r#"{"api.example": {}, "not a host": {}}"#),
        secret("shop", "api-key: k"),
        pod(
            ("shop", "a"),
            r#"[{"basePath": "/ok", "containerPort": "8080"}, {"basePath": "/a { return 200; } location /b", "containerPort": "8080"}, {"basePath": "/port", "containerPort": "9"}, {"basePath": "/w", "containerPort": "8080", "weight": -1}]"#,
            "10.0.0.1",
            "",
        ),
        pod(
            ("shop", "b"),
            r#"[{"basePath": "/ok", "containerPort": "8080", "targetPath": "/x"}]"#,
            "10.0.0.2",
            ", deletionTimestamp: '2024-01-01T00:00:00Z', creationTimestamp: '2024-01-01T00:00:00Z'",
        ),
        pod(
            ("shop", "c"),
            r#"[{"basePath": "/ok", "containerPort": "8080"}]"#,
            "10.0.0.3",
            "",
        )
        .replace("'True'", "'False'"),
        pod(("shop", "d"), "junk", "10.0.0.4", ""),
    ];
    check(
        &yaml.concat(),
        expect![[r#"
            0.0.0.0:80 api.example /ok with a key in x-routing-api-key -> [10.0.0.1:8080, 10.0.0.2:8080 draining] checked by Http { path: UrlPath("/ready"), host: None, is_tls: false } None
            ! Namespace shop: metadata.annotations.hosts["not a host"] "not a host" is not a DNS name; this host is not served
            ! Pod shop/a: metadata.annotations.paths[1].basePath "/a { return 200; } location /b" is not a path of letters, digits and -._~!+,=:@/%; this path is not served by the pod
            ! Pod shop/a: metadata.annotations.paths[2].containerPort is 9, which no container of the pod declares; this path is not served by the pod
            ! Pod shop/a: metadata.annotations.paths[3].weight is not a number from 1 to 256; this path is not served by the pod
            ! Pod shop/d: metadata.annotations.paths is not a JSON list of paths: expected value at line 1 column 1; the pod serves no path
            ! Pod shop/b: metadata.annotations.paths[0].targetPath differs from that of an older pod which serves /ok; the older one's holds
        "#]],
    );
}

/// In the original every path of a namespace was on every host of it.
#[test]
fn a_path_may_be_of_one_host() {
    let yaml = [
        namespace("shop", r#"{"a.example": {}, "b.example": {}}"#),
        secret("shop", "api-key: k"),
        pod(
            ("shop", "all"),
            r#"[{"basePath": "/", "containerPort": "8080"}, {"basePath": "/all", "containerPort": "8080"}]"#,
            "10.0.0.1",
            "",
        ),
        pod(
            ("shop", "one"),
            r#"[{"host": "B.example", "basePath": "/", "containerPort": "8080"}, {"host": "a.example", "basePath": "/", "containerPort": "8080", "targetPath": "/x"}, {"host": "a.example", "basePath": "/one", "containerPort": "8080"}, {"host": "a.example", "basePath": "/one", "containerPort": "443"}]"#,
            "10.0.0.2",
            "",
        ),
        pod(
            ("shop", "two"),
            r#"[{"host": "b.example", "basePath": "/", "containerPort": "8080", "weight": 2}, {"host": "c.example", "basePath": "/", "containerPort": "8080"}, {"host": "not a host", "basePath": "/", "containerPort": "8080"}]"#,
            "10.0.0.3",
            "",
        ),
    ];
    let mut convention = convention("public");
    convention.health_checks = false;
    let plan = compile(&cluster(&yaml.concat()), &config_of(convention));
    expect![[r#"
        0.0.0.0:80 a.example /all with a key in x-routing-api-key -> [10.0.0.1:8080]
        0.0.0.0:80 a.example /one with a key in x-routing-api-key -> [10.0.0.2:8080]
        0.0.0.0:80 a.example / with a key in x-routing-api-key RewritePath(Prefix(UrlPath("/x"))) -> [10.0.0.2:8080]
        0.0.0.0:80 b.example /all with a key in x-routing-api-key -> [10.0.0.1:8080]
        0.0.0.0:80 b.example / with a key in x-routing-api-key -> [10.0.0.2:8080, 10.0.0.3:8080*2]
        ! Pod shop/one: metadata.annotations.paths[3] has a.example/one a second time; this path is not served by the pod
        ! Pod shop/two: metadata.annotations.paths[1].host is "c.example", which is no host of the namespace; this path is not served by the pod
        ! Pod shop/two: metadata.annotations.paths[2].host is "not a host", which is no host of the namespace; this path is not served by the pod
    "#]]
    .assert_eq(&shown(&plan));
}

/// In the original any other Secret that changed or went took the routing Secret out of its memory:
/// no key was asked for then, and the namespace's TLS hosts were gone.
#[test]
fn other_secrets_come_and_go_without_opening_anything() {
    let yaml = [
        namespace("shop", r#"{"api.example": {}}"#),
        secret("shop", "api-key: k"),
        pod(("shop", "a"), WEB, "10.0.0.1", ""),
    ];
    let mut cluster = cluster(&yaml.concat());
    let config = config_of(convention("public"));
    let mut compiler = Compiler::new(config.clone());
    let before = shown(compiler.whole(&cluster));
    assert!(
        before.contains("with a key in x-routing-api-key"),
        "{before}"
    );
    cluster.take_changes();
    for text in ["api-key: other", "api-key: another, more: x"] {
        let other = secret("shop", text).replace("name: routing", "name: other");
        super::apply(&mut cluster, &other);
        let changes = cluster.take_changes();
        assert_eq!(shown(compiler.update(&cluster, &changes)), before);
    }
    cluster.apply(Event::Deleted {
        kind: Kind::Secret,
        key: ObjectKey::new("shop", "other"),
    });
    let changes = cluster.take_changes();
    assert_eq!(shown(compiler.update(&cluster, &changes)), before);
}

/// In the original checks of ports were written into a comment, and a probe's port by name was 0.
#[test]
fn probes_become_checks_of_the_port_they_name() {
    let of = |probe: &str| {
        let pod = pod(("shop", "a"), WEB, "10.0.0.1", "");
        let (first, rest) = pod.split_once("readinessProbe").unwrap();
        let (_, rest) = rest.split_once("periodSeconds: 3}").unwrap();
        let yaml = [
            namespace("shop", r#"{"api.example": {}}"#),
            secret("shop", "api-key: k"),
            format!("{first}{probe}{rest}"),
        ];
        let plan = compile(&cluster(&yaml.concat()), &config_of(convention("public")));
        let backend = plan.backends.values().next().unwrap();
        let health = backend.health.clone().unwrap();
        let numbers = (health.interval.as_secs(), health.timeout.as_secs());
        let counts = (health.rise, health.fall);
        format!(
            "{:?} {:?} {numbers:?} {counts:?}",
            health.probe, health.port
        )
    };
    for (probe, expected) in [
        (
            "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 7, timeoutSeconds: 2, successThreshold: 3, failureThreshold: 4}",
            "Tcp None (7, 2) (3, 4)",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 443}}",
            "Tcp Some(443) (10, 1) (1, 3)",
        ),
        (
            "livenessProbe: {httpGet: {path: /live, port: 9}}, readinessProbe: {httpGet: {path: /ready, port: web, scheme: HTTPS}}",
            "Http { path: UrlPath(\"/ready\"), host: None, is_tls: true } None (10, 1) (1, 3)",
        ),
        (
            "readinessProbe: {exec: {command: [x]}}",
            "Tcp None (10, 1) (1, 3)",
        ),
    ] {
        assert_eq!(of(probe), expected, "{probe}");
    }
}
