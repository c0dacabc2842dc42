//! Who else sets up this node's network.

use crate::doctor::facts::{Facts, Seen, Unseen};
use crate::doctor::finding::{Said, failure, fine, not_applicable, or_fine, warning};
use crate::route::image::DEVICES;

/// Interfaces by which others are known: name or its start, whose, and what takes it away.
const LINKS: [(&str, &str); 13] = [
    ("cilium_host", "Cilium"),
    ("cilium_vxlan", "Cilium"),
    ("lxc_health", "Cilium"),
    ("cali", "Calico"),
    ("vxlan.calico", "Calico"),
    ("flannel.", "Flannel"),
    ("flannel-", "Flannel"),
    ("weave", "Weave"),
    ("antrea-gw", "Antrea"),
    ("ovn-k8s", "OVN-Kubernetes"),
    ("kube-ipvs0", "kube-proxy"),
    ("kube-dummy-if", "kube-router"),
    ("kube-bridge", "kube-router"),
];
/// The bridge of kube-router's CNI configuration, which the agent keeps current.
const KEPT_BRIDGE: &str = "kube-bridge";
/// What the plugin calls the node's end of a pod's link: `fl` and 13 digits.
const POD_LINKS: &str = "fl0123456789abc";
/// What the agent installs where it is not told otherwise.
const CONFIGURATION: &str = "10-fairlead.conflist";

pub(super) fn dataplanes(facts: &Facts) -> Seen<Vec<Said>> {
    let configurations = facts.configurations.as_deref().unwrap_or_default();
    let keeps_kube_router = configurations
        .iter()
        .any(|file| file.name.contains("kuberouter"));
    let mut wrong = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for link in facts.links()? {
        let known = LINKS.iter().find(|(start, _)| link.name.starts_with(start));
        let Some((_, owner)) = known else { continue };
        let is_kept = link.name == KEPT_BRIDGE && keeps_kube_router;
        if is_kept || named.contains(owner) {
            continue;
        }
        named.push(owner);
        let found = format!("{} is there, an interface of {owner}", link.name);
        let remedy = format!(
            "remove {owner}'s DaemonSet; where that is done: ip link del {}",
            link.name
        );
        wrong.push(match *owner {
            // Translates what the agent has not taken, and sets up no pods.
            "kube-proxy" | "kube-router" => warning(found, remedy),
            _ => failure(found, remedy),
        });
    }
    Ok(or_fine(wrong, "no interface of another dataplane"))
}

pub(super) fn overlay_port(facts: &Facts) -> Seen<Vec<Said>> {
    let (vni, port) = match facts.network() {
        Ok(network) => match network.overlay.as_ref().map(|overlay| overlay.vxlan) {
            None => return Ok(vec![not_applicable("there is no overlay")]),
            Some(None) => {
                return Ok(vec![not_applicable(
                    "the overlay is IPIP, which has no port",
                )]);
            }
            Some(Some(vxlan)) => vxlan,
        },
        Err(Unseen(_)) => facts.vxlan,
    };
    let mut wrong = Vec::new();
    let devices = facts.vxlans.as_ref().map_err(Clone::clone)?;
    for device in devices.iter().filter(|device| device.port == port) {
        if DEVICES.contains(&&*device.name) {
            continue;
        }
        let name = &device.name;
        let remedy = format!("ip link del {name}, or another --overlay-encap-port on every node");
        wrong.push(if device.any_vni {
            failure(format!("{name} takes everything that comes to UDP port {port}"), remedy)
        } else if device.vni == vni {
            failure(format!("{name} has UDP port {port} and identifier {vni} already"), remedy)
        } else {
            warning(
                format!(
                    "{name} shares UDP port {port}, with identifier {}; both work while their other options are alike",
                    device.vni
                ),
                remedy,
            )
        });
    }
    let has_device = devices.iter().any(|device| device.port == port);
    let is_used = facts
        .udp_ports
        .as_ref()
        .map_err(Clone::clone)?
        .contains(&port);
    if is_used && !has_device {
        wrong.push(failure(
            format!("a socket that is not of a VXLAN device of this network namespace has UDP port {port}"),
            format!("find it with ss -lunp sport = :{port} and end its program, or have another --overlay-encap-port on every node"),
        ));
    }
    Ok(or_fine(
        wrong,
        format!("UDP port {port} is the overlay's alone"),
    ))
}

