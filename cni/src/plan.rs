//! The steps of an ADD, in order. Pure.
//!
//! The pod's end stays down until the agent has said that the pod's rules are in place, so no packet
//! leaves before. While the agent works, what can be done to an interface that is down is done. The host's end is up by then: a route to an interface that is down cannot be made,
//! and by its route the agent knows whose interface it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::environment::Pod;
use crate::name::{HostInterface, Mac};
use crate::range::Family;

/// What pods have as their gateway: no address of the node, and the same everywhere.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What is known when an ADD begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// The host's end.
    pub host: HostInterface,
    /// Its hardware address.
    pub host_mac: Mac,
    /// Name of the pod's end.
    pub ifname: String,
    /// Its hardware address.
    pub pod_mac: Mac,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The Pod, where there is Kubernetes.
    pub pod: Option<Pod>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make both ends, the pod's in its namespace.
    Pair,
    /// Write a sysctl of the host's end.
    HostSetting(Setting),
    /// Bring the host's end up, and say on it whose it is.
    HostUp {
        /// `namespace/name`, for people.
        alias: String,
    },
    /// Say where the pod's address is, so that nobody has to ask on the wire.
    HostNeighbour(IpAddr),
    /// The route to the pod.
    HostRoute(IpAddr),
    /// Ask the agent to put the pod's rules in place.
    Ask,
    /// Wait until the agent has them there.
    Agent,
    /// Write a sysctl of the pod's end.
    PodSetting(Setting),
    /// Bring up the pod's loopback interface.
    Loopback,
    /// Give the pod an address.
    PodAddress(IpAddr),
    /// Bring the pod's end up.
    PodUp,
    /// Say where the gateway is.
    PodNeighbour(IpAddr),
    /// The default route.
    PodRoute(IpAddr),
}

/// A sysctl of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `net/ipv4` or `net/ipv6`.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: &'static str,
}

/// Strict, so that a pod cannot send with an address that is not routed to it, and no redirects:
/// pods of a node have the same gateway.
const HOST_V4: [(&str, &str); 4] = [
    ("forwarding", "1"),
    ("rp_filter", "1"),
    ("send_redirects", "0"),
    ("accept_redirects", "0"),
];
/// A pod must not be able to be the node's router. Waiting for duplicates takes a second, and nobody
/// else is on this wire.
const HOST_V6: [(&str, &str); 4] = [
    ("accept_ra", "0"),
    ("accept_redirects", "0"),
    ("accept_dad", "0"),
    ("forwarding", "1"),
];
/// Runtimes turn IPv6 off in namespaces that have no address of it yet.
const POD_V6: [(&str, &str); 3] = [
    ("disable_ipv6", "0"),
    ("accept_ra", "0"),
    ("accept_dad", "0"),
];

/// The gateway of a family.
pub fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => GATEWAY_V4.into(),
        Family::V6 => GATEWAY_V6.into(),
    }
}

/// The steps that make `wiring`.
pub fn steps(wiring: &Wiring, asks_agent: bool) -> Vec<Step> {
    let Wiring { addresses, pod, .. } = wiring;
    let families = || addresses.iter().map(|address| Family::of(*address));
    let settings = |of: fn(Family) -> &'static [(&'static str, &'static str)]| {
        families().flat_map(move |family| {
            let settings = of(family).iter();
            settings.map(move |(name, value)| Setting {
                family,
                name,
                value,
            })
        })
    };
    let mut steps = vec![Step::Pair];
    let of_host = settings(|family| match family {
        Family::V4 => &HOST_V4,
        Family::V6 => &HOST_V6,
    });
    steps.extend(of_host.map(Step::HostSetting));
    let alias = pod
        .as_ref()
        .map(|pod| format!("{}/{}", pod.namespace, pod.name));
    steps.push(Step::HostUp {
        alias: alias.unwrap_or_default(),
    });
    for address in addresses {
        steps.push(Step::HostNeighbour(*address));
        steps.push(Step::HostRoute(*address));
    }
    if asks_agent {
        steps.push(Step::Ask);
    }
    let of_pod = settings(|family| match family {
        Family::V4 => &[],
        Family::V6 => &POD_V6,
    });
    steps.extend(of_pod.map(Step::PodSetting));
    steps.push(Step::Loopback);
    steps.extend(addresses.iter().copied().map(Step::PodAddress));
    if asks_agent {
        steps.push(Step::Agent);
    }
    steps.push(Step::PodUp);
    for family in families() {
        steps.push(Step::PodNeighbour(gateway(family)));
        steps.push(Step::PodRoute(gateway(family)));
    }
    steps
}

