//! DEL and GC: the interface first, then its lease, so that an address is free only when nothing has
//! it. What is gone already, and what was made in half, is as good.

use std::collections::BTreeSet;

use crate::add::{kernel_error, remove};
use crate::error::CniError;
use crate::name::HostInterface;
use crate::netlink::Netlink;
use crate::request::{Collect, Delete};
use crate::store::Store;

/// Takes back what an ADD made.
///
/// # Errors
/// Where something of it stays.
pub fn delete(request: &Delete) -> Result<(), CniError> {
    let Delete {
        attachment,
        place,
        hurries,
    } = request;
    let interface = HostInterface::of(attachment);
    remove(&mut open()?, &interface, *hurries)?;
    match Store::existing(place)? {
        Some(store) => store.release(&interface),
        None => Ok(()),
    }
}

/// Takes back everything of this network but what is valid. One that cannot be taken back does not
/// keep the others.
///
/// # Errors
/// The first of the errors, and how many there are.
pub fn collect(request: &Collect) -> Result<(), CniError> {
    let Collect {
        place,
        valid,
        hurries,
    } = request;
    let Some(store) = Store::existing(place)? else {
        return Ok(());
    };
    let valid: BTreeSet<HostInterface> = valid.iter().map(HostInterface::of).collect();
    let mut netlink = open()?;
    let mut errors = Vec::from_iter(store.sweep().err());
    for lease in store.leases()? {
        if valid.contains(&lease.interface) {
            continue;
        }
        let taken = remove(&mut netlink, &lease.interface, *hurries);
        errors.extend(taken.and_then(|()| store.release(&lease.interface)).err());
    }
    let count = errors.len();
    match errors.into_iter().next() {
        None => Ok(()),
        Some(mut error) => {
            error.details = format!("{} (1 of {count} errors)", error.details);
            Err(error)
        }
    }
}

fn open() -> Result<Netlink, CniError> {
    Netlink::open().map_err(|error| kernel_error("open a netlink socket", &error))
}
