//! Objects in, model and problems out.

mod junk;
mod nodes;
mod policies;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::reduce;
use crate::{Kind, Object, PodUid};

fn service(spec: Value) -> Value {
    json!({"metadata": {"namespace": "shop", "name": "web", "creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": spec})
}

/// What remains of a Service, a line a port, and its problems.
#[track_caller]
fn check_service(object: &Value, expected: &Expect) {
    let reduced = reduce(Kind::Service, object);
    let mut text = String::new();
    if let Some(Object::Service(service)) = &reduced.object {
        text += &format!("{:?} {:?}\n", service.service_type, service.cluster_ips);
        for port in &service.ports {
            text += &format!(
                "`{}` {}/{} {:?}\n",
                port.name, port.port, port.protocol, port.node_port
            );
        }
    }
    for problem in &reduced.problems {
        text += &format!("! {problem}\n");
    }
    expected.assert_eq(&text);
}

/// What a Service asks of the balancer beyond its ports.
#[track_caller]
fn check_options(annotations: &Value, spec: &Value, expected: &Expect) {
    let mut object = service(spec.clone());
    object["metadata"]["annotations"] = annotations.clone();
    object["status"] = spec["status"].clone();
    let reduced = reduce(Kind::Service, &object);
    let Some(Object::Service(service)) = &reduced.object else {
        panic!("left out: {:?}", reduced.problems)
    };
    let mut text = format!(
        "{:?} {:?}\n{:?}\n{:?} internal {:?} external {:?} health {:?} {:?}\n{:?}\n",
        service.external_ips,
        service.load_balancer_ips,
        service.source_ranges,
        service.session_affinity,
        service.internal_policy,
        service.external_policy,
        service.health_check_node_port,
        service.distribution,
        service.tuning,
    );
    for problem in &reduced.problems {
        text += &format!("! {problem}\n");
    }
    expected.assert_eq(&text);
}

#[test]
fn options_of_a_service_have_the_apis_defaults() {
    check_options(
        &json!({}),
        &json!({}),
        &expect![[r#"
        [] []
        Everybody
        None internal Cluster external Cluster health None Hints
        None
    "#]],
    );
    check_options(
        &json!({"kube-router.io/service.local": "true", "kube-router.io/service.scheduler": "sh"}),
        &json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["192.0.2.0/24", "x"],
            "trafficDistribution": "PreferClose", "healthCheckNodePort": 30999, "externalIPs": ["192.0.2.9", "127.0.0.1", "192.0.2.9"],
            "status": {"loadBalancer": {"ingress": [
                {"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"},
                {"hostname": "lb.example.org"}, {"ip": "169.254.0.1"}]}}}),
        &expect![[r#"
            [192.0.2.9] [203.0.113.1]
            Only([192.0.2.0/24])
            ClientIp { timeout: 10800s } internal Cluster external Local health Some(30999) PreferSameZone
            Some(Tuning { scheduler: Some(SourceHash), scheduler_flags: {}, direct_return: false, weights: [] })
            ! Service shop/web: spec.externalIPs[1] is 127.0.0.1, which cannot be a Service's; this address is not served
            ! Service shop/web: status.loadBalancer.ingress[3].ip is 169.254.0.1, which cannot be a Service's; this address is not served
            ! Service shop/web: spec.loadBalancerSourceRanges[1] is "x", not a network as in 10.0.0.0/24; this range may not use the load balancer's addresses
        "#]],
    );
    check_options(
        &json!({"fairlead.io/weights": "10.0.0.1=2, node/n1=0,zone/=1,zone/a=101", "fairlead.io/scheduler": "fastest",
            "kube-router.io/service.schedflags": "flag-2,sloppy"}),
        &json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
        &expect![[r#"
            [] []
            Everybody
            ClientIp { timeout: 10800s } internal Cluster external Cluster health None Hints
            Some(Tuning { scheduler: None, scheduler_flags: {2}, direct_return: false, weights: [(Address(10.0.0.1), 2), (Node("n1"), 0)] })
            ! Service shop/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds is 0, not seconds from 1 to 86400; the timeout is 3 hours
            ! Service shop/web: metadata.annotations.kube-router.io/service.schedflags has `sloppy`, which is not flag-1, flag-2 or flag-3; it is ignored
            ! Service shop/web: metadata.annotations.fairlead.io/scheduler is "fastest", not rr, lc, sh, dh, mh or random; backends are chosen at random
            ! Service shop/web: metadata.annotations.fairlead.io/weights has `zone/=1`, not PEER=WEIGHT with ADDRESS, node/NAME, zone/NAME or * and 0 to 100; this entry is ignored
            ! Service shop/web: metadata.annotations.fairlead.io/weights has `zone/a=101`, not PEER=WEIGHT with ADDRESS, node/NAME, zone/NAME or * and 0 to 100; this entry is ignored
        "#]],
    );
}

#[test]
fn kube_routers_annotations_of_both_eras_are_taken_without_a_problem() {
    // Hairpin is what every Service has, so these ask for nothing more.
    check_options(
        &json!({"kube-router.io/service.hairpin": "", "kube-router.io/hairpin-mode": "",
            "kube-router.io/service.hairpin.externalips": "", "kube-router.io/service.dsr": "tunnel",
            "kube-router.io/service.scheduler": "mh", "kube-router.io/service.schedflags": "flag-1,flag-2"}),
        &json!({}),
        &expect![[r#"
            [] []
            Everybody
            None internal Cluster external Cluster health None Hints
            Some(Tuning { scheduler: Some(Maglev { with_port: true }), scheduler_flags: {1, 2}, direct_return: true, weights: [] })
        "#]],
    );
}

#[test]
fn one_bad_port_costs_that_port_alone() {
    check_service(
        &service(json!({"clusterIP": "10.96.0.1", "ports": [
            {"name": "a", "port": 80, "nodePort": 30080},
            {"name": "b", "port": 70000},
            {"name": "c", "port": 0},
            {"name": "d", "port": "eighty"},
            {"name": "e", "port": 53, "protocol": "QUIC"},
            {"name": "a", "port": 81},
            {"name": "f"},
            {"name": "g", "port": 53, "protocol": "UDP", "nodePort": 0},
            {"name": "h", "port": 54, "nodePort": -1},
            {"name": "i", "port": 80},
            {"name": "j", "port": 81, "nodePort": 30080},
            "k",
        ]})),
        &expect![[r#"
            ClusterIp Assigned([10.96.0.1])
            `a` 80/tcp Some(30080)
            `g` 53/udp None
            `h` 54/tcp None
            `j` 81/tcp None
            ! Service shop/web: spec.ports[11] is "k", not a mapping of fields; this port is not served, the others are
            ! Service shop/web: spec.ports[1].port is 70000, not a port from 1 to 65535; this port is not served, the others are
            ! Service shop/web: spec.ports[2].port is 0, not a port from 1 to 65535; this port is not served, the others are
            ! Service shop/web: spec.ports[3].port is "eighty", not a port from 1 to 65535; this port is not served, the others are
            ! Service shop/web: spec.ports[4].protocol is "QUIC", not TCP, UDP or SCTP; this port is not served, the others are
            ! Service shop/web: spec.ports[5].name `a` is the name of an earlier port; this port is not served, the others are
            ! Service shop/web: spec.ports[6].port is missing; this port is not served, the others are
            ! Service shop/web: spec.ports[8].nodePort is -1, not a port from 1 to 65535; the port is served on cluster IPs only
            ! Service shop/web: spec.ports[9].port 80/tcp is that of port `a`; this port is not served, the others are
            ! Service shop/web: spec.ports[10].nodePort 30080/tcp is that of port `a`; the port is served on cluster IPs only
        "#]],
    );
}

#[test]
fn cluster_ips_none_absent_and_bad_differ() {
    for (spec, expected) in [
        (
            json!({"clusterIP": "None"}),
            expect!["ClusterIp Headless\n"],
        ),
        (
            json!({"clusterIPs": ["None"]}),
            expect!["ClusterIp Headless\n"],
        ),
        (json!({"clusterIP": ""}), expect!["ClusterIp Pending\n"]),
        (json!({}), expect!["ClusterIp Pending\n"]),
        (
            json!({"clusterIPs": ["10.96.0.1", "fd00::1"]}),
            expect!["ClusterIp Assigned([10.96.0.1, fd00::1])\n"],
        ),
        (
            json!({"type": "NodePort", "clusterIPs": ["10.96.0.300", "127.0.0.1", "fd00::1"]}),
            expect![[r#"
                NodePort Assigned([fd00::1])
                ! Service shop/web: spec.clusterIPs[0] is "10.96.0.300", not an IP address; this address is not served
                ! Service shop/web: spec.clusterIPs[1] is 127.0.0.1, which cannot be a Service's; this address is not served
            "#]],
        ),
        (
            json!({"clusterIPs": ["0.0.0.0", "224.0.0.1", "::"], "clusterIP": "10.96.0.1"}),
            expect![[r#"
                ClusterIp Pending
                ! Service shop/web: spec.clusterIPs[0] is 0.0.0.0, which cannot be a Service's; this address is not served
                ! Service shop/web: spec.clusterIPs[1] is 224.0.0.1, which cannot be a Service's; this address is not served
                ! Service shop/web: spec.clusterIPs[2] is ::, which cannot be a Service's; this address is not served
            "#]],
        ),
        (
            json!({"clusterIPs": "10.96.0.1"}),
            expect![[r#"
            ClusterIp Pending
            ! Service shop/web: spec.clusterIPs is "10.96.0.1", not a list; this address is not served
        "#]],
        ),
        (
            json!({"type": "Anycast"}),
            expect![[r#"
                ! Service shop/web: spec.type is "Anycast", not a type of Service; the Service is left out
            "#]],
        ),
    ] {
        check_service(&service(spec), &expected);
    }
    let mut labelled = service(json!({"clusterIP": "10.96.0.1"}));
    labelled["metadata"]["labels"] = json!({"service.kubernetes.io/headless": ""});
    check_service(&labelled, &expect!["ClusterIp Headless\n"]);
    // YAML makes a boolean of an unquoted `true`.
    labelled["metadata"]["labels"] = json!({"service.kubernetes.io/headless": true});
    check_service(
        &labelled,
        &expect![[r#"
        ClusterIp Assigned([10.96.0.1])
        ! Service shop/web: metadata.labels.service.kubernetes.io/headless is true, not a string; the Service counts as not headless
    "#]],
    );
}

#[test]
fn endpoint_conditions_have_the_apis_defaults() {
    let slice = |conditions: Value| {
        json!({"metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]})
    };
    for (conditions, expected) in [
        (json!({}), (true, true, false)),
        (Value::Null, (true, true, false)),
        (json!({"ready": false}), (false, false, false)),
        (
            json!({"ready": false, "serving": true, "terminating": true}),
            (false, true, true),
        ),
        (
            json!({"ready": null, "serving": false}),
            (true, false, false),
        ),
    ] {
        let Some(Object::EndpointSlice(slice)) =
            reduce(Kind::EndpointSlice, &slice(conditions.clone())).object
        else {
            panic!("{conditions}");
        };
        let found = slice.endpoints[0].conditions;
        assert_eq!(
            (found.ready, found.serving, found.terminating),
            expected,
            "{conditions}"
        );
        assert_eq!(slice.service.as_ref().unwrap().to_string(), "shop/web");
    }
}

#[test]
fn an_endpoint_of_another_family_is_left_out_alone() {
    let reduced = reduce(
        Kind::EndpointSlice,
        &json!({"metadata": {"namespace": "shop", "name": "web-1"}, "addressType": "IPv6",
            "endpoints": [{"addresses": ["fd00::1"]}, {"addresses": ["10.0.0.1"]}, {"addresses": ["x"]}]}),
    );
    let Some(Object::EndpointSlice(slice)) = reduced.object else {
        panic!("left out")
    };
    assert_eq!(slice.endpoints.len(), 1);
    let fields: Vec<_> = reduced
        .problems
        .iter()
        .map(|problem| problem.field.as_str())
        .collect();
    assert_eq!(
        fields,
        ["endpoints[1].addresses[0]", "endpoints[2].addresses[0]"]
    );
}

#[test]
fn slices_of_names_are_no_problem_and_no_object() {
    let reduced = reduce(
        Kind::EndpointSlice,
        &json!({"metadata": {"namespace": "a", "name": "b"}, "addressType": "FQDN"}),
    );
    assert_eq!((reduced.object, reduced.problems), (None, vec![]));
}

#[test]
fn an_object_and_its_events_have_one_name() {
    for kind in Kind::ALL {
        let object = json!({"metadata": {"namespace": "a", "name": "b"}, "addressType": "IPv4",
            "data": {"ca.crt": ""}});
        let reduced = reduce(kind, &object);
        assert_eq!(reduced.object.unwrap().key(), &reduced.key, "{kind}");
    }
}

#[test]
fn a_pods_cgroups_have_its_uid_or_the_hash_of_its_file() {
    let uid = "1cd0d3d5-8f5f-4d4e-a3a7-5a0f2f3b9c11";
    let hash = "0123456789abcdef0123456789abcdef";
    let read = |metadata: &Value| match reduce(Kind::Pod, &json!({"metadata": metadata})).object {
        Some(Object::Pod(pod)) => pod.uid,
        other => panic!("{other:?}"),
    };
    let plain = json!({"name": "p", "namespace": "n", "uid": uid});
    assert!(read(&plain).is_some());
    assert_eq!(read(&plain), PodUid::parse(uid));
    let of_a_file = json!({"name": "p", "namespace": "n", "uid": uid,
        "annotations": {"kubernetes.io/config.hash": hash}});
    assert_eq!(read(&of_a_file), PodUid::parse(hash));
    for none in ["", "1cd0d3d5", "not-a-uid-not-a-uid-not-a-uid-xx"] {
        let metadata = json!({"name": "p", "namespace": "n", "uid": none});
        assert_eq!(read(&metadata), None, "{none:?}");
    }
}

#[test]
fn a_secrets_values_do_not_show() {
    let object =
        json!({"metadata": {"namespace": "a", "name": "b"}, "data": {"password": "c2VjcmV0"}});
    let reduced = reduce(Kind::Secret, &object);
    let text = format!("{reduced:?}");
    assert!(
        text.contains("password") && !text.contains("c2VjcmV0") && !text.contains("115, 101, 99"),
        "{text}"
    );
    let Some(Object::Secret(secret)) = reduced.object else {
        panic!("left out")
    };
    assert_eq!(&*secret.data["password"], b"secret");
}

#[test]
fn an_object_without_a_usable_name_is_left_out_and_says_so() {
    for (metadata, field) in [
        (json!({}), "metadata.name"),
        (Value::Null, "metadata.name"),
        (json!({"name": ""}), "metadata.name"),
        (json!({"name": 7}), "metadata.name"),
        (json!({"name": "a", "namespace": 7}), "metadata.namespace"),
    ] {
        for object in [
            json!({"metadata": metadata}),
            json!([]),
            json!("x"),
            json!(null),
        ] {
            let reduced = reduce(Kind::Service, &object);
            assert_eq!(reduced.object, None, "{object}");
            let fields: Vec<_> = reduced.problems.iter().map(|found| &found.field).collect();
            let expected = if object.is_object() {
                field
            } else {
                "metadata.name"
            };
            assert_eq!(fields, [expected], "{object}");
        }
    }
}
