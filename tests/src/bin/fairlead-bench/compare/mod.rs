//! Fairlead, iptables, nftables and the direct connection side by side.
//!
//! Each engine has a lab of its own with the same wiring, since rules and agent must not share a
//! node. Only the first node, where the packets meet Services, has an engine: the second one, which
//! a cluster would make walk its rules as well, speaks for no side. Direct return is the exception: there
//! the second node answers, so it has an agent too.

pub(crate) mod engine;
mod matrix;
pub(crate) mod turns;

use anyhow::{Context, Result};

use crate::figure::{Figure, Figures, median};
use crate::ruleset::iptables::Variant;
use engine::{Engine, Kind};
use matrix::{Cell, Matrix};
use turns::WAYS;

/// With the most Services: how long may the agent's cold start take, and how often does it fit into
/// the time to load either ruleset?
const START_SECONDS: f64 = 3.0;
const START_ADVANTAGE: f64 = 10.0;
/// The number of Services of which [`START_SECONDS`] speaks.
const MOST: u32 = 45_000;
/// How much slower may it get from the fewest Services to the most?
const FLAT: f64 = 1.1;

/// What was measured with one number of Services.
struct Size {
    services: u32,
    /// In the order in which they take turns.
    kinds: Vec<Kind>,
    /// For each kind that starts or loads something alone.
    loads: Vec<(Kind, Vec<f64>)>,
    /// For each of [`WAYS`] and each kind a value a round, in nanoseconds.
    ways: Vec<Vec<Vec<f64>>>,
}

/// What is compared.
pub(crate) struct Comparison<'a> {
    pub(crate) sizes: &'a [u32],
    pub(crate) kinds: &'a [Kind],
    pub(crate) variant: Variant,
    pub(crate) rounds: u32,
}

/// Pushes the figures; the answer is for reading.
pub(crate) fn measure(comparison: &Comparison<'_>, figures: &mut Figures) -> Result<String> {
    let mut measured = Vec::new();
    for services in comparison.sizes {
        let size =
            measure_size(*services, comparison).with_context(|| format!("{services} Services"))?;
        push_loads(&size, figures);
        push_ways(&size, figures);
        measured.push(size);
    }
    push_flatness(&measured, figures);
    let variant = comparison.variant;
    Ok(format!(
        "iptables: {variant}\n\n{}",
        show(comparison.kinds, &measured)
    ))
}

fn measure_size(services: u32, comparison: &Comparison<'_>) -> Result<Size> {
    let Comparison {
        sizes: _,
        kinds,
        variant,
        rounds,
    } = comparison;
    anstream::eprintln!("comparison: {services} Services, {rounds} rounds, iptables {variant}");
    let mut engines = Vec::new();
    for kind in *kinds {
        engines.push(Engine::start(*kind, services, *variant)?);
    }
    let mut ways = Vec::new();
    for way in &WAYS {
        anstream::eprintln!("  {}", way.name);
        if way.is_of_a_wire {
            engines
                .iter_mut()
                .try_for_each(Engine::send_as_a_wire_brings)?;
        }
        let takes_part = |engine: &Engine| engine.kind.takes_part(way);
        let contenders = engines
            .iter()
            .filter(|engine| takes_part(engine))
            .map(|engine| engine.contender(way.is_outside))
            .collect::<Result<Vec<_>>>()?;
        let mut taken = turns::take(&contenders, way, *rounds)
            .context(way.name)?
            .into_iter();
        let values = |engine| takes_part(engine).then(|| taken.next()).flatten();
        ways.push(
            engines
                .iter()
                .map(values)
                .map(Option::unwrap_or_default)
                .collect(),
        );
    }
    let loads = engines
        .iter()
        .filter(|engine| !engine.loads_seconds.is_empty())
        .map(|engine| (engine.kind, engine.loads_seconds.clone()))
        .collect();
    Ok(Size {
        services,
        kinds: kinds.to_vec(),
        loads,
        ways,
    })
}

fn push_loads(size: &Size, figures: &mut Figures) {
    let services = size.services;
    let agent = size.load(Kind::Fairlead);
    for (kind, loads) in &size.loads {
        let name = match kind {
            Kind::Fairlead => format!("{services} Services: agent, cold start to ready"),
            Kind::Direct
            | Kind::FairleadDsr
            | Kind::FairleadXdp
            | Kind::Iptables
            | Kind::Nftables => format!("{services} Services: {kind} ruleset loaded"),
        };
        let figure = Figure::less(name, "s", loads.clone());
        let is_bound = *kind == Kind::Fairlead && services == MOST;
        figures.push(if is_bound {
            figure.at_most(START_SECONDS)
        } else {
            figure
        });
        if *kind != Kind::Fairlead && agent.is_finite() {
            let ratio = Figure::more(
                format!("{services} Services: {kind} load / agent start"),
                "ratio",
                vec![median(loads) / agent],
            );
            figures.push(if services == MOST {
                ratio.at_least(START_ADVANTAGE)
            } else {
                ratio
            });
        }
    }
}

