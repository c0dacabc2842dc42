//! `tests/fixtures/flows.yaml`, held against the programs: for each flow a node, its service and
//! packets of one client, and what becomes of them and of the endpoint's answers.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use agent::lb::ebpf::entries::{address, prefix_bits};
use agent_abi::counters::{COUNTERS, Counter};
use agent_abi::settings::{SETTING_MASQUERADE_ALL, SettingsV2};
use ipnet::IpNet;

use self::table::{
    Expected, Flow, FlowBackend, From, NODE, Next, NextWord, Rejection, Seen, Then, Word,
};
use crate::lab::Lab;
use crate::packet::{describe, frame};
use crate::wire::{LINK, ethernet, tunnel};

const FLOWS: &str = include_str!("../../fixtures/flows.yaml");

/// Client ports a flow is tried with. Of two endpoints one is missed once in 2^63 runs.
const CONNECTIONS: u16 = 64;
/// The same where backends have weights: the shares of two are then off by a tenth, which is five standard
/// deviations, once in three million runs.
const WEIGHED_CONNECTIONS: u16 = 512;
const SHARE_TOLERANCE: f64 = 0.1;
/// The other node, which sends what comes through a tunnel.
const OTHER: [&str; 2] = ["172.31.0.2", "fd00::2"];

#[test]
fn every_flow_of_the_table_goes_where_it_says() {
    let flows: Vec<Flow> = serde_norway::from_str(FLOWS).unwrap();
    let mut lab = Lab::new();
    let mut wrong = Vec::new();
    for flow in &flows {
        if let Err(what) = flow.hold(&mut lab) {
            wrong.push(format!("{}: {what}", flow.name));
        }
        lab.clear();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A packet's ends, taken from its text.
struct Ends<'a> {
    protocol: &'a str,
    source: SocketAddr,
    destination: SocketAddr,
    rest: &'a str,
}

impl<'a> Ends<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut words = text.splitn(5, ' ');
        let (protocol, source) = (words.next()?, words.next()?.parse().ok()?);
        let destination = words.nth(1)?.parse().ok()?;
        Some(Self {
            protocol,
            source,
            destination,
            rest: words.next().unwrap_or(""),
        })
    }

    fn with_source_port(&self, port: u16) -> String {
        let source = SocketAddr::new(self.source.ip(), port);
        let (protocol, to, rest) = (self.protocol, self.destination, self.rest);
        format!("{protocol} {source} > {to} {rest}")
            .trim_end()
            .to_owned()
    }

    /// Its source as a backend is to see it, where the node's port is any.
    fn source_as(&self, seen: &Seen, found: SocketAddr) -> SocketAddr {
        match seen {
            Seen::Client => self.source,
            Seen::Service => SocketAddr::new(self.destination.ip(), self.source.port()),
            Seen::Node => SocketAddr::new(own(found.ip()), found.port()),
        }
    }

    /// The packet that answers this one.
    fn answer(&self) -> String {
        let flags = if self.protocol == "tcp" { " SA" } else { "" };
        let (protocol, from, to) = (self.protocol, self.destination, self.source);
        format!("{protocol} {from} > {to}{flags}")
    }
}

/// A packet that passed: to an endpoint, or to a node by a tunnel; and its ends by then.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    to: String,
    ends: (SocketAddr, SocketAddr),
}

impl Flow {
    fn hold(&self, lab: &mut Lab) -> Result<(), String> {
        lab.settings(|settings| self.configure(settings));
        let id = lab.service_with(&self.service.protocol, "", "", |unit| {
            self.service.write(unit)
        });
        let client = Ends::read(&self.packet.is).expect("a packet as text");
        let connections = if self.service.is_weighted() {
            WEIGHED_CONNECTIONS
        } else {
            CONNECTIONS
        };
        let mut passed = Vec::new();
        for number in 0..connections {
            let sent = client.with_source_port(client.source.port() + number);
            match self.outcome(lab, &sent, &self.expected, &self.service.backends)? {
                Some(outcome) => passed.push((sent, outcome)),
                None => return Ok(()),
            }
        }
        self.expect_shares(&passed)?;
        let Some(Then { backends, expected }) = &self.then else {
            return Ok(());
        };
        lab.change(id, |unit| {
            unit.backends = backends.iter().map(FlowBackend::backend).collect();
        });
        for (sent, before) in passed {
            let next = match sent.strip_suffix(" S") {
                Some(ends) => format!("{ends} A"),
                None => sent,
            };
            match expected {
                Next::Word(NextWord::Stays) => {
                    let known = &self.service.backends;
                    let after = self.outcome(lab, &next, &self.expected, known)?;
                    if after.as_ref() != Some(&before) {
                        return Err(format!("`{next}`: {after:?} after {before:?}"));
                    }
                }
                Next::Other(expected) => drop(self.outcome(lab, &next, expected, backends)?),
            }
        }
        Ok(())
    }

    fn configure(&self, settings: &mut SettingsV2) {
        if self.node.masquerade_all {
            settings.flags = SETTING_MASQUERADE_ALL;
        }
        if let Some(text) = &self.node.cluster_cidr {
            let range: IpNet = text.parse().unwrap();
            let (network, bits) = (address(range.network()), prefix_bits(&range));
            if range.addr().is_ipv4() {
                (settings.cluster_v4, settings.cluster_v4_bits) = (network, bits);
            } else {
                (settings.cluster_v6, settings.cluster_v6_bits) = (network, bits);
            }
        }
    }

