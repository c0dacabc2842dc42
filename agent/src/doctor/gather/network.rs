//! The ways to other nodes, tried.

use std::net::IpAddr;

use super::{seen, what};
use crate::control::network::Network;
use crate::doctor::facts::{Agent, Passed, Path, Seen, Unseen};
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
/// family is on. Not through the overlay: its devices have no address, so a node takes nothing there
/// that is for itself.
fn ways(network: &Network, own: &str, links: &[&Link]) -> Vec<Path> {
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
                ways.push(Path {
                    node: node.name.clone(),
                    to: *to,
                    device: uplink.name.clone(),
                    size: uplink.mtu,
                    passed: Passed::Nothing,
                });
            }
        }
    }
    ways
}
