//! What policy adds to the run time of the programs for a packet of an established connection,
//! against one further look-up in the same table.
//!
//! As in `programs`, the programs run on a made-up packet on the tables of a running agent. Here they
//! leave the packet as it is, so the kernel runs them on it many times between two readings of the
//! clock: a look-up takes less than the clock can tell.

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use etherparse::PacketBuilder;
use tests::harness::{AgentOptions, Builder, Place};

use super::workload::{CLIENT_PORTS, Workload};
use crate::figure::{Figure, Figures, median};
use crate::programs;
use crate::scale::cold_start;

/// Runs of a program between two readings of the clock, and such readings in a round.
const RUNS: u32 = 1000;
const READINGS: u32 = 50;
/// Of linux/pkt_cls.h: the packet goes on.
const TC_ACT_UNSPEC: u32 = u32::MAX;
/// Policies of the cluster; one selects the pods.
const POLICIES: usize = 100;
const PODS: usize = 1000;

const NAMES: [&str; 4] = [
    "baseline",
    "baseline_and_one",
    "workload_ingress",
    "policed_ingress",
];

pub(super) fn measure(rounds: u32, figures: &mut Figures) -> Result<()> {
    anstream::eprintln!("look-up: {READINGS} × {RUNS} packets of each program, {rounds} rounds");
    let lab = Builder::new(std::env::current_exe()?, 1)
        .traffic_arguments(&["traffic"])
        .pod("near", 1)
        .pod("beside", 1)
        .build()?;
    let address = |name: &str| match lab.address(name, false) {
        std::net::IpAddr::V4(v4) => Ok(v4),
        std::net::IpAddr::V6(v6) => anyhow::bail!("{name}: {v6} is not IPv4"),
    };
    let (near, beside) = (address("near")?, address("beside")?);
    lab.apply_nodes()?;
    let workload = Workload::new(POLICIES, PODS, &[("near", near), ("beside", beside)]);
    workload.write(lab.manifests())?;
    let (_agent, _) = cold_start(&lab, "node1", &AgentOptions::flags(&["--run-firewall"]))?;
    let mut ebpf = programs::load(&lab)?;
    let place = lab.place("node1");
    let frame = |opens: bool| -> Result<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let step = ethernet.ipv4(near.octets(), beside.octets(), 60).tcp(
            CLIENT_PORTS.1,
            CLIENT_PORTS.0,
            1000,
            64_000,
        );
        let mut bytes = Vec::new();
        if opens {
            step.syn().write(&mut bytes, &[])?;
        } else {
            step.ack(5000).write(&mut bytes, b"fairlead")?;
        }
        Ok(bytes)
    };
    // The connection begins, so that its packets are found.
    run(&mut ebpf, place, "policed_ingress", &frame(true)?, (1, 1))?;
    let frame = frame(false)?;
    let mut times = NAMES.map(|_| Vec::new());
    // The first round warms caches and is not counted.
    for round in 0..=rounds {
        for (name, times) in NAMES.into_iter().zip(&mut times) {
            let nanoseconds = run(&mut ebpf, place, name, &frame, (READINGS, RUNS))?;
            if round > 0 {
                times.push(nanoseconds);
            }
        }
    }
    let [one, two, without, with] = times;
    let less = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
    let (look_up, added) = (less(&two, &one), less(&with, &without));
    let bound = median(&look_up);
    for (name, values) in NAMES.into_iter().zip([one, two, without, with]) {
        figures.push(Figure::less(format!("{name}, established"), "ns", values));
    }
    figures.push(Figure::less("one further look-up", "ns", look_up));
    let name = "policy, added to an established connection's packet";
    figures.push(Figure::less(name, "ns", added).at_most(bound));
    Ok(())
}

/// Nanoseconds of a packet, by the median reading.
fn run(
    ebpf: &mut Ebpf,
    place: &Place,
    name: &str,
    frame: &[u8],
    (readings, runs): (u32, u32),
) -> Result<f64> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name} in the object"))?
        .try_into()?;
    place.namespace.run(|| {
        let context = programs::context("p-near")?;
        let mut durations = Vec::new();
        for _ in 0..readings {
            let result = program.test_run(TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(&context),
                repeat: runs,
                ..TestRunOptions::default()
            })?;
            ensure!(
                result.return_value == TC_ACT_UNSPEC,
                "{name}: verdict {:#x}",
                result.return_value
            );
            durations.push(result.duration.as_secs_f64() * 1e9);
        }
        Ok(median(&durations))
    })
}
