//! Which addresses a pod gets. Pure; the store writes them down.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::range::{Family, Range};

/// Why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// No address of a family is free.
    Exhausted {
        /// The ranges of this family.
        ranges: Vec<IpNet>,
        /// How many addresses they have to give.
        size: u128,
    },
    /// An address that was asked for is held.
    InUse(IpAddr),
    /// An address that was asked for is not to be given.
    NotOffered {
        /// The address.
        address: IpAddr,
        /// The ranges of this family.
        ranges: Vec<IpNet>,
    },
    /// Two addresses of a family were asked for.
    Twice(IpAddr, IpAddr),
}

/// One address of each family that `ranges` have, in the order they begin: `wanted` where given,
/// else the first free one after that of the family in `last`.
///
/// # Errors
/// [`NoAddress`] where a family has none.
pub fn choose(
    ranges: &[Range],
    wanted: &[IpAddr],
    held: &BTreeSet<IpAddr>,
    last: &[IpAddr],
) -> Result<Vec<IpAddr>, NoAddress> {
    for (index, address) in wanted.iter().enumerate() {
        let same = |other: &&IpAddr| Family::of(**other) == Family::of(*address);
        if let Some(first) = wanted[..index].iter().find(same) {
            return Err(NoAddress::Twice(*first, *address));
        }
        if !ranges.iter().any(|range| range.offers(*address)) {
            let ranges = networks(ranges, Family::of(*address));
            return Err(NoAddress::NotOffered {
                address: *address,
                ranges,
            });
        }
        if held.contains(address) {
            return Err(NoAddress::InUse(*address));
        }
    }
    let of = |list: &[IpAddr], family| {
        let mut list = list.iter().copied();
        list.find(|address| Family::of(*address) == family)
    };
    families(ranges)
        .into_iter()
        .map(|family| match of(wanted, family) {
            Some(address) => Ok(address),
            None => first_free(ranges, family, held, of(last, family)),
        })
        .collect()
}

fn first_free(
    ranges: &[Range],
    family: Family,
    held: &BTreeSet<IpAddr>,
    last: Option<IpAddr>,
) -> Result<IpAddr, NoAddress> {
    let of_family = || ranges.iter().filter(|range| range.family() == family);
    of_family()
        .flat_map(|range| range.after(last))
        .find(|address| !held.contains(address))
        .ok_or_else(|| NoAddress::Exhausted {
            ranges: networks(ranges, family),
            size: of_family().fold(0, |sum, range| sum.saturating_add(range.size())),
        })
}

/// The families of ranges, in order.
pub fn families(ranges: &[Range]) -> Vec<Family> {
    let mut families = Vec::new();
    for range in ranges {
        if !families.contains(&range.family()) {
            families.push(range.family());
        }
    }
    families
}

fn networks(ranges: &[Range], family: Family) -> Vec<IpNet> {
    let of_family = ranges.iter().filter(|range| range.family() == family);
    of_family.map(Range::network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace()
            .map(|a| a.parse().unwrap())
            .collect()
    }

    #[track_caller]
    fn check(ranges: &str, wanted: &str, held: &str, last: &str, expected: &str) {
        let ranges: Vec<_> = ranges
            .split_whitespace()
            .map(|text| Range::new(text.parse().unwrap()).unwrap())
            .collect();
        let held = addresses(held).into_iter().collect();
        let chosen = choose(&ranges, &addresses(wanted), &held, &addresses(last));
        let shown = match chosen {
            Ok(chosen) => chosen.iter().map(|a| format!("{a} ")).collect::<String>(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(shown.trim_end(), expected);
    }

    #[test]
    fn a_pod_gets_an_address_of_each_family_in_order() {
        check("10.0.0.0/24", "", "", "", "10.0.0.2");
        check("fd00::/64 10.0.0.0/24", "", "", "", "fd00::2 10.0.0.2");
        check(
            "10.0.0.0/24 fd00::/64",
            "",
            "10.0.0.2 10.0.0.3 fd00::2",
            "",
            "10.0.0.4 fd00::3",
        );
        check(
            "10.0.0.0/24 fd00::/64",
            "",
            "",
            "10.0.0.9 fd00::f",
            "10.0.0.10 fd00::10",
        );
    }

    #[test]
    fn a_freed_address_is_used_last() {
        check("10.0.0.0/29", "", "10.0.0.6", "10.0.0.6", "10.0.0.2");
        check(
            "10.0.0.0/29",
            "",
            "10.0.0.2 10.0.0.3 10.0.0.6",
            "10.0.0.6",
            "10.0.0.4",
        );
    }

    #[test]
    fn further_ranges_are_used_when_the_first_is_full() {
        let two = "10.0.0.0/30 10.0.1.0/30";
        check(two, "", "10.0.0.2", "10.0.0.2", "10.0.1.2");
        check(two, "", "10.0.1.2", "10.0.1.2", "10.0.0.2");
        check(
            two,
            "",
            "10.0.0.2 10.0.1.2",
            "",
            "Exhausted { ranges: [10.0.0.0/30, 10.0.1.0/30], size: 2 }",
        );
        check(
            "10.0.0.0/24 fd00::7/128",
            "",
            "fd00::7",
            "",
            "Exhausted { ranges: [fd00::7/128], size: 1 }",
        );
    }

    #[test]
    fn an_address_is_given_on_request_if_it_may_be() {
        let both = "10.0.0.0/24 fd00::/64";
        check(both, "10.0.0.77", "", "", "10.0.0.77 fd00::2");
        check(both, "fd00::77 10.0.0.77", "", "", "10.0.0.77 fd00::77");
        check(both, "10.0.0.77", "10.0.0.77", "", "InUse(10.0.0.77)");
        check(
            both,
            "10.0.0.7 10.0.0.8",
            "",
            "",
            "Twice(10.0.0.7, 10.0.0.8)",
        );
        for wrong in ["10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.7"] {
            check(
                both,
                wrong,
                "",
                "",
                &format!("NotOffered {{ address: {wrong}, ranges: [10.0.0.0/24] }}"),
            );
        }
        check(
            "10.0.0.0/24",
            "fd00::5",
            "",
            "",
            "NotOffered { address: fd00::5, ranges: [] }",
        );
    }
}
