//! The address plan, the same in every lab: labs do not see one another.
//!
//! | what | IPv4 | IPv6 |
//! |---|---|---|
//! | nodes, on the router's bridge | 172.31.0.10+N/24 | fd00:31::10+N/64 |
//! | edge node, one for each proxy, on the same bridge | 172.31.0.81 and .82/24 | fd00:31::81 and ::82/64 |
//! | nodes elsewhere, each on a link of its own to the router | 172.31.1.10+N/24 | fd00:31:1::10+N/64 |
//! | outside client, behind the router | 172.30.0.2/24 | fd00:30::2/64 |
//! | pods of node N | 10.244.N.0/24 | fd00:244:N::/64 |
//! | Services | 10.96.0.0/16 | fd00:96::/112 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of each family.
pub(super) type Pair = (Ipv4Addr, Ipv6Addr);

/// The outside client.
pub(super) const CLIENT: Pair = (
    Ipv4Addr::new(172, 30, 0, 2),
    Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 2),
);
/// The router, as the client sees it.
pub(super) const ROUTER_OUTSIDE: Pair = (
    Ipv4Addr::new(172, 30, 0, 1),
    Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 1),
);
/// The router, as the nodes see it.
pub(super) const ROUTER: Pair = (
    Ipv4Addr::new(172, 31, 0, 1),
    Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, 1),
);
/// The edge node, an address for each of two proxies.
pub(super) const EDGE: [Pair; 2] = [edge(81, 0x81), edge(82, 0x82)];
/// Added to a node's number to make the last part of its address.
pub(super) const NODE_BASE: u8 = 10;
/// The next hop of every pod: its node, at an address that is on no interface.
pub(super) const POD_GATEWAY: Pair = (
    Ipv4Addr::new(169, 254, 1, 1),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee),
);
/// Link-layer address of the node's end of every pod's link.
pub(super) const POD_GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";

/// Addresses of node `number`, from 1.
pub(super) fn node(number: u8) -> Pair {
    let last = NODE_BASE + number;
    // Decimal digits read the same in both families.
    let digits = u16::from(last / 10) * 16 + u16::from(last % 10);
    (
        Ipv4Addr::new(172, 31, 0, last),
        Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, digits),
    )
}

const fn edge(last: u8, digits: u16) -> Pair {
    (
        Ipv4Addr::new(172, 31, 0, last),
        Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, digits),
    )
}

/// Addresses of node `number`, from 1, in another subnet than that of the router's bridge.
pub(super) fn node_elsewhere(number: u8) -> Pair {
    let ([a, b, _, d], v6) = (node(number).0.octets(), node(number).1.segments());
    (
        Ipv4Addr::new(a, b, 1, d),
        Ipv6Addr::new(v6[0], v6[1], 1, 0, 0, 0, 0, v6[7]),
    )
}

/// The router on its bridge, of the family of an address.
pub(super) fn router_of_bridge(node: IpAddr) -> IpAddr {
    let [v4, v6] = both(ROUTER);
    if node.is_ipv4() { v4 } else { v6 }
}

/// The router as a node of this address sees it: the first address of its subnet.
pub(super) fn router_of(node: IpAddr) -> IpAddr {
    match node {
        IpAddr::V4(node) => {
            let [a, b, c, _] = node.octets();
            Ipv4Addr::new(a, b, c, 1).into()
        }
        IpAddr::V6(node) => {
            let [a, b, c, d, ..] = node.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 1).into()
        }
    }
}

/// Networks of the pods of node `number`.
pub(super) fn pod_networks(number: u8) -> [String; 2] {
    [
        format!("10.244.{number}.0/24"),
        format!("fd00:244:{number}::/64"),
    ]
}

/// Addresses of the pod `index` (from 0) of node `number`.
pub(super) fn pod(number: u8, index: u8) -> Pair {
    let last = 10 + index;
    let digits =
        u16::from(last / 100) * 256 + u16::from(last / 10 % 10) * 16 + u16::from(last % 10);
    let v6 = Ipv6Addr::new(0xfd00, 0x244, number.into(), 0, 0, 0, 0, digits);
    (Ipv4Addr::new(10, 244, number, last), v6)
}

/// Both addresses of a pair.
pub(super) fn both(pair: Pair) -> [IpAddr; 2] {
    [pair.0.into(), pair.1.into()]
}
