//! Answers for a cluster of JSON and tables made from it, as the applier makes them.

mod cluster;
mod fake;
mod held;
mod results;

use expect_test::{Expect, expect};
use model::{Kind, Protocol};
use serde_json::json;

use super::{Connect, ExplainError, Facts, Question, Topic, Verdict, explain};
use crate::control::table;
use fake::Scene;

const ATTACHED: Connect<'_> = Connect::Attached("/sys/fs/cgroup");
const ABSENT: Connect<'_> = Connect::Absent("no cgroup v2 is mounted");

impl Scene {
    fn ask(
        &self,
        from: &str,
        to: &str,
        protocol: Option<Protocol>,
        connect: Connect<'_>,
    ) -> Result<super::Explanation, ExplainError> {
        let question = Question {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            protocol,
        };
        let facts = Facts {
            lookups: &self.tables,
            cluster: &self.cluster,
            desired: &self.desired,
            connect,
            fast_path: &self.fast_path,
            policed: self.policed,
            failures: &[],
            problems: &[],
        };
        explain(&question, &facts)
    }

    #[track_caller]
    fn check(&self, from: &str, to: &str, connect: Connect<'_>, expected: Expect) {
        let answer = self.ask(from, to, None, connect).unwrap();
        expected.assert_eq(&table::explanation(&answer));
    }

    /// The steps about some topics, and the result.
    #[track_caller]
    fn check_steps(&self, from: &str, to: &str, topics: &[Topic], expected: Expect) {
        let mut answer = self.ask(from, to, None, ATTACHED).unwrap();
        answer.steps.retain(|step| topics.contains(&step.topic));
        expected.assert_eq(&table::explanation(&answer));
    }

