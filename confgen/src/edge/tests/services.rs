use expect_test::{Expect, expect};

use super::{cluster, config, shown};
use crate::edge::value::{HeaderName, Hostname};
use crate::edge::{EdgeConfig, NameTemplate, ServicesConvention, compile};

pub(super) fn convention() -> EdgeConfig {
    let template = "{{ .Service.Name }}.{{ .Service.Namespace }}.svc.{{ .Domain }}";
    EdgeConfig {
        services: Some(ServicesConvention {
            server_name_templates: vec![NameTemplate::parse(template).unwrap()],
            domain: Hostname::parse("local").unwrap(),
            default_address: "0.0.0.0".parse().unwrap(),
            default_mode: HeaderName::parse("http").unwrap(),
            nodes_as_servers: false,
            ephemeral_ports: (32768, 60999),
            local_addresses: Some(vec!["192.0.2.1".parse().unwrap()]),
        }),
        ..config()
    }
}

#[track_caller]
fn check(config: &EdgeConfig, yaml: &str, expected: Expect) {
    expected.assert_eq(&shown(&compile(&cluster(yaml), config)));
}

fn service(name: &str, spec: &str, annotations: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: shop, name: {name}, annotations: {{{annotations}}}}}
spec: {{clusterIP: 10.96.0.1, {spec}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: shop, name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: web, port: 8080}}, {{name: db, port: 5432}}]
endpoints: [{{addresses: [10.0.0.1]}}]
---
"
    )
}

