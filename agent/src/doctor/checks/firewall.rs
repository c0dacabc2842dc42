//! Chains of others.

use std::collections::BTreeSet;

use crate::doctor::facts::{Facts, Seen, Unseen};
use crate::doctor::finding::{Said, could_not_tell, failure, not_applicable, or_fine, warning};
use crate::sys::firewall::{Chain, Family, Filters, Hook, KeptBy};

/// Whose chains begin so, and what takes them away.
const OWNERS: [(&str, &str, &str); 9] = [
    (
        "KUBE-ROUTER-",
        "kube-router",
        "kube-router --cleanup-config",
    ),
    (
        "KUBE-POD-FW-",
        "kube-router",
        "kube-router --cleanup-config",
    ),
    (
        "KUBE-NWPLCY-",
        "kube-router",
        "kube-router --cleanup-config",
    ),
    (
        "KUBE-SVC-",
        "kube-proxy",
        "remove its DaemonSet, then kube-proxy --cleanup",
    ),
    (
        "KUBE-SERVICES",
        "kube-proxy",
        "remove its DaemonSet, then kube-proxy --cleanup",
    ),
    (
        "cali-",
        "Calico",
        "remove its DaemonSet, and restart the node",
    ),
    (
        "CILIUM_",
        "Cilium",
        "remove its DaemonSet, then cilium-dbg post-uninstall-cleanup",
    ),
    (
        "FLANNEL-",
        "Flannel",
        "remove its DaemonSet, and restart the node",
    ),
    (
        "ANTREA-",
        "Antrea",
        "remove its DaemonSet, and restart the node",
    ),
];

/// kube-proxy's table of nftables.
const KUBE_PROXY_TABLE: &str = "kube-proxy";

pub(super) fn forward(facts: &Facts) -> Seen<Vec<Said>> {
    look(facts, |chain, all| {
        let filters = chain.filters.as_ref()?;
        (filters.hook == Hook::Forward && filters.drops)
            .then(|| dropping(chain, filters, &let_through(chain, all)))
    })
}

pub(super) fn input(facts: &Facts) -> Seen<Vec<Said>> {
    let port = match facts.network() {
        Ok(network) => match &network.overlay {
            None => return Ok(vec![not_applicable("there is no overlay")]),
            Some(overlay) => overlay.vxlan.map(|(_, port)| port),
        },
        Err(Unseen(_)) => Some(facts.vxlan.1),
    };
    look(facts, |chain, _| {
        let filters = chain.filters.as_ref()?;
        let lets_in = port.is_some_and(|port| filters.ports.contains(&port));
        (filters.hook == Hook::Input && filters.drops && !lets_in)
            .then(|| dropping(chain, filters, &let_in(chain, port)))
    })
}

/// Looks at every chain that can be read; says what cannot.
fn look(facts: &Facts, check: impl Fn(&Chain, &[&Chain]) -> Option<Said>) -> Seen<Vec<Said>> {
    let (chains, unread) = chains(facts);
    let mut said: Vec<Said> = chains
        .iter()
        .filter_map(|chain| check(chain, &chains))
        .collect();
    said.extend(unread);
    Ok(or_fine(said, "no chain drops by default"))
}

fn chains(facts: &Facts) -> (Vec<&Chain>, Vec<Said>) {
    let mut chains = Vec::new();
    let mut unread = Vec::new();
    for kept in [&facts.nft, &facts.legacy] {
        match kept {
            Ok(known) => chains.extend(known),
            Err(Unseen(why)) => unread.push(could_not_tell(why)),
        }
    }
    (chains, unread)
}

fn dropping(chain: &Chain, filters: &Filters, remedy: &str) -> Said {
    let kept = match chain.kept_by {
        KeptBy::Nft => "",
        KeptBy::Legacy => " (iptables-legacy)",
    };
    let place = format!("{} {} {}{kept}", chain.family, chain.table, chain.name);
    // Which packets its rules mean is more than can be told here.
    if filters.lets_some_pass {
        warning(
            format!("{place} drops what no rule of it lets pass"),
            remedy,
        )
    } else {
        failure(format!("{place} drops everything"), remedy)
    }
}

/// How pods' packets get through.
fn let_through(chain: &Chain, all: &[&Chain]) -> String {
    let of_ufw = |other: &&Chain| {
        other.family == chain.family && other.table == chain.table && other.name.starts_with("ufw")
    };
    if chain.table == "firewalld" {
        "firewall-cmd --permanent --zone=trusted --add-source=POD-NETWORK for each pod network, then firewall-cmd --reload".to_owned()
    } else if all.iter().copied().any(|other| of_ufw(&other)) {
        "ufw default allow routed".to_owned()
    } else if let Some(command) = iptables(chain) {
        format!("{command} -P {} ACCEPT", chain.name)
    } else {
        format!(
            "nft chain {} {} {} '{{ policy accept ; }}', and no last rule that drops",
            chain.family, chain.table, chain.name
        )
    }
}

/// How the overlay's packets get in.
fn let_in(chain: &Chain, port: Option<u16>) -> String {
    let Chain {
        family,
        table,
        name,
        ..
    } = chain;
    match (port, iptables(chain)) {
        (Some(port), _) if table == "firewalld" => {
            format!("firewall-cmd --permanent --add-port={port}/udp, then firewall-cmd --reload")
        }
        (Some(port), Some(command)) => {
            format!("{command} -I {name} -p udp --dport {port} -j ACCEPT")
        }
        (Some(port), None) => {
            format!("nft insert rule {family} {table} {name} udp dport {port} accept")
        }
        // By its number: nft takes `ipip` for protocol 94, as /etc/protocols has it.
        (None, Some(command)) => format!("{command} -I {name} -p 4 -j ACCEPT"),
        (None, None) => format!("nft insert rule {family} {table} {name} ip protocol 4 accept"),
    }
}

/// The command that keeps a chain, where that is iptables.
fn iptables(chain: &Chain) -> Option<&'static str> {
    let is_base = matches!(&*chain.name, "FORWARD" | "INPUT") && chain.table == "filter";
    match (chain.kept_by, chain.family) {
        (KeptBy::Legacy, Family::Ip6) => Some("ip6tables-legacy"),
        (KeptBy::Legacy, _) => Some("iptables-legacy"),
        (KeptBy::Nft, Family::Ip) if is_base => Some("iptables"),
        (KeptBy::Nft, Family::Ip6) if is_base => Some("ip6tables"),
        (KeptBy::Nft, _) => None,
    }
}

pub(super) fn leftovers(facts: &Facts) -> Seen<Vec<Said>> {
    let (chains, unread) = chains(facts);
    let mut owners = BTreeSet::new();
    for chain in chains {
        let known = OWNERS
            .iter()
            .find(|(start, _, _)| chain.name.starts_with(start));
        match known {
            Some((_, owner, remedy)) => _ = owners.insert((*owner, *remedy)),
            None if chain.table == KUBE_PROXY_TABLE => {
                owners.insert((OWNERS[4].1, OWNERS[4].2));
            }
            None => {}
        }
    }
    let mut said: Vec<Said> = owners
        .into_iter()
        .map(|(owner, remedy)| warning(format!("there are chains of {owner}"), remedy))
        .collect();
    said.extend(unread);
    match &facts.ipvs {
        Ok(0) => {}
        Ok(servers) => said.push(warning(
            format!("IPVS has {servers} virtual servers"),
            "remove the proxy that made them, then ipvsadm --clear",
        )),
        Err(Unseen(why)) => said.push(could_not_tell(why)),
    }
    Ok(or_fine(said, "no chains of other dataplanes"))
}
