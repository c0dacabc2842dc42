//! Pods' network: how fast it is ([`traffic`]), and how long a runtime waits for it: `fairlead-cni`
//! against the reference `bridge` with `host-local`, in turns.
//!
//! With IPv4 alone, since `bridge` waits for the detection of duplicate IPv6 addresses; that of
//! `fairlead-cni` with both families is shown beside, and with an agent that it waits for ([`beside`]).

mod beside;
mod traffic;
mod wiring;

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use ::tests::harness::{CniNode, Outcome, cni_program, reference_plugin};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::figure::{Figure, Figures, median};
use beside::Beside;

/// Pods of a round, one after the other and all at once.
const PODS: usize = 50;
/// "One pod in well under 20 ms."
const ADD_MILLISECONDS: f64 = 20.0;

/// `pods`.
#[derive(Debug, Args)]
pub(crate) struct Pods {
    /// What is measured
    #[arg(long, value_delimiter = ',', default_values_t = [Part::Plugin, Part::Traffic])]
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// ADD and DEL of the plugin
    Plugin,
    /// Pod to pod
    Traffic,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plugin => "plugin",
            Self::Traffic => "traffic",
        })
    }
}

/// Runs a command for a container.
type Run = Box<dyn Fn(&'static str, &str) -> Result<Outcome> + Sync>;

/// Plugins on a node of their own.
struct Candidate {
    name: &'static str,
    run: Run,
    /// Medians and 99th percentiles of each round.
    rounds: Vec<[f64; 8]>,
}

/// What is measured, in the order of [`Candidate::rounds`].
const MEASURES: [&str; 8] = [
    "ADD alone, median",
    "ADD alone, p99",
    "DEL alone, median",
    "DEL alone, p99",
    "ADD of 50 at once, median",
    "ADD of 50 at once, p99",
    "DEL of 50 at once, median",
    "DEL of 50 at once, p99",
];

pub(crate) fn measure(options: &Pods, rounds: u32, figures: &mut Figures) -> Result<()> {
    for part in &options.parts {
        match part {
            Part::Plugin => measure_plugin(rounds, figures)?,
            Part::Traffic => traffic::measure(rounds, figures)?,
        }
    }
    Ok(())
}

fn measure_plugin(rounds: u32, figures: &mut Figures) -> Result<()> {
    anstream::eprintln!("pods: {PODS} in a round, {rounds} rounds");
    let ours = |name, ranges: &[&str]| {
        let node = CniNode::new()?;
        let config = node.config(&json!({"ranges": ranges}))?;
        Candidate::alone(name, node, cni_program()?, config)
    };
    let beside = Beside::start(&containers())?;
    let mut candidates = [
        ours("fairlead", &["10.244.0.0/20"])?,
        bridge()?,
        ours("fairlead, both families", &["10.244.0.0/20", "fd00::/64"])?,
        Candidate {
            name: "fairlead, both families and policy in force",
            run: Box::new(move |command, pod| beside.run(command, pod)),
            rounds: Vec::new(),
        },
    ];
    // The first round warms caches and is not counted.
    for round in 0..=rounds {
        for candidate in &mut candidates {
            let times = candidate.round()?;
            if round > 0 {
                candidate.rounds.push(times);
            }
        }
    }
    let [fairlead, bridge, ..] = &candidates;
    for (index, measure) in MEASURES.iter().enumerate() {
        for candidate in &candidates {
            let figure = Figure::less(
                format!("{}: {measure}", candidate.name),
                "ms",
                candidate.of(index).collect(),
            );
            let is_alone = measure.starts_with("ADD alone") && candidate.name != bridge.name;
            figures.push(match is_alone {
                true => figure.at_most(ADD_MILLISECONDS),
                false => figure,
            });
        }
        let ratios = fairlead.of(index).zip(bridge.of(index));
        let ratios = ratios.map(|(ours, theirs)| ours / theirs).collect();
        let name = format!("{measure}: × bridge and host-local");
        figures.push(Figure::less(name, "ratio", ratios).at_most(1.0));
    }
    Ok(())
}

fn bridge() -> Result<Candidate> {
    let node = CniNode::new()?;
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "bridge",
        "bridge": "kube-bridge",
        "isDefaultGateway": true,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.244.0.0/20"}]],
            "dataDir": node.directory().join("host-local"),
        },
    });
    Candidate::alone("bridge", node, reference_plugin("bridge")?, config)
}

impl Candidate {
    fn alone(name: &'static str, node: CniNode, program: PathBuf, config: Value) -> Result<Self> {
        node.create(&containers())?;
        Ok(Self {
            name,
            run: Box::new(move |command, container| {
                node.run(&program, &node.call(command, container), &config)
            }),
            rounds: Vec::new(),
        })
    }

    fn round(&self) -> Result<[f64; 8]> {
        let mut alone = (Vec::new(), Vec::new());
        for container in containers() {
            alone.0.push(self.time("ADD", &container)?);
            alone.1.push(self.time("DEL", &container)?);
        }
        let added = self.at_once("ADD")?;
        let deleted = self.at_once("DEL")?;
        let [a, b, c, d] =
            [alone.0, alone.1, added, deleted].map(|times| [median(&times), percentile_99(&times)]);
        Ok([a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]])
    }

    fn at_once(&self, command: &'static str) -> Result<Vec<f64>> {
        let containers = containers();
        thread::scope(|scope| {
            let threads: Vec<_> = containers
                .iter()
                .map(|container| scope.spawn(|| self.time(command, container)))
                .collect();
            let times = threads.into_iter().map(|thread| thread.join());
            times
                .map(|time| time.map_err(|_| anyhow::anyhow!("a thread panicked"))?)
                .collect()
        })
    }

    /// Milliseconds of one invocation, from the start of its process to its end.
    fn time(&self, command: &'static str, container: &str) -> Result<f64> {
        let began = Instant::now();
        let outcome = (self.run)(command, container);
        let took = began.elapsed();
        let outcome = outcome.with_context(|| format!("{}: {command}", self.name))?;
        ensure!(
            outcome.code == Some(0),
            "{}: {command}: {outcome:?}",
            self.name
        );
        Ok(took.as_secs_f64() * 1e3)
    }

    fn of(&self, index: usize) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(move |times| times[index])
    }
}

fn containers() -> Vec<String> {
    (0..PODS).map(|n| format!("c{n}")).collect()
}

fn percentile_99(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (times.len() * 99).div_ceil(100);
    rank.checked_sub(1)
        .and_then(|index| sorted.get(index))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::percentile_99;

    #[test]
    fn the_99th_percentile_is_the_value_that_99_of_100_do_not_exceed() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((percentile_99(&hundred) - 99.0).abs() < f64::EPSILON);
        assert!((percentile_99(&[3.0, 7.0]) - 7.0).abs() < f64::EPSILON);
        assert!(percentile_99(&[]).is_nan());
    }
}
