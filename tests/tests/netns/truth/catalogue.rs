//! Many policies, some at a time, while pods and namespaces get other labels.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;

use super::table::Table;
use super::{Policies, Truth, parse};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// Policies that are in force together.
const TOGETHER: usize = 7;
/// Policies that come between two looks.
const AT_ONCE: usize = 2;

/// `catalogue.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    /// Each of them comes in every namespace.
    of_namespaces: Vec<Value>,
    of_the_cluster: Vec<Value>,
    /// One of them comes now and then, and goes when the next one does.
    labels: Vec<BTreeMap<String, Value>>,
}

#[test]
fn many_policies_come_and_go_and_every_packet_is_as_the_reference_says() {
    let Catalogue {
        of_namespaces,
        of_the_cluster,
        labels,
    } = parse(include_str!("catalogue.yaml"));
    let mut policies = VecDeque::new();
    for (number, spec) in of_namespaces.iter().enumerate() {
        for (index, namespace) in NAMESPACES.into_iter().enumerate() {
            // Those of one step and its neighbours are of different namespaces and different kinds.
            let place = (number * NAMESPACES.len() + index * 47) % (of_namespaces.len() * 3);
            policies.push_back((place, format!("{namespace}/p{number}"), spec.clone()));
        }
    }
    for (number, spec) in of_the_cluster.iter().enumerate() {
        policies.push_back((number * 11, format!("c{number}"), spec.clone()));
    }
    policies.make_contiguous().sort_by_key(|(place, ..)| *place);
    let count = policies.len();
    assert!(count >= 120, "{count} policies");
    let mut truth = Truth::start();
    let mut in_force = VecDeque::new();
    let mut relabelled = labels.iter().cycle();
    let mut steps = 0;
    while !policies.is_empty() || !in_force.is_empty() {
        let room = if policies.is_empty() { 0 } else { TOGETHER };
        let mut change = Policies::new();
        for (_, name, spec) in policies.drain(..AT_ONCE.min(policies.len())) {
            in_force.push_back(name.clone());
            change.insert(name, spec);
        }
        while in_force.len() > room {
            change.insert(in_force.pop_front().unwrap(), Value::Null);
        }
        truth.world.change(&change);
        if steps % 3 == 2 {
            truth.world.relabel_as_at_first();
            for (name, labels) in relabelled.next().unwrap() {
                truth.world.relabel(name, labels.clone());
            }
        }
        truth.settle();
        let world = &truth.world;
        let expected = Table::of(world, |probe| {
            world.allows(&probe.from, &probe.to, probe.v6, probe.traffic())
        });
        truth.expect(&format!("step {steps}"), &expected);
        steps += 1;
    }
    let tally = truth.tally;
    eprintln!("truth, by the reference: {count} policies in {steps} steps, {tally:?}");
    // Else the policies would say next to nothing, or forbid next to everything.
    assert!(tally.open > 10_000 && tally.closed > 10_000, "{tally:?}");
}
