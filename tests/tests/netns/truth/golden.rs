//! Cases that everybody knows, with what they open and close written by hand.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tests::traffic::Way;

use super::table::{Probe, Table};
use super::world::World;
use super::{Policies, Truth, parse};

/// A case of `golden.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, Value>,
    policies: Policies,
    /// What is closed, all else being open.
    closed: Vec<String>,
    /// What of that is open all the same.
    #[serde(default)]
    open: Vec<String>,
}

impl Case {
    fn is_open(&self, world: &World, probe: &Probe) -> bool {
        let is_any = |lines: &[String]| lines.iter().any(|line| matches(line, probe));
        let within = probe.from == probe.to;
        within || world.is_probed_by_its_node(probe) || !is_any(&self.closed) || is_any(&self.open)
    }
}

/// `FROM > TO: WHAT`. Of a place each letter or `*` is compared, `node` and `client` are whole names,
/// `out` is both of them; what is a list of `tcp`, `udp`, `sctp`, `icmp`, `v4`, `v6` and ports, all of
/// which have to fit. A list of places is separated by commas.
fn matches(line: &str, probe: &Probe) -> bool {
    let (places, what) = line.split_once(": ").unwrap_or((line, ""));
    let (from, to) = places.split_once(" > ").unwrap();
    is_place(from, &probe.from)
        && is_place(to, &probe.to)
        && what.split_whitespace().all(|word| is_traffic(word, probe))
}

fn is_place(patterns: &str, name: &str) -> bool {
    patterns.split(',').any(|pattern| match pattern {
        "*" => true,
        "pods" => name.len() == 2,
        "nodes" => name.starts_with("node"),
        pattern if pattern.len() == 2 && name.len() == 2 => pattern
            .chars()
            .zip(name.chars())
            .all(|(pattern, letter)| pattern == '*' || pattern == letter),
        pattern => pattern == name,
    })
}

fn is_traffic(word: &str, probe: &Probe) -> bool {
    match word {
        "tcp" => probe.way == Way::Tcp,
        "udp" => matches!(probe.way, Way::Udp | Way::KeptUdp),
        "sctp" => probe.way == Way::Sctp,
        "icmp" => probe.way == Way::Icmp,
        "ports" => probe.way != Way::Icmp,
        "v4" => !probe.v6,
        "v6" => probe.v6,
        port => probe.port == port.parse::<u16>().unwrap(),
    }
}

#[test]
fn known_cases_are_as_written_by_hand_and_as_the_reference_says() {
    let cases: Vec<Case> = parse(include_str!("golden.yaml"));
    let mut truth = Truth::start();
    for case in &cases {
        truth.world.relabel_as_at_first();
        truth.world.remove_policies();
        truth.world.change(&case.policies);
        for (name, labels) in &case.labels {
            truth.world.relabel(name, labels.clone());
        }
        truth.settle();
        let world = &truth.world;
        let expected = Table::of(world, |probe| {
            let open = case.is_open(world, probe);
            let reference = world.allows(&probe.from, &probe.to, probe.v6, probe.traffic());
            assert_eq!(open, reference, "{}: {probe:?}", case.name);
            open
        });
        truth.expect(&case.name, &expected);
    }
    eprintln!("truth, by hand: {} cases, {:?}", cases.len(), truth.tally);
}
