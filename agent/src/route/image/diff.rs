//! The writes that make one content of the kernel's tables another.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Device, Image, Mac, Out, RouteKey, Target};

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Removes the overlay's device, and with it what is on it.
    RemoveDevice,
    /// Makes it.
    AddDevice(Device),
    /// Changes its MTU, and brings it up.
    SetDevice(Device),
    /// Adds or replaces an entry.
    PutForwarding(Mac, IpAddr),
    /// Adds or replaces a neighbour.
    PutNeighbour(IpAddr, Mac),
    /// Adds a route.
    AddRoute(RouteKey, Target),
    /// Replaces a route that is there.
    ReplaceRoute(RouteKey, Target),
    /// Adds a rule.
    AddRule(IpNet),
    /// Removes a rule.
    RemoveRule(IpNet),
    /// Removes a route.
    RemoveRoute(RouteKey, Target),
    /// Removes a neighbour.
    RemoveNeighbour(IpAddr),
    /// Removes an entry.
    RemoveForwarding(Mac, IpAddr),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveDevice => write!(f, "remove the overlay's device"),
            Self::AddDevice(device) => write!(f, "make {}", device.tunnel.device()),
            Self::SetDevice(device) => write!(f, "set up {}", device.tunnel.device()),
            Self::PutForwarding(mac, node) => write!(f, "forwarding entry {mac} at {node}"),
            Self::PutNeighbour(hop, mac) => write!(f, "neighbour {hop} at {mac}"),
            Self::AddRoute(key, _) | Self::ReplaceRoute(key, _) => {
                write!(f, "route to {}", key.destination)
            }
            Self::AddRule(network) => write!(f, "rule for {network}"),
            Self::RemoveRule(network) => write!(f, "remove the rule for {network}"),
            Self::RemoveRoute(key, _) => write!(f, "remove the route to {}", key.destination),
            Self::RemoveNeighbour(hop) => write!(f, "remove neighbour {hop}"),
            Self::RemoveForwarding(mac, _) => write!(f, "remove forwarding entry {mac}"),
        }
    }
}

/// The steps from what was found to what is wanted.
pub fn diff(wanted: &Image, found: &Image) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut found = found.clone();
    let same = |a: &Device, b: &Device| a.tunnel == b.tunnel;
    match (&wanted.device, &found.device) {
        (Some(device), Some(there)) if same(device, there) => {
            if device != there {
                steps.push(Step::SetDevice(device.clone()));
            }
            // What leads over an interface goes when it goes down.
        }
        (device, there) => {
            if there.is_some() {
                steps.push(Step::RemoveDevice);
                found.without_device();
            }
            if let Some(device) = device {
                steps.push(Step::AddDevice(device.clone()));
                steps.push(Step::SetDevice(device.clone()));
            }
        }
    }
    for (mac, node) in &wanted.forwarding {
        if found.forwarding.get(mac) != Some(node) {
            steps.push(Step::PutForwarding(*mac, *node));
        }
    }
    for (hop, mac) in &wanted.neighbours {
        if found.neighbours.get(hop) != Some(mac) {
            steps.push(Step::PutNeighbour(*hop, *mac));
        }
    }
    for (key, target) in &wanted.routes {
        match found.routes.get(key) {
            Some(there) if there == target => {}
            Some(_) => steps.push(Step::ReplaceRoute(*key, target.clone())),
            None => steps.push(Step::AddRoute(*key, target.clone())),
        }
    }
    let fresh = wanted.rules.difference(&found.rules);
    steps.extend(fresh.copied().map(Step::AddRule));
    let stale = found.rules.difference(&wanted.rules);
    steps.extend(stale.copied().map(Step::RemoveRule));
    for (key, target) in &found.routes {
        if !wanted.routes.contains_key(key) {
            steps.push(Step::RemoveRoute(*key, target.clone()));
        }
    }
    for hop in found.neighbours.keys() {
        if !wanted.neighbours.contains_key(hop) {
            steps.push(Step::RemoveNeighbour(*hop));
        }
    }
    for (mac, node) in &found.forwarding {
        if !wanted.forwarding.contains_key(mac) {
            steps.push(Step::RemoveForwarding(*mac, *node));
        }
    }
    steps
}

impl Image {
    /// What stays when the overlay's device goes.
    pub(super) fn without_device(&mut self) {
        self.routes
            .retain(|_, target| !target.leads_over(Out::Overlay));
        self.neighbours.clear();
        self.forwarding.clear();
        self.device = None;
    }
}
