//! Start and change with many Services.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use tests::apiserver::ApiServer;
use tests::harness::{Agent, AgentOptions, Builder, Lab, eventually};

use crate::figure::{Figure, Figures, median};
use crate::ruleset::nftables as ruleset;
use crate::workload::{self, CHANGED, ENDPOINTS, other, services};

const FEW: u32 = 100;
const MANY: u32 = 10_000;
/// Endpoints of each of [`MANY`] Services where memory is measured.
const MORE_ENDPOINTS: u32 = 10;
/// A cold start takes seconds and varies little.
const STARTS: u32 = 5;
/// A load takes twenty seconds.
const LOADS: u32 = 2;
/// Longer than a debounce and an apply: what was going to be written is written.
pub(crate) const CALM: Duration = Duration::from_millis(200);
/// Longest start that is worth a figure.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks into a map.
const LOOK: Duration = Duration::from_micros(100);
/// `ALLOCATOR_V2[1]`: the id the next backend will get (`agent_abi::service::NEXT_BACKEND`).
const NEXT_BACKEND: u32 = 1;
/// Bytes of a key and a value of `RINGS_V2`.
const RING_PART: f64 = 136.0;
/// Size of `agent_abi::service::BackendV2`.
const BACKEND: usize = 40;

/// What was seen with a number of Services.
struct Seen {
    starts_seconds: Vec<f64>,
    resident_mebibytes: Vec<f64>,
    peak_mebibytes: Vec<f64>,
    changes_milliseconds: Vec<f64>,
    operations: Vec<f64>,
}

pub(crate) fn measure(rounds: u32, figures: &mut Figures) -> Result<()> {
    let few = agent((FEW, ENDPOINTS), 1, rounds)?;
    let many = agent((MANY, ENDPOINTS), STARTS, rounds)?;
    let (loads, changes) = nftables(rounds)?;
    let name = format!("{MANY} Services × {ENDPOINTS} endpoints");
    let ratio = median(&loads) / median(&many.starts_seconds);
    for figure in [
        Figure::less(
            format!("{name}: start to fully programmed"),
            "s",
            many.starts_seconds,
        )
        .at_most(2.0),
        Figure::less(format!("{name}: resident"), "MiB", many.resident_mebibytes).at_most(100.0),
        Figure::less(
            format!("{name}: resident at most"),
            "MiB",
            many.peak_mebibytes,
        )
        .at_most(100.0),
        Figure::less(
            format!("{name}: one endpoint's change, file to kernel"),
            "ms",
            many.changes_milliseconds,
        )
        .at_most(10.0),
        Figure::less(
            format!("{FEW} Services: one endpoint's change, file to kernel"),
            "ms",
            few.changes_milliseconds,
        ),
        Figure::less(
            format!("{FEW} Services: map operations of one change"),
            "operations",
            few.operations.clone(),
        ),
        Figure::less(
            format!("{name}: map operations of one change"),
            "operations",
            many.operations,
        )
        .at_most(median(&few.operations)),
        Figure::less(
            format!("{name}: nftables ruleset loaded by nft -f"),
            "s",
            loads,
        ),
        Figure::less(
            format!("{name}: nftables, one endpoint's change by nft -f"),
            "ms",
            changes,
        ),
        Figure::more(
            format!("{name}: nftables load / agent start"),
            "ratio",
            vec![ratio],
        ),
    ] {
        figures.push(figure);
    }
    Ok(())
}

/// What an agent takes that follows an API server.
pub(crate) fn measure_memory(figures: &mut Figures) -> Result<()> {
    let plain = (0..STARTS)
        .map(|_| resident(false))
        .collect::<Result<Vec<_>>>()?;
    let of = |value: fn(&Resident) -> f64| plain.iter().map(value).collect();
    let name = format!("{MANY} Services × {MORE_ENDPOINTS} endpoints");
    let resident_now = Figure::less(format!("{name}: resident"), "MiB", of(|one| one.now));
    figures.push(resident_now.at_most(64.0));
    let peak = format!("{name}: resident at most");
    figures.push(Figure::less(peak, "MiB", of(|one| one.at_most)));
    let hashed = resident(true)?;
    let name = format!("{name}, hashed consistently");
    figures.push(Figure::less(
        format!("{name}: resident"),
        "MiB",
        vec![hashed.now],
    ));
    let rings = format!("{name}: rings in the kernel");
    figures.push(Figure::less(rings, "MiB", vec![hashed.rings]));
    Ok(())
}

