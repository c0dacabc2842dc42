//! `fairlead-demo`: Services balanced, policies enforced, and a shop served from an edge node, across
//! three nodes before your eyes.
//!
//! It builds a lab from `examples/cluster`, starts an agent on each node, makes the pods with the
//! CNI plugin that the agents install, sends real traffic and prints one line per fact. The lab is
//! taken down at the end, after an error and after Ctrl-C.

mod alone;
mod edge;
mod facts;
mod interrupt;
mod kept;
mod leftovers;
mod options;
mod outage;
mod pods;
mod policy;
mod scenes;
mod shop;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tests::harness::{remains, remove};

use alone::Alone;
use facts::Facts;
use shop::Shop;

/// Name of the demo's lab, and prefix of the names of its namespaces.
const LAB: &str = "fairlead-demo";

/// Shows Fairlead balancing real connections, and enforcing network policies, across three nodes on
/// this machine
#[derive(Debug, Parser)]
#[command(name = "fairlead-demo", version)]
struct Arguments {
    /// Leave the lab running and print how to look around
    #[arg(long)]
    keep: bool,
    /// Remove a lab that was kept, and do nothing else
    #[arg(long)]
    remove: bool,
    /// Passed on to the agents
    #[arg(long, value_name = "NAME")]
    dataplane: Option<String>,
    /// Manifests of the cluster
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/cluster"))]
    manifests: PathBuf,
    /// Network policies of that cluster
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/policy"))]
    policies: PathBuf,
}

fn main() -> ExitCode {
    tests::traffic::main_beside("fairlead-demo", || demo(&Arguments::parse()))
}

/// Whether every fact held.
fn demo(arguments: &Arguments) -> Result<bool> {
    let _alone = Alone::take()?;
    if arguments.remove {
        remove(LAB)?;
        anstream::println!("the lab is removed");
        return Ok(true);
    }
    if !remains(LAB)?.is_empty() {
        anstream::println!("removing the lab of an earlier run");
        remove(LAB).context("the lab of an earlier run cannot be removed")?;
    }
    interrupt::watch()?;
    let mut facts = Facts::new();
    show(&mut facts, arguments);
    Ok(facts.conclude())
}

fn show(facts: &mut Facts, arguments: &Arguments) {
    let Arguments {
        keep,
        remove: _,
        dataplane,
        manifests,
        policies,
    } = arguments;
    let policies = &policies.canonicalize().unwrap_or_else(|_| policies.clone());
    let before = leftovers::Before::now();
    let Some(mut shop) = Shop::open(facts, manifests, dataplane.as_deref()) else {
        leftovers::after_the_lab(facts, before);
        return;
    };
    pods::pods(facts, &shop);
    scenes::cluster_ips(facts, &shop);
    scenes::node_ports(facts, &shop);
    scenes::rejects(facts, &shop);
    scenes::scaling(facts, &shop);
    options::options(facts, &shop);
    outage::kill_and_restart(facts, &mut shop);
    outage::malformed_manifest(facts, &shop);
    policy::policy(facts, &mut shop, policies);
    let edge = edge::edge(facts, &shop);
    scenes::views(facts, &shop);
    if *keep {
        kept::explain(&shop, policies);
        edge.keep();
        shop.keep();
        return;
    }
    drop(edge);
    options::hand_back(facts, &mut shop);
    leftovers::of_agents(facts, &mut shop);
    drop(shop);
    leftovers::after_the_lab(facts, before);
}
