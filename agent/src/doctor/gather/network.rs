//! The ways to other nodes, tried.

use std::net::IpAddr;

use super::{seen, what};
use crate::control::network::Network;
use crate::doctor::facts::{Agent, Path, Seen, Unseen};
use crate::doctor::mtu::probe;
use crate::sys::echo::{Echo, Question};
use crate::sys::links::Link;

/// Ways that are tried: at 9000 bytes each, what a node's receive buffer holds for a moment.
const MOST: usize = 200;

/// Tries the ways to the other nodes that the agent knows.
pub(super) fn paths(agent: &Seen<Agent>, links: &[&Link]) -> Seen<Vec<Path>> {
    let agent = agent.as_ref().map_err(Clone::clone)?;
    let own = agent.own().ok_or_else(|| {
        Unseen(format!(
            "the agent has not heard of Node {}",
            agent.status.node
        ))
    })?;
    let mut ways = ways(&agent.network, &own.name, links);
    ways.truncate(MOST);
    if ways.is_empty() {
        return Ok(ways);
    }
    let mut echo = what(Echo::open(), "sockets for echo requests")?;
    let questions: Vec<Question> = ways
        .iter()
        .map(|way| Question {
            to: way.to,
            device: way.overlay.then(|| way.device.clone()),
            size: way.size,
        })
        .collect();
    let passed = seen(probe(&questions, |round, patience| {
        echo.ask(round, patience)
    }))?;
    for (way, passed) in ways.iter_mut().zip(passed) {
        way.passed = passed;
    }
    Ok(ways)
}

/// Every way that should let full size through: by the interface that this node's address of the
/// family is on, and by the overlay.
fn ways(network: &Network, own: &str, links: &[&Link]) -> Vec<Path> {
    let way = |node: &str, to: IpAddr, device: &str, overlay: bool, size: u32| Path {
        node: node.to_owned(),
        to,
        device: device.to_owned(),
        overlay,
        size,
        passed: crate::doctor::facts::Passed::Nothing,
    };
    let mine = network.nodes.iter().find(|node| node.name == own);
    let mut ways = Vec::new();
    for node in network.nodes.iter().filter(|node| node.name != own) {
        for to in &node.addresses {
            let of_family = |address: &&IpAddr| address.is_ipv4() == to.is_ipv4();
            let mut addresses = mine.into_iter().flat_map(|mine| &mine.addresses);
            let address = addresses.find(of_family);
            let uplink = links
                .iter()
                .find(|link| address.is_some_and(|address| link.addresses.contains(address)));
            if let Some(uplink) = uplink {
                ways.push(way(&node.name, *to, &uplink.name, false, uplink.mtu));
            }
            let overlay = network.overlay.as_ref();
            if let Some(overlay) = overlay.filter(|overlay| overlay.peers.contains(to)) {
                ways.push(way(&node.name, *to, &overlay.device, true, overlay.mtu));
            }
        }
    }
    ways
}