/// Mebibytes of an agent that follows an API server.
struct Resident {
    now: f64,
    at_most: f64,
    /// Of the entries of consistent hashing.
    rings: f64,
}

fn agent((count, endpoints): (u32, u32), starts: u32, rounds: u32) -> Result<Seen> {
    anstream::eprintln!(
        "agent: {count} Services × {endpoints} endpoints, {starts} cold starts, {rounds} changes"
    );
    let lab = Builder::new(std::env::current_exe()?, 1)
        .traffic_arguments(&["traffic"])
        .build()?;
    lab.apply_nodes()?;
    let mut services = services(count, endpoints);
    let changed = services.remove(usize::try_from(CHANGED)?);
    workload::write(lab.manifests(), &services)?;
    workload::write_changed(lab.manifests(), changed, None)?;
    let mut seen = Seen {
        starts_seconds: Vec::new(),
        resident_mebibytes: Vec::new(),
        peak_mebibytes: Vec::new(),
        changes_milliseconds: Vec::new(),
        operations: Vec::new(),
    };
    let mut running = None;
    for _ in 0..starts {
        drop(running.take());
        let (agent, took) = cold_start(&lab, "node1", &AgentOptions::default())?;
        seen.starts_seconds.push(took.as_secs_f64());
        seen.resident_mebibytes.push(memory(agent.id(), "VmRSS:")?);
        seen.peak_mebibytes.push(memory(agent.id(), "VmHWM:")?);
        running = Some(agent);
    }
    let agent = running.context("no start was asked for")?;
    let maps = Maps::open(&lab)?;
    for round in 0..rounds {
        let before = operations(&agent)?;
        let took = maps.change(&lab, round)?;
        seen.changes_milliseconds.push(took.as_secs_f64() * 1e3);
        // The last writes of the change, after the one that was waited for.
        let after = eventually("the change is applied", || {
            let now = settled_operations(&agent)?;
            Ok(now.filter(|now| *now > before))
        })?;
        seen.operations.push(after - before);
    }
    Ok(seen)
}

fn resident(hashed: bool) -> Result<Resident> {
    anstream::eprintln!("agent: {MANY} Services × {MORE_ENDPOINTS} endpoints of an API server");
    let lab = Builder::new(std::env::current_exe()?, 1)
        .traffic_arguments(&["traffic"])
        .build()?;
    lab.apply_nodes()?;
    let mut services = services(MANY, MORE_ENDPOINTS);
    services
        .iter_mut()
        .for_each(|service| service.hashed = hashed);
    workload::write(lab.manifests(), &services)?;
    let address = SocketAddr::new(lab.address("node1", false), 0);
    let namespace = &lab.place("node1").namespace;
    let server = namespace.run(|| ApiServer::start_on(address))?;
    server.load(lab.manifests().directory())?;
    let options = AgentOptions {
        source: Some(vec!["--master".to_owned(), server.url()]),
        ..AgentOptions::default()
    };
    let (agent, _) = cold_start(&lab, "node1", &options)?;
    // Nothing is left to do.
    settled_operations(&agent)?;
    let status = agent.status()?;
    let maps = status["maps"].as_array().context("status without maps")?;
    let rings = maps.iter().find(|row| row["map"] == "RINGS_V2");
    let parts = rings.and_then(|row| row["used"].as_f64());
    Ok(Resident {
        now: memory(agent.id(), "VmRSS:")?,
        at_most: memory(agent.id(), "VmHWM:")?,
        rings: parts.context("status without RINGS_V2")? * RING_PART / f64::from(1 << 20),
    })
}

