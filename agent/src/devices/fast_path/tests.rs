//! Interfaces and what the tables hold of them.

use super::*;
use crate::desired::NodeContext;
use crate::desired::node::Exposure;
use crate::desired::route::Routes;
use expect_test::{Expect, expect};
use model::Cluster;
use std::sync::Arc;

fn desired() -> Desired {
    let context = NodeContext::of(
        &Cluster::default(),
        &"node1".into(),
        &Arc::new(Exposure::default()),
        &BTreeSet::new(),
        1500,
    );
    let mut desired = Desired::empty(context);
    let own = ["10.244.1.0/24", "fd00:1::/64"].map(|net| net.parse().unwrap());
    let mut routes = Routes::default();
    routes.own = own.into();
    desired.routes = Some(Arc::new(routes));
    desired
}

fn pod(index: u32, routes: &[&str]) -> Link {
    Link {
        index,
        name: format!("p{index}"),
        kind: LinkKind::Veth,
        ethernet: true,
        addresses: BTreeSet::new(),
        sources: Vec::new(),
        routes: routes.iter().map(|net| net.parse().unwrap()).collect(),
        bridge: None,
        networks: BTreeSet::new(),
        default_route: false,
        mtu: 1500,
        peer_elsewhere: true,
        queued: false,
        carrier: true,
    }
}

#[track_caller]
fn check(links: &[(Link, Role)], filtered: &[u32], failed: &[u32], expected: Expect) {
    let roles: Vec<_> = links.iter().map(|(link, role)| (link, *role)).collect();
    let device = |(link, role): &(Link, Role)| Device {
        index: link.index,
        name: link.name.clone(),
        role: *role,
        xdp: super::super::Xdp::NotWanted,
        error: failed.contains(&link.index).then(|| "refused".to_owned()),
    };
    let devices: Vec<_> = links.iter().map(device).collect();
    let filtered = filtered.iter().copied().collect();
    let (tables, reach) = plan(&roles, &devices, &desired(), true, &filtered);
    let mut text = String::new();
    for (index, device) in &tables.devices {
        let shown = [device.v4, device.v6].map(|bytes| {
            let address = std::net::Ipv6Addr::from(bytes);
            (!address.is_unspecified()).then(|| address.to_canonical().to_string())
        });
        let shown: Vec<_> = shown.into_iter().flatten().collect();
        text += &format!("{index} kind {} {}\n", device.kind, shown.join(" "));
    }
    for (name, why) in &reach.left_out {
        text += &format!("{name}: {why}\n");
    }
    expected.assert_eq(&text);
}

#[test]
fn veths_that_lead_to_one_pod_are_taken_and_others_say_why_not() {
    let workload = Role::Attach(Side::Workload);
    let both = ["10.244.1.5/32", "fd00:1::5/128"];
    let wire = pod(2, &[]);
    let bridge = Link {
        kind: LinkKind::Bridge,
        ..pod(6, &["10.244.1.0/24"])
    };
    let tap = Link {
        kind: LinkKind::Other,
        ..pod(7, &["10.244.1.7/32"])
    };
    let same_host = Link {
        peer_elsewhere: false,
        ..pod(8, &["10.244.1.8/32"])
    };
    let limited = Link {
        queued: true,
        ..pod(9, &["10.244.1.9/32"])
    };
    check(
        &[
            (wire, Role::Attach(Side::Uplink)),
            (pod(3, &both), workload),
            (pod(4, &["10.244.1.6/32"]), workload),
            // No pod's: something else of the node.
            (pod(5, &["192.0.2.1/32"]), workload),
            (bridge, workload),
            (tap, workload),
            (same_host, workload),
            (limited, workload),
            (pod(10, &["10.244.1.10/32"]), workload),
            // Which of the two a packet is for, the address of the device does not say.
            (pod(11, &["10.244.1.11/32", "10.244.1.12/32"]), workload),
            (pod(12, &["10.244.1.13/32"]), workload),
        ],
        &[10],
        &[12],
        expect![[r#"
            2 kind 3 
            3 kind 2 10.244.1.5 fd00:1::5
            4 kind 2 10.244.1.6
            11 kind 2 
            p10: it has tc filters of another, as for a bandwidth limit, which would be skipped
            p7: it is no veth, so there is no other end to hand packets to
            p8: its other end is in the host's network namespace
            p9: it has a queueing discipline, as for a bandwidth limit, which would be skipped
        "#]],
    );
}

#[test]
fn only_pods_are_joined() {
    let reach = Reach {
        pods: ["10.244.1.5", "10.244.1.6"]
            .map(|ip| (ip.parse().unwrap(), "p".to_owned()))
            .into(),
        networks: ["10.244.2.0/24".parse().unwrap()].into(),
        left_out: BTreeMap::new(),
    };
    for (from, to, expected) in [
        ("10.244.1.5", "10.244.1.6", true),
        ("10.244.1.5", "10.244.2.9", true),
        ("10.244.2.9", "10.244.1.5", true),
        ("10.244.1.5", "10.244.1.5", false),
        ("10.244.1.5", "10.244.1.7", false),
        ("10.244.2.8", "10.244.2.9", false),
        ("10.244.1.5", "172.31.0.1", false),
        ("192.0.2.1", "10.244.1.5", false),
    ] {
        let joined = reach.joins(from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(joined, expected, "{from} {to}");
    }
}