    #[track_caller]
    fn check_result(&self, from: &str, to: &str, expected: Expect) {
        let text = match self.ask(from, to, None, ABSENT) {
            Ok(answer) => format!("{}: {}", answer.verdict.as_str(), answer.result),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }
}

#[test]
fn a_pods_connection_is_explained_from_client_to_backend() {
    let scene = Scene::new();
    scene.check("shop/cart", "shop/web", ATTACHED, expect![[r#"
         1. client
            looked at   10.244.1.5
            found       Pod shop/cart of this node
            so          inside: a client of this node, whose packets come by its interface here
            because of  Pod shop/cart
         2. frontend
            looked at   FRONTENDS_V2[10.96.0.10:80/tcp]
            found       service 10
            so          it is the ClusterIP of this object
            because of  Service shop/web port `http`/tcp
         3. where
            looked at   the connect programs
            found       attached to /sys/fs/cgroup
            so          chosen when a process in there connects, once; others' packets go through the same tables
         4. pool
            looked at   SERVICES_V2[10], the pool of every endpoint
            found       10.244.1.2:8080 (backend 18), 10.244.2.2:8080 (backend 19), 10.244.2.3:8080 (backend 20)
            so          one of these 3 is chosen (internalTrafficPolicy: Cluster)
            because of  Service shop/web port `http`/tcp
         5. choice
            looked at   SERVICES_V2[10], the ring
            found       no ring: the endpoints weigh the same
            so          any of 3 slots, at random
            because of  Service shop/web port `http`/tcp
         6. source address
            looked at   the socket
            found       connect is given the backend's address
            so          the connection is one to the backend itself: no packet is translated

        10.244.1.5 -> 10.96.0.10:80/tcp becomes one of: 10.244.1.5 -> 10.244.1.2:8080, 10.244.1.5 -> 10.244.2.2:8080, 10.244.1.5 -> 10.244.2.3:8080
    "#]]);
    scene.check("shop/cart:4000", "shop/web:http", ABSENT, expect![[r#"
         1. client
            looked at   10.244.1.5:4000
            found       Pod shop/cart of this node
            so          inside: a client of this node, whose packets come by its interface here
            because of  Pod shop/cart
         2. frontend
            looked at   FRONTENDS_V2[10.96.0.10:80/tcp]
            found       service 10
            so          it is the ClusterIP of this object
            because of  Service shop/web port `http`/tcp
         3. existing connection
            looked at   CONNECTIONS_V2 and OPENING_V2[10.244.1.5:4000 -> 10.96.0.10:80/tcp]
            found       nothing
            so          the next packet opens a connection
         4. where
            looked at   the connect programs
            found       not attached: no cgroup v2 is mounted
            so          chosen for the first packet, and each packet is translated
         5. pool
            looked at   SERVICES_V2[10], the pool of every endpoint
            found       10.244.1.2:8080 (backend 18), 10.244.2.2:8080 (backend 19), 10.244.2.3:8080 (backend 20)
            so          one of these 3 is chosen (internalTrafficPolicy: Cluster)
            because of  Service shop/web port `http`/tcp
         6. choice
            looked at   SERVICES_V2[10], the ring
            found       no ring: the endpoints weigh the same
            so          slot 0 of 3, by the hash 0x36af7dcf of the five-tuple: 10.244.1.2:8080
            because of  Service shop/web port `http`/tcp
         7. source address
            looked at   SETTINGS_V2, towards 10.244.1.2:8080
            found       the reply comes back to the pod through this node
            so          kept

        10.244.1.5:4000 -> 10.96.0.10:80/tcp becomes 10.244.1.5:4000 -> 10.244.1.2:8080
    "#]]);
}

#[test]
fn a_client_outside_gets_the_nodes_address_where_the_backend_is_elsewhere() {
    let scene = Scene::new();
    scene.check_steps(
        "172.30.0.2",
        "172.31.0.1:30080",
        &[Topic::Frontend, Topic::Pool, Topic::Source],
        expect![[r#"
             1. frontend
                looked at   FRONTENDS_V2[172.31.0.1:30080/tcp]
                found       service 10, an address of this node
                so          it is the NodePort of this object
                because of  Service shop/web port `http`/tcp
             2. pool
                looked at   SERVICES_V2[10], the pool of every endpoint
                found       10.244.1.2:8080 (backend 18), 10.244.2.2:8080 (backend 19), 10.244.2.3:8080 (backend 20)
                so          one of these 3 is chosen (externalTrafficPolicy: Cluster)
                because of  Service shop/web port `http`/tcp
             3. source address
                looked at   SETTINGS_V2, towards 10.244.1.2:8080
                found       the backend is on this node, so its reply passes here
                so          kept
             4. source address
                looked at   SETTINGS_V2, towards 10.244.2.2:8080, 10.244.2.3:8080
                found       the backend's reply would not pass this node
                so          becomes the node's, 172.31.0.1, a free port of 1024-29999

            172.30.0.2 -> 172.31.0.1:30080/tcp becomes one of: 172.30.0.2 -> 10.244.1.2:8080, 172.31.0.1 (a free port of 1024-29999) -> 10.244.2.2:8080, 172.31.0.1 (a free port of 1024-29999) -> 10.244.2.3:8080
        "#]],
    );
}

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
fn a_connection_out_of_the_cluster_says_as_what_it_leaves_or_why_not() {
    let scene = Scene::masquerading(&["192.0.2.0/24"]);
    for (to, expected) in [
        (
            "198.51.100.9:443",
            expect![[r#"
             1. leaving the cluster
                looked at   EGRESS_V1[198.51.100.9]
                found       no network that knows pods by their own addresses
                so          by an uplink the packet leaves as 172.31.0.1, a free port of 1024-29999 (--enable-pod-egress)

            10.244.1.5 -> 198.51.100.9:443/tcp leaves the cluster as 172.31.0.1 (a free port of 1024-29999)
        "#]],
        ),
        (
            "192.0.2.7:443",
            expect![[r#"
             1. leaving the cluster
                looked at   EGRESS_V1[192.0.2.7]
                found       192.0.2.0/24: excluded
                so          the packet keeps the pod's address

            10.244.1.5 -> 192.0.2.7:443/tcp passes untouched
        "#]],
        ),
        (
            "172.31.0.2:6443",
            expect![[r#"
             1. leaving the cluster
                looked at   EGRESS_V1[172.31.0.2]
                found       172.31.0.2/32: an address of node2
                so          the packet keeps the pod's address

            10.244.1.5 -> 172.31.0.2:6443/tcp passes untouched
        "#]],
        ),
        (
            "[2001:db8::9]:443",
            expect![[r#"
             1. leaving the cluster
                looked at   EGRESS_V1[2001:db8::9]
                found       no network that knows pods by their own addresses
                so          no uplink has an address of this family: the packet keeps the pod's

            fd00:244:1::5 -> [2001:db8::9]:443/tcp passes untouched
        "#]],
        ),
    ] {
        scene.check_steps("shop/cart", to, &[Topic::Egress], expected);
    }
    scene.check_result(
        "172.31.9.9",
        "198.51.100.9:443",
        expect!["untouched: 172.31.9.9 -> 198.51.100.9:443/tcp passes untouched"],
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
fn a_hashed_choice_is_one_backend() {
    let scene = Scene::new();
    scene.check_steps(
        "shop/cart",
        "shop/hashed",
        &[Topic::Where, Topic::Choice],
        expect![[r#"
             1. where
                looked at   the connect programs
                found       they leave service 3 to the packets: a hash or affinity needs them
                so          chosen for the first packet, and each packet is translated
             2. choice
                looked at   RINGS_V2[1], entry 417 of 509
                found       hash 0x6a79c5ff of the protocol, the client's address
                so          always 10.244.2.3:8080 (backend 4)
                because of  Service shop/hashed port `http`/tcp

            10.244.1.5 -> 10.96.0.16:80/tcp becomes 10.244.1.5 -> 10.244.2.3:8080
        "#]],
    );
}

#[test]
fn weights_are_shares_of_the_ring() {
    let scene = Scene::new();
    scene.check_steps(
        "shop/cart",
        "shop/weighted",
        &[Topic::Choice],
        expect![[r#"
             1. choice
                looked at   RINGS_V2[2], 509 entries
                found       10.244.1.2:8080 60 %, 10.244.2.2:8080 20 %, 10.244.2.3:8080 20 %
                so          any entry, at random; so each endpoint by its weight
                because of  Service shop/weighted port `http`/tcp

            10.244.1.5 -> 10.96.0.17:80/tcp becomes one of: 10.244.1.5 -> 10.244.1.2:8080, 10.244.1.5 -> 10.244.2.2:8080, 10.244.1.5 -> 10.244.2.3:8080
        "#]],
    );
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

#[test]
fn direct_return_is_a_tunnel_for_clients_outside_alone() {
    let scene = Scene::new();
    scene.check_steps(
        "172.30.0.2:4000",
        "203.0.113.10:80",
        &[
            Topic::Pool,
            Topic::Choice,
            Topic::Source,
            Topic::DirectReturn,
        ],
        expect![[r#"
             1. pool
                looked at   SERVICES_V2[1], the pool of every endpoint
                found       10.244.2.2:8080 (backend 1)
                so          it gets every connection (externalTrafficPolicy: Cluster)
                because of  Service shop/direct port `http`/tcp
             2. choice
                looked at   SERVICES_V2[1], the ring
                found       one endpoint
                so          10.244.2.2:8080
                because of  Service shop/direct port `http`/tcp
             3. direct return
                looked at   FRONTENDS_V2 and BACKENDS_V2
                found       10.244.2.2:8080 by 172.31.0.2
                so          the packet goes there in a tunnel, as it is; the reply leaves from there
                because of  Service shop/direct port `http`/tcp

            172.30.0.2:4000 -> 203.0.113.10:80/tcp becomes itself in a tunnel to 172.31.0.2, for 10.244.2.2:8080
        "#]],
    );
    let inside = scene.ask(
        "shop/cart",
        "203.0.113.10:80",
        Some(Protocol::Tcp),
        ATTACHED,
    );
    assert_eq!(inside.unwrap().verdict, Verdict::Balanced);
}

#[test]
fn what_another_node_decides_is_told_as_far_as_this_one_knows_it() {
    let policy = |name: &str, ingress| {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress});
        let manifest = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
        (Kind::NetworkPolicy, manifest)
    };
    let from_away = json!([{"from": [{"ipBlock": {"cidr": "10.244.2.0/24"}}]}]);
    let scene = Scene::policed(vec![policy("some", from_away)]);
    scene.check_steps("shop/cart", "10.244.2.5:80", &[Topic::Policy], expect![[r#"
         1. network policy
            looked at   egress of 10.244.1.5: 10.244.2.5:80/tcp
            found       no policy says anything of it
            so          it passes
         2. network policy
            looked at   ingress of 10.244.2.5: 10.244.1.5 to port 80/tcp
            found       Pod shop/away is of node2, whose agent decides; as this node knows the policies, NetworkPolicy shop/some isolates the pod, and no rule allows it
            so          it is to be dropped there
            because of  NetworkPolicy shop/some

        10.244.1.5 -> 10.244.2.5:80/tcp passes untouched; the pod's node decides, and is to drop it: 10.244.2.5:80
    "#]]);
    scene.check_steps("10.244.2.9", "10.244.2.5:80", &[Topic::Policy], expect![[r#"
         1. network policy
            looked at   ingress of 10.244.2.5: 10.244.2.9 to port 80/tcp
            found       Pod shop/away is of node2, whose agent decides; as this node knows the policies, rule 0 of NetworkPolicy shop/some decides
            so          it is to pass there
            because of  NetworkPolicy shop/some

        10.244.2.9 -> 10.244.2.5:80/tcp passes untouched
    "#]]);
    // Of who is no pod there is nothing to say.
    scene.check_steps(
        "shop/cart",
        "192.0.2.1:80",
        &[Topic::Policy],
        expect![[r#"
         1. network policy
            looked at   egress of 10.244.1.5: 192.0.2.1:80/tcp
            found       no policy says anything of it
            so          it passes

        10.244.1.5 -> 192.0.2.1:80/tcp passes untouched
    "#]],
    );
}

#[test]
fn the_answer_as_json_is_read_back_as_it_was() {
    let answer = Scene::new()
        .ask("shop/cart", "shop/empty", None, ATTACHED)
        .unwrap();
    let value = serde_json::to_value(&answer).unwrap();
    assert_eq!(value["verdict"], json!("rejected"));
    assert_eq!(
        serde_json::from_value::<super::Explanation>(value).unwrap(),
        answer
    );
}
