//! Policies as kube-router lays them out: a chain for each policy whose rules compare addresses with
//! ipsets and set a mark, a chain for each pod of the node that asks the policies which select it, and
//! two rules for each pod in each hook that lead there. What is established passes before any policy.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use tests::harness::Place;

use super::load;
use crate::policy::workload::{CLIENT_PORTS, Policy, Workload};

/// Loads sets and rules in a namespace that has none.
pub(crate) fn load_all(place: &Place, program: &str, workload: &Workload) -> Result<Duration> {
    let sets = load(place, &["ipset", "restore"], &sets(workload))?;
    Ok(sets + load(place, &[program, "--noflush"], &rules(workload))?)
}

/// kube-router names chains and sets by hashes of this length.
fn named(kind: &str, number: usize) -> String {
    format!("{kind}-{number:016}")
}

/// Sets of a policy: whom it selects, whom each of its rules names, and its network.
fn set(number: usize, of: usize) -> String {
    named(["KUBE-DST", "KUBE-SRC", "KUBE-SRX", "KUBE-NET"][of], number)
}

fn sets(workload: &Workload) -> String {
    let mut text = String::new();
    for (number, policy) in workload.policies.iter().enumerate() {
        let peers = [policy.app, policy.peer_app];
        for (of, app) in [Some(peers[0]), Some(peers[1]), None]
            .into_iter()
            .enumerate()
        {
            let name = set(number, of);
            text += &format!("create {name} hash:ip family inet\n");
            for pod in workload.pods_of(policy.namespace, app) {
                let _infallible = writeln!(text, "add {name} {}", pod.address);
            }
        }
        let name = set(number, 3);
        let [network, except] = policy.networks();
        text += &format!("create {name} hash:net family inet\nadd {name} {network}\n");
        text += &format!("add {name} {except} nomatch\n");
    }
    text
}

const HEAD: &str = "*filter
:KUBE-ROUTER-INPUT - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-ROUTER-OUTPUT - [0:0]
:KUBE-NWPLCY-COMMON - [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
-A INPUT -j KUBE-ROUTER-INPUT
-A FORWARD -j KUBE-ROUTER-FORWARD
-A OUTPUT -j KUBE-ROUTER-OUTPUT
-A KUBE-ROUTER-INPUT -d 10.96.0.0/12 -j RETURN
-A KUBE-ROUTER-INPUT -p tcp -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN
-A KUBE-ROUTER-INPUT -p udp -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN
-A KUBE-NWPLCY-COMMON -m conntrack --ctstate INVALID -j DROP
-A KUBE-NWPLCY-COMMON -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NWPLCY-COMMON -p icmp --icmp-type echo-request -j ACCEPT
-A KUBE-NWPLCY-DEFAULT -j MARK --set-xmark 0x10000/0x10000
";

const TAIL: &str = "-A KUBE-ROUTER-INPUT -m mark --mark 0x20000/0x20000 -j ACCEPT
-A KUBE-ROUTER-FORWARD -m mark --mark 0x20000/0x20000 -j ACCEPT
-A KUBE-ROUTER-OUTPUT -m mark --mark 0x20000/0x20000 -j ACCEPT
COMMIT
";

fn rules(workload: &Workload) -> String {
    let mut text = HEAD.to_owned();
    for (number, policy) in workload.policies.iter().enumerate() {
        of_policy(&mut text, number, policy);
    }
    for (number, pod) in workload
        .pods
        .iter()
        .enumerate()
        .filter(|(_, pod)| pod.local)
    {
        let (chain, ip) = (named("KUBE-POD-FW", number), pod.address);
        text += &format!(":{chain} - [0:0]\n");
        for (hook, way) in [
            ("FORWARD", "-d"),
            ("OUTPUT", "-d"),
            ("FORWARD -m physdev --physdev-is-bridged", "-d"),
            ("INPUT", "-s"),
            ("FORWARD", "-s"),
            ("OUTPUT", "-s"),
            ("FORWARD -m physdev --physdev-is-bridged", "-s"),
        ] {
            text += &format!("-A KUBE-ROUTER-{hook} {way} {ip} -j {chain}\n");
        }
        text += &format!("-A {chain} -j KUBE-NWPLCY-COMMON\n");
        text += &format!("-A {chain} -m addrtype --src-type LOCAL -d {ip} -j ACCEPT\n");
        let selecting = workload.selecting(pod);
        for policy in &selecting {
            text += &format!("-A {chain} -j {}\n", named("KUBE-NWPLCY", *policy));
        }
        if selecting.is_empty() {
            text += &format!("-A {chain} -s {ip} -j KUBE-NWPLCY-DEFAULT\n");
            text += &format!("-A {chain} -d {ip} -j KUBE-NWPLCY-DEFAULT\n");
        }
        let unmarked = "-m mark ! --mark 0x10000/0x10000";
        text += &format!(
            "-A {chain} {unmarked} -m limit --limit 10/minute -j NFLOG --nflog-group 100\n"
        );
        text += &format!("-A {chain} {unmarked} -j REJECT\n");
        text += &format!("-A {chain} -j MARK --set-xmark 0x0/0x10000\n");
        text += &format!("-A {chain} -j MARK --set-xmark 0x20000/0x20000\n");
    }
    text + TAIL
}

fn of_policy(text: &mut String, number: usize, policy: &Policy) {
    let chain = named("KUBE-NWPLCY", number);
    let [selected, peers, neighbours, network] = [0, 1, 2, 3].map(|of| set(number, of));
    let (first, last) = CLIENT_PORTS;
    *text += &format!(":{chain} - [0:0]\n");
    for (source, destination, ports) in [
        (
            &peers,
            &selected,
            Some(format!("-p tcp --dport {}", policy.port)),
        ),
        (
            &neighbours,
            &selected,
            Some(format!("-p tcp --dport {first}:{last}")),
        ),
        (&selected, &neighbours, None),
        (&selected, &network, Some("-p tcp --dport 443".to_owned())),
    ] {
        let ports = ports.unwrap_or_default();
        let sets =
            format!("-m set --match-set {source} src -m set --match-set {destination} dst {ports}");
        *text += &format!("-A {chain} {sets} -j MARK --set-xmark 0x10000/0x10000\n");
        *text += &format!("-A {chain} {sets} -m mark --mark 0x10000/0x10000 -j RETURN\n");
    }
}