#[test]
fn modes_names_and_ports() {
    let yaml = service(
        "web",
        "type: NodePort, ports: [{name: web, port: 80, targetPort: http, nodePort: 30080}, {name: db, port: 5432}, {name: dns, port: 53, protocol: UDP}]",
        r#"kube2lb/port-mode: '{"db": "TCP"}', kube2lb/external-domains: "www.example, ~^(a|b)\\.example$ ,,", kube2lb/backend-timeout: '{"web": 1500}'"#,
    ) + &service("inner", "ports: [{name: web, port: 81}]", "");
    let plan = compile(&cluster(&yaml), &convention());
    expect![[r#"
        0.0.0.0:80 web.shop.svc.local / -> [10.0.0.1:8080]
        0.0.0.0:80 www.example / -> [10.0.0.1:8080]
        0.0.0.0:80 ~(a|b)\.example / -> [10.0.0.1:8080]
        0.0.0.0:5432 tcp -> [10.0.0.1:5432]
        ! Service shop/web: spec.ports[2].protocol is udp, which the edge serves through templates only; this port is not served, the others are
    "#]]
    .assert_eq(&shown(&plan));
    let views = plan.views.services.iter().map(|view| {
        format!(
            "{}:{} {} {:?} {:?}",
            view.key, view.listen.port, view.mode, view.timeout, view.node_port
        )
    });
    expect![[r#"
        shop/web:80 http Some(1.5s) Some(30080)
        shop/web:5432 tcp None None
        shop/web:53 http None None"#]]
    .assert_eq(&views.collect::<Vec<_>>().join("\n"));
}

/// In the original whatever a template made was written as a server's name.
#[test]
fn a_template_that_makes_no_name_costs_that_name_alone() {
    let templates = [
        "{{ .Service.Name }}.{{ .Domain }}",
        "of-{{.Service.Name}}.local",
        "{{ .Service.Port.Name }}.{{ .Service.Namespace }}.local",
    ];
    let mut config = convention();
    config.services.as_mut().unwrap().server_name_templates = templates
        .map(|text| NameTemplate::parse(text).unwrap())
        .to_vec();
    let long = "l".repeat(61);
    let yaml = [
        service("web", "type: NodePort, ports: [{name: web, port: 80}]", ""),
        service(&long, "type: NodePort, ports: [{name: db, port: 81}]", ""),
        service("unnamed", "type: NodePort, ports: [{port: 82}]", ""),
    ];
    check(
        &config,
        &yaml.concat().replace(
            "ports: [{name: web, port: 8080}",
            "ports: [{port: 8080}, {name: web, port: 8081}",
        ),
        expect![[r#"
            0.0.0.0:80 of-web.local / -> [10.0.0.1:8081]
            0.0.0.0:80 web.local / -> [10.0.0.1:8081]
            0.0.0.0:80 web.shop.local / -> [10.0.0.1:8081]
            0.0.0.0:81 db.shop.local / -> [10.0.0.1:5432]
            0.0.0.0:81 lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll.local / -> [10.0.0.1:5432]
            0.0.0.0:82 of-unnamed.local / -> [10.0.0.1:8080]
            0.0.0.0:82 unnamed.local / -> [10.0.0.1:8080]
            ! Service shop/lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll: metadata.name in the server name template "of-{{ .Service.Name }}.local": "of-lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll.local" is not a DNS name; this name is not served
            ! Service shop/unnamed: metadata.name in the server name template "{{ .Service.Port.Name }}.{{ .Service.Namespace }}.local": ".shop.local" is not a DNS name; this name is not served
        "#]],
    );
}

#[test]
fn sanity_checks_leave_out_the_service_and_say_why() {
    let yaml = [
        service(
            "high",
            "type: NodePort, ports: [{name: web, port: 40000}]",
            "",
        ),
        service(
            "foreign",
            "type: LoadBalancer, loadBalancerIP: 198.51.100.7, ports: [{name: web, port: 80}]",
            "",
        ),
        service(
            "own",
            "type: LoadBalancer, loadBalancerIP: 192.0.2.1, ports: [{name: web, port: 80}]",
            "",
        ),
        service(
            "junk",
            "type: LoadBalancer, loadBalancerIP: here, ports: [{name: web, port: 80}]",
            "",
        ),
    ];
    check(
        &convention(),
        &yaml.concat(),
        expect![[r#"
            192.0.2.1:80 own.shop.svc.local / -> [10.0.0.1:8080]
            ! Service shop/foreign: spec.loadBalancerIP is 198.51.100.7, which this machine does not have; add it, or set net.ipv4.ip_nonlocal_bind; the Service is left out
            ! Service shop/high: spec.ports[0].port is 40000, which the kernel gives to outgoing connections (32768 to 60999); choose another port, or change net.ipv4.ip_local_port_range; the Service is left out
            ! Service shop/junk: spec.loadBalancerIP is "here", not an IP address; the Service is left out
        "#]],
    );
}

/// In the original an annotation's text went into the configuration as it was.
#[test]
fn bad_annotations_cost_themselves_alone() {
    let yaml = service(
        "web",
        "type: NodePort, ports: [{name: web, port: 80}]",
        r#"kube2lb/port-mode: '{"web": 5}', kube2lb/backend-timeout: nonsense, kube2lb/external-domains: "good.example, ba d, ~x{, ~("#.to_owned().as_str(),
    );
    let yaml = yaml.replace("~(", "~(\"");
    check(
        &convention(),
        &yaml,
        expect![[r#"
            0.0.0.0:80 good.example / -> [10.0.0.1:8080]
            0.0.0.0:80 web.shop.svc.local / -> [10.0.0.1:8080]
            ! Service shop/web: metadata.annotations.kube2lb/external-domains "ba d" is not a DNS name; this domain is not served
            ! Service shop/web: metadata.annotations.kube2lb/external-domains "x{, ~(" is not an expression over host names; this domain is not served
            ! Service shop/web: metadata.annotations.kube2lb/port-mode is not the JSON it should be: invalid type: integer `5`, expected a string at line 1 column 9; every port has the default mode
            ! Service shop/web: metadata.annotations.kube2lb/backend-timeout is not the JSON it should be: expected ident at line 1 column 2; every port has the default timeout
        "#]],
    );
}

#[test]
fn nodes_may_be_the_servers() {
    let mut config = convention();
    if let Some(services) = &mut config.services {
        services.nodes_as_servers = true;
    }
    let yaml = service(
        "web",
        "type: NodePort, ports: [{name: web, port: 80, nodePort: 30080}, {name: db, port: 5432}]",
        "",
    ) + "
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 192.0.2.12}]}
---
apiVersion: v1
kind: Node
metadata: {name: n3, labels: {node.kubernetes.io/exclude-from-external-load-balancers: ''}}
status: {addresses: [{type: InternalIP, address: 192.0.2.13}]}
";
    check(
        &config,
        &yaml,
        expect![[r#"
            0.0.0.0:80 web.shop.svc.local / -> [192.0.2.11:30080, 192.0.2.12:30080]
            ! Service shop/web: spec.ports[1].nodePort is absent, though nodes are the servers; this port is not served, the others are
        "#]],
    );
    // In the original a node that was not ready went on being a server.
    let lost = |count: usize| {
        let status = "status: {addresses";
        let conditions = "status: {conditions: [{type: MemoryPressure, status: 'False'}, {type: Ready, status: Unknown}], addresses";
        let (service, nodes) = yaml.split_once("kind: Node").unwrap();
        let text = format!(
            "{service}kind: Node{}",
            nodes.replacen(status, conditions, count)
        );
        let text = shown(&compile(&cluster(&text), &config));
        text.lines().next().unwrap_or_default().to_owned()
    };
    let line = "0.0.0.0:80 web.shop.svc.local / -> ";
    assert_eq!(lost(1), format!("{line}[192.0.2.12:30080]"));
    // Where none is, nobody knows better.
    let both = "[192.0.2.11:30080, 192.0.2.12:30080]";
    assert_eq!(lost(2), format!("{line}{both}"));
}

/// In the original two subsets with one port overwrote each other.
#[test]
fn slices_with_one_port_are_joined_and_count_an_endpoint_once() {
    let slice = |number: u32, endpoints: &str| {
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: shop, name: web-{number}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: web, port: 8080}}]
endpoints: [{endpoints}]
---
"
        )
    };
    let yaml = service("web", "type: NodePort, ports: [{name: web, port: 80}]", "")
        + &slice(2, "{addresses: [10.0.0.2]}, {addresses: [10.0.0.1]}")
        + &slice(
            3,
            "{addresses: [10.0.0.3]}, {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}",
        );
    check(
        &convention(),
        &yaml,
        expect![[r#"
            0.0.0.0:80 web.shop.svc.local / -> [10.0.0.1:8080, 10.0.0.2:8080, 10.0.0.3:8080]
        "#]],
    );
}

/// In the original two Services with one external domain both wrote it, and nobody was told.
#[test]
fn an_external_domain_is_the_oldest_services() {
    let of = |name: &str, year: u32| {
        let service = service(
            name,
            "type: NodePort, ports: [{name: web, port: 80}]",
            "kube2lb/external-domains: www.example",
        );
        let (name, created) = (
            format!("name: {name}, "),
            format!("'{year}-01-01T00:00:00Z'"),
        );
        service.replacen(&name, &format!("{name}creationTimestamp: {created}, "), 1)
    };
    check(
        &convention(),
        &(of("late", 2024) + &of("early", 2020).replace("10.0.0.1]", "10.0.0.2]")),
        expect![[r#"
            0.0.0.0:80 early.shop.svc.local / -> [10.0.0.2:8080]
            0.0.0.0:80 late.shop.svc.local / -> [10.0.0.1:8080]
            0.0.0.0:80 www.example / -> [10.0.0.2:8080]
            lost: Service shop/late www.example/: Service shop/early is older
        "#]],
    );
}