fn push_ways(size: &Size, figures: &mut Figures) {
    for (index, way) in WAYS.iter().enumerate() {
        let name = |what: &str| format!("{} Services, {}: {what}", size.services, way.name);
        for kind in &size.kinds {
            let values = size.values(index, *kind);
            if values.is_empty() {
                continue;
            }
            let shown = values.iter().map(|value| way.shown(*value)).collect();
            let figure = match way.is_rate() {
                true => Figure::more(name(kind.name()), way.unit(), shown),
                false => Figure::less(name(kind.name()), way.unit(), shown),
            };
            figures.push(figure.detail());
        }
        let others = [Kind::Direct, Kind::Iptables, Kind::Nftables];
        for (kind, other) in Kind::FAIRLEAD
            .into_iter()
            .flat_map(|kind| others.map(|other| (kind, other)))
        {
            let ratios = size.ratios(index, kind, other);
            if ratios.is_empty() {
                continue;
            }
            let name = name(&format!("time, {kind} / {other}"));
            let ratio = Figure::less(name, "ratio", ratios);
            figures.push(if other == Kind::Direct {
                ratio
            } else {
                ratio.at_most(1.0)
            });
        }
    }
}

/// As a multiple of the direct connection of the same round, since hours lie between the sizes.
fn push_flatness(sizes: &[Size], figures: &mut Figures) {
    let (Some(few), Some(many)) = (
        sizes.iter().min_by_key(|size| size.services),
        sizes.iter().max_by_key(|size| size.services),
    ) else {
        return;
    };
    if few.services == many.services {
        return;
    }
    for (index, way) in WAYS.iter().enumerate() {
        for kind in Kind::ALL {
            let of = |size: &Size| median(&size.ratios(index, kind, Kind::Direct));
            if kind == Kind::Direct || !of(many).is_finite() {
                continue;
            }
            let figure = Figure::less(
                format!(
                    "{}: {kind} with {} / {} Services",
                    way.name, many.services, few.services
                ),
                "ratio",
                vec![of(many) / of(few)],
            );
            figures.push(if Kind::FAIRLEAD.contains(&kind) {
                figure.at_most(FLAT)
            } else {
                figure.detail()
            });
        }
    }
}

fn show(kinds: &[Kind], sizes: &[Size]) -> String {
    let mut text = String::new();
    for (index, way) in WAYS.iter().enumerate() {
        let title = format!("{}, {} (× direct)", way.name, way.unit());
        let mut matrix = Matrix::new(title, "Services", kinds);
        for size in sizes {
            let cells = kinds.iter().map(|kind| {
                let time = median(&size.ratios(index, *kind, Kind::Direct));
                let ratio = if way.is_rate() { 1.0 / time } else { time };
                Cell {
                    value: way.shown(median(size.values(index, *kind))),
                    ratio: (*kind != Kind::Direct && ratio.is_finite()).then_some(ratio),
                }
            });
            matrix.row(size.services, cells);
        }
        text += &matrix.to_string();
    }
    let kinds: Vec<_> = kinds
        .iter()
        .filter(|kind| **kind != Kind::Direct && !kind.is_for_outside())
        .copied()
        .collect();
    let title = "start or load, s (× fairlead)".to_owned();
    let mut matrix = Matrix::new(title, "Services", &kinds);
    for size in sizes {
        let cells = kinds.iter().map(|kind| {
            let ratio = size.load(*kind) / size.load(Kind::Fairlead);
            Cell {
                value: size.load(*kind),
                ratio: (*kind != Kind::Fairlead && ratio.is_finite()).then_some(ratio),
            }
        });
        matrix.row(size.services, cells);
    }
    text + &matrix.to_string()
}

impl Size {
    fn values(&self, way: usize, kind: Kind) -> &[f64] {
        let engine = self.kinds.iter().position(|other| *other == kind);
        let values = self.ways.get(way).zip(engine);
        values
            .and_then(|(values, engine)| values.get(engine))
            .map_or(&[], Vec::as_slice)
    }

    /// Ratios of times, a value a round.
    fn ratios(&self, way: usize, of: Kind, to: Kind) -> Vec<f64> {
        let pairs = self.values(way, of).iter().zip(self.values(way, to));
        pairs.map(|(of, to)| of / to).collect()
    }

    fn load(&self, of: Kind) -> f64 {
        let loads = self.loads.iter().find(|(kind, _)| *kind == of);
        loads.map_or(f64::NAN, |(_, loads)| median(loads))
    }
}
