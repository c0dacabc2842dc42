//! From routes to the kernel's tables, and from one content to another.

use std::sync::Arc;

use expect_test::expect;

use super::*;
use crate::desired::route::{NextHop, PodRoute, Way};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn routes(to: &[(&str, &str)], encapsulation: Option<Encapsulation>) -> Routes {
    let network = net("172.31.0.1/24");
    let mut routes = Routes::default();
    routes.own.insert(net("10.244.5.0/24"));
    let mut overlay = encapsulation.map(|encapsulation| Overlay {
        encapsulation,
        local: ip("172.31.0.1"),
        mtu: 1450,
        peers: Default::default(),
    });
    for (to, node) in to {
        let near = network.contains(&ip(node));
        let way = if near {
            let gateway = ip(node);
            Way::Direct([NextHop { gateway, network }].into())
        } else {
            let overlay = overlay.as_mut().unwrap();
            let key = (ip(node), (*node).into());
            overlay.peers.insert_mut(key, Arc::new([ip(node)].into()));
            Way::Overlay {
                peer: ip(node),
                source: Some(network.addr()),
            }
        };
        let route = PodRoute {
            node: (*node).into(),
            way,
        };
        routes.to.insert_mut(net(to), route);
    }
    routes.overlay = overlay;
    routes
}

const VXLAN: Option<Encapsulation> = Some(Encapsulation::Vxlan { vni: 7, port: 4789 });
const NEAR: (&str, &str) = ("10.244.1.0/24", "172.31.0.2");
const FAR: (&str, &str) = ("10.244.2.0/24", "172.31.1.2");
const FAR_V6: (&str, &str) = ("fd00:244:2::/64", "172.31.1.2");

const THERE: Reach = Reach {
    index: 3,
    usable: true,
};

fn image(to: &[(&str, &str)], encapsulation: Option<Encapsulation>) -> Image {
    let (image, unroutable) = lower(&routes(to, encapsulation), |_| Some(THERE));
    assert_eq!(unroutable, Unroutable::new());
    image
}

