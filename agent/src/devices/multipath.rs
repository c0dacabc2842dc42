//! Settings of the kernel where routes have several next hops. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::desired::route::{Routes, Way};
use crate::sys::links::Link;
use crate::sys::sysctl::of_interface;

/// Flows are told apart by their ports too; and of IPv4, a next hop that is known not to answer gets
/// none. The fast path asks without ports: all flows between two pods take one link.
const ALWAYS: [&str; 3] = [
    "net.ipv4.fib_multipath_hash_policy",
    "net.ipv6.fib_multipath_hash_policy",
    "net.ipv4.fib_multipath_use_neigh",
];
const FILTER: &str = "rp_filter";
const STRICT: u8 = 1;
const LOOSE: &str = "2";

/// What is to be set, by name. `get` says what is. The node's own packets may have its address of one
/// link and leave by another, so a strict filter at the other end would drop them.
pub(super) fn settings(
    routes: &Routes,
    links: &[Link],
    get: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, &'static str> {
    let shared = routes.to.values().filter_map(|route| match &route.way {
        Way::Direct(hops) if hops.len() > 1 => Some(hops),
        Way::Direct(_) | Way::Overlay { .. } => None,
    });
    let networks: BTreeSet<IpNet> = shared.flatten().map(|hop| hop.network).collect();
    let mut wanted = BTreeMap::new();
    if networks.is_empty() {
        return wanted;
    }
    wanted.extend(ALWAYS.map(|name| (name.to_owned(), "1")));
    let filter = |interface: &str| {
        let name = of_interface("ipv4", interface, FILTER);
        let value = get(&name).and_then(|value| value.parse::<u8>().ok());
        (name, value.unwrap_or(0))
    };
    let (_, of_all) = filter("all");
    for link in links {
        let is_shared = link.networks.iter().any(|net| networks.contains(net));
        let (name, value) = filter(&link.name);
        // The larger of the two is in force (ip-sysctl.rst).
        if is_shared && of_all.max(value) == STRICT {
            wanted.insert(name, LOOSE);
        }
    }
    wanted
}

/// Whether a setting is one of these.
pub(super) fn is_own(name: &str) -> bool {
    ALWAYS.contains(&name)
        || name.starts_with("net.ipv4.conf.") && name.ends_with(&format!(".{FILTER}"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::desired::route::{NextHop, PodRoute};
    use crate::sys::links::LinkKind;

    fn link(name: &str, network: &str) -> Link {
        Link {
            index: 2,
            name: name.into(),
            kind: LinkKind::Other,
            ethernet: true,
            addresses: BTreeSet::new(),
            sources: Vec::new(),
            networks: network.parse().into_iter().collect(),
            default_route: false,
            routes: BTreeSet::new(),
            bridge: None,
            mtu: 1500,
            peer_elsewhere: false,
            queued: false,
            carrier: true,
        }
    }

    #[test]
    fn interfaces_that_share_routes_are_made_loose_where_they_are_strict() {
        let hops = [
            ("192.0.2.2", "192.0.2.1/24"),
            ("198.51.100.2", "198.51.100.1/24"),
        ];
        let hops = hops.map(|(gateway, network)| NextHop {
            gateway: gateway.parse().unwrap(),
            network: network.parse().unwrap(),
        });
        let routes = |hops: &[NextHop]| {
            let mut routes = Routes::default();
            let way = Way::Direct(hops.iter().copied().collect());
            let node = "node".into();
            let to = "10.1.0.0/24".parse().unwrap();
            routes.to.insert_mut(to, PodRoute { node, way });
            routes
        };
        let links = [
            link("eth0", "192.0.2.1/24"),
            link("eth1.7", "198.51.100.1/24"),
            link("eth2", "203.0.113.1/24"),
        ];
        let told = |hops: &[NextHop], all: &str, eth0: &str| {
            let found = settings(&routes(hops), &links, |name| {
                let value = match name {
                    "net.ipv4.conf.all.rp_filter" => all,
                    "net.ipv4.conf.eth0.rp_filter" => eth0,
                    _ => "1",
                };
                Some(value.to_owned())
            });
            let lines = found
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"));
            assert!(found.keys().all(|name| is_own(name)));
            lines.collect::<String>()
        };
        assert_eq!(told(&hops[..1], "1", "1"), "");
        expect![[r#"
            net.ipv4.conf.eth0.rp_filter=2
            net.ipv4.conf.eth1/7.rp_filter=2
            net.ipv4.fib_multipath_hash_policy=1
            net.ipv4.fib_multipath_use_neigh=1
            net.ipv6.fib_multipath_hash_policy=1
        "#]]
        .assert_eq(&told(&hops, "1", "0"));
        // An interface of its own mind, and one that the operator has made loose.
        for (all, eth0) in [("0", "0"), ("0", "2")] {
            assert!(!told(&hops, all, eth0).contains("eth0"), "{all} {eth0}");
        }
        assert!(!told(&hops, "2", "1").contains(FILTER));
        assert!(!is_own("net.ipv4.ip_forward"));
    }
}
