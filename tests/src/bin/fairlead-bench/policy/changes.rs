//! From an event to the kernel: a policy of the node's pods gets another port.

use std::time::{Duration, Instant};

use agent_abi::policy::EPOCH_MAP;
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use serde_json::Value;
use tests::harness::{AgentOptions, Builder, Lab, eventually};

use super::workload::Workload;
use crate::figure::{Figure, Figures};
use crate::scale::{CALM, cold_start};

/// Milliseconds from the file, with what the agent waits for others to come with the change.
const TARGET: f64 = 10.0;
const FILE: &str = "changed.yaml";
const LOOK: Duration = Duration::from_micros(100);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn measure(
    policies: usize,
    pods: usize,
    rounds: u32,
    figures: &mut Figures,
) -> Result<()> {
    anstream::eprintln!("changes: {policies} policies × {pods} pods, {rounds} rounds");
    let lab = Builder::new(std::env::current_exe()?, 1)
        .traffic_arguments(&["traffic"])
        .build()?;
    lab.apply_nodes()?;
    let mut workload = Workload::new(policies, pods, &[]);
    workload.policies.rotate_left(1);
    let changed = workload.policies.pop().context("no policies")?;
    workload.write(lab.manifests())?;
    let write = |variant: usize| -> Result<()> {
        let text = Value::to_string(&changed.document(variant));
        lab.manifests().write_text(FILE, &text)
    };
    write(0)?;
    let (_agent, took) = cold_start(&lab, "node1", &AgentOptions::flags(&["--run-firewall"]))?;
    let epoch = epoch(&lab)?;
    let mut milliseconds = Vec::new();
    for round in 0..rounds {
        let before = settled(&epoch)?;
        let begun = Instant::now();
        write(1 + usize::try_from(round)?)?;
        while epoch.get(&0, 0)? == before {
            ensure!(
                begun.elapsed() < PATIENCE,
                "the change is not in the kernel"
            );
            std::thread::sleep(LOOK);
        }
        milliseconds.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let name = format!("{policies} policies × {pods} pods");
    figures.push(Figure::less(
        format!("{name}: agent, cold start to ready"),
        "s",
        vec![took.as_secs_f64()],
    ));
    let name = format!("{name}: one policy's change, file to kernel");
    figures.push(Figure::less(name, "ms", milliseconds).at_most(TARGET));
    Ok(())
}

/// Goes up when tables are in force.
fn epoch(lab: &Lab) -> Result<Array<MapData, u32>> {
    let pins = tests::harness::inventory(lab, "node1")?;
    let mut pins = pins.into_iter();
    let path = pins
        .find(|pin| pin.ends_with(EPOCH_MAP))
        .with_context(|| format!("no pin {EPOCH_MAP}"))?;
    let pin = MapData::from_pin(&path).with_context(|| format!("{path}: cannot be opened"))?;
    Ok(Array::try_from(Map::Array(pin))?)
}

/// The epoch once it stands still.
fn settled(epoch: &Array<MapData, u32>) -> Result<u32> {
    eventually("nothing is left to apply", || {
        let first = epoch.get(&0, 0)?;
        std::thread::sleep(CALM);
        Ok((epoch.get(&0, 0)? == first).then_some(first))
    })
}
