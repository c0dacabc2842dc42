//! What `EGRESS_V1` should contain.
//!
//! The programs ask for the longest prefix alone, so each has the bits of all that hold it. One that
//! says no more than the prefix around it is left out: where `--cluster-cidr` holds the nodes' pod
//! networks, they take no room.

use std::collections::BTreeMap;

use agent_abi::egress::{EGRESS_KEEP, EGRESS_POD, EgressAddressV1};
use ipnet::{IpNet, Ipv4Net};

use crate::desired::egress::Egress;
use crate::lb::ebpf::entries::{address, prefix_bits};

/// Keys with the number of their bits that count, and their values.
pub type Entries = BTreeMap<(u32, EgressAddressV1), u32>;

/// The entries for what is wanted; none where nothing is translated.
pub fn entries(wanted: Option<&Egress>) -> Entries {
    let mut bits: BTreeMap<IpNet, u32> = BTreeMap::new();
    for network in wanted.into_iter().flat_map(|egress| egress.kept.keys()) {
        *bits.entry(*network).or_default() |= EGRESS_KEEP;
    }
    for network in wanted.into_iter().flat_map(|egress| &egress.pods) {
        *bits.entry(*network).or_default() |= EGRESS_POD;
    }
    let all_of_v4 = IpNet::V4(Ipv4Net::default());
    // Mapped, IPv4 lies in IPv6, where a network may be as large.
    if bits.keys().any(|network| matches!(network, IpNet::V6(v6) if v6.prefix_len() <= 80 && v6.network().is_unspecified())) {
        bits.entry(all_of_v4).or_default();
    }
    let mut entries = Entries::new();
    // In this order a network comes before those that it holds.
    let mut around: Vec<(IpNet, u32)> = Vec::new();
    for (network, own) in bits {
        while around
            .last()
            .is_some_and(|(outer, _)| !outer.contains(&network))
        {
            around.pop();
        }
        let outer = around.last().map(|(_, bits)| *bits);
        let all = own | outer.unwrap_or(0);
        if outer != Some(all) {
            let key = EgressAddressV1 {
                address: address(network.network()),
            };
            entries.insert((prefix_bits(&network), key), all);
        }
        around.push((network, all));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::egress::Why;

    fn of(pods: &[&str], kept: &[&str]) -> Entries {
        let egress = Egress {
            pods: pods.iter().map(|text| text.parse().unwrap()).collect(),
            kept: kept
                .iter()
                .map(|text| (text.parse().unwrap(), Why::Excluded))
                .collect(),
            ..Egress::default()
        };
        entries(Some(&egress))
    }

    /// As the kernel finds it.
    fn bits(entries: &Entries, at: &str) -> u32 {
        let at = u128::from_be_bytes(address(at.parse().unwrap()));
        let holding = entries.iter().filter(|((length, key), _)| {
            (u128::from_be_bytes(key.address) ^ at).leading_zeros() >= *length
        });
        let longest = holding.max_by_key(|((length, _), _)| *length);
        longest.map_or(0, |(_, bits)| *bits)
    }

    #[test]
    fn the_longest_prefix_has_what_is_said_of_every_network_that_holds_it() {
        let entries = of(
            &["10.0.1.0/24"],
            &["10.0.0.0/16", "10.0.1.7/32", "fd00::/8", "192.0.2.0/24"],
        );
        for (at, expected) in [
            ("10.0.1.5", EGRESS_POD | EGRESS_KEEP),
            ("10.0.1.7", EGRESS_POD | EGRESS_KEEP),
            ("10.0.2.5", EGRESS_KEEP),
            ("10.1.0.0", 0),
            ("192.0.2.255", EGRESS_KEEP),
            ("192.0.3.0", 0),
            ("fd12::1", EGRESS_KEEP),
            ("2001:db8::1", 0),
        ] {
            assert_eq!(bits(&entries, at), expected, "{at}");
        }
    }

    #[test]
    fn a_network_inside_one_that_says_as_much_takes_no_room() {
        let nodes: Vec<String> = (0..200).map(|node| format!("10.0.{node}.0/24")).collect();
        let mut kept: Vec<&str> = nodes.iter().map(String::as_str).collect();
        assert_eq!(of(&[], &kept).len(), 200);
        kept.push("10.0.0.0/16");
        assert_eq!(of(&[], &kept).len(), 1);
    }

    #[test]
    fn all_of_one_family_says_nothing_of_the_other() {
        let v6 = of(&["10.0.1.0/24"], &["::/0"]);
        assert_eq!(bits(&v6, "192.0.2.1"), 0);
        assert_eq!(bits(&v6, "10.0.1.1"), EGRESS_POD);
        assert_eq!(bits(&v6, "2001:db8::1"), EGRESS_KEEP);
        let v4 = of(&["fd00::/64"], &["0.0.0.0/0"]);
        assert_eq!(bits(&v4, "192.0.2.1"), EGRESS_KEEP);
        assert_eq!(bits(&v4, "2001:db8::1"), 0);
    }

    #[test]
    fn nothing_is_written_where_nothing_is_translated() {
        assert_eq!(entries(None), Entries::new());
    }
}
