//! Routes and pods over values.

use model::Kind;
use serde_json::{Value, json};

use super::*;
use crate::desired::policy::tests::{Manifest, cluster, node};
use crate::devices::Xdp;

fn pod(name: &str, addresses: &[&str]) -> Manifest {
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let manifest = json!({"metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "node1"}, "status": {"podIPs": ips}});
    (Kind::Pod, manifest)
}

fn tables(pods: &[Manifest]) -> PolicyTables {
    let policy = json!({"metadata": {"namespace": "shop", "name": "closed"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}}});
    let mut manifests = pods.to_vec();
    manifests.push((Kind::NetworkPolicy, policy));
    let cluster = cluster(&manifests);
    PolicyTables::compile(&cluster, &node(&cluster))
}

fn link(index: u32, kind: LinkKind, routes: &[&str]) -> Link {
    Link {
        index,
        name: format!("link{index}"),
        kind,
        ethernet: true,
        addresses: BTreeSet::new(),
        sources: Vec::new(),
        routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
        bridge: None,
        networks: Default::default(),
        default_route: false,
        mtu: 1500,
        peer_elsewhere: true,
        queued: false,
        carrier: true,
    }
}

fn device(link: &Link, role: Role, error: Option<&str>) -> Device {
    Device {
        index: link.index,
        name: link.name.clone(),
        role,
        xdp: Xdp::NotWanted,
        error: error.map(str::to_owned),
    }
}

const WORKLOAD: Role = Role::Attach(Side::Workload);

/// What keeps policy from `shop/web` at 10.0.1.10, if anything does.
fn why(links: &[(Link, Role, Option<&str>)]) -> Option<String> {
    let tables = tables(&[pod("web", &["10.0.1.10"])]);
    let devices: Vec<Device> = links
        .iter()
        .map(|(link, role, error)| device(link, *role, *error))
        .collect();
    let links: Vec<Link> = links.iter().map(|(link, _, _)| link.clone()).collect();
    let mut found = unenforced(&tables, &links, &devices);
    let found = found.pop();
    assert!(found.as_ref().is_none_or(|found| found.has_rules));
    found.map(|found| found.why)
}

#[test]
fn a_pod_is_reached_by_the_interface_that_its_route_names() {
    let own = || link(2, LinkKind::Veth, &["10.0.1.10/32"]);
    let uplink = || link(3, LinkKind::Other, &["10.0.0.0/8", "10.0.1.10/32"]);
    let to_uplink = Role::Attach(Side::Uplink);
    let bridge = || link(4, LinkKind::Bridge, &["10.0.1.0/24"]);
    let port = |index, kind| Link {
        bridge: Some(4),
        ..link(index, kind, &[])
    };
    let mut wider = uplink();
    wider.routes.pop_last();
    assert_eq!(
        why(&[(own(), WORKLOAD, None), (wider, to_uplink, None)]),
        None
    );
    let bridged = [
        (bridge(), WORKLOAD, None),
        (port(5, LinkKind::Veth), WORKLOAD, None),
    ];
    assert_eq!(why(&bridged), None);
    let told: Vec<String> = [
        &[][..],
        &[(own(), WORKLOAD, Some("no memory"))],
        &[(own(), WORKLOAD, None), (uplink(), to_uplink, None)],
        &[(own(), Role::Ignore("no Ethernet header"), None)],
        &[
            (bridge(), WORKLOAD, None),
            (port(5, LinkKind::Veth), WORKLOAD, None),
            (port(6, LinkKind::Other), to_uplink, None),
        ],
    ]
    .into_iter()
    .map(|links| why(links).unwrap())
    .collect();
    expect_test::expect![[r#"
        no route of this node leads there without a gateway
        its interface link2 has no programs: no memory
        its route leads to link3, which leads to other machines too
        its interface is link2: no Ethernet header
        it is behind the bridge link4, whose port link6 is not policed"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn an_address_that_is_another_s_by_now_is_not_missed() {
    let mut newer = pod("newer", &["10.0.1.10"]);
    newer.1["metadata"]["creationTimestamp"] = json!("2030-01-01T00:00:00Z");
    let found = unenforced(&tables(&[pod("web", &["10.0.1.10"]), newer]), &[], &[]);
    let pods: Vec<String> = found.iter().map(|found| found.pod.to_string()).collect();
    assert_eq!(pods, ["shop/newer"]);
}

/// What is said of a source at the interface.
fn source(
    found: &BTreeMap<(u32, InterfaceAddressV1), u32>,
    interface: u32,
    address: &str,
) -> &'static str {
    let (_, address) = mapped(IpNet::from(address.parse::<IpAddr>().unwrap()));
    let address = u128::from_be_bytes(address);
    let longest = found
        .iter()
        .filter(|((bits, key), _)| {
            let mask = u128::MAX
                .checked_shl(128 - (bits - INTERFACE_BITS))
                .unwrap_or(0);
            key.interface == interface && address & mask == u128::from_be_bytes(key.address)
        })
        .max_by_key(|((bits, _), _)| *bits);
    match longest.map(|(_, value)| *value) {
        None => "unknown",
        Some(SOURCE_OWN) => "own",
        Some(_) => "strange",
    }
}

#[test]
fn from_behind_an_interface_come_the_addresses_that_are_there() {
    let tables = tables(&[pod("web", &["10.0.1.10", "fd00:1::10"])]);
    let links = [
        link(2, LinkKind::Veth, &["10.0.1.10/32"]),
        link(3, LinkKind::Veth, &[]),
        link(4, LinkKind::Bridge, &["10.0.2.0/24"]),
        link(5, LinkKind::Veth, &["fd00:1::20/128"]),
        link(6, LinkKind::Other, &["10.0.3.1/32"]),
    ];
    let role = |link: &Link| {
        if link.index == 6 {
            Role::Attach(Side::Uplink)
        } else {
            WORKLOAD
        }
    };
    let roles: Vec<(&Link, Role)> = links.iter().map(|link| (link, role(link))).collect();
    let found = sources(&tables, &roles);
    for (interface, address, expected) in [
        (2, "10.0.1.10", "own"),
        // The pod has it, though its route is missing.
        (2, "fd00:1::10", "own"),
        (2, "10.0.1.11", "strange"),
        (2, "fd00:1::11", "strange"),
        (3, "10.0.1.10", "unknown"),
        (4, "10.0.2.99", "own"),
        (4, "10.0.1.10", "strange"),
        (4, "fd00:1::10", "unknown"),
        (5, "fd00:1::20", "own"),
        (5, "fd00:1::21", "strange"),
        // Nobody is known to be behind it with IPv4, and nobody not to be.
        (5, "10.0.1.10", "own"),
        (6, "10.0.1.10", "unknown"),
    ] {
        assert_eq!(
            source(&found, interface, address),
            expected,
            "{interface} {address}"
        );
    }
}