impl Setting {
    /// Its file, for an interface.
    pub fn path(&self, interface: &str) -> String {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        format!("/proc/sys/net/{family}/conf/{interface}/{}", self.name)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pair => write!(formatter, "make the pair of interfaces"),
            Self::HostSetting(setting) => write!(
                formatter,
                "set {} to {} on the host's interface",
                setting.name, setting.value
            ),
            Self::HostUp { .. } => write!(formatter, "bring the host's interface up"),
            Self::HostNeighbour(address) => {
                write!(formatter, "set the neighbour {address} on the host")
            }
            Self::HostRoute(address) => write!(formatter, "make the host's route to {address}"),
            Self::Ask => write!(formatter, "ask the agent"),
            Self::Agent => write!(formatter, "wait for the agent"),
            Self::PodSetting(setting) => write!(
                formatter,
                "set {} to {} on the pod's interface",
                setting.name, setting.value
            ),
            Self::Loopback => write!(formatter, "bring the pod's loopback interface up"),
            Self::PodAddress(address) => write!(formatter, "give the pod {address}"),
            Self::PodUp => write!(formatter, "bring the pod's interface up"),
            Self::PodNeighbour(address) => write!(formatter, "set the pod's neighbour {address}"),
            Self::PodRoute(gateway) => {
                write!(formatter, "make the pod's default route by {gateway}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::environment::Attachment;
    use crate::name::End;

    #[track_caller]
    fn check(addresses: &[&str], asks_agent: bool, expected: &Expect) -> Vec<Step> {
        let attachment = Attachment {
            container: "c".to_owned(),
            ifname: "eth0".to_owned(),
        };
        let wiring = Wiring {
            host: HostInterface::of(&attachment),
            host_mac: Mac::of(&attachment, End::Host),
            ifname: "eth0".to_owned(),
            pod_mac: Mac::of(&attachment, End::Pod),
            mtu: 1500,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            pod: None,
        };
        let steps = steps(&wiring, asks_agent);
        expected.assert_eq(
            &steps
                .iter()
                .map(|step| format!("{step}\n"))
                .collect::<String>(),
        );
        steps
    }

    #[test]
    fn a_pod_cannot_send_before_the_agent_has_answered() {
        let steps = check(
            &["10.0.0.2", "fd00::2"],
            true,
            &expect![[r#"
            make the pair of interfaces
            set forwarding to 1 on the host's interface
            set rp_filter to 1 on the host's interface
            set send_redirects to 0 on the host's interface
            set accept_redirects to 0 on the host's interface
            set accept_ra to 0 on the host's interface
            set accept_redirects to 0 on the host's interface
            set accept_dad to 0 on the host's interface
            set forwarding to 1 on the host's interface
            bring the host's interface up
            set the neighbour 10.0.0.2 on the host
            make the host's route to 10.0.0.2
            set the neighbour fd00::2 on the host
            make the host's route to fd00::2
            ask the agent
            set disable_ipv6 to 0 on the pod's interface
            set accept_ra to 0 on the pod's interface
            set accept_dad to 0 on the pod's interface
            bring the pod's loopback interface up
            give the pod 10.0.0.2
            give the pod fd00::2
            wait for the agent
            bring the pod's interface up
            set the pod's neighbour 169.254.1.1
            make the pod's default route by 169.254.1.1
            set the pod's neighbour fe80::1
            make the pod's default route by fe80::1
        "#]],
        );
        let at = |wanted: &Step| steps.iter().position(|step| step == wanted).unwrap();
        assert!(at(&Step::Agent) < at(&Step::PodUp));
        let up = at(&Step::HostUp {
            alias: String::new(),
        });
        assert!(at(&Step::HostRoute("fd00::2".parse().unwrap())) < at(&Step::Ask));
        let settings = steps
            .iter()
            .rposition(|step| matches!(step, Step::HostSetting(_)));
        assert!(settings.unwrap() < up);
    }

    #[test]
    fn one_family_leaves_the_other_alone() {
        check(
            &["10.0.0.2"],
            false,
            &expect![[r#"
            make the pair of interfaces
            set forwarding to 1 on the host's interface
            set rp_filter to 1 on the host's interface
            set send_redirects to 0 on the host's interface
            set accept_redirects to 0 on the host's interface
            bring the host's interface up
            set the neighbour 10.0.0.2 on the host
            make the host's route to 10.0.0.2
            bring the pod's loopback interface up
            give the pod 10.0.0.2
            bring the pod's interface up
            set the pod's neighbour 169.254.1.1
            make the pod's default route by 169.254.1.1
        "#]],
        );
        check(
            &["fd00::2"],
            false,
            &expect![[r#"
            make the pair of interfaces
            set accept_ra to 0 on the host's interface
            set accept_redirects to 0 on the host's interface
            set accept_dad to 0 on the host's interface
            set forwarding to 1 on the host's interface
            bring the host's interface up
            set the neighbour fd00::2 on the host
            make the host's route to fd00::2
            set disable_ipv6 to 0 on the pod's interface
            set accept_ra to 0 on the pod's interface
            set accept_dad to 0 on the pod's interface
            bring the pod's loopback interface up
            give the pod fd00::2
            bring the pod's interface up
            set the pod's neighbour fe80::1
            make the pod's default route by fe80::1
        "#]],
        );
    }

    #[test]
    fn a_setting_is_a_file() {
        let setting = Setting {
            family: Family::V6,
            name: "accept_ra",
            value: "0",
        };
        assert_eq!(
            setting.path("eth0.5"),
            "/proc/sys/net/ipv6/conf/eth0.5/accept_ra"
        );
    }
}
