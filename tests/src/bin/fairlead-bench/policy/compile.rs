//! The compiler alone, in this process.

use std::sync::Arc;
use std::time::Instant;

use agent::desired::NodeContext;
use agent::desired::policy::PolicyTables;
use anyhow::{Context, Result};
use model::k8s::{Reduced, reduce};
use model::{Cluster, Event, Kind};
use serde_json::{Value, json};

use super::workload::{Pod, Workload};
use crate::figure::{Figure, Figures};

/// Pods that come one after the other in each round.
const ADDED: usize = 50;
/// Seconds of a cold compile, milliseconds of one pod more.
const COLD: f64 = 1.0;
const ONE_MORE: f64 = 5.0;

pub(super) fn measure(
    policies: usize,
    pods: usize,
    rounds: u32,
    figures: &mut Figures,
) -> Result<()> {
    anstream::eprintln!("compile: {policies} policies × {pods} pods, {rounds} rounds");
    let workload = Workload::new(policies, pods, &[]);
    let mut cluster = Cluster::default();
    let node = json!({"kind": "Node", "metadata": {"name": "node1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.31.0.11"}]}});
    apply(&mut cluster, &node)?;
    for document in workload.documents() {
        apply(&mut cluster, &document)?;
    }
    drop(cluster.take_changes());
    let node = NodeContext::of(&cluster, &"node1".into(), &Arc::default(), &[].into(), 1500);
    let (mut cold, mut more) = (Vec::new(), Vec::new());
    let mut next = pods;
    for _ in 0..rounds {
        let begun = Instant::now();
        let mut tables = PolicyTables::compile(&cluster, &node);
        cold.push(begun.elapsed().as_secs_f64());
        for _ in 0..ADDED {
            next += 1;
            apply(
                &mut cluster,
                &Pod::numbered(next, next.is_multiple_of(2)).document(),
            )?;
            let changes = cluster.take_changes();
            let begun = Instant::now();
            tables = tables.follow(&cluster, &changes, &node);
            more.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let name = format!("{policies} policies × {pods} pods");
    figures.push(Figure::less(format!("{name}: cold compile"), "s", cold).at_most(COLD));
    figures.push(Figure::less(format!("{name}: one pod more"), "ms", more).at_most(ONE_MORE));
    Ok(())
}

fn apply(cluster: &mut Cluster, document: &Value) -> Result<()> {
    let name = document["kind"].as_str().unwrap_or_default();
    let mut all = Kind::ALL.into_iter();
    let kind = all
        .find(|kind| kind.to_string() == name)
        .context("invariant: a kind of ours")?;
    let Reduced {
        key,
        object,
        problems,
    } = reduce(kind, document);
    cluster.apply(Event::Applied {
        kind,
        key,
        object,
        problems,
    });
    Ok(())
}
