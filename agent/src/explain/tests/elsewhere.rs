//! What happens beyond this node: tunnels, other nodes, addresses out of the cluster.

use expect_test::expect;
use model::{Kind, Protocol};
use serde_json::json;

use super::ATTACHED;
use super::fake::Scene;
use crate::explain::{Topic, Verdict};

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
