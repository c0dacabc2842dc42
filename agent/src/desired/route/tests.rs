//! Nodes in, ways out.
//!
//! A line a node: `NAME created=N NETWORK,NETWORK at ADDRESS,ADDRESS`; `me` is this node, at
//! 172.31.0.1/24 and fd00:31::1/64.

use std::sync::Arc;

use expect_test::{Expect, expect};
use model::{Event, Object, k8s};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::desired::Desired;

const ME: &str = "me created=5 10.244.5.0/24,fd00:244:5::/64 at 172.31.0.1,fd00:31::1";
const VXLAN: Encapsulation = Encapsulation::Vxlan { vni: 1, port: 4789 };

fn event(line: &str) -> Event {
    let (head, addresses) = line.split_once(" at").unwrap();
    let mut words = head.split(' ');
    let name = words.next().unwrap();
    let created = words.next().unwrap().strip_prefix("created=").unwrap();
    let list = |text: &str| -> Vec<String> {
        let items = text.trim().split(',').filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    };
    let addresses = list(addresses).into_iter();
    let addresses: Vec<_> = addresses
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    let node = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{created}Z")},
        "spec": {"podCIDRs": list(words.next().unwrap_or_default())}, "status": {"addresses": addresses}});
    let reduced = k8s::reduce(Kind::Node, &node);
    let Some(Object::Node(object)) = reduced.object else {
        panic!("{line}: {:?}", reduced.problems)
    };
    Event::Applied {
        kind: Kind::Node,
        key: object.key.clone(),
        object: Some(Object::Node(object)),
        problems: reduced.problems,
    }
}

fn cluster(lines: &[&str]) -> Cluster {
    let mut cluster = Cluster::default();
    lines.iter().for_each(|line| cluster.apply(event(line)));
    cluster
}

fn context(cluster: &Cluster, overlay: OverlayUse, encapsulation: Encapsulation) -> NodeContext {
    let context = NodeContext::of(
        cluster,
        &"me".into(),
        &Arc::default(),
        &BTreeSet::new(),
        1500,
    );
    let networks = ["172.31.0.1/24", "fd00:31::1/64"].map(|network| network.parse().unwrap());
    let of_node = |network: &IpNet| context.addresses.contains(&network.addr());
    NodeContext {
        networks: networks.into_iter().filter(of_node).collect(),
        router: Some(RouterOptions {
            overlay,
            encapsulation,
            multipath: true,
        }),
        ..context
    }
}

fn describe(routes: &Routes) -> String {
    let mut text = String::new();
    for (network, route) in &routes.to {
        let (way, source) = match &route.way {
            Way::Direct(hops) => {
                let via: Vec<_> = hops.iter().map(|hop| hop.gateway.to_string()).collect();
                let as_whom = hops.first().filter(|_| hops.len() == 1);
                let source = as_whom.map(|hop| hop.network.addr());
                (format!("via {}", via.join(" and ")), source)
            }
            Way::Overlay { peer, source } => (format!("overlay to {peer}"), *source),
        };
        let source = source.map_or("any".to_owned(), |s| s.to_string());
        text += &format!("{network} {way} as {source} ({})\n", route.node);
    }
    for own in &routes.own {
        text += &format!("{own} own\n");
    }
    if let Some(overlay) = &routes.overlay {
        let peers: Vec<_> = overlay
            .peers
            .keys()
            .map(|(peer, _)| peer.to_string())
            .collect();
        let (local, mtu) = (overlay.local, overlay.mtu);
        text += &format!("overlay at {local} mtu {mtu} to [{}]\n", peers.join(" "));
    }
    text += &format!("mtu {:?}\n", routes.mtu);
    for problem in routes.problems() {
        text += &format!("! {problem}\n");
    }
    text
}

#[track_caller]
fn check(lines: &[&str], overlay: OverlayUse, encapsulation: Encapsulation, expected: &Expect) {
    let cluster = cluster(lines);
    let routes = Routes::compile(&cluster, &context(&cluster, overlay, encapsulation)).unwrap();
    expected.assert_eq(&describe(&routes));
}

const NEAR: &str = "near created=1 10.244.1.0/24,fd00:244:1::/64 at 172.31.0.2,fd00:31::2";
const FAR: &str = "far created=2 10.244.2.0/24,fd00:244:2::/64 at 172.31.1.2,fd00:31:1::2";

