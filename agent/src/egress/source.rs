//! Under which address connections leave by an uplink.
//!
//! The node's own address where the uplink has it, since that is what others know the node by; else
//! the first that the uplink has, as netfilter's MASQUERADE takes it; else the node's all the same,
//! for uplinks without a number of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_abi::egress::EgressSourceV1;
use model::IpFamily;

use crate::devices::Role;
use crate::lb::ebpf::attach::Side;
use crate::lb::ebpf::entries::address;
use crate::sys::links::Link;

/// Sources by the index of the uplink.
pub type Sources = BTreeMap<u32, EgressSourceV1>;

/// Those of every uplink. `node` are the addresses of the Node object.
pub fn sources(roles: &[(&Link, Role)], node: &[IpAddr]) -> Sources {
    let uplinks = roles
        .iter()
        .filter(|(_, role)| *role == Role::Attach(Side::Uplink));
    uplinks
        .map(|(link, _)| {
            let of = |family| source(link, node, family).map_or([0; 16], address);
            let value = EgressSourceV1 {
                v4: of(IpFamily::V4),
                v6: of(IpFamily::V6),
            };
            (link.index, value)
        })
        .collect()
}

fn source(link: &Link, node: &[IpAddr], family: IpFamily) -> Option<IpAddr> {
    let of_family = |address: &&IpAddr| IpFamily::of(**address) == family;
    let known = || node.iter().filter(of_family);
    let here = known().find(|address| link.addresses.contains(address));
    let first = || link.sources.iter().find(of_family);
    here.or_else(first).or_else(|| known().next()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(addresses: &[&str]) -> Link {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Link {
            index: 2,
            ethernet: true,
            addresses: addresses.iter().copied().collect(),
            sources: addresses,
            default_route: true,
            carrier: true,
            ..Link::default()
        }
    }

    #[track_caller]
    fn check(addresses: &[&str], node: &[&str], v4: &str, v6: Option<&str>) {
        let link = uplink(addresses);
        let node: Vec<IpAddr> = node.iter().map(|text| text.parse().unwrap()).collect();
        let of = |text: &str| address(text.parse().unwrap());
        let found = sources(&[(&link, Role::Attach(Side::Uplink))], &node);
        let expected = EgressSourceV1 {
            v4: of(v4),
            v6: v6.map_or([0; 16], of),
        };
        assert_eq!(found[&2], expected);
    }

    #[test]
    fn an_uplink_has_the_nodes_address_else_its_own_first_one_else_the_nodes_all_the_same() {
        check(
            &["192.0.2.9", "172.31.0.1"],
            &["172.31.0.1"],
            "172.31.0.1",
            None,
        );
        check(
            &["192.0.2.9", "192.0.2.1"],
            &["172.31.0.1"],
            "192.0.2.9",
            None,
        );
        check(
            &[],
            &["172.31.0.1", "fd00::1"],
            "172.31.0.1",
            Some("fd00::1"),
        );
    }

    #[test]
    fn a_pods_interface_has_none() {
        let link = uplink(&["172.31.0.1"]);
        for role in [Role::Attach(Side::Workload), Role::Ignore("")] {
            assert!(sources(&[(&link, role)], &[]).is_empty());
        }
    }
}
