//! Facts to findings, and the page of checks.

mod cluster;
mod node;
mod page;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect, expect_file};
use rustix::thread::CapabilitySet;

use super::checks::{CHECKS, run};
use super::facts::{
    Agent, Carrier, Configuration, Facts, Networkd, Passed, Path, Pins, Seen, Unseen,
};
use super::finding::Verdict;
use super::report::{self, Report};
use crate::control::network::{Network, NodeRow, OverlayRow};
use crate::control::report::{DeviceRow, SourceRow, Status};
use crate::lb::ebpf::attach::Mode;
use crate::probe::Capabilities;
use crate::sys::firewall::{Chain, Family, Filters, Hook, KeptBy};
use crate::sys::kinds::Kinds;
use crate::sys::links::{Link, LinkKind};
use crate::sys::vxlan::Vxlan;

fn link(name: &str, kind: LinkKind, networks: &[&str]) -> Link {
    Link {
        index: 2,
        name: name.to_owned(),
        kind,
        ethernet: true,
        addresses: networks
            .iter()
            .map(|net| net.split_once('/').unwrap().0.parse().unwrap())
            .collect(),
        networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
        default_route: name.starts_with("eth"),
        mtu: 1500,
        peer_elsewhere: true,
        carrier: true,
        ..Link::default()
    }
}

fn node(name: &str, address: &str, pods: &str) -> NodeRow {
    NodeRow {
        name: name.to_owned(),
        addresses: vec![address.parse().unwrap()],
        pod_networks: vec![pods.parse().unwrap()],
    }
}

/// A node on which nothing is wrong, with an agent.
fn good() -> Facts {
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.conf.eth0.rp_filter", "1"),
        ("net.ipv4.conf.eth0.forwarding", "1"),
        ("net.ipv4.conf.fairlead-vxlan.rp_filter", "2"),
        ("net.ipv4.conf.fairlead-vxlan.forwarding", "1"),
        ("net.bridge.bridge-nf-call-iptables", "1"),
        ("net.bridge.bridge-nf-call-ip6tables", "0"),
        ("net.netfilter.nf_conntrack_count", "10"),
        ("net.netfilter.nf_conntrack_max", "1000"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
    ];
    let overlay = OverlayRow {
        local: None,
        device: "fairlead-vxlan".to_owned(),
        vxlan: Some((7100, 4789)),
        mtu: 1450,
        peers: vec!["172.31.1.13".parse().unwrap()],
    };
    Facts {
        node: Ok(Capabilities {
            privileges: CapabilitySet::BPF | CapabilitySet::NET_ADMIN,
            bpf: true,
            attach: Mode::Tcx,
            cgroup2: Some("/sys/fs/cgroup".into()),
        }),
        kernel: Ok((6, 12)),
        btf: true,
        kinds: Ok(Kinds {
            veth: true,
            vxlan: true,
            ipip: false,
        }),
        missing_bpffs: Ok(None),
        pins: Ok(Pins::Ours),
        memlock: Some(65536),
        inotify: Ok(true),
        sysctls: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Ok(Some(value.to_owned()))))
            .collect(),
        links: Ok(vec![
            link("lo", LinkKind::Loopback, &["127.0.0.1/8"]),
            link("eth0", LinkKind::Other, &["172.31.0.11/24"]),
            link("fairlead-vxlan", LinkKind::Other, &[]),
        ]),
        vxlans: Ok(vec![Vxlan {
            name: "fairlead-vxlan".to_owned(),
            vni: 7100,
            port: 4789,
            any_vni: false,
        }]),
        udp_ports: Ok([4789].into()),
        tcp_ports: Ok([20244].into()),
        nft: Ok(vec![chain(
            "filter",
            "FORWARD",
            Hook::Forward,
            false,
            false,
        )]),
        legacy: Ok(Vec::new()),
        ipvs: Ok(0),
        networkd: Ok(None),
        network_manager: Ok(None),
        configurations: Ok(vec![Configuration {
            name: "10-fairlead.conflist".to_owned(),
            own: true,
        }]),
        servers: Ok(Vec::new()),
        agent: Ok(Agent {
            status: Status {
                node: "node1".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Status::default()
            },
            network: Network {
                synced: true,
                nodes: vec![
                    node("node1", "172.31.0.11", "10.244.1.0/24"),
                    node("node2", "172.31.1.13", "10.244.2.0/24"),
                ],
                services: vec!["10.96.0.1".parse().unwrap()],
                routed: true,
                overlay: Some(overlay),
            },
        }),
        paths: Ok(vec![path("node2", Passed::All)]),
        vxlan: (7100, 4789),
        health_port: 20244,
    }
}

