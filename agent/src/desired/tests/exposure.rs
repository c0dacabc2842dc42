//! At which addresses besides its own a Service is served.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use expect_test::{Expect, expect};
use model::Kind;
use serde_json::json;

use super::choice::HERE_AND_THERE;
use super::{applied, check, cluster, describe};
use crate::desired::node::{Exposure, NodePortAddresses};
use crate::desired::{Desired, NodeContext, Scope};

/// Compiles with decisions of the operator, on interfaces with these addresses.
#[track_caller]
fn check_exposed(exposure: Exposure, own: &[&str], text: &str, expected: &Expect) {
    let cluster = cluster(text);
    let own: BTreeSet<IpAddr> = own.iter().map(|address| address.parse().unwrap()).collect();
    let node = NodeContext::of(&cluster, &"node1".into(), &Arc::new(exposure), &own, 1500);
    expected.assert_eq(&describe(&Desired::compile(&cluster, node)));
}

#[test]
fn external_ips_are_served_within_the_ranges_alone() {
    let text = format!(
        r#"service: web 10.96.0.10 80/tcp spec={{"externalIPs":["192.0.2.80","198.51.100.1","172.31.0.1"]}}
        {HERE_AND_THERE}"#
    );
    check(
        &text,
        &expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
        ! Service shop/web: spec.externalIPs 192.0.2.80 is not served without --service-external-ip-range; this address is not served
        ! Service shop/web: spec.externalIPs 198.51.100.1 is not served without --service-external-ip-range; this address is not served
        ! Service shop/web: spec.externalIPs 172.31.0.1 is the node's own; this address is not served
    "#]],
    );
    let within = Exposure {
        external_ranges: vec!["192.0.2.0/24".parse().unwrap()],
        ..Exposure::default()
    };
    check_exposed(
        within,
        &[],
        &text,
        &expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
        192.0.2.80:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
        ! Service shop/web: spec.externalIPs 198.51.100.1 is outside of --service-external-ip-range; this address is not served
        ! Service shop/web: spec.externalIPs 172.31.0.1 is the node's own; this address is not served
    "#]],
    );
    let any = Exposure {
        any_external: true,
        ..Exposure::default()
    };
    check_exposed(
        any,
        &[],
        &text,
        &expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
        192.0.2.80:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
        198.51.100.1:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
        ! Service shop/web: spec.externalIPs 172.31.0.1 is the node's own; this address is not served
    "#]],
    );
}

#[test]
fn external_ips_that_are_a_nodes_own_are_not_served() {
    let text = r#"service: web 10.96.0.10 80/tcp spec={"externalIPs":["10.9.0.1","172.31.0.2","192.0.2.80"]}
        endpoint: 10.0.1.5 80"#;
    let mut cluster = cluster(text);
    let any = Exposure {
        any_external: true,
        ..Exposure::default()
    };
    let interfaces = ["10.9.0.1".parse().unwrap()];
    let node = |cluster: &_| NodeContext {
        exposure: Arc::new(any.clone()),
        interfaces: interfaces.into(),
        ..super::context(cluster)
    };
    cluster.take_changes();
    let alone = Desired::compile(&cluster, node(&cluster));
    expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80
        172.31.0.2:80/tcp -> 10.0.1.5:80
        192.0.2.80:80/tcp -> 10.0.1.5:80
        ! Service shop/web: spec.externalIPs 10.9.0.1 is the node's own; this address is not served
    "#]]
    .assert_eq(&describe(&alone));
    let second = json!({"metadata": {"name": "node2"}, "status": {"addresses": [
        {"type": "InternalIP", "address": "172.31.0.2"}]}});
    applied(&mut cluster, Kind::Node, &second);
    let changes = cluster.take_changes();
    let both = alone.follow(&cluster, &changes, node(&cluster));
    expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80
        192.0.2.80:80/tcp -> 10.0.1.5:80
        ! Service shop/web: spec.externalIPs 10.9.0.1 is the node's own; this address is not served
        ! Service shop/web: spec.externalIPs 172.31.0.2 is a node's own; this address is not served
    "#]]
    .assert_eq(&describe(&both));
}

