//! Connections that reach no backend.

use expect_test::expect;

use super::fake::Scene;
use crate::explain::Topic;

#[test]
fn an_address_of_no_service_comes_with_what_is_near() {
    let scene = Scene::new();
    scene.check_steps(
        "shop/cart",
        "10.96.0.10:81",
        &[Topic::Frontend, Topic::Service],
        expect![[r#"
             1. frontend
                looked at   FRONTENDS_V2[10.96.0.10:81/tcp]
                found       nothing
                so          no Service has this address, port and protocol: packets pass untouched
             2. frontend
                looked at   what else is wanted at 10.96.0.10
                found       80/tcp (Service shop/web port `http`/tcp)
                so          another port or protocol may have been meant
             3. Service
                looked at   who claims 10.96.0.10
                found       Service shop/web
                so          its ports are 80/tcp
                because of  Service shop/web

            10.244.1.5 -> 10.96.0.10:81/tcp passes untouched
        "#]],
    );
    scene.check_steps(
        "shop/cart",
        "shop/foreign",
        &[Topic::Frontend, Topic::Service],
        expect![[r#"
             1. frontend
                looked at   FRONTENDS_V2[10.96.0.15:80/tcp]
                found       nothing
                so          no Service has this address, port and protocol: packets pass untouched
             2. Service
                looked at   who claims 10.96.0.15
                found       Service shop/foreign
                so          its label gives it to another proxy, other
                because of  Service shop/foreign

            10.244.1.5 -> 10.96.0.15:80/tcp passes untouched
        "#]],
    );
}

#[test]
fn a_service_without_endpoints_says_why_it_has_none() {
    let scene = Scene::new();
    scene.check_steps(
        "shop/cart",
        "shop/unready",
        &[Topic::Pool],
        expect![[r#"
         1. pool
            looked at   SERVICES_V2[9], the pool of every endpoint
            found       it is empty: none of its 3 IPv4 endpoints is ready
            so          connections are refused at once (internalTrafficPolicy: Cluster)
            because of  Service shop/unready port `http`/tcp

        10.244.1.5 -> 10.96.0.12:80/tcp is rejected: none of its 3 IPv4 endpoints is ready
    "#]],
    );
    scene.check_steps("shop/cart", "shop/local", &[Topic::Pool], expect![[r#"
         1. pool
            looked at   SERVICES_V2[4], the pool of this node's endpoints
            found       it is empty: none of the endpoints in use (1) is on node1
            so          connections are dropped, for others' endpoints are not for this client (internalTrafficPolicy: Local)
            because of  Service shop/local port `http`/tcp

        10.244.1.5 -> 10.96.0.13:80/tcp is dropped: none of the endpoints in use (1) is on node1
    "#]]);
}

#[test]
fn a_source_outside_of_the_ranges_is_dropped() {
    let scene = Scene::new();
    scene.check_result("198.51.100.7", "203.0.113.9:80", expect!["dropped: 198.51.100.7 -> 203.0.113.9:80/tcp is dropped: 198.51.100.7 is in no source range"]);
    scene.check_steps(
        "192.0.2.1",
        "203.0.113.9:80",
        &[Topic::SourceRanges],
        expect![[r#"
             1. source ranges
                looked at   SOURCES_V2[5, 192.0.2.1]
                found       a range of 192.0.2.0/24
                so          the client may come
                because of  Service shop/ranged port `http`/tcp

            192.0.2.1 -> 203.0.113.9:80/tcp becomes one of: 192.0.2.1 -> 10.244.1.2:8080, 172.31.0.1 (a free port of 1024-29999) -> 10.244.2.2:8080, 172.31.0.1 (a free port of 1024-29999) -> 10.244.2.3:8080
        "#]],
    );
}