/// Starts the agent of the first node with empty tables; how long it took to be ready.
pub(crate) fn cold_start(
    lab: &Lab,
    node: &str,
    options: &AgentOptions,
) -> Result<(Agent, Duration)> {
    let cleaned = Agent::cleanup(lab, node, &[])?;
    anyhow::ensure!(cleaned.code == Some(0), "cleanup: {}", cleaned.error);
    let begun = Instant::now();
    let mut agent = Agent::start(lab, node, options)?;
    loop {
        match agent.wait_ready() {
            Ok(()) => return Ok((agent, begun.elapsed())),
            // The harness waits for as long as a test may; a slow start is a figure here.
            Err(error) if begun.elapsed() > PATIENCE || agent.process().ended()?.is_some() => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
}

/// Map operations since the agent's start, once nothing is left to apply.
fn settled_operations(agent: &Agent) -> Result<Option<f64>> {
    let first = operations(agent)?;
    std::thread::sleep(CALM);
    let second = operations(agent)?;
    Ok(((first - second).abs() < f64::EPSILON).then_some(second))
}

fn operations(agent: &Agent) -> Result<f64> {
    let status = agent.status()?;
    status["apply"]["operations_total"]
        .as_f64()
        .with_context(|| format!("no apply.operations_total in {status}"))
}

/// Mebibytes of a line of `/proc/ID/status`.
fn memory(id: u32, line: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let value = text
        .lines()
        .find_map(|text| text.strip_prefix(line))
        .context("no such line")?;
    let kibibytes: f64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}

/// The agent's pinned maps, read behind its back.
struct Maps {
    allocator: Array<MapData, u32>,
    backends: HashMap<MapData, u32, [u8; BACKEND]>,
}

impl Maps {
    fn open(lab: &Lab) -> Result<Self> {
        let pin = |name: &str| {
            let pins = tests::harness::inventory(lab, "node1")?;
            let path = pins
                .into_iter()
                .find(|pin| pin.ends_with(name))
                .with_context(|| format!("no pin {name}"))?;
            MapData::from_pin(&path).with_context(|| format!("{path}: cannot be opened"))
        };
        Ok(Self {
            allocator: Array::try_from(Map::Array(pin("/ALLOCATOR_V2")?))?,
            backends: HashMap::try_from(Map::HashMap(pin("/BACKENDS_V2")?))?,
        })
    }

    /// Changes one endpoint; from the new manifest's place to the new backend in the kernel.
    fn change(&self, lab: &Lab, round: u32) -> Result<Duration> {
        let next = self.allocator.get(&NEXT_BACKEND, 0)?;
        let begun = Instant::now();
        workload::write_changed(lab.manifests(), workload::changed(), Some(other(round)))?;
        let deadline = begun + Duration::from_secs(30);
        while self.backends.get(&next, 0).is_err() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the change is not in the kernel after 30 s"
            );
            std::thread::sleep(LOOK);
        }
        Ok(begun.elapsed())
    }
}

/// Seconds to load the ruleset, milliseconds to change one endpoint in it.
fn nftables(rounds: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    anstream::eprintln!("nftables: {MANY} Services, {LOADS} loads, {rounds} changes");
    let lab = Builder::new(std::env::current_exe()?, 1)
        .traffic_arguments(&["traffic"])
        .build()?;
    let place = lab.place("node1");
    let services = services(MANY, ENDPOINTS);
    let changed = workload::changed();
    let mut loads = Vec::new();
    for round in 0..LOADS {
        if round > 0 {
            ruleset::remove(place)?;
        }
        loads.push(ruleset::load_all(place, &services)?.as_secs_f64());
    }
    let changes = (0..rounds).map(|round| {
        let took = ruleset::change(place, &changed, other(round))?;
        Ok(took.as_secs_f64() * 1e3)
    });
    Ok((loads, changes.collect::<Result<_>>()?))
}