#[test]
fn node_ports_are_served_where_the_operator_says() {
    let text = "service: web 10.96.0.10 80/tcp type=NodePort node=30080\nendpoint: 10.0.1.5 80";
    let own = ["10.9.0.1", "172.31.0.1", "127.0.0.1", "169.254.1.1"];
    let all = Exposure {
        node_ports: NodePortAddresses::All,
        loopback: true,
        ..Exposure::default()
    };
    check_exposed(
        all,
        &own,
        text,
        &expect![[r#"
        10.9.0.1:30080/tcp -> 10.0.1.5:80
        10.96.0.10:80/tcp -> 10.0.1.5:80
        127.0.0.1:30080/tcp -> 10.0.1.5:80
        172.31.0.1:30080/tcp -> 10.0.1.5:80
    "#]],
    );
    let within = Exposure {
        node_ports: NodePortAddresses::Within(vec!["10.9.0.0/16".parse().unwrap()]),
        ..Exposure::default()
    };
    check_exposed(
        within,
        &own,
        text,
        &expect![[r#"
        10.9.0.1:30080/tcp -> 10.0.1.5:80
        10.96.0.10:80/tcp -> 10.0.1.5:80
    "#]],
    );
}

#[test]
fn a_host_port_is_served_on_the_node_and_yields_to_an_older_node_port() {
    let mut cluster = cluster(
        "service: web 10.96.0.10 80/tcp type=NodePort node=30080 created=1\nendpoint: 10.0.1.5 80",
    );
    let pod = json!({
        "metadata": {"namespace": "shop", "name": "p", "creationTimestamp": "2026-01-01T00:00:05Z"},
        "spec": {"nodeName": "node1", "containers": [{"ports": [
            {"containerPort": 8080, "hostPort": 8081},
            {"containerPort": 8080, "hostPort": 30080, "hostIP": "172.31.0.1"}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.1.9"}]},
    });
    applied(&mut cluster, Kind::Pod, &pod);
    let desired = Desired::compile(&cluster, super::context(&cluster));
    expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80
        172.31.0.1:30080/tcp -> 10.0.1.5:80
        192.0.2.1:30080/tcp -> 10.0.1.5:80
        172.31.0.1:8081/tcp -> 10.0.1.9:8080 local
        192.0.2.1:8081/tcp -> 10.0.1.9:8080 local
        ! Pod shop/p: spec.ports 172.31.0.1:30080/tcp belongs to the older Service shop/web; port `hostport-30080-172.31.0.1` is not served at this address; give one of the two another address or port
    "#]].assert_eq(&describe(&desired));
}

#[test]
fn host_ports_at_several_addresses_and_of_sidecars_are_served() {
    let mut cluster = cluster("service: web 10.96.0.10 80/tcp\nendpoint: 10.0.1.5 80");
    let pod = json!({
        "metadata": {"namespace": "shop", "name": "p"},
        "spec": {"nodeName": "node1",
            "initContainers": [
                {"restartPolicy": "Always", "ports": [{"containerPort": 9090, "hostPort": 9090}]},
                {"ports": [{"containerPort": 9091, "hostPort": 9091}]}],
            "containers": [{"ports": [
                {"containerPort": 8080, "hostPort": 8081, "hostIP": "172.31.0.1"},
                {"containerPort": 8082, "hostPort": 8081, "hostIP": "192.0.2.1"},
                {"containerPort": 8080, "hostPort": 8081, "hostIP": "198.51.100.1"}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.1.9"}]},
    });
    applied(&mut cluster, Kind::Pod, &pod);
    let desired = Desired::compile(&cluster, super::context(&cluster));
    expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80
        172.31.0.1:8081/tcp -> 10.0.1.9:8080 local
        192.0.2.1:8081/tcp -> 10.0.1.9:8082 local
        172.31.0.1:9090/tcp -> 10.0.1.9:9090 local
        192.0.2.1:9090/tcp -> 10.0.1.9:9090 local
        ! Pod shop/p: spec.containers.ports.hostIP 198.51.100.1 is none of the addresses that this node serves ports at; host port 8081 is not served
    "#]].assert_eq(&describe(&desired));
}

#[test]
fn an_address_that_is_several_things_is_one_frontend() {
    let text = r#"service: web 10.96.0.10 80/tcp type=LoadBalancer spec={"externalIPs":["192.0.2.80","10.96.0.10"],"externalTrafficPolicy":"Local"} status={"loadBalancer":{"ingress":[{"ip":"192.0.2.80"}]}}
        endpoint: 10.0.2.5 80 on=node2"#;
    let any = Exposure {
        any_external: true,
        ..Exposure::default()
    };
    let cluster = cluster(text);
    let node = NodeContext {
        exposure: Arc::new(any),
        ..super::context(&cluster)
    };
    let desired = Desired::compile(&cluster, node);
    let unit = desired.services.values().next().unwrap();
    let frontends: Vec<_> = unit
        .frontends
        .iter()
        .map(|frontend| (frontend.to_string(), frontend.scope))
        .collect();
    assert_eq!(
        frontends,
        [
            ("10.96.0.10:80/tcp".to_owned(), Scope::ClusterIp),
            ("192.0.2.80:80/tcp".to_owned(), Scope::LoadBalancer),
        ]
    );
}

#[test]
fn a_load_balancers_address_is_served_where_the_node_holds_it() {
    let all = Exposure {
        node_ports: NodePortAddresses::All,
        ..Exposure::default()
    };
    check_exposed(
        all,
        &["172.31.0.1", "192.0.2.80"],
        r#"service: web 10.96.0.10 80/tcp type=LoadBalancer status={"loadBalancer":{"ingress":[{"ip":"192.0.2.80"}]}}
           endpoint: 10.0.1.5 80"#,
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.1.5:80
            192.0.2.80:80/tcp -> 10.0.1.5:80
        "#]],
    );
}