    /// Whether as many of the backends, or of their nodes, were reached as should be.
    fn expect_shares(&self, passed: &[(String, Passed)]) -> Result<(), String> {
        let mut reached = BTreeMap::new();
        for (_, Passed { to, .. }) in passed {
            *reached.entry(to.clone()).or_insert(0) += 1;
        }
        let all: BTreeSet<String> = match &self.expected {
            Expected::Reached { backends, .. } => {
                backends.iter().map(ToString::to_string).collect()
            }
            Expected::Tunnelled { tunnels } => tunnels.iter().map(ToString::to_string).collect(),
            Expected::Dropped { .. } | Expected::Rejected { .. } | Expected::Word(_) => {
                return Ok(());
            }
        };
        let is_whole = if self.service.is_random() {
            reached.keys().eq(&all)
        } else {
            // It may be any of them; which one is the dataplane's own.
            reached.len() == 1
        };
        let weight = |backend: &FlowBackend| f64::from(backend.weight.unwrap_or(1));
        let sum: f64 = self.service.backends.iter().map(weight).sum();
        let is_by_weight = |backend: &FlowBackend| {
            let found = reached
                .get(&backend.address.to_string())
                .copied()
                .unwrap_or(0);
            let share = f64::from(found) / f64::from(WEIGHED_CONNECTIONS);
            (share - weight(backend) / sum).abs() < SHARE_TOLERANCE
        };
        if is_whole
            && (!self.service.is_weighted() || self.service.backends.iter().all(is_by_weight))
        {
            Ok(())
        } else {
            Err(format!("reached {reached:?}, not {:?}", self.expected))
        }
    }

    /// Sends one packet, and the answer to it where one of `backends` is reached, which is told.
    fn outcome(
        &self,
        lab: &mut Lab,
        sent: &str,
        expected: &Expected,
        backends: &[FlowBackend],
    ) -> Result<Option<Passed>, String> {
        let before = drops(lab);
        let (verdict, out) = lab.run_frame(self.packet.from.at(), &self.frame(sent));
        if let Expected::Tunnelled { tunnels } = expected {
            let sent_to = |node: &&IpAddr| out == tunnelled(own(**node), **node, sent);
            let ends = Ends::read(sent).expect("a packet as text");
            return match tunnels.iter().find(sent_to) {
                Some(node) if verdict == "redirect" => Ok(Some(Passed {
                    to: node.to_string(),
                    ends: (ends.source, ends.destination),
                })),
                _ => Err(format!(
                    "`{sent}` came to {verdict}, in none of the tunnels"
                )),
            };
        }
        let packet = match verdict.as_str() {
            "drop" => String::new(),
            _ => describe(&out),
        };
        let got = format!("{verdict} {packet}");
        let wrong = || Err(format!("`{sent}` became `{got}`"));
        match expected {
            Expected::Dropped { drop } => {
                let after = drops(lab);
                let counted: Vec<&str> = COUNTERS
                    .iter()
                    .filter(|(counter, _)| after[*counter as usize] > before[*counter as usize])
                    .map(|(_, name)| *name)
                    .collect();
                match (verdict.as_str(), counted.as_slice()) {
                    ("drop", [name]) if name == drop => Ok(None),
                    _ => Err(format!("`{sent}` became `{got}`, counted as {counted:?}")),
                }
            }
            Expected::Word(Word::Untouched) if got == format!("pass {sent}") => Ok(None),
            Expected::Rejected { reject } => {
                let start = match reject {
                    Rejection::Rst => "redirect tcp ",
                    Rejection::Icmp => "redirect icmp",
                };
                let is_reset = packet.contains(" R");
                if got.starts_with(start) && is_reset == (*reject == Rejection::Rst) {
                    return Ok(None);
                }
                wrong()
            }
            Expected::Reached {
                backends: wanted,
                source,
            } => {
                let ends = Ends::read(sent).zip(Ends::read(&packet));
                let reached = ends.filter(|(was, is)| {
                    let is_seen = is.source == was.source_as(source, is.source);
                    verdict != "drop" && is_seen && wanted.contains(&is.destination)
                });
                let Some((was, is)) = reached else {
                    return wrong();
                };
                let mut backends = backends.iter();
                let backend = backends.find(|backend| backend.address == is.destination);
                let backend = backend.expect("one of the flow's backends");
                let answer = lab.run(backend.answers_at(), &is.answer());
                match answer.split_once(' ') {
                    Some((_, answer)) if answer == was.answer() => Ok(Some(Passed {
                        to: is.destination.to_string(),
                        ends: (is.source, is.destination),
                    })),
                    _ => Err(format!("the answer to `{got}` became `{answer}`")),
                }
            }
            Expected::Word(Word::Untouched) | Expected::Tunnelled { .. } => wrong(),
        }
    }

    /// The packet as it comes in.
    fn frame(&self, sent: &str) -> Vec<u8> {
        match self.packet.from {
            From::Tunnel => {
                let client = Ends::read(sent).expect("a packet as text").source;
                let other = if client.is_ipv4() { OTHER[0] } else { OTHER[1] };
                tunnelled(other.parse().unwrap(), own(client.ip()), sent)
            }
            From::Outside | From::Pod | From::Node | From::NodeToPod => frame(sent),
        }
    }
}

/// The node's address of the same family.
fn own(other: IpAddr) -> IpAddr {
    NODE[usize::from(other.is_ipv6())].parse().unwrap()
}

/// A packet in a tunnel between two nodes.
fn tunnelled(from: IpAddr, to: IpAddr, packet: &str) -> Vec<u8> {
    ethernet(&tunnel(from, to, &frame(packet)[LINK..]))
}

/// Every counter of a drop, by its number; others are 0.
fn drops(lab: &Lab) -> Vec<u64> {
    let of = |(counter, name): &(Counter, &str)| match name.starts_with("drop_") {
        true => lab.counter(*counter),
        false => 0,
    };
    COUNTERS.iter().map(of).collect()
}