pub(super) fn health_port(facts: &Facts) -> Seen<Vec<Said>> {
    let port = facts.health_port;
    if facts.agent.is_ok() {
        return Ok(vec![fine("an agent runs")]);
    }
    let ports = facts.tcp_ports.as_ref().map_err(Clone::clone)?;
    Ok(vec![if ports.contains(&port) {
        failure(
            format!("somebody listens on TCP port {port}"),
            format!(
                "find it with ss -ltnp sport = :{port} and end it, or give the agent another --health-addr"
            ),
        )
    } else {
        fine(format!("TCP port {port} is free"))
    }])
}

pub(super) fn configuration(facts: &Facts) -> Seen<Vec<Said>> {
    let files = facts.configurations.as_ref().map_err(Clone::clone)?;
    let own = files.iter().find(|file| file.own).map(|file| &*file.name);
    let mut before = files.iter().filter(|file| !file.own);
    let Some(first) = before.find(|file| &*file.name < own.unwrap_or(CONFIGURATION)) else {
        return Ok(vec![match own {
            Some(name) => fine(format!("{name} comes first")),
            None => fine("none that comes before the agent's, which is not installed"),
        }]);
    };
    let remedy = format!(
        "move {} away, or give the agent a --cni-conf-name that sorts before it",
        first.name
    );
    Ok(vec![match own {
        Some(own) => failure(format!("{} comes before {own}", first.name), remedy),
        None => warning(
            format!(
                "{} would come before the agent's {CONFIGURATION}",
                first.name
            ),
            remedy,
        ),
    }])
}

pub(super) fn networkd(facts: &Facts) -> Seen<Vec<Said>> {
    let Some(told) = facts.networkd.as_ref().map_err(Clone::clone)? else {
        return Ok(vec![not_applicable("systemd-networkd does not run")]);
    };
    let mut settings = Vec::new();
    if told.routes {
        settings.push("ManageForeignRoutes");
    }
    if told.rules {
        settings.push("ManageForeignRoutingPolicyRules");
    }
    if settings.is_empty() {
        return Ok(vec![fine("it leaves routes and rules of others alone")]);
    }
    let lines: Vec<String> = settings.iter().map(|name| format!("{name}=no")).collect();
    let found = format!("{} is on", settings.join(" and "));
    let remedy = format!(
        "put `[Network]` and {} into /etc/systemd/networkd.conf.d/fairlead.conf, then systemctl restart systemd-networkd",
        lines.join(" and ")
    );
    let routed = facts.agent.as_ref().is_ok_and(|agent| agent.network.routed);
    Ok(vec![if routed {
        failure(found, remedy)
    } else {
        warning(found, remedy)
    }])
}

pub(super) fn network_manager(facts: &Facts) -> Seen<Vec<Said>> {
    let Some(unmanaged) = facts.network_manager.as_ref().map_err(Clone::clone)? else {
        return Ok(vec![not_applicable("NetworkManager does not run")]);
    };
    let is_left = |name: &str| unmanaged.iter().any(|pattern| covers(pattern, name));
    let managed: Vec<&str> = DEVICES
        .into_iter()
        .chain([POD_LINKS])
        .filter(|name| !is_left(name))
        .collect();
    Ok(vec![if managed.is_empty() {
        fine("it leaves the agent's interfaces alone")
    } else {
        warning(
            "it is not told to leave fairlead-* and fl* alone",
            "put `[keyfile]` and unmanaged-devices=interface-name:fairlead-*;interface-name:fl* into /etc/NetworkManager/conf.d/fairlead.conf, then systemctl reload NetworkManager",
        )
    }])
}

/// Whether a device specification (NetworkManager.conf(5)) says an interface by its name.
fn covers(specification: &str, name: &str) -> bool {
    let named = specification.strip_prefix("interface-name:");
    match named.map(|pattern| pattern.strip_prefix('=').unwrap_or(pattern)) {
        Some(pattern) => match pattern.split_once('*') {
            Some((start, "")) => name.starts_with(start),
            Some(_) => false,
            None => pattern == name,
        },
        None => specification == "*",
    }
}
