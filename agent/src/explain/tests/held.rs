//! Tables that hold more, or less, than a first apply leaves.

use std::net::{IpAddr, SocketAddr};

use agent_abi::connection::{CONNECTION_FORWARD, ConnectionV3, TupleV1};
use agent_abi::service::{AffinityKeyV1, AffinityV1};
use bytemuck::Zeroable as _;
use expect_test::expect;
use model::Protocol;

use super::fake::Scene;
use super::{ABSENT, ATTACHED};
use crate::explain::Topic;
use crate::lb::ebpf::entries::address;

fn tuple(from: &str, to: &str) -> TupleV1 {
    let [from, to] = [from, to].map(|text| text.parse::<SocketAddr>().unwrap());
    TupleV1 {
        source: address(from.ip()),
        destination: address(to.ip()),
        source_port: from.port().to_be_bytes(),
        destination_port: to.port().to_be_bytes(),
        protocol: Protocol::Tcp.number(),
        _pad: [0; 3],
    }
}

#[test]
fn a_connection_that_is_there_decides_unless_it_has_ended() {
    let mut scene = Scene::new();
    let key = tuple("10.244.1.5:4000", "10.96.0.10:80");
    let backend = scene.backend("10.244.2.2");
    let entry = ConnectionV3 {
        rewrite: tuple("10.244.1.5:4000", "10.244.2.2:8080"),
        backend,
        flags: CONNECTION_FORWARD,
        service: 1,
        last_seen: scene.tables.now - 7_000_000_000,
        ..ConnectionV3::zeroed()
    };
    scene.tables.connections.insert(key, entry);
    scene.check_steps(
        "shop/cart:4000",
        "shop/web",
        &[Topic::Connection, Topic::Choice],
        expect![[r#"
             1. existing connection
                looked at   CONNECTIONS_V3[10.244.1.5:4000 -> 10.96.0.10:80/tcp]
                found       10.244.1.5:4000 -> 10.244.2.2:8080; backend 19, service 1, from client to Service, silent for 7 s
                so          its packets become what the entry says; nothing is chosen

            10.244.1.5:4000 -> 10.96.0.10:80/tcp becomes 10.244.1.5:4000 -> 10.244.2.2:8080
        "#]],
    );
    scene.tables.backends.remove(&backend);
    let answer = scene.ask("shop/cart:4000", "shop/web", None, ABSENT);
    let step = answer
        .unwrap()
        .steps
        .into_iter()
        .find(|step| step.looked_at.starts_with("CONNECTIONS"));
    expect!["its backend is gone: what is on its way still follows the entry, a SYN opens anew"]
        .assert_eq(&step.unwrap().follows);
}

#[test]
fn a_client_with_affinity_keeps_its_backend_until_it_was_silent() {
    let mut scene = Scene::new();
    let backend = scene.backend_of("shop/sticky", "10.244.2.2");
    let client: IpAddr = "10.244.1.5".parse().unwrap();
    let key = AffinityKeyV1 {
        address: address(client),
        service: scene.service_of("shop/sticky"),
        pool: 0,
    };
    let mut expected = [
        expect!["10.244.2.2:8080 (backend 10), last used 30 s ago: kept, as 60 s have not passed"],
        expect!["10.244.2.2:8080 (backend 10), last used 61 s ago: 60 s have passed: chosen anew"],
    ]
    .into_iter();
    for seconds in [30, 61] {
        let entry = AffinityV1 {
            backend,
            _pad: 0,
            last_seen: scene.tables.now - seconds * 1_000_000_000,
        };
        scene.tables.affinity.insert(key, entry);
        let answer = scene
            .ask("shop/cart", "shop/sticky", None, ATTACHED)
            .unwrap();
        let step = answer
            .steps
            .into_iter()
            .find(|step| step.looked_at.starts_with("AFFINITY"));
        let step = step.unwrap();
        expected
            .next()
            .unwrap()
            .assert_eq(&format!("{}: {}", step.found, step.follows));
    }
}

#[test]
fn tables_that_are_not_as_wanted_are_marked() {
    let mut scene = Scene::new();
    let differing = |scene: &Scene| -> Vec<String> {
        let answer = scene.ask("shop/cart", "shop/web", None, ATTACHED).unwrap();
        let steps = answer.steps.into_iter().filter(|step| step.differs);
        steps
            .map(|step| format!("{}: {}: {}", step.looked_at, step.found, step.follows))
            .collect()
    };
    assert!(differing(&scene).is_empty());
    let backend = scene.backend("10.244.2.2");
    scene.tables.backends.remove(&backend);
    expect![[r#"
        SLOTS_V2[10, 1]: no backend: the choice is repeated, and the packet dropped when that does not help
        the pool beside what is wanted: lacks 10.244.2.2:8080; has nobody beyond it: the kernel's pool is explained; see `fairlead-agent status` for why it is not in force"#]].assert_eq(&differing(&scene).join("\n"));
    scene.tables.services.clear();
    expect!["SERVICES_V2[10]: nothing: a frontend without its service is rejected"]
        .assert_eq(&differing(&scene).join("\n"));
    scene.tables.frontends.clear();
    expect!["FRONTENDS_V2[10.96.0.10:80/tcp]: nothing, though it is wanted: packets pass untouched until it is there: it has not been applied yet"].assert_eq(&differing(&scene).join("\n"));
}
