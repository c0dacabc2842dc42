//! Leases that no DEL will ever come for: the node lost its pods, as in a restart, and what is kept
//! on disk did not go with them.
//!
//! A pod has an address by the interface of its lease alone; both ends of the pair end together. So
//! a lease without that interface is nobody's, but for the moment in which an ADD has its lease and
//! makes the pair. That moment is what [`GRACE`] is for.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use crate::add::kernel_error;
use crate::config::Place;
use crate::error::CniError;
use crate::netlink::{Netlink, outgoing};
use crate::range::Family;
use crate::store::{Lease, Store};

/// An ADD makes the pair within milliseconds of its lease. On a node that has hardly started, a
/// thousand times as long, and then some.
pub const GRACE: Duration = Duration::from_secs(60);

/// Leases without an interface, and when each was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects(BTreeMap<Lease, SystemTime>);

impl Suspects {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Freed.
    pub freed: Vec<Lease>,
    /// Not yet, for they are young.
    pub suspects: Suspects,
}

/// Frees leases whose interface is gone: those written longer than [`GRACE`] ago, and those that
/// were there at an earlier look, which was as long ago. The clock may have been set in between.
///
/// # Errors
/// Where the leases or the interfaces cannot be read, or a lease cannot be removed.
pub fn reclaim(place: &Place, earlier: &Suspects) -> Result<Look, CniError> {
    // Locked until the end: no lease can come between what is read and what is freed.
    let Some(store) = Store::existing(place)? else {
        return Ok(Look::default());
    };
    store.sweep()?;
    let leases = store.leases()?;
    let kernel = Kernel::read()?;
    let mut gone = Suspects::default();
    for lease in leases {
        if !kernel.has(&lease)? {
            let written = store.written(&lease)?;
            gone.0.insert(lease, written);
        }
    }
    let look = judge(gone, earlier, SystemTime::now());
    for lease in &look.freed {
        store.release(&lease.interface)?;
    }
    Ok(look)
}

fn judge(gone: Suspects, earlier: &Suspects, now: SystemTime) -> Look {
    let is_old = |lease: &Lease, written: &SystemTime| {
        let age = now.duration_since(*written).unwrap_or_default();
        age >= GRACE || earlier.0.get(lease) == Some(written)
    };
    let (old, young): (BTreeMap<_, _>, _) = gone
        .0
        .into_iter()
        .partition(|(lease, written)| is_old(lease, written));
    Look {
        freed: old.into_keys().collect(),
        suspects: Suspects(young),
    }
}

/// What tells that somebody has an address.
#[derive(Debug)]
struct Kernel {
    netlink: Netlink,
    /// Addresses with a route of their own by an interface: one that somebody has renamed.
    routed: BTreeSet<IpAddr>,
}

impl Kernel {
    fn read() -> Result<Self, CniError> {
        let failed = |error| kernel_error("look at the routes to pods", &error);
        let mut netlink = Netlink::open().map_err(failed)?;
        let mut routed = BTreeSet::new();
        for family in [Family::V4, Family::V6] {
            let routes = netlink.routes(family).map_err(failed)?;
            routed.extend(routes.iter().filter_map(own_address));
        }
        Ok(Self { netlink, routed })
    }

    fn has(&self, lease: &Lease) -> Result<bool, CniError> {
        let failed = |error| kernel_error("look for a pod's interface", &error);
        let index = self.netlink.index(lease.interface.as_str());
        let is_routed = |address| self.routed.contains(address);
        Ok(index.map_err(failed)?.is_some() || lease.addresses.iter().any(is_routed))
    }
}

/// The address that a route is for alone, where it leads to an interface.
pub(crate) fn own_address(route: &RouteMessage) -> Option<IpAddr> {
    outgoing(route)?;
    let mut attributes = route.attributes.iter();
    let address = attributes.find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })?;
    let whole = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    (route.header.destination_prefix_length == whole).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Attachment;
    use crate::name::HostInterface;

    fn lease(container: &str) -> Lease {
        let attachment = Attachment {
            container: container.to_owned(),
            ifname: "eth0".to_owned(),
        };
        Lease {
            interface: HostInterface::of(&attachment),
            addresses: vec!["10.0.0.2".parse().unwrap()],
        }
    }

    #[test]
    fn a_lease_is_freed_after_its_grace_by_the_clock_or_by_two_looks() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| now - Duration::from_secs(seconds);
        let of = |entries: &[(&str, SystemTime)]| {
            Suspects(entries.iter().map(|(c, at)| (lease(c), *at)).collect())
        };
        let future = now + Duration::from_secs(3600);
        let gone = of(&[("old", ago(61)), ("young", ago(59)), ("future", future)]);
        let first = judge(gone.clone(), &Suspects::default(), now);
        assert_eq!(first.freed, [lease("old")]);
        assert_eq!(
            first.suspects,
            of(&[("young", ago(59)), ("future", future)])
        );
        // One of the two was freed by a DEL and leased again meanwhile.
        let again = of(&[("young", now), ("future", future)]);
        let second = judge(again, &first.suspects, now);
        assert_eq!(second.freed, [lease("future")]);
        assert_eq!(second.suspects, of(&[("young", now)]));
    }
}
