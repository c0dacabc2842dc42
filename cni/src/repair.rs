//! Routes to pods that somebody has taken away, as a change of the interface's state does too.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::add::kernel_error;
use crate::config::Place;
use crate::error::CniError;
use crate::message;
use crate::netlink::{Netlink, outgoing};
use crate::reclaim::own_address;
use crate::store::{Lease, Store};

/// An ADD makes the routes itself, within milliseconds of its lease, and takes one that is there for
/// another's.
pub const YOUNG: Duration = Duration::from_secs(2);

/// What a look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Routes put back: the interface and the address.
    pub repaired: Vec<(String, IpAddr)>,
    /// Those that the kernel refused, and why.
    pub refused: Vec<((String, IpAddr), String)>,
    /// Whether some were left to an ADD.
    pub left_some: bool,
}

/// Puts back the routes to the pods of `interfaces` (all of them, where that is `None`) that are not there.
/// An address that has a route by another interface is left: `status` says whose it is.
///
/// # Errors
/// Where the leases or the routes cannot be read.
pub fn repair(place: &Place, interfaces: Option<&[String]>) -> Result<Look, CniError> {
    // Locked until the end: no pod ends between what is read and what is put back.
    let Some(store) = Store::existing(place)? else {
        return Ok(Look::default());
    };
    let failed = |error| kernel_error("look at the routes to pods", &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let mut look = Look::default();
    let is_asked = |lease: &Lease| {
        interfaces.is_none_or(|some| some.iter().any(|name| name == lease.interface.as_str()))
    };
    for lease in store.leases()?.iter().filter(|lease| is_asked(lease)) {
        let name = lease.interface.as_str();
        let Some(index) = netlink.index(name).map_err(failed)? else {
            continue;
        };
        for address in &lease.addresses {
            let found = netlink.route_to(*address).map_err(failed)?;
            let leads = found.is_some_and(|route| {
                own_address(&route) == Some(*address) && outgoing(&route).is_some()
            });
            if leads {
                continue;
            }
            let age = SystemTime::now().duration_since(store.written(lease)?);
            if age.is_ok_and(|age| age < YOUNG) {
                look.left_some = true;
                continue;
            }
            let route = (name.to_owned(), *address);
            // One interface that is down is no reason to leave the others.
            match netlink.change(message::host_route(index, *address)) {
                Ok(()) => look.repaired.push(route),
                Err(error) => look.refused.push((route, error.to_string())),
            }
        }
    }
    Ok(look)
}
