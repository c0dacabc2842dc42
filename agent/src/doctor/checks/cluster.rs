//! What the cluster says, and what the running agent makes of it.

use ipnet::IpNet;

use crate::doctor::facts::{Facts, Seen};
use crate::doctor::finding::{Said, failure, fine, or_fine, warning};
use crate::sys::links::{Link, LinkKind};

pub(super) fn pod_networks(facts: &Facts) -> Seen<Vec<Said>> {
    let network = facts.network()?;
    let own = facts.agent()?.own();
    let mut wrong = Vec::new();
    let Some(own) = own else {
        return Ok(vec![failure(
            format!("the cluster has no Node {}", facts.agent()?.status.node),
            "give the agent the Node's name with --hostname-override",
        )]);
    };
    if own.pod_networks.is_empty() && network.routed {
        wrong.push(failure(
            format!("Node {} has no spec.podCIDRs", own.name),
            "run the controller manager with --allocate-node-cidrs and --cluster-cidr, or set spec.podCIDRs",
        ));
    }
    let all = network.nodes.iter();
    let all: Vec<(&str, IpNet)> = all
        .flat_map(|node| {
            node.pod_networks
                .iter()
                .map(|network| (&*node.name, *network))
        })
        .collect();
    for (name, mine) in all.iter().filter(|(name, _)| *name == own.name) {
        for (other, theirs) in all.iter().filter(|(other, _)| other != name) {
            if overlap(mine, theirs) {
                wrong.push(failure(
                    format!("{mine} of this node overlaps {theirs} of node {other}"),
                    format!("delete the younger of the Nodes {name} and {other}, and have it register anew with another spec.podCIDRs"),
                ));
            }
        }
    }
    for link in facts.links()?.iter().filter(|link| is_of_node(link)) {
        for held in link.networks.iter().map(IpNet::trunc) {
            for (name, pods) in all.iter().filter(|(_, pods)| overlap(&held, pods)) {
                wrong.push(failure(
                    format!("{pods} of node {name} overlaps {held} of {}", link.name),
                    "give the nodes' networks and --cluster-cidr of the controller manager ranges that do not overlap",
                ));
            }
        }
    }
    for (name, pods) in &all {
        if let Some(service) = network
            .services
            .iter()
            .find(|service| pods.contains(*service))
        {
            wrong.push(failure(
                format!("{pods} of node {name} holds {service}, the address of a Service"),
                "give --service-cluster-ip-range of the API server and --cluster-cidr of the controller manager ranges that do not overlap",
            ));
        }
    }
    Ok(or_fine(
        wrong,
        format!("{} networks, none of which overlaps another", all.len()),
    ))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Whether a link leads to other machines: bridges and pairs may well have pods' addresses.
fn is_of_node(link: &Link) -> bool {
    let may_be_pods = matches!(link.kind, LinkKind::Bridge | LinkKind::Veth);
    link.kind != LinkKind::Loopback && (!may_be_pods || link.default_route)
}

pub(super) fn api_server(facts: &Facts) -> Seen<Vec<Said>> {
    if let Ok(agent) = &facts.agent {
        let degraded = agent
            .status
            .sources
            .iter()
            .filter(|kind| kind.state == "degraded");
        let wrong = degraded.map(|kind| {
            failure(
                format!("{} is not followed: {}", kind.kind, kind.reason.clone().unwrap_or_default()),
                "see that an API server answers at --master or the kubeconfig's server, and that the agent's role may list and watch",
            )
        });
        return Ok(or_fine(wrong.collect(), "the agent follows every kind"));
    }
    let servers = facts.servers.as_ref().map_err(Clone::clone)?;
    let said = servers.iter().map(|(url, answer)| match answer {
        Ok(version) => fine(format!("{url} answers: {version}")),
        Err(why) => failure(
            format!("{url}: {why}"),
            "name an API server that answers with --master, or mend the kubeconfig",
        ),
    });
    Ok(said.collect())
}

pub(super) fn agent(facts: &Facts) -> Seen<Vec<Said>> {
    let agent = facts.agent()?;
    let status = &agent.status;
    let mut wrong = Vec::new();
    let ours = env!("CARGO_PKG_VERSION");
    if status.version != ours {
        wrong.push(warning(
            format!("the agent is {}, this command {ours}", status.version),
            "use the command of the agent's own version",
        ));
    }
    let routing = status.routing.iter();
    let of_routing = routing.flat_map(|routing| routing.failures.iter().chain(&routing.cni_error));
    let failed = status
        .apply
        .error
        .iter()
        .chain(&status.apply.failures)
        .chain(of_routing);
    for why in failed {
        wrong.push(failure(
            format!("not in force: {why}"),
            "mend what it names; the agent tries again by itself",
        ));
    }
    let of_devices = status.devices.iter().filter_map(|device| {
        let why = device.error.as_ref()?;
        Some(failure(
            format!("no programs on {}: {why}", device.name),
            "mend what it names; the agent tries again every few seconds",
        ))
    });
    wrong.extend(of_devices);
    for pod in &status.unenforced {
        wrong.push(warning(
            format!("network policy does not reach {} ({}): {}", pod.pod, pod.address, pod.reason),
            "give the pod an interface of its own whose route leads to its address, as the agent's CNI plugin does",
        ));
    }
    if !status.problems.is_empty() {
        wrong.push(warning(
            format!(
                "{} objects of the cluster are not as they should be",
                status.problems.len()
            ),
            "see them with fairlead-agent status, and mend them",
        ));
    }
    Ok(or_fine(
        wrong,
        format!(
            "{} runs since {} s, and all is in force",
            status.version, status.uptime_seconds
        ),
    ))
}