fn path(node: &str, passed: Passed) -> Path {
    Path {
        node: node.to_owned(),
        to: "172.31.1.13".parse().unwrap(),
        device: "eth0".to_owned(),
        size: 1500,
        passed,
        carrier: None,
    }
}

/// The way through the overlay.
fn carried(node: &str, passed: Passed) -> Path {
    Path {
        device: "fairlead-vxlan".to_owned(),
        size: 1450,
        carrier: Some(Carrier {
            port: Some(4789),
            overhead: 50,
        }),
        ..path(node, passed)
    }
}

fn chain(table: &str, name: &str, hook: Hook, drops: bool, lets_some_pass: bool) -> Chain {
    Chain {
        kept_by: KeptBy::Nft,
        family: Family::Ip,
        table: table.to_owned(),
        name: name.to_owned(),
        filters: Some(Filters {
            hook,
            drops,
            lets_some_pass,
            ports: [].into(),
        }),
    }
}

fn agent(facts: &mut Facts) -> &mut Agent {
    facts.agent.as_mut().unwrap()
}

fn unseen<T>(why: &str) -> Seen<T> {
    Err(Unseen(why.to_owned()))
}

fn set(facts: &mut Facts, name: &str, value: &str) {
    facts
        .sysctls
        .insert(name.to_owned(), Ok(Some(value.to_owned())));
}

/// What is not as it should be on the good node after a change, each check's on lines of its own.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts), expected: Expect) {
    let mut facts = good();
    change(&mut facts);
    let mut text = String::new();
    for found in run(&facts, &[]) {
        if matches!(found.verdict, Verdict::Ok | Verdict::NotApplicable) {
            continue;
        }
        writeln!(
            text,
            "{} {}: {}",
            found.verdict.as_str(),
            found.check,
            found.found
        )
        .unwrap();
        if let Some(remedy) = found.remedy {
            writeln!(text, "    {remedy}").unwrap();
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn nothing_is_wrong_on_a_good_node() {
    check(|_| {}, expect![[""]]);
}

#[test]
fn without_an_agent_what_it_knows_is_not_taken_for_good() {
    check(
        |facts| {
            facts.agent = unseen("no agent answers");
            facts.paths = unseen("no agent answers");
            facts.servers = unseen("no API server is named");
            facts.tcp_ports = Ok([].into());
        },
        expect![[r#"
            could not tell pod-networks: no agent answers
            could not tell mtu: no agent answers
            could not tell reach: no agent answers
            could not tell api-server: no API server is named
            could not tell agent: no agent answers
        "#]],
    );
}

#[test]
fn nothing_that_cannot_be_read_is_taken_for_good() {
    let mut facts = good();
    let why = || Unseen("hidden".to_owned());
    facts.node = Err(why());
    facts.kernel = Err(why());
    facts.kinds = Err(why());
    facts.missing_bpffs = Err(why());
    facts.pins = Err(why());
    facts.inotify = Err(why());
    facts.sysctls = BTreeMap::new();
    facts.links = Err(why());
    facts.vxlans = Err(why());
    facts.udp_ports = Err(why());
    facts.tcp_ports = Err(why());
    facts.nft = Err(why());
    facts.legacy = Err(why());
    facts.ipvs = Err(why());
    facts.networkd = Err(why());
    facts.network_manager = Err(why());
    facts.configurations = Err(why());
    facts.servers = Err(why());
    facts.agent = Err(why());
    facts.paths = Err(why());
    for found in run(&facts, &[]) {
        assert_eq!(found.verdict, Verdict::CouldNotTell, "{found:?}");
    }
}
