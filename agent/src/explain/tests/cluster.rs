//! A node with one pod of interest, and Services of many sorts.

use model::Kind;
use serde_json::{Value, json};

pub(super) fn objects() -> Vec<(Kind, Value)> {
    let mut objects = vec![
        (
            Kind::Node,
            json!({"metadata": {"name": "node1"}, "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.31.0.1"}, {"type": "InternalIP", "address": "fd00:31::1"}]}}),
        ),
        (
            Kind::Node,
            json!({"metadata": {"name": "node2"}, "status": {"addresses": [{"type": "InternalIP", "address": "172.31.0.2"}]}}),
        ),
        (
            Kind::Pod,
            pod("cart", "node1", "10.244.1.5", "fd00:244:1::5"),
        ),
        (
            Kind::Pod,
            pod("away", "node2", "10.244.2.5", "fd00:244:2::5"),
        ),
    ];
    let three = &["10.244.1.2", "10.244.2.2", "10.244.2.3"][..];
    for (name, cluster_ip, more, endpoints, ready) in [
        (
            "web",
            "10.96.0.10",
            json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
            three,
            true,
        ),
        ("empty", "10.96.0.11", json!({}), &[][..], true),
        ("unready", "10.96.0.12", json!({}), three, false),
        (
            "local",
            "10.96.0.13",
            json!({"internalTrafficPolicy": "Local"}),
            &["10.244.2.2"][..],
            true,
        ),
        ("headless", "None", json!({}), three, true),
        ("foreign", "10.96.0.15", json!({}), three, true),
        ("hashed", "10.96.0.16", json!({}), three, true),
        ("weighted", "10.96.0.17", json!({}), three, true),
        (
            "sticky",
            "10.96.0.18",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
            three,
            true,
        ),
        (
            "two",
            "10.96.0.19",
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}),
            three,
            true,
        ),
        (
            "ranged",
            "10.96.0.20",
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}),
            three,
            true,
        ),
        (
            "direct",
            "10.96.0.21",
            json!({"type": "LoadBalancer"}),
            &["10.244.2.2"][..],
            true,
        ),
    ] {
        let mut object = service(name, cluster_ip);
        for (field, value) in more.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        let annotations = &mut object["metadata"]["annotations"];
        match name {
            "hashed" => *annotations = json!({"fairlead.io/scheduler": "mh"}),
            "weighted" => *annotations = json!({"fairlead.io/weights": "10.244.1.2=3,*=1"}),
            "direct" => *annotations = json!({"fairlead.io/dsr": "true"}),
            "foreign" => {
                object["metadata"]["labels"] =
                    json!({"service.kubernetes.io/service-proxy-name": "other"})
            }
            _ => {}
        }
        match name {
            "ranged" => {
                object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}})
            }
            "direct" => {
                object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}]}})
            }
            _ => {}
        }
        let ports: Vec<Value> = object["spec"]["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| json!({"name": port["name"], "port": 8080}))
            .collect();
        objects.push((Kind::EndpointSlice, slice(name, &ports, endpoints, ready)));
        if name == "web" {
            object["spec"]["clusterIPs"] = json!([cluster_ip, "fd00:96::10"]);
            let mut v6 = slice(name, &ports, &["fd00:244:1::2"], ready);
            v6["metadata"]["name"] = json!("web-v6");
            v6["addressType"] = json!("IPv6");
            objects.push((Kind::EndpointSlice, v6));
        }
        objects.push((Kind::Service, object));
    }
    objects
}

fn service(name: &str, cluster_ip: &str) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ports": [{"name": "http", "port": 80}]}})
}

fn slice(service: &str, ports: &[Value], endpoints: &[&str], ready: bool) -> Value {
    let endpoint = |address: &&str| {
        let on = if address.contains("244.1.") || address.contains("244:1:") {
            "node1"
        } else {
            "node2"
        };
        json!({"addresses": [address], "nodeName": on, "conditions": {"ready": ready}})
    };
    json!({"metadata": {"namespace": "shop", "name": format!("{service}-v4"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()})
}

fn pod(name: &str, node: &str, v4: &str, v6: &str) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": v4}, {"ip": v6}]}})
}
