//! Largest packets: the one place where overheads are known.

use model::IpFamily;

use super::Encapsulation;

/// Smallest MTU with which an interface has IPv6 (RFC 8200 §5).
pub const LEAST_WITH_V6: u32 = 1280;

/// Bytes that an encapsulation adds to a pod's packet, between nodes of a family.
pub fn overhead(encapsulation: Encapsulation, underlay: IpFamily) -> u32 {
    let address = match underlay {
        IpFamily::V4 => 20,
        IpFamily::V6 => 40,
    };
    match encapsulation {
        // UDP, VXLAN and the Ethernet header inside (RFC 7348 §5).
        Encapsulation::Vxlan { .. } => address + 8 + 8 + 14,
        Encapsulation::IpIp => address,
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
    fn what_fits_into_the_uplink() {
        let vxlan = Encapsulation::Vxlan { vni: 1, port: 4789 };
        let ip_ip = Encapsulation::IpIp;
        for (uplink, overlay, expected) in [
            (1500, None, 1500),
            (1500, Some((vxlan, IpFamily::V4)), 1450),
            (1500, Some((vxlan, IpFamily::V6)), 1430),
            (1500, Some((ip_ip, IpFamily::V4)), 1480),
            (1500, Some((ip_ip, IpFamily::V6)), 1460),
            (9000, None, 9000),
            (9000, Some((vxlan, IpFamily::V4)), 8950),
            (9000, Some((vxlan, IpFamily::V6)), 8930),
            (9000, Some((ip_ip, IpFamily::V4)), 8980),
            (9000, Some((ip_ip, IpFamily::V6)), 8960),
            // Clouds' own overlays.
            (1460, Some((vxlan, IpFamily::V4)), 1410),
            (8901, Some((vxlan, IpFamily::V4)), 8851),
            (10, Some((vxlan, IpFamily::V4)), 0),
        ] {
            assert_eq!(of_pods(uplink, overlay), expected, "{uplink} {overlay:?}");
        }
    }
}
