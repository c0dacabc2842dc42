//! Largest packets: the one place where overheads are known.

use model::IpFamily;

use super::Encapsulation;

/// Smallest MTU with which an interface has IPv6 (RFC 8200 §5).
pub const LEAST_WITH_V6: u32 = 1280;

/// Bytes that an encapsulation adds to a pod's packet, between nodes of a family.
pub fn overhead(encapsulation: Encapsulation, underlay: IpFamily) -> u32 {
    let address = ip_header(underlay);
    match encapsulation {
        // UDP, VXLAN and the Ethernet header inside (RFC 7348 §5).
        Encapsulation::Vxlan { .. } => address + 8 + 8 + 14,
        Encapsulation::IpIp => address,
    }
}

/// Largest packet that every uplink takes, and the network behind them; 0 where none is known.
///
/// What an interface says is what fits into it: that of a VLAN has the tag's four bytes beside, in
/// the frame, or less of its own where the card below cannot carry them.
pub fn of_uplinks(interfaces: impl Iterator<Item = u32>, network: Option<u32>) -> u32 {
    let known = interfaces.filter(|mtu| *mtu != 0).min();
    known.map_or(0, |mtu| network.map_or(mtu, |network| network.min(mtu)))
}

/// Largest packet of a client that fits the tunnel of direct server return, IP in IP of the
/// client's family; what is larger is answered with how much would fit.
pub fn of_direct_return(uplink: u32, family: IpFamily) -> u32 {
    uplink.saturating_sub(ip_header(family))
}

/// Largest part of a TCP stream in a packet, without options (RFC 6691 §2).
pub fn segment(mtu: u32, family: IpFamily) -> u32 {
    const TCP: u32 = 20;
    mtu.saturating_sub(ip_header(family) + TCP)
}

fn ip_header(family: IpFamily) -> u32 {
    match family {
        IpFamily::V4 => 20,
        IpFamily::V6 => 40,
    }
}

/// Largest packet of pods behind an uplink that takes `uplink` bytes; with an overlay it has to fit
/// into that whichever node a packet goes to, as a pod's interface has one MTU.
pub fn of_pods(uplink: u32, overlay: Option<(Encapsulation, IpFamily)>) -> u32 {
    let overhead = overlay.map_or(0, |(encapsulation, underlay)| {
        overhead(encapsulation, underlay)
    });
    uplink.saturating_sub(overhead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_largest_packet_in_one_table() {
        const VXLAN: Encapsulation = Encapsulation::Vxlan { vni: 1, port: 4789 };
        const IPIP: Encapsulation = Encapsulation::IpIp;
        use IpFamily::{V4, V6};
        // Interfaces and --mtu, the overlay: of uplinks, of pods, their segments of both families,
        // of direct return of both families.
        #[expect(clippy::type_complexity, reason = "a table")]
        let table: &[(
            &[u32],
            Option<u32>,
            Option<(Encapsulation, IpFamily)>,
            [u32; 6],
        )] = &[
            (&[1500], None, None, [1500, 1500, 1460, 1440, 1480, 1460]),
            (
                &[1500],
                None,
                Some((VXLAN, V4)),
                [1500, 1450, 1410, 1390, 1480, 1460],
            ),
            (
                &[1500],
                None,
                Some((VXLAN, V6)),
                [1500, 1430, 1390, 1370, 1480, 1460],
            ),
            (
                &[1500],
                None,
                Some((IPIP, V4)),
                [1500, 1480, 1440, 1420, 1480, 1460],
            ),
            (
                &[1500],
                None,
                Some((IPIP, V6)),
                [1500, 1460, 1420, 1400, 1480, 1460],
            ),
            (&[9000], None, None, [9000, 9000, 8960, 8940, 8980, 8960]),
            (
                &[9000],
                None,
                Some((VXLAN, V4)),
                [9000, 8950, 8910, 8890, 8980, 8960],
            ),
            (
                &[9000],
                None,
                Some((VXLAN, V6)),
                [9000, 8930, 8890, 8870, 8980, 8960],
            ),
            // Clouds' own overlays.
            (
                &[1460],
                None,
                Some((VXLAN, V4)),
                [1460, 1410, 1370, 1350, 1440, 1420],
            ),
            (
                &[8901],
                None,
                Some((VXLAN, V4)),
                [8901, 8851, 8811, 8791, 8881, 8861],
            ),
            // A VLAN on a card that carries the tag, and on one that does not.
            (
                &[1500],
                None,
                Some((VXLAN, V4)),
                [1500, 1450, 1410, 1390, 1480, 1460],
            ),
            (
                &[1496],
                None,
                Some((VXLAN, V4)),
                [1496, 1446, 1406, 1386, 1476, 1456],
            ),
            // Two uplinks; a network that carries less than both, and more.
            (
                &[9000, 1500],
                None,
                None,
                [1500, 1500, 1460, 1440, 1480, 1460],
            ),
            (
                &[9000, 1500],
                Some(1400),
                Some((VXLAN, V4)),
                [1400, 1350, 1310, 1290, 1380, 1360],
            ),
            (
                &[1500],
                Some(9000),
                None,
                [1500, 1500, 1460, 1440, 1480, 1460],
            ),
            // None that is known; hardly any.
            (&[], Some(1400), Some((VXLAN, V4)), [0; 6]),
            (&[0], None, None, [0; 6]),
            (&[45], None, Some((VXLAN, V4)), [45, 0, 0, 0, 25, 5]),
        ];
        for (interfaces, network, overlay, expected) in table {
            let uplink = of_uplinks(interfaces.iter().copied(), *network);
            let pods = of_pods(uplink, *overlay);
            let found = [
                uplink,
                pods,
                segment(pods, V4),
                segment(pods, V6),
                of_direct_return(uplink, V4),
                of_direct_return(uplink, V6),
            ];
            assert_eq!(found, *expected, "{interfaces:?} {network:?} {overlay:?}");
        }
    }
}
