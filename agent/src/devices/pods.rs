//! Which interface a pod is behind, by the node's routes. Pure.
//!
//! An own interface has the route to the pod's address (`/32`, `/128`); behind a bridge there is
//! the network of many. What cannot be found is told for each pod: its policies are in the tables,
//! and nobody asks them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_abi::policy::{INTERFACE_BITS, InterfaceAddressV1, SOURCE_OWN, SOURCE_STRANGE};
use agent_abi::{Address, mapped_v4};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::ObjectKey;

use super::{Device, Role};
use crate::desired::policy::PolicyTables;
use crate::lb::ebpf::attach::Side;
use crate::sys::links::{Link, LinkKind};

/// An address of a pod of this node at which network policy is not enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforced {
    /// The pod.
    pub pod: ObjectKey,
    /// The address.
    pub address: IpAddr,
    /// Whether a policy selects the pod.
    pub has_rules: bool,
    /// Why.
    pub why: String,
}

/// Whether the interface has the route to one of these addresses alone.
pub(super) fn leads_to_one(link: &Link, pods: &BTreeSet<IpAddr>) -> bool {
    hosts(link).any(|address| pods.contains(&address))
}

/// Addresses to which there is a route of their own.
pub(super) fn hosts(link: &Link) -> impl Iterator<Item = IpAddr> {
    let routes = link.routes.iter();
    routes
        .filter(|network| network.prefix_len() == network.max_prefix_len())
        .map(IpNet::addr)
}

/// The addresses of this node's pods that no policed interface leads to.
pub fn unenforced(tables: &PolicyTables, links: &[Link], devices: &[Device]) -> Vec<Unenforced> {
    let mut found = Vec::new();
    for (key, pod) in tables.pods() {
        for address in &pod.addresses {
            // Another pod's by now, and this one's end is not heard yet.
            let owner = tables.endpoints().get(address);
            if owner.is_none_or(|owner| owner.key != *key) {
                continue;
            }
            if let Some(why) = obstacle(*address, links, devices) {
                found.push(Unenforced {
                    pod: key.clone(),
                    address: *address,
                    has_rules: pod.sets().next().is_some(),
                    why,
                });
            }
        }
    }
    found
}

/// What keeps policy from an address.
fn obstacle(address: IpAddr, links: &[Link], devices: &[Device]) -> Option<String> {
    let length = |link: &Link| {
        let routes = link
            .routes
            .iter()
            .filter(|network| network.contains(&address));
        routes.map(IpNet::prefix_len).max()
    };
    let Some(longest) = links.iter().filter_map(length).max() else {
        return Some("no route of this node leads there without a gateway".to_owned());
    };
    let ways = links.iter().filter(|link| length(link) == Some(longest));
    ways.filter_map(|link| obstacle_at(link, links, devices))
        .next()
}

fn obstacle_at(link: &Link, links: &[Link], devices: &[Device]) -> Option<String> {
    let name = &link.name;
    let is_policed = |link: &Link| {
        let device = devices.iter().find(|device| device.index == link.index);
        device.is_some_and(|device| {
            device.role == Role::Attach(Side::Workload) && device.error.is_none()
        })
    };
    let device = devices.iter().find(|device| device.index == link.index);
    let Some(device) = device else {
        return Some(format!("its interface {name} has only just come"));
    };
    match (device.role, &device.error) {
        (Role::Attach(Side::Workload), None) => {}
        (Role::Attach(Side::Workload), Some(error)) => {
            return Some(format!("its interface {name} has no programs: {error}"));
        }
        (Role::Attach(Side::Uplink), _) => {
            return Some(format!(
                "its route leads to {name}, which leads to other machines too"
            ));
        }
        (Role::Attach(Side::Loopback | Side::Tunnel), _) => {
            return Some(format!("its route leads to {name}"));
        }
        (Role::Ignore(why), _) => return Some(format!("its interface is {name}: {why}")),
    }
    if link.kind != LinkKind::Bridge {
        return None;
    }
    let ports = links.iter().filter(|port| port.bridge == Some(link.index));
    let open = ports.into_iter().find(|port| !is_policed(port))?;
    Some(format!(
        "it is behind the bridge {name}, whose port {} is not policed",
        open.name
    ))
}

/// What may come from behind interfaces: the addresses that routes and pods have there. Contents of
/// `POLICY_INTERFACES`.
pub fn sources(
    tables: &PolicyTables,
    roles: &[(&Link, Role)],
) -> BTreeMap<(u32, InterfaceAddressV1), u32> {
    let mut found = BTreeMap::new();
    let workloads = roles
        .iter()
        .filter(|(_, role)| *role == Role::Attach(Side::Workload));
    for (link, _) in workloads {
        let pods: Vec<_> = hosts(link)
            .filter_map(|address| tables.endpoints().get(&address))
            .collect();
        let of_pods = pods.iter().flat_map(|pod| &pod.addresses);
        let networks: BTreeSet<IpNet> = link
            .routes
            .iter()
            .copied()
            .chain(of_pods.map(|address| IpNet::from(*address)))
            .collect();
        // A known pod has no address but its own, of either family.
        let is_known = |v4: bool| {
            !pods.is_empty()
                || networks
                    .iter()
                    .any(|network| network.addr().is_ipv4() == v4)
        };
        let mut put = |network: IpNet, value| {
            let (bits, address) = mapped(network);
            let key = InterfaceAddressV1 {
                interface: link.index,
                address,
            };
            found.insert((INTERFACE_BITS + bits, key), value);
        };
        let (v4, v6) = (is_known(true), is_known(false));
        if v6 {
            put(Ipv6Net::default().into(), SOURCE_STRANGE);
        }
        if v4 || v6 {
            // IPv4 lies within `::/0` as the maps have it.
            let value = if v4 { SOURCE_STRANGE } else { SOURCE_OWN };
            put(Ipv4Net::default().into(), value);
        }
        for network in networks {
            put(network, SOURCE_OWN);
        }
    }
    found
}

/// A network as the tables have it.
pub(super) fn mapped(network: IpNet) -> (u32, Address) {
    let bits = u32::from(network.prefix_len());
    match network.network() {
        IpAddr::V4(v4) => (96 + bits, mapped_v4(v4.octets())),
        IpAddr::V6(v6) => (bits, v6.octets()),
    }
}

#[cfg(test)]
mod tests;
