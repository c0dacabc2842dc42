//! The ways to other nodes, tried.

use std::net::IpAddr;

use ipnet::IpNet;
use model::IpFamily;

use super::{seen, what};
use crate::control::network::Network;
use crate::desired::route::{Encapsulation, mtu};
use crate::doctor::facts::{Agent, Carrier, Passed, Path, Seen, Unseen};
use crate::doctor::mtu::probe;
use crate::route::image::Mac;
use crate::sys::echo::{Echo, Outer, Question, Through};
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
    let own_pods = &own.pod_networks;
    ways.extend(carried(&agent.network, own_pods, links));
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
            through: way
                .carrier
                .and_then(|_| through(&agent.network, own_pods, links, way.to)),
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

/// Every way outside of the overlay that should let full size through: by the interface that this
/// node's address of the family is on.
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
                    carrier: None,
                });
            }
        }
    }
    ways
}

/// The ways through the overlay, there and back. A node takes there what comes from pods alone, as the
/// device has no address (`rp_filter`): the first address of this node's pod network stands for one,
/// which no pod has, and the answer is seen at the device.
fn carried(network: &Network, own_pods: &[IpNet], links: &[&Link]) -> Vec<Path> {
    let Some(overlay) = &network.overlay else {
        return Vec::new();
    };
    let Some(local) = overlay.local else {
        return Vec::new();
    };
    let mut peers = overlay.peers.iter();
    if peers.any(|peer| through(network, own_pods, links, *peer).is_none()) {
        return Vec::new();
    }
    let encapsulation = match overlay.vxlan {
        Some((vni, port)) => Encapsulation::Vxlan { vni, port },
        None => Encapsulation::IpIp,
    };
    let overhead = mtu::overhead(encapsulation, IpFamily::of(local));
    let port = overlay.vxlan.map(|(_, port)| port);
    let named = overlay.peers.iter().map(|peer| {
        let mut nodes = network.nodes.iter();
        let node = nodes.find(|node| node.addresses.contains(peer));
        (
            peer,
            node.map_or_else(String::new, |node| node.name.clone()),
        )
    });
    named
        .map(|(peer, node)| Path {
            node,
            to: *peer,
            device: overlay.device.clone(),
            size: overlay.mtu,
            passed: Passed::Nothing,
            carrier: Some(Carrier { port, overhead }),
        })
        .collect()
}

fn through(network: &Network, own_pods: &[IpNet], links: &[&Link], to: IpAddr) -> Option<Through> {
    let overlay = network.overlay.as_ref()?;
    let link = links.iter().find(|link| link.name == overlay.device)?;
    let local = overlay.local?;
    let mut of_family = own_pods.iter().map(IpNet::network);
    Some(Through {
        interface: link.index,
        from: of_family.find(|address| address.is_ipv4() == to.is_ipv4())?,
        outer: match overlay.vxlan {
            Some(_) => Outer::Ethernet {
                source: Mac::of(local).0,
                destination: Mac::of(to).0,
            },
            None => Outer::IpIp,
        },
    })
}