#[test]
fn nodes_of_this_subnet_are_reached_directly_and_others_by_the_overlay() {
    check(
        &[ME, NEAR, FAR],
        OverlayUse::Subnet,
        VXLAN,
        &expect![[r#"
        10.244.1.0/24 via 172.31.0.2 as 172.31.0.1 (near)
        10.244.2.0/24 overlay to 172.31.1.2 as 172.31.0.1 (far)
        fd00:244:1::/64 via fd00:31::2 as fd00:31::1 (near)
        fd00:244:2::/64 overlay to 172.31.1.2 as fd00:31::1 (far)
        10.244.5.0/24 own
        fd00:244:5::/64 own
        overlay at 172.31.0.1 mtu 1450 to [172.31.1.2]
        mtu Some(1450)
    "#]],
    );
}

#[test]
fn a_node_in_several_networks_of_this_one_is_reached_by_each() {
    // Of two addresses in one network the first counts; what is not shared does not.
    let lines = [
        "me created=5 10.244.5.0/24,fd00:244:5::/64 at 172.31.0.1,192.0.2.1,fd00:31::1,fd00:77::1",
        "both created=1 10.244.1.0/24,fd00:244:1::/64 at 192.0.2.2,172.31.0.9,172.31.0.2,203.0.113.2,fd00:31::2,fd00:77::2",
        "one created=1 10.244.2.0/24 at 203.0.113.3,192.0.2.3",
    ];
    let cluster = cluster(&lines);
    let mut seen = context(&cluster, OverlayUse::Subnet, VXLAN);
    seen.networks = [
        "172.31.0.1/24",
        "192.0.2.1/24",
        "fd00:31::1/64",
        "fd00:77::1/64",
    ]
    .map(|network| network.parse().unwrap())
    .into_iter()
    .collect();
    let ways = |context: &NodeContext| {
        let text = describe(&Routes::compile(&cluster, context).unwrap());
        let lines: Vec<_> = text.lines().filter(|line| line.contains("via")).collect();
        lines.join("\n")
    };
    assert_eq!(
        ways(&seen),
        "10.244.1.0/24 via 172.31.0.9 and 192.0.2.2 as any (both)\n\
         10.244.2.0/24 via 192.0.2.3 as 192.0.2.1 (one)\n\
         fd00:244:1::/64 via fd00:31::2 and fd00:77::2 as any (both)"
    );
    // kube-router has one.
    seen.router.as_mut().unwrap().multipath = false;
    assert_eq!(
        ways(&seen),
        "10.244.1.0/24 via 192.0.2.2 as 192.0.2.1 (both)\n\
         10.244.2.0/24 via 192.0.2.3 as 192.0.2.1 (one)\n\
         fd00:244:1::/64 via fd00:31::2 as fd00:31::1 (both)"
    );
}

#[test]
fn the_overlay_can_be_for_all_or_for_none() {
    check(
        &[ME, NEAR, FAR],
        OverlayUse::Full,
        VXLAN,
        &expect![[r#"
        10.244.1.0/24 overlay to 172.31.0.2 as 172.31.0.1 (near)
        10.244.2.0/24 overlay to 172.31.1.2 as 172.31.0.1 (far)
        fd00:244:1::/64 overlay to 172.31.0.2 as fd00:31::1 (near)
        fd00:244:2::/64 overlay to 172.31.1.2 as fd00:31::1 (far)
        10.244.5.0/24 own
        fd00:244:5::/64 own
        overlay at 172.31.0.1 mtu 1450 to [172.31.0.2 172.31.1.2]
        mtu Some(1450)
    "#]],
    );
    check(
        &[ME, NEAR, FAR],
        OverlayUse::Off,
        VXLAN,
        &expect![[r#"
        10.244.1.0/24 via 172.31.0.2 as 172.31.0.1 (near)
        fd00:244:1::/64 via fd00:31::2 as fd00:31::1 (near)
        10.244.5.0/24 own
        fd00:244:5::/64 own
        mtu Some(1500)
        ! Node far: status.addresses has no IPv4 InternalIP in a network of this node, and --enable-overlay is false; pods of 10.244.2.0/24 are not reached
        ! Node far: status.addresses has no IPv6 InternalIP in a network of this node, and --enable-overlay is false; pods of fd00:244:2::/64 are not reached
    "#]],
    );
    check(
        &[ME, NEAR, FAR],
        OverlayUse::Subnet,
        Encapsulation::IpIp,
        &expect![[r#"
            10.244.1.0/24 via 172.31.0.2 as 172.31.0.1 (near)
            10.244.2.0/24 overlay to 172.31.1.2 as 172.31.0.1 (far)
            fd00:244:1::/64 via fd00:31::2 as fd00:31::1 (near)
            10.244.5.0/24 own
            fd00:244:5::/64 own
            overlay at 172.31.0.1 mtu 1480 to [172.31.1.2]
            mtu Some(1480)
            ! Node far: status.addresses is in no network of this node, and IPIP carries IPv4 alone; use --overlay-encap vxlan; pods of fd00:244:2::/64 are not reached
        "#]],
    );
}

#[test]
fn a_cluster_may_have_ipv6_alone() {
    check(
        &[
            "me created=5 fd00:244:5::/64 at fd00:31::1",
            "near created=1 fd00:244:1::/64 at fd00:31::2",
            "far created=2 fd00:244:2::/64,10.244.2.0/24 at fd00:31:1::2",
        ],
        OverlayUse::Subnet,
        VXLAN,
        &expect![[r#"
            fd00:244:1::/64 via fd00:31::2 as fd00:31::1 (near)
            fd00:244:2::/64 overlay to fd00:31:1::2 as fd00:31::1 (far)
            fd00:244:5::/64 own
            overlay at fd00:31::1 mtu 1430 to [fd00:31:1::2]
            mtu Some(1430)
            ! Node far: status.addresses has no next hop for IPv4 pods: the overlay is IPv6; pods of 10.244.2.0/24 are not reached
        "#]],
    );
}

#[test]
fn what_a_node_lacks_is_reported_and_harms_no_other() {
    check(
        &[
            ME,
            FAR,
            "empty created=1 at 172.31.0.3",
            "nowhere created=1 10.244.3.0/24 at",
            "young created=4 10.244.2.128/25,10.244.4.0/24 at 172.31.0.4",
            "wide created=9 10.244.0.0/16 at 172.31.0.9",
            "of-v6 created=1 10.244.6.0/24,fd00:244:6::/64 at fd00:31:1::6",
        ],
        OverlayUse::Subnet,
        VXLAN,
        &expect![[r#"
            10.244.2.0/24 overlay to 172.31.1.2 as 172.31.0.1 (far)
            10.244.4.0/24 via 172.31.0.4 as 172.31.0.1 (young)
            fd00:244:2::/64 overlay to 172.31.1.2 as fd00:31::1 (far)
            10.244.5.0/24 own
            fd00:244:5::/64 own
            overlay at 172.31.0.1 mtu 1450 to [172.31.1.2]
            mtu Some(1450)
            ! Node empty: spec.podCIDRs is empty; its pods are not reached
            ! Node nowhere: status.addresses has no InternalIP; its pods are not reached
            ! Node of-v6: status.addresses has no IPv4 InternalIP, of which the overlay is; pods of 10.244.6.0/24 are not reached
            ! Node of-v6: status.addresses has no IPv4 InternalIP, of which the overlay is; pods of fd00:244:6::/64 are not reached
            ! Node wide: spec.podCIDRs has 10.244.0.0/16, which overlaps 10.244.2.0/24 of node far, which is older; its pods of this network get no address, and are not reached
            ! Node young: spec.podCIDRs has 10.244.2.128/25, which overlaps 10.244.2.0/24 of node far, which is older; its pods of this network get no address, and are not reached
        "#]],
    );
    check(
        &["me created=5 at", NEAR],
        OverlayUse::Subnet,
        VXLAN,
        &expect![[r#"
            mtu Some(1500)
            ! Node me: spec.podCIDRs is empty; the controller manager allocates it with --allocate-node-cidrs; this node's pods get no network
            ! Node near: status.addresses is in no network of this node, which has no overlay; pods of 10.244.1.0/24 are not reached
            ! Node near: status.addresses is in no network of this node, which has no overlay; pods of fd00:244:1::/64 are not reached
        "#]],
    );
}

/// How long one change of one node of 5,000 takes: `cargo test -p agent --release -- --ignored
/// --nocapture one_node_of_5000`.
#[test]
#[ignore = "a measurement"]
fn one_node_of_5000() {
    const ROUNDS: usize = 101;
    let mut cluster = cluster(&[ME]);
    let line = |number: u32, last: u32| {
        let (a, b) = (number / 250, number % 250);
        format!(
            "n{number} created=1 10.{}.{b}.0/24,fd00:{number:x}::/64 at 172.{}.{b}.{last},fd00:31:{number:x}::{last}",
            100 + a,
            100 + a
        )
    };
    (0..5000).for_each(|number| cluster.apply(event(&line(number, 1))));
    cluster.take_changes();
    let seen = context(&cluster, OverlayUse::Subnet, VXLAN);
    let mut desired = Desired::compile(&cluster, seen.clone());
    assert_eq!(desired.routes.as_ref().unwrap().to.size(), 10_000);
    let mut whole: Vec<std::time::Duration> = Vec::new();
    let mut of_routes: Vec<std::time::Duration> = Vec::new();
    for round in 0..ROUNDS {
        let number = u32::try_from(round * 37 % 5000).unwrap();
        cluster.apply(event(&line(number, 2 + u32::from(round % 2 == 0))));
        let changes = cluster.take_changes();
        let began = std::time::Instant::now();
        desired = desired.follow(&cluster, &changes, seen.clone());
        whole.push(began.elapsed());
        let began = std::time::Instant::now();
        let compiled = Routes::compile(&cluster, &seen).unwrap();
        of_routes.push(began.elapsed());
        assert_eq!(desired.routes.as_deref(), Some(&compiled));
    }
    for (what, times) in [
        ("follow", &mut whole),
        ("compile of all routes", &mut of_routes),
    ] {
        times.sort();
        eprintln!("{what}: median {:?}", times[ROUNDS / 2]);
    }
}

/// One of a few states of a few nodes, so that networks and addresses collide often.
fn change() -> impl Strategy<Value = (u8, Option<String>)> {
    let networks = proptest::collection::vec(0..5_u8, 0..3);
    let state = (0..4_u8, networks, 0..3_u8, 0..3_u8);
    state.prop_map(|(name, networks, created, place)| {
        let networks = networks.iter().map(|number| match number {
            4 => "10.244.0.0/22".to_owned(),
            number => format!("10.244.{number}.0/24,fd00:244:{number}::/64"),
        });
        let networks: Vec<_> = networks.collect();
        let addresses = match place {
            0 => format!("172.31.0.1{name},fd00:31::1{name}"),
            1 => format!("172.31.1.1{name}"),
            _ => String::new(),
        };
        let line = format!(
            "n{name} created={created} {} at {addresses}",
            networks.join(",")
        );
        (name, (created > 0 || place > 0).then_some(line))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn order_and_batches_of_events_do_not_show(
        changes in proptest::collection::vec((change(), any::<bool>()), 1..20),
    ) {
        let seen = |cluster: &Cluster| context(cluster, OverlayUse::Subnet, VXLAN);
        let mut cluster = cluster(&[ME]);
        cluster.take_changes();
        let mut desired = Desired::compile(&cluster, seen(&cluster));
        for ((name, line), publish) in changes {
            match line {
                Some(line) => cluster.apply(event(&line)),
                None => cluster.apply(Event::Deleted {
                    kind: Kind::Node,
                    key: ObjectKey::cluster_scoped(&format!("n{name}")),
                }),
            }
            if publish {
                let changes = cluster.take_changes();
                let next = desired.follow(&cluster, &changes, seen(&cluster));
                prop_assert!(next.generation > desired.generation || next.routes == desired.routes);
                desired = next;
            }
        }
        let changes = cluster.take_changes();
        desired = desired.follow(&cluster, &changes, seen(&cluster));
        let whole = Desired::compile(&cluster, seen(&cluster));
        prop_assert_eq!(&desired.routes, &whole.routes);
        // A fresh cluster that hears of the nodes in the opposite order.
        let mut other = Cluster::default();
        let nodes: Vec<_> = cluster.nodes().map(|(_, node)| Arc::clone(node)).collect();
        for node in nodes.into_iter().rev() {
            other.apply(Event::Applied {
                kind: Kind::Node, key: node.key.clone(), object: Some(Object::Node(node)), problems: vec![],
            });
        }
        prop_assert_eq!(&Desired::compile(&other, seen(&other)).routes, &whole.routes);
        // No two ways overlap.
        let routes = whole.routes.unwrap();
        let all: Vec<_> = routes.to.keys().chain(&routes.own).collect();
        for (index, a) in all.iter().enumerate() {
            prop_assert!(!all[..index].iter().any(|b| a.contains(*b) || b.contains(*a)));
        }
    }
}
