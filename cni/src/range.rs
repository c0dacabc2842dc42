//! Which addresses of a range may be given to pods.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{CniError, Code};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A range that pods get their addresses from.
///
/// Never given out are the network's address, which in IPv6 is every router's (RFC 4291 §2.6.1), the
/// first, which bridges and overlays take for the node, and the last of IPv4, the broadcast address.
/// Ranges of one or two addresses have none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    network: IpNet,
}

impl Range {
    /// A range.
    ///
    /// # Errors
    /// Where the address is not the network's: a slip, as the range would begin elsewhere.
    pub fn new(network: IpNet) -> Result<Self, CniError> {
        if network.addr() == network.network() {
            return Ok(Self { network });
        }
        Err(CniError::new(
            Code::InvalidConfig,
            format!("`ranges` has {network}"),
            format!("the network is {}", network.trunc()),
        ))
    }

    /// As it was given.
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.network.addr())
    }

    /// Whether two share addresses.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.network.contains(&other.network) || other.network.contains(&self.network)
    }

    /// Whether an address may be given to a pod.
    pub fn offers(&self, address: IpAddr) -> bool {
        let (first, last) = self.bounds();
        Family::of(address) == self.family() && (first..=last).contains(&number(address))
    }

    /// How many addresses there are to give.
    pub fn size(&self) -> u128 {
        let (first, last) = self.bounds();
        (last - first).saturating_add(1)
    }

    /// The addresses, beginning with the one after `last` and going round once.
    pub fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + use<> {
        let (family, (first, end)) = (self.family(), self.bounds());
        let last = last.filter(|last| self.offers(*last)).map(number);
        let start = match last {
            Some(last) if last < end => last + 1,
            Some(_) | None => first,
        };
        (start..=end)
            .chain(first..start)
            .map(move |n| address(family, n))
    }

    fn bounds(&self) -> (u128, u128) {
        let (low, high) = (
            number(self.network.network()),
            number(self.network.broadcast()),
        );
        let is_small = self.network.max_prefix_len() - self.network.prefix_len() < 2;
        match self.family() {
            _ if is_small => (low, high),
            Family::V4 => (low + 2, high - 1),
            Family::V6 => (low + 2, high),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let number = u32::try_from(number).expect("invariant: within an IPv4 network");
            IpAddr::V4(number.into())
        }
        Family::V6 => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, last: Option<&str>, expected: &[&str], size: u128) {
        let range = Range::new(network.parse().unwrap()).unwrap();
        let last = last.map(|last| last.parse().unwrap());
        let found: Vec<_> = range.after(last).take(5).map(|a| a.to_string()).collect();
        assert_eq!(found, expected, "{network}");
        assert_eq!(range.size(), size, "{network}");
        assert!(
            range
                .after(last)
                .take(5)
                .all(|address| range.offers(address))
        );
        for special in [range.network.network(), range.network.broadcast()] {
            let is_offered = range.after(None).take(300).any(|a| a == special);
            assert_eq!(range.offers(special), is_offered, "{network} {special}");
        }
    }

    #[test]
    fn network_node_and_broadcast_are_never_given() {
        check(
            "10.0.0.0/29",
            None,
            &["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"],
            5,
        );
        check("10.0.0.0/30", None, &["10.0.0.2"], 1);
        check("10.0.0.4/31", None, &["10.0.0.4", "10.0.0.5"], 2);
        check("10.0.0.4/32", None, &["10.0.0.4"], 1);
        check(
            "fd00::/125",
            None,
            &["fd00::2", "fd00::3", "fd00::4", "fd00::5", "fd00::6"],
            6,
        );
        check("fd00::7/128", None, &["fd00::7"], 1);
    }

    #[test]
    fn the_search_begins_after_the_last_and_goes_round() {
        check(
            "10.0.0.0/29",
            Some("10.0.0.5"),
            &["10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"],
            5,
        );
        check(
            "10.0.0.0/29",
            Some("10.0.0.6"),
            &["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"],
            5,
        );
        check("10.0.0.0/30", Some("10.9.0.6"), &["10.0.0.2"], 1);
        let whole = Range::new("::/0".parse().unwrap()).unwrap();
        assert_eq!(whole.size(), u128::MAX - 1);
    }

    #[test]
    fn a_range_is_a_network() {
        let error = Range::new("10.0.0.5/24".parse().unwrap()).unwrap_err();
        assert_eq!(
            (error.code, error.details.as_str()),
            (Code::InvalidConfig, "the network is 10.0.0.0/24")
        );
    }
}
