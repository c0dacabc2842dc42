//! `tests/fixtures/flows.yaml`, held against the programs: for each flow a node, its service and
//! packets of one client, and what becomes of them and of the endpoint's answers.

mod table;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use agent::lb::ebpf::image::{address, prefix_bits};
use agent_abi::counters::{COUNTERS, Counter};
use agent_abi::settings::SETTING_MASQUERADE_ALL;
use ipnet::IpNet;

use self::table::{Expected, Flow, Rejection, Seen, Word};
use crate::lab::Lab;

const FLOWS: &str = include_str!("../../fixtures/flows.yaml");

/// Client ports a flow is tried with. Of two endpoints one is missed once in 2^63 runs.
const CONNECTIONS: u16 = 64;

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

    /// The packet that answers this one.
    fn answer(&self) -> String {
        let flags = if self.protocol == "tcp" { " SA" } else { "" };
        let (protocol, from, to) = (self.protocol, self.destination, self.source);
        format!("{protocol} {from} > {to}{flags}")
    }
}

impl Flow {
    fn hold(&self, lab: &mut Lab) -> Result<(), String> {
        lab.settings(|settings| {
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
        });
        lab.service_with(&self.service.protocol, "", "", |unit| {
            self.service.write(unit)
        });
        let client = Ends::read(&self.packet.is).expect("a packet as text");
        let mut reached = BTreeSet::new();
        for number in 0..CONNECTIONS {
            let sent = client.with_source_port(client.source.port() + number);
            match self.outcome(lab, &sent)? {
                Some(backend) => drop(reached.insert(backend)),
                None => return Ok(()),
            }
        }
        let is_whole = match &self.expected {
            Expected::Reached { backends, .. } if self.service.is_random() => reached == *backends,
            // It may be any of them; which one is the dataplane's own.
            Expected::Reached { .. } => reached.len() == 1,
            Expected::Dropped { .. } | Expected::Rejected { .. } | Expected::Word(_) => true,
        };
        if is_whole {
            Ok(())
        } else {
            Err(format!("reached {reached:?}, not {:?}", self.expected))
        }
    }

    /// Sends one packet, and the answer to it where a backend is reached, which is told.
    fn outcome(&self, lab: &mut Lab, sent: &str) -> Result<Option<SocketAddr>, String> {
        let before = drops(lab);
        let got = lab.run(self.packet.from.at(), sent);
        let (verdict, packet) = got.split_once(' ').unwrap_or((&got, ""));
        let wrong = || Err(format!("`{sent}` became `{got}`"));
        match &self.expected {
            Expected::Dropped { drop } => {
                let after = drops(lab);
                let counted: Vec<&str> = COUNTERS
                    .iter()
                    .filter(|(counter, _)| after[*counter as usize] > before[*counter as usize])
                    .map(|(_, name)| *name)
                    .collect();
                match (verdict, counted.as_slice()) {
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
            Expected::Reached { backends, source } => {
                let (Some(was), Some(is)) = (Ends::read(sent), Ends::read(packet)) else {
                    return wrong();
                };
                let is_source_right = match source {
                    Seen::Client => is.source == was.source,
                    Seen::Service => {
                        is.source == SocketAddr::new(was.destination.ip(), was.source.port())
                    }
                    Seen::Node => {
                        let node = if is.source.is_ipv4() {
                            "172.31.0.1"
                        } else {
                            "fd00::1"
                        };
                        is.source.ip() == node.parse::<std::net::IpAddr>().unwrap()
                    }
                };
                if verdict == "drop" || !is_source_right || !backends.contains(&is.destination) {
                    return wrong();
                }
                let answer = lab.run(self.service.where_is(is.destination), &is.answer());
                match answer.split_once(' ') {
                    Some((_, packet)) if packet == was.answer() => Ok(Some(is.destination)),
                    _ => Err(format!("the answer to `{got}` became `{answer}`")),
                }
            }
            Expected::Word(Word::Untouched) => wrong(),
        }
    }
}

/// Every counter of a drop, by its number; others are 0.
fn drops(lab: &Lab) -> Vec<u64> {
    let of = |(counter, name): &(Counter, &str)| match name.starts_with("drop_") {
        true => lab.counter(*counter),
        false => 0,
    };
    COUNTERS.iter().map(of).collect()
}
