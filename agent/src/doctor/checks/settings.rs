//! Settings of the kernel.

use crate::doctor::facts::{Facts, Seen};
use crate::doctor::finding::{
    Said, could_not_tell, failure, fine, not_applicable, or_fine, warning,
};
use crate::route::image::DEVICES;
use crate::sys::links::{Link, LinkKind};
use crate::sys::sysctl;

/// From this part of the table on, in percent, a burst of connections may fill it.
const NEARLY_FULL: u64 = 90;

pub(super) fn forwarding(facts: &Facts) -> Seen<Vec<Said>> {
    let runs = facts.agent.is_ok();
    let mut wrong = Vec::new();
    let mut on = |name: &str, needed: bool| -> Seen<()> {
        if facts.sysctl(name)? != Some("0") {
            return Ok(());
        }
        let remedy = format!("sysctl -w {name}=1, and look in /etc/sysctl.d for who sets it to 0");
        wrong.push(if runs && needed {
            failure(format!("{name} is 0"), remedy)
        } else {
            let when = if runs {
                ""
            } else {
                "; the agent sets it at its start"
            };
            warning(format!("{name} is 0{when}"), remedy)
        });
        Ok(())
    };
    let mut networks = facts.own().into_iter().flat_map(|node| &node.pod_networks);
    let has_v6 = networks.any(|network| network.addr().is_ipv6());
    on("net.ipv4.ip_forward", true)?;
    on("net.ipv6.conf.all.forwarding", has_v6)?;
    if !wrong.is_empty() {
        return Ok(wrong);
    }
    // Setting `all` sets each interface; what is off now was turned off later.
    for link in facts.links()?.iter().filter(|link| carries_pods(link)) {
        let name = sysctl::of_interface("ipv4", &link.name, "forwarding");
        if facts.sysctl(&name)? == Some("0") {
            wrong.push(failure(
                format!("{name} is 0: what comes in there is not forwarded"),
                format!(
                    "sysctl -w {name}=1, and with systemd-networkd IPForward=yes in its .network file"
                ),
            ));
        }
    }
    Ok(or_fine(wrong, "on"))
}

fn carries_pods(link: &Link) -> bool {
    link.kind != LinkKind::Loopback && (link.default_route || !link.networks.is_empty())
        || DEVICES.contains(&&*link.name)
}

pub(super) fn rp_filter(facts: &Facts) -> Seen<Vec<Said>> {
    let links = facts.links()?;
    let value = |name: &str| -> Seen<u8> {
        let value = facts.sysctl(&sysctl::of_interface("ipv4", name, "rp_filter"))?;
        Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
    };
    let all = value("all")?;
    // The larger of the two is in force (ip-sysctl.rst).
    let is_strict = |name: &str| -> Seen<bool> { Ok(all.max(value(name)?) == 1) };
    let loosen = |name: &str| {
        let setting = sysctl::of_interface("ipv4", name, "rp_filter");
        format!("sysctl -w {setting}=2")
    };
    let mut wrong = Vec::new();
    for link in links.iter().filter(|link| DEVICES.contains(&&*link.name)) {
        if is_strict(&link.name)? {
            wrong.push(warning(
                format!(
                    "strict on {}, which the agent makes loose: packets of nodes pass only while a rule leads their answers back by it",
                    link.name
                ),
                loosen(&link.name),
            ));
        }
    }
    let uplinks: Vec<&Link> = links.iter().filter(|link| is_uplink(link)).collect();
    if uplinks.len() > 1 {
        for link in uplinks {
            if is_strict(&link.name)? {
                wrong.push(warning(
                    format!(
                        "strict on {}, one of several uplinks: packets whose answers would leave by another are dropped",
                        link.name
                    ),
                    loosen(&link.name),
                ));
            }
        }
    }
    Ok(or_fine(wrong, "nothing that strict filters would drop"))
}

fn is_uplink(link: &Link) -> bool {
    let has_v4 = link.networks.iter().any(|network| network.addr().is_ipv4());
    let is_own = DEVICES.contains(&&*link.name);
    link.default_route && has_v4 && !is_own && link.kind != LinkKind::Loopback
}

pub(super) fn bridge_netfilter(facts: &Facts) -> Seen<Vec<Said>> {
    let links = facts.links()?;
    let bridges: Vec<&str> = links
        .iter()
        .filter(|link| link.kind == LinkKind::Bridge)
        .map(|link| &*link.name)
        .collect();
    if bridges.is_empty() {
        return Ok(vec![not_applicable("there is no bridge")]);
    }
    let mut wrong = Vec::new();
    for name in ["iptables", "ip6tables"] {
        let name = format!("net.bridge.bridge-nf-call-{name}");
        if facts.sysctl(&name)? == Some("1") {
            wrong.push(warning(
                format!("{name} is 1, and there is {}", bridges.join(", ")),
                format!("sysctl -w {name}=0, unless another program of this node relies on it"),
            ));
        }
    }
    Ok(or_fine(wrong, "bridged packets do not go through iptables"))
}

pub(super) fn conntrack(facts: &Facts) -> Seen<Vec<Said>> {
    let number = |name: &str| -> Seen<Option<u64>> {
        let value = facts.sysctl(&format!("net.netfilter.nf_conntrack_{name}"))?;
        Ok(value.and_then(|value| value.parse().ok()))
    };
    let (Some(count), Some(max)) = (number("count")?, number("max")?) else {
        return Ok(vec![not_applicable("the kernel tracks no connections")]);
    };
    let Some(percent) = count.saturating_mul(100).checked_div(max) else {
        return Ok(vec![could_not_tell(
            "net.netfilter.nf_conntrack_max is 0, which stands for no limit of its own",
        )]);
    };
    let found = format!("{count} of {max} entries are in use");
    let remedy = || {
        format!(
            "sysctl -w net.netfilter.nf_conntrack_max={}",
            max.saturating_mul(2)
        )
    };
    Ok(vec![if percent >= 100 {
        failure(found, remedy())
    } else if percent >= NEARLY_FULL {
        warning(found, remedy())
    } else {
        fine(found)
    }])
}

/// Node ports end before this one, and clients' packets that become the node's own have one below them.
const FIRST_LOCAL_PORT: u16 = 32_768;

pub(super) fn local_ports(facts: &Facts) -> Seen<Vec<Said>> {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let value = facts.sysctl(NAME)?.unwrap_or_default();
    let mut bounds = value.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) else {
        return Ok(vec![could_not_tell(format!("{NAME} is `{value}`"))]);
    };
    let found = format!("{NAME} is {first} to {last}");
    Ok(vec![if first < FIRST_LOCAL_PORT {
        warning(
            format!(
                "{found}: 1024 to 29999 are given to clients' packets that become the node's, 30000 to 32767 to node ports"
            ),
            format!(
                "sysctl -w {NAME}=\"{FIRST_LOCAL_PORT} {}\"",
                last.max(60_999)
            ),
        )
    } else {
        fine(found)
    }])
}
