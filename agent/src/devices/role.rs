//! What an interface is to the agent: an uplink, a pod's, or none of its business. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::pods;
use crate::lb::ebpf::attach::Side;
use crate::route::image::DEVICES;
use crate::sys::links::{Link, LinkKind};

/// What an interface is to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It gets programs.
    Attach(Side),
    /// It does not, and why.
    Ignore(&'static str),
}

/// Decides what an interface is. Behind a veth or a bridge there are pods, unless it has an address
/// of the node or leads to the default gateway; `--devices` names the uplinks outright. An interface
/// of another kind is a pod's where the route to one of `pods` says so.
pub fn role(
    link: &Link,
    node_addresses: &[IpAddr],
    devices: &[String],
    pods: &BTreeSet<IpAddr>,
) -> Role {
    let uplink = if devices.is_empty() {
        link.default_route
            || link
                .addresses
                .iter()
                .any(|address| node_addresses.contains(address))
    } else {
        devices.contains(&link.name)
    };
    match link.kind {
        LinkKind::Loopback => Role::Attach(Side::Loopback),
        _ if !link.ethernet && DEVICES.contains(&link.name.as_str()) => Role::Attach(Side::Tunnel),
        _ if !link.ethernet => {
            Role::Ignore("no Ethernet header: Services are not balanced for packets here")
        }
        _ if uplink => Role::Attach(Side::Uplink),
        LinkKind::Veth | LinkKind::Bridge => Role::Attach(Side::Workload),
        LinkKind::Other if pods::leads_to_one(link, pods) => Role::Attach(Side::Workload),
        LinkKind::Other => Role::Attach(Side::Uplink),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: LinkKind, address: &str, default_route: bool) -> Link {
        let addresses = address.parse().into_iter().collect();
        Link {
            index: 2,
            name: "eth0".into(),
            kind,
            ethernet: kind != LinkKind::Loopback,
            addresses,
            sources: Vec::new(),
            networks: Default::default(),
            default_route,
            routes: BTreeSet::new(),
            bridge: None,
            mtu: 1500,
            peer_elsewhere: kind == LinkKind::Veth,
            queued: false,
            carrier: true,
        }
    }

    #[test]
    fn uplinks_workloads_and_others_are_told_apart() {
        let node = ["172.31.0.1".parse().unwrap()];
        let (uplink, workload) = (Role::Attach(Side::Uplink), Role::Attach(Side::Workload));
        for (what, link, devices, expected) in [
            (
                "a node address on a veth",
                link(LinkKind::Veth, "172.31.0.1", false),
                &[][..],
                uplink,
            ),
            (
                "a default route on a bridge",
                link(LinkKind::Bridge, "", true),
                &[],
                uplink,
            ),
            (
                "a pod's veth",
                link(LinkKind::Veth, "", false),
                &[],
                workload,
            ),
            (
                "a bridge of pods",
                link(LinkKind::Bridge, "10.244.1.1", false),
                &[],
                workload,
            ),
            (
                "a second card",
                link(LinkKind::Other, "192.0.2.1", false),
                &[],
                uplink,
            ),
            (
                "a veth named by --devices",
                link(LinkKind::Veth, "", false),
                &["eth0".to_owned()],
                uplink,
            ),
            (
                "one not named by --devices",
                link(LinkKind::Veth, "", true),
                &["eth1".to_owned()],
                workload,
            ),
        ] {
            let role = role(&link, &node, devices, &BTreeSet::new());
            assert_eq!(role, expected, "{what}");
        }
        let mut tunnel = link(LinkKind::Other, "", false);
        tunnel.ethernet = false;
        let role = |link: &Link| role(link, &node, &[], &["10.0.0.1".parse().unwrap()].into());
        assert!(matches!(role(&tunnel), Role::Ignore(_)));
        tunnel.name = "fairlead-ipip".into();
        assert_eq!(role(&tunnel), Role::Attach(Side::Tunnel));
        let mut tap = link(LinkKind::Other, "", false);
        tap.routes.insert("10.0.0.0/24".parse().unwrap());
        assert_eq!(role(&tap), uplink, "a route to many");
        tap.routes.insert("10.0.0.1/32".parse().unwrap());
        assert_eq!(role(&tap), workload, "the route to a pod");
        tap.default_route = true;
        assert_eq!(role(&tap), uplink, "the way out");
        let loopback = link(LinkKind::Loopback, "127.0.0.1", false);
        assert_eq!(role(&loopback), Role::Attach(Side::Loopback));
    }
}
