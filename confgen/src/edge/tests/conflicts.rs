//! Two that want one thing.

use std::net::IpAddr;

use expect_test::expect;

use super::{cluster, config, listen, shown};
use crate::edge::value::{HeaderName, Hostname};
use crate::edge::{
    Answer, EdgeConfig, EndpointsConvention, HostClaimRule, Request, ServicesConvention, compile,
    simulate,
};

/// Services by their annotated domains, and by their ports.
fn both() -> EdgeConfig {
    EdgeConfig {
        endpoints: Some(EndpointsConvention {
            domain_annotation: "domain".into(),
            protocol_annotation: "proto".into(),
        }),
        services: Some(ServicesConvention {
            server_name_templates: Vec::new(),
            domain: Hostname::parse("local").unwrap(),
            default_address: "0.0.0.0".parse().unwrap(),
            default_mode: HeaderName::parse("tcp").unwrap(),
            nodes_as_servers: false,
            ephemeral_ports: (32768, 60999),
            local_addresses: None,
        }),
        ..config()
    }
}

fn service(key: (&str, &str), year: u32, kind: &str, port: u16, annotations: &str) -> String {
    let (namespace, name) = key;
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: {namespace}, name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z', annotations: {{{annotations}}}}}
spec: {{type: {kind}, clusterIP: 10.96.0.1, ports: [{{name: web, port: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: {namespace}, name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: web, port: 8080}}]
endpoints: [{{addresses: [10.0.0.1]}}]
---
"
    )
}

#[test]
fn a_port_is_the_oldest_claims_unless_the_operator_gave_it() {
    let yaml = [
        service(("a", "late"), 2024, "NodePort", 5432, ""),
        service(("b", "early"), 2020, "NodePort", 5432, ""),
        // Older than the host of port 80, but port 80 is configured for HTTP.
        service(("c", "greedy"), 2019, "NodePort", 80, ""),
        service(
            ("d", "web"),
            2023,
            "ClusterIP",
            80,
            "domain: shop.example, proto: http",
        ),
    ];
    expect![[r#"
        0.0.0.0:80 shop.example / -> [10.0.0.1:8080]
        0.0.0.0:5432 tcp -> [10.0.0.1:8080]
        lost: Service c/greedy port 80: Service d/web is older
        lost: Service a/late port 5432: Service b/early is older
    "#]]
    .assert_eq(&shown(&compile(&cluster(&yaml.concat()), &both())));
}

#[test]
fn a_host_belongs_to_the_namespace_of_the_oldest_claim() {
    let yaml = [
        service(
            ("a", "late"),
            2024,
            "ClusterIP",
            80,
            "domain: shop.example, proto: http",
        ),
        service(
            ("b", "early"),
            2020,
            "ClusterIP",
            80,
            "domain: shop.example, proto: http",
        ),
        service(
            ("b", "again"),
            2022,
            "ClusterIP",
            80,
            "domain: shop.example, proto: http",
        ),
    ];
    expect![[r#"
        0.0.0.0:80 shop.example / -> [10.0.0.1:8080]
        lost: Service b/again shop.example/: Service b/early is older
        lost: Service a/late host shop.example: Service b/early is older
    "#]]
    .assert_eq(&shown(&compile(&cluster(&yaml.concat()), &both())));
}

#[test]
fn namespaces_have_the_hosts_that_the_policy_lets_them() {
    let mut config = both();
    let rule = |namespaces: &str, suffixes: &[&str]| HostClaimRule {
        namespaces: namespaces.into(),
        suffixes: suffixes
            .iter()
            .map(|suffix| Hostname::parse(suffix).unwrap())
            .collect(),
        allows_unbounded: false,
    };
    config.host_claims = Some(vec![
        rule("shop-*", &["shop.example"]),
        rule("ops", &["example"]),
    ]);
    let yaml = [
        service(
            ("shop-a", "own"),
            2020,
            "ClusterIP",
            80,
            "domain: a.shop.example, proto: http",
        ),
        service(
            ("shop-a", "other"),
            2020,
            "ClusterIP",
            80,
            "domain: evilshop.example, proto: http",
        ),
        service(
            ("nobody", "any"),
            2020,
            "ClusterIP",
            80,
            "domain: b.shop.example, proto: http",
        ),
        service(
            ("ops", "any"),
            2020,
            "ClusterIP",
            80,
            "domain: c.example, proto: http",
        ),
    ];
    expect![[r#"
        0.0.0.0:80 a.shop.example / -> [10.0.0.1:8080]
        0.0.0.0:80 c.example / -> [10.0.0.1:8080]
        lost: Service nobody/any host b.shop.example: not allowed
        lost: Service shop-a/other host evilshop.example: not allowed
    "#]]
    .assert_eq(&shown(&compile(&cluster(&yaml.concat()), &config)));
}

#[test]
fn a_request_is_answered_as_the_plan_says() {
    let yaml = service(
        ("a", "web"),
        2020,
        "ClusterIP",
        80,
        "domain: shop.example, proto: http",
    ) + &service(
        ("a", "tls"),
        2020,
        "ClusterIP",
        80,
        "domain: tls.example, proto: https",
    ) + &service(("a", "db"), 2020, "NodePort", 5432, "");
    let plan = compile(&cluster(&yaml), &both());
    let ask = |at: &str, host: &str| {
        let request = Request {
            listen: listen(at),
            host,
            path: "/x",
            method: "GET",
            headers: &[],
            query: &[],
            source: IpAddr::from([192, 0, 2, 1]),
        };
        let (answer, rule) = simulate(&plan, &request);
        let answer = match answer {
            Answer::Forwarded(to) => format!("forwarded to {}", to.to.len()),
            Answer::PassedThrough(to) => format!("passed to {}", to.to.len()),
            other @ (Answer::NotListening
            | Answer::Closed
            | Answer::Status(_)
            | Answer::Redirected(_)) => format!("{other:?}"),
        };
        (answer, rule.is_some())
    };
    assert_eq!(
        ask("0.0.0.0:80", "Shop.Example"),
        ("forwarded to 1".to_owned(), true)
    );
    assert_eq!(
        ask("0.0.0.0:80", "other.example"),
        ("Closed".to_owned(), false)
    );
    assert_eq!(
        ask("0.0.0.0:443", "tls.example"),
        ("passed to 1".to_owned(), false)
    );
    assert_eq!(
        ask("0.0.0.0:443", "shop.example"),
        ("Closed".to_owned(), false)
    );
    assert_eq!(ask("0.0.0.0:5432", ""), ("passed to 1".to_owned(), false));
    assert_eq!(ask("0.0.0.0:81", ""), ("NotListening".to_owned(), false));
}