#[test]
fn a_pod_network_behind_the_overlay_needs_all_of_this_in_this_order() {
    let steps = diff(&image(&[NEAR, FAR, FAR_V6], VXLAN), &Image::default());
    let text: Vec<_> = steps.iter().map(|step| format!("{step:?}\n")).collect();
    expect![[r#"
        AddDevice(Device { tunnel: Vxlan { vni: 7, port: 4789, local: 172.31.0.1, mac: Mac([10, 241, 172, 31, 0, 1]) }, mtu: 1450, up: true })
        SetDevice(Device { tunnel: Vxlan { vni: 7, port: 4789, local: 172.31.0.1, mac: Mac([10, 241, 172, 31, 0, 1]) }, mtu: 1450, up: true })
        PutForwarding(Mac([10, 241, 172, 31, 1, 2]), 172.31.1.2)
        PutNeighbour(172.31.1.2, Mac([10, 241, 172, 31, 1, 2]))
        PutNeighbour(fe80::8f1:acff:fe1f:102, Mac([10, 241, 172, 31, 1, 2]))
        AddRoute(RouteKey { table: 71, destination: 172.31.1.2/32, metric: 4000 }, Via { hops: {Via { gateway: 172.31.1.2, out: Overlay }}, source: None })
        AddRoute(RouteKey { table: 254, destination: 10.244.1.0/24, metric: 4000 }, Via { hops: {Via { gateway: 172.31.0.2, out: Link(3) }}, source: Some(172.31.0.1) })
        AddRoute(RouteKey { table: 254, destination: 10.244.2.0/24, metric: 4000 }, Via { hops: {Via { gateway: 172.31.1.2, out: Overlay }}, source: Some(172.31.0.1) })
        AddRoute(RouteKey { table: 254, destination: 10.244.5.0/24, metric: 8000 }, Blackhole)
        AddRoute(RouteKey { table: 254, destination: fd00:244:2::/64, metric: 4000 }, Via { hops: {Via { gateway: fe80::8f1:acff:fe1f:102, out: Overlay }}, source: Some(172.31.0.1) })
        AddRule(10.244.5.0/24)
    "#]].assert_eq(&text.concat());
}

#[test]
fn without_its_interface_a_route_waits_and_the_others_do_not() {
    let (image, unroutable) = lower(&routes(&[NEAR, FAR], VXLAN), |_| None);
    assert_eq!(unroutable.keys().collect::<Vec<_>>(), [&net(NEAR.0)]);
    assert!(image.routes.keys().any(|key| key.destination == net(FAR.0)));
}

#[test]
fn of_several_next_hops_those_are_taken_that_can_be_used() {
    let hop = |gateway: &str, network: &str| NextHop {
        gateway: ip(gateway),
        network: net(network),
    };
    let hops = [
        hop("172.31.0.2", "172.31.0.1/24"),
        hop("192.0.2.2", "192.0.2.1/24"),
    ];
    let lowered = |usable: [Option<bool>; 2]| {
        let mut routes = Routes::default();
        let way = Way::Direct(hops.into());
        let node = "near".into();
        routes.to.insert_mut(net(NEAR.0), PodRoute { node, way });
        let (image, unroutable) = lower(&routes, |hop| {
            let place = usize::from(*hop == hops[1]);
            let index = u32::try_from(place).unwrap() + 3;
            usable[place].map(|usable| Reach { index, usable })
        });
        match image.routes.into_values().next() {
            Some(target) => format!("{target:?}"),
            None => unroutable[&net(NEAR.0)].clone(),
        }
    };
    let both = "Via { hops: {Via { gateway: 172.31.0.2, out: Link(3) }, Via { gateway: 192.0.2.2, out: Link(4) }}, source: None }";
    let first =
        "Via { hops: {Via { gateway: 172.31.0.2, out: Link(3) }}, source: Some(172.31.0.1) }";
    let second =
        "Via { hops: {Via { gateway: 192.0.2.2, out: Link(4) }}, source: Some(192.0.2.1) }";
    for (usable, expected) in [
        ([Some(true), Some(true)], both),
        ([Some(true), Some(false)], first),
        ([Some(false), Some(true)], second),
        ([None, Some(true)], second),
        ([None, Some(false)], second),
        // Nothing better is known.
        ([Some(false), Some(false)], both),
        (
            [None, None],
            "no interface has 172.31.0.1/24 or 192.0.2.1/24",
        ),
    ] {
        assert_eq!(lowered(usable), expected, "{usable:?}");
    }
}

#[test]
fn nodes_have_hardware_addresses_of_their_own() {
    let nodes = [
        "172.31.0.1",
        "172.31.0.2",
        "172.32.0.1",
        "fd00::1",
        "fd00::2",
    ];
    let macs: BTreeSet<Mac> = nodes.iter().map(|node| Mac::of(ip(node))).collect();
    assert_eq!(macs.len(), nodes.len());
    assert!(macs.iter().all(|mac| mac.0[0] & 3 == 2), "{macs:?}");
    let mac = Mac::of(ip("172.31.0.1"));
    assert_eq!(mac.to_string(), "0a:f1:ac:1f:00:01");
    assert_eq!(mac.link_local().to_string(), "fe80::8f1:acff:fe1f:1");
}

/// What the kernel makes of a step, or why it would refuse.
fn apply(step: &Step, image: &mut Image) {
    let over_device = |target: &Target| target.leads_over(Out::Overlay);
    let usable = |image: &Image| image.device.as_ref().is_some_and(|device| device.up);
    match step {
        Step::RemoveDevice => {
            assert!(image.device.is_some());
            image.without_device();
        }
        Step::AddDevice(device) => {
            assert_eq!(image.device, None);
            image.device = Some(Device {
                up: false,
                ..device.clone()
            });
        }
        Step::SetDevice(device) => image.device = Some(device.clone()),
        Step::PutForwarding(mac, node) => {
            assert!(image.device.is_some());
            image.forwarding.insert(*mac, *node);
        }
        Step::PutNeighbour(hop, mac) => {
            assert!(usable(image));
            image.neighbours.insert(*hop, *mac);
        }
        Step::AddRoute(key, target) => {
            assert!(!over_device(target) || usable(image));
            assert_eq!(image.routes.insert(*key, target.clone()), None, "{key:?}");
        }
        Step::ReplaceRoute(key, target) => {
            assert!(!over_device(target) || usable(image));
            assert!(
                image.routes.insert(*key, target.clone()).is_some(),
                "{key:?}"
            );
        }
        Step::AddRule(network) => assert!(image.rules.insert(*network)),
        Step::RemoveRule(network) => assert!(image.rules.remove(network)),
        Step::RemoveRoute(key, _) => assert!(image.routes.remove(key).is_some()),
        Step::RemoveNeighbour(hop) => assert!(image.neighbours.remove(hop).is_some()),
        Step::RemoveForwarding(mac, _) => assert!(image.forwarding.remove(mac).is_some()),
    }
}

#[test]
fn any_content_becomes_any_other_and_then_nothing_is_left_to_do() {
    let moved = (FAR.0, "172.31.1.9");
    let nearer = (FAR.0, "172.31.0.9");
    let other = Some(Encapsulation::Vxlan { vni: 8, port: 4789 });
    let mut contents = vec![
        Image::default(),
        image(&[], None),
        image(&[NEAR], VXLAN),
        image(&[NEAR, FAR, FAR_V6], VXLAN),
        image(&[NEAR, moved], VXLAN),
        image(&[nearer], VXLAN),
        image(&[FAR], other),
        image(&[FAR], Some(Encapsulation::IpIp)),
    ];
    let mut damaged = image(&[FAR, NEAR], VXLAN);
    damaged.forwarding.clear();
    damaged.neighbours.clear();
    damaged.rules.clear();
    damaged.device.as_mut().unwrap().mtu = 1;
    contents.push(damaged);
    let mut several = image(&[NEAR], VXLAN);
    if let Some(Target::Via { hops, .. }) = several.routes.values_mut().next() {
        let (gateway, out) = (ip("192.0.2.2"), Out::Link(4));
        hops.insert(Via { gateway, out });
    }
    contents.push(several);
    for found in &contents {
        for wanted in &contents {
            let mut image = found.clone();
            let mut wanted = wanted.clone();
            if let Some(device) = &mut wanted.device {
                device.up = true;
            }
            for step in diff(&wanted, found) {
                apply(&step, &mut image);
            }
            assert_eq!(image, wanted, "from {found:?}");
            assert_eq!(diff(&wanted, &image), []);
        }
    }
}
