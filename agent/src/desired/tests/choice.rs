//! Which endpoints get whose connections.

use expect_test::expect;
use model::Kind;
use serde_json::json;

use super::{applied, check, cluster};
use crate::desired::{Choice, Desired};

pub(super) const HERE_AND_THERE: &str =
    "endpoint: 10.0.1.5 80 on=node1\nendpoint: 10.0.2.5 80 on=node2";

#[test]
fn external_policy_local_gives_outsiders_local_endpoints_and_insiders_all() {
    check(
        &format!(
            r#"service: web 10.96.0.10 80/tcp type=LoadBalancer node=30080 spec={{"externalTrafficPolicy":"Local"}} status={{"loadBalancer":{{"ingress":[{{"ip":"203.0.113.1"}}]}}}}
            {HERE_AND_THERE}"#
        ),
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
            172.31.0.1:30080/tcp -> 10.0.1.5:80 local, 10.0.2.5:80 | 10.0.1.5:80 local
            192.0.2.1:30080/tcp -> 10.0.1.5:80 local, 10.0.2.5:80 | 10.0.1.5:80 local
            203.0.113.1:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80 | 10.0.1.5:80 local
        "#]],
    );
}

#[test]
fn internal_policy_local_keeps_to_the_node_and_drops_where_it_has_none() {
    let service = r#"service: web 10.96.0.10 80/tcp spec={"internalTrafficPolicy":"Local"}"#;
    check(
        &format!("{service}\n{HERE_AND_THERE}"),
        &expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80 local
    "#]],
    );
    check(
        &format!("{service}\nendpoint: 10.0.2.5 80 on=node2"),
        &expect![[r#"
            10.96.0.10:80/tcp -> reject
        "#]],
    );
}

#[test]
fn a_local_pool_falls_back_to_its_own_terminating_endpoints() {
    check(
        r#"service: web 10.96.0.10 80/tcp spec={"internalTrafficPolicy":"Local"}
           endpoint: 10.0.1.5 80 on=node1 serving terminating
           endpoint: 10.0.2.5 80 on=node2"#,
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.1.5:80 local
        "#]],
    );
}

#[test]
fn zones_are_preferred_where_hints_or_the_distribution_say_so() {
    for (service, expected) in [
        (
            "",
            expect![[r#"
            10.96.0.10:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80, 10.0.3.5:80
        "#]],
        ),
        (
            r#"spec={"trafficDistribution":"PreferClose"}"#,
            expect![[r#"
                10.96.0.10:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
            "#]],
        ),
        (
            r#"spec={"trafficDistribution":"PreferSameZone"}"#,
            expect![[r#"
                10.96.0.10:80/tcp -> 10.0.1.5:80 local, 10.0.2.5:80
            "#]],
        ),
        (
            r#"spec={"trafficDistribution":"PreferSameNode"}"#,
            expect![[r#"
                10.96.0.10:80/tcp -> 10.0.1.5:80 local
            "#]],
        ),
    ] {
        check(
            &format!(
                "service: web 10.96.0.10 80/tcp {service}
                 endpoint: 10.0.1.5 80 on=node1 zone=a
                 endpoint: 10.0.2.5 80 on=node2 zone=a
                 endpoint: 10.0.3.5 80 on=node3 zone=b"
            ),
            &expected,
        );
    }
    let hinted = "service: web 10.96.0.10 80/tcp
        endpoint: 10.0.2.5 80 on=node2 zone=b forzone=a
        endpoint: 10.0.3.5 80 on=node3 zone=b forzone=b";
    check(
        hinted,
        &expect![[r#"
        10.96.0.10:80/tcp -> 10.0.2.5:80
    "#]],
    );
    // One endpoint without a hint: the controller is not done, so hints are not to be trusted.
    check(
        &format!("{hinted}\nendpoint: 10.0.4.5 80 on=node4"),
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.2.5:80, 10.0.3.5:80, 10.0.4.5:80
        "#]],
    );
}

#[test]
fn hints_of_nodes_count_where_the_same_node_is_preferred() {
    let hinted = "endpoint: 10.0.2.5 80 on=node2 fornode=node1
        endpoint: 10.0.3.5 80 on=node1 fornode=node3";
    let preferring =
        r#"service: web 10.96.0.10 80/tcp spec={"trafficDistribution":"PreferSameNode"}"#;
    check(
        &format!("{preferring}\n{hinted}"),
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.2.5:80
        "#]],
    );
    // One without a hint: the node of each is what is known.
    check(
        &format!("{preferring}\n{hinted}\nendpoint: 10.0.4.5 80 on=node4"),
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.3.5:80 local
        "#]],
    );
    check(
        &format!("service: web 10.96.0.10 80/tcp\n{hinted}"),
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.2.5:80, 10.0.3.5:80 local
        "#]],
    );
}

#[test]
fn not_ready_endpoints_are_published_on_request() {
    check(
        r#"service: web 10.96.0.10 80/tcp spec={"publishNotReadyAddresses":true}
           endpoint: 10.0.1.5 80 notready"#,
        &expect![[r#"
            10.96.0.10:80/tcp -> 10.0.1.5:80
        "#]],
    );
}

#[test]
fn schedulers_are_mapped_to_the_nearest_and_it_is_said() {
    for scheduler in ["rr", "lc", "sh", "dh", "mh", "random"] {
        let desired = super::compile(&format!(
            "service: web 10.96.0.10 80/tcp scheduler={scheduler}\n{HERE_AND_THERE}"
        ));
        let unit = desired.services.values().next().unwrap();
        let notes: Vec<_> = desired.notes().map(|(_, note)| note.to_owned()).collect();
        let expected = match scheduler {
            "rr" | "lc" => "Random 1",
            "random" => "Random 0",
            "dh" => "Hash { source: false, port: false, destination: true } 0",
            _ => "Hash { source: true, port: false, destination: false } 0",
        };
        assert_eq!(
            format!("{:?} {}", unit.choice, notes.len()),
            expected,
            "{scheduler}"
        );
    }
}

#[test]
fn kube_routers_flag_of_the_source_port_makes_the_port_count() {
    for (flags, port) in [("flag-1", false), ("flag-2", true), ("flag-1,flag-2", true)] {
        let mut object = json!({
            "metadata": {"namespace": "shop", "name": "web", "annotations": {
                "kube-router.io/service.scheduler": "mh", "kube-router.io/service.schedflags": flags}},
            "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "p", "port": 80}]}});
        let mut cluster = cluster("");
        applied(&mut cluster, Kind::Service, &object);
        let desired = Desired::compile(&cluster, super::context(&cluster));
        let choice = desired.services.values().next().unwrap().choice;
        let expected = Choice::Hash {
            source: true,
            port,
            destination: false,
        };
        assert_eq!(choice, expected, "{flags}");
        let notes: Vec<_> = desired.notes().map(|(_, note)| note.to_owned()).collect();
        assert_eq!(notes.len(), usize::from(flags.contains('1')), "{notes:?}");
        // It is of `mh` alone.
        object["metadata"]["annotations"]["kube-router.io/service.scheduler"] = json!("sh");
        applied(&mut cluster, Kind::Service, &object);
        let desired = Desired::compile(&cluster, super::context(&cluster));
        let choice = desired.services.values().next().unwrap().choice;
        let expected = Choice::Hash {
            source: true,
            port: false,
            destination: false,
        };
        assert_eq!(choice, expected, "{flags}");
        let ignored = desired
            .notes()
            .filter(|(_, note)| note.contains("mh alone"));
        assert_eq!(ignored.count(), flags.split(',').count());
    }
}

#[test]
fn an_endpoint_that_takes_nothing_new_is_near_to_nobody() {
    let text = r#"service: web 10.96.0.10 80/tcp weights=10.0.1.5=0 spec={"trafficDistribution":"PreferSameNode"}"#;
    check(
        &format!("{text}\n{HERE_AND_THERE}"),
        &expect![[r#"
        10.96.0.10:80/tcp -> 10.0.2.5:80
    "#]],
    );
}

#[test]
fn weights_go_by_the_first_entry_that_fits_and_zero_only_drains() {
    let desired = super::compile(&format!(
        "service: web 10.96.0.10 80/tcp weights=10.0.1.5=0,node/node2=3,*=2\n{HERE_AND_THERE}\nendpoint: 10.0.3.5 80 on=node3"
    ));
    let unit = desired.services.values().next().unwrap();
    let weights: Vec<_> = unit
        .backends
        .iter()
        .map(|backend| (backend.to_string(), backend.pools.cluster, backend.weight))
        .collect();
    assert_eq!(
        weights,
        [
            ("10.0.1.5:80".to_owned(), false, 1),
            ("10.0.2.5:80".to_owned(), true, 3),
            ("10.0.3.5:80".to_owned(), true, 2),
        ]
    );
}

#[test]
fn health_is_told_of_services_with_local_policy() {
    let desired = super::compile(&format!(
        r#"service: web 10.96.0.10 80/tcp type=LoadBalancer spec={{"externalTrafficPolicy":"Local","healthCheckNodePort":30999}}
        {HERE_AND_THERE}
        service: all 10.96.0.11 80/tcp type=LoadBalancer spec={{"healthCheckNodePort":30998}}"#
    ));
    let checks: Vec<_> = desired
        .health_checks()
        .into_values()
        .map(|check| {
            (
                check.port.get(),
                check.service.to_string(),
                check.local_endpoints,
            )
        })
        .collect();
    assert_eq!(checks, [(30999, "shop/web".to_owned(), 1)]);
}
