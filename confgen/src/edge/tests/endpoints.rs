use expect_test::{Expect, expect};

use super::{cluster, config, shown};
use crate::edge::{EdgeConfig, EndpointsConvention, compile};

pub(super) fn convention() -> EdgeConfig {
    EdgeConfig {
        endpoints: Some(EndpointsConvention {
            domain_annotation: "domain".into(),
            protocol_annotation: "proto".into(),
        }),
        ..config()
    }
}

#[track_caller]
fn check(yaml: &str, expected: Expect) {
    expected.assert_eq(&shown(&compile(&cluster(yaml), &convention())));
}

/// Endpoints with a domain, and its slice.
fn endpoints(key: (&str, &str), created: &str, domain: &str, proto: &str, address: &str) -> String {
    let (namespace, name) = key;
    let family = if address.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    };
    format!(
        "
apiVersion: v1
kind: Endpoints
metadata: {{namespace: {namespace}, name: {name}, creationTimestamp: '{created}', annotations: {{domain: {domain:?}, proto: {proto:?}}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: {namespace}, name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {family}
ports: [{{name: web, port: 8080}}]
endpoints: [{{addresses: ['{address}']}}]
---
"
    )
}

const OLD: &str = "2020-01-01T00:00:00Z";
const NEW: &str = "2024-01-01T00:00:00Z";

#[test]
fn the_three_protocols() {
    let yaml = [
        endpoints(("shop", "web"), OLD, "Shop.example", "http", "10.0.0.1"),
        endpoints(
            ("shop", "tls"),
            OLD,
            "secure.example",
            "https",
            "2001:db8::1",
        ),
        endpoints(("shop", "db"), OLD, "db.example", "redis", "10.0.0.3"),
    ];
    let plan = compile(&cluster(&yaml.concat()), &convention());
    expect![[r#"
        0.0.0.0:80 shop.example / -> [10.0.0.1:8080]
        0.0.0.0:443 tls secure.example passed through -> [[2001:db8::1]:8080]
    "#]]
    .assert_eq(&shown(&plan));
    let views: Vec<_> = plan.views.domains.iter().collect();
    let views = views
        .iter()
        .map(|(name, domain)| format!("{name} {} {}", domain.protocol, domain.backend));
    expect![[r#"
        db.example redis endpoints_shop_db_3f31485ce46c
        secure.example https endpoints_shop_tls_5ef25da31d7e
        shop.example http endpoints_shop_web_3f615f1094b9"#]]
    .assert_eq(&views.collect::<Vec<_>>().join("\n"));
}

/// In the original the last of a listing won, silently and across namespaces.
#[test]
fn the_oldest_of_one_domain_wins_and_the_other_is_told() {
    let yaml = [
        endpoints(("a", "late"), NEW, "shop.example", "http", "10.0.0.1"),
        endpoints(("b", "early"), OLD, "shop.example", "http", "10.0.0.2"),
    ];
    check(
        &yaml.concat(),
        expect![[r#"
            0.0.0.0:80 shop.example / -> [10.0.0.2:8080]
            lost: Endpoints a/late host shop.example: Endpoints b/early is older
        "#]],
    );
}

/// In the original `a.b` and `a_b` were one ACL, so either backend got both hosts.
#[test]
fn domains_that_look_alike_are_apart() {
    let yaml = [
        endpoints(("a", "dot"), OLD, "a.b", "http", "10.0.0.1"),
        endpoints(("a", "underscore"), OLD, "a_b", "http", "10.0.0.2"),
    ];
    check(
        &yaml.concat(),
        expect![[r#"
            0.0.0.0:80 a.b / -> [10.0.0.1:8080]
            0.0.0.0:80 a_b / -> [10.0.0.2:8080]
        "#]],
    );
}

/// In the original a newline wrote directives, and `subsets: null` froze every domain.
#[test]
fn what_makes_no_sense_is_told_and_harms_nobody_else() {
    let mut yaml = endpoints(("a", "evil"), OLD, "x\n  server y", "http", "10.0.0.1");
    yaml += &endpoints(("a", "odd"), OLD, "odd.example", "ht tp", "10.0.0.1");
    yaml += &endpoints(("a", "good"), OLD, "good.example", "http", "10.0.0.2");
    yaml += "
apiVersion: v1
kind: Endpoints
metadata: {namespace: a, name: empty, annotations: {domain: empty.example, proto: http}}
subsets: null
";
    check(
        &yaml,
        expect![[r#"
            0.0.0.0:80 empty.example / -> []
            0.0.0.0:80 good.example / -> [10.0.0.2:8080]
            ! Endpoints a/evil: metadata.annotations.domain "x\n  server y" is not a DNS name; the domain is not served
            ! Endpoints a/odd: metadata.annotations.proto "ht tp" is not a header's name; the domain is not served
        "#]],
    );
}

/// The original knew the first port of the first subset alone, and ready addresses alone.
#[test]
fn a_service_may_be_annotated_and_says_which_port_is_meant() {
    check(
        "
apiVersion: v1
kind: Service
metadata: {namespace: a, name: web, annotations: {domain: web.example, proto: http}}
spec: {clusterIP: 10.96.0.1, ports: [{name: metrics, port: 9090}, {name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: a, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: metrics, port: 9090}, {name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.2], conditions: {ready: false}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: a, name: web-2, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8081}]
endpoints: [{addresses: [10.0.0.4]}]
",
        expect![[r#"
            0.0.0.0:80 web.example / -> [10.0.0.1:8080, 10.0.0.3:8080 draining, 10.0.0.4:8081]
        "#]],
    );
}

/// In the original `subsets: null` and `subsets: []` ended the whole cycle; here the slices count.
#[test]
fn endpoints_without_subsets_have_the_servers_of_their_slices() {
    for subsets in ["null", "[]", "[{}]", "junk"] {
        let mut yaml = endpoints(("a", "web"), OLD, "web.example", "http", "10.0.0.1");
        let object = "proto: \"http\"}}\n";
        assert!(yaml.contains(object), "{yaml}");
        yaml = yaml.replace(object, &format!("{object}subsets: {subsets}\n"));
        yaml += &endpoints(("b", "other"), OLD, "other.example", "http", "10.0.0.2");
        let text = shown(&compile(&cluster(&yaml), &convention()));
        let expected = "0.0.0.0:80 other.example / -> [10.0.0.2:8080]\n0.0.0.0:80 web.example / -> [10.0.0.1:8080]\n";
        assert_eq!(text, expected, "{subsets}");
    }
}
