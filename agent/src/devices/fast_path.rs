//! Which packets skip the host's stack: those between pods, where both interfaces are known. Pure.
//!
//! From interfaces and their roles to the contents of `agent_abi::fast_path`, and to what status says
//! of them. What is left out goes through the stack, and says why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_abi::fast_path::{FAST_POD, FAST_POLICED_POD, FAST_WIRE, FastDeviceV1};
use agent_abi::policy::PolicyAddressV1;
use bytemuck::Zeroable as _;
use ipnet::IpNet;

use super::pods::{hosts, mapped};
use super::{Device, Role};
use crate::desired::Desired;
use crate::lb::ebpf::attach::Side;
use crate::lb::ebpf::entries::address;
use crate::lb::ebpf::fast_path::Tables;
use crate::sys::links::{Link, LinkKind};

/// What is known of the fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// Nothing takes it, for this reason.
    Off(String),
    /// Packets between these take it.
    On(Reach),
}

/// Between what the fast path is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Pods of this node: the interface of each address.
    pub pods: BTreeMap<IpAddr, String>,
    /// Pods of other nodes.
    pub networks: BTreeSet<IpNet>,
    /// Interfaces of pods that it leaves out, and why.
    pub left_out: BTreeMap<String, &'static str>,
}

impl Default for FastPath {
    fn default() -> Self {
        Self::Off("the cluster or the interfaces are not known yet".to_owned())
    }
}

impl Reach {
    /// Whether what goes from one address to the other takes it.
    pub fn joins(&self, from: IpAddr, to: IpAddr) -> bool {
        let here = |address| self.pods.contains_key(&address);
        let elsewhere = |address: IpAddr| self.networks.iter().any(|net| net.contains(&address));
        from != to
            && match (here(from), here(to)) {
                (true, true) => true,
                (true, false) => elsewhere(to),
                (false, true) => elsewhere(from),
                (false, false) => false,
            }
    }
}

/// What goes into the tables, and what that means. `filtered` are indexes of interfaces with filters
/// of others.
pub fn plan(
    roles: &[(&Link, Role)],
    devices: &[Device],
    desired: &Desired,
    policed: bool,
    filtered: &BTreeSet<u32>,
) -> (Tables, Reach) {
    let (mut tables, mut reach) = (Tables::default(), Reach::default());
    let attached = |link: &Link| {
        let mut found = devices.iter().filter(|device| device.index == link.index);
        found.all(|device| device.error.is_none())
    };
    for (link, role) in roles.iter().filter(|(link, _)| attached(link)) {
        let device = match role {
            Role::Attach(Side::Uplink) => FastDeviceV1 {
                kind: FAST_WIRE,
                mtu: link.mtu,
                ..FastDeviceV1::zeroed()
            },
            Role::Attach(Side::Workload) => {
                let pods = pods_at(link, desired);
                if pods.is_empty() {
                    continue;
                }
                if let Some(why) = obstacle(link, filtered) {
                    reach.left_out.insert(link.name.clone(), why);
                    continue;
                }
                let (v4, v6) = (only(&pods, true), only(&pods, false));
                let named = [v4, v6].into_iter().flatten();
                reach.pods.extend(named.map(|ip| (ip, link.name.clone())));
                FastDeviceV1 {
                    v4: v4.map_or([0; 16], address),
                    v6: v6.map_or([0; 16], address),
                    kind: if policed { FAST_POLICED_POD } else { FAST_POD },
                    mtu: link.mtu,
                }
            }
            Role::Attach(Side::Loopback | Side::Tunnel) | Role::Ignore(_) => continue,
        };
        tables.devices.insert(link.index, device);
    }
    if let Some(routes) = &desired.routes {
        reach.networks.extend(routes.to.keys().copied());
    }
    let networks = reach.networks.iter().map(|network| {
        let (bits, address) = mapped(*network);
        (bits, PolicyAddressV1 { address })
    });
    tables.networks = networks.collect();
    (tables, reach)
}

/// Addresses of pods that the interface alone leads to.
fn pods_at(link: &Link, desired: &Desired) -> Vec<IpAddr> {
    let own = desired.routes.iter().flat_map(|routes| &routes.own);
    let own: Vec<&IpNet> = own.collect();
    let is_pod = |address: &IpAddr| {
        desired.policy.endpoints().contains_key(address)
            || own.iter().any(|network| network.contains(address))
    };
    hosts(link).filter(is_pod).collect()
}

/// The one address of a family. Of several, the stack decides which is whose.
fn only(pods: &[IpAddr], v4: bool) -> Option<IpAddr> {
    let mut of_family = pods.iter().filter(|address| address.is_ipv4() == v4);
    let first = of_family.next();
    first.copied().filter(|_| of_family.next().is_none())
}

/// Why packets do not skip the stack at a pod's interface.
fn obstacle(link: &Link, filtered: &BTreeSet<u32>) -> Option<&'static str> {
    if link.kind != LinkKind::Veth {
        return Some("it is no veth, so there is no other end to hand packets to");
    }
    if !link.peer_elsewhere {
        return Some("its other end is in the host's network namespace");
    }
    if link.queued {
        return Some(
            "it has a queueing discipline, as for a bandwidth limit, which would be skipped",
        );
    }
    if filtered.contains(&link.index) {
        return Some(
            "it has tc filters of another, as for a bandwidth limit, which would be skipped",
        );
    }
    None
}

#[cfg(test)]
mod tests;
