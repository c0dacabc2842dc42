//! How long the programs take for a packet, and how long they are.
//!
//! They run on made-up packets (`BPF_PROG_TEST_RUN`) on the tables of a running agent. A packet is
//! run once: a second run would see what the first one made of it. So every duration holds two
//! readings of the clock, which is what a packet that is no business of the programs takes; it is
//! shown beside the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::programs::{Program, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use etherparse::{NetHeaders, PacketBuilder, TransportHeader};
use tests::harness::{Lab, Place};

use crate::compare::engine::{Engine, Kind};
use crate::figure::{Figure, Figures, median};
use crate::ruleset::iptables::Variant;

/// What is between the kernel and the tables, and hardly anything else: parses the packet, makes one
/// look-up. The measure for the others, where the object has it.
const BASELINE: &str = "baseline";
/// The same with the look-up in the connections' table, of a key that is new: as it is for a packet of a
/// new connection.
const IN_MEMORY: &str = "baseline_in_memory";
/// How many times the baseline's run time a packet of a new connection may take.
const NEW: f64 = 6.0;
/// The same for one of an established connection.
const ESTABLISHED: f64 = 2.5;
/// Services in the tables.
const SERVICES: u32 = 1000;
/// Packets of a case in a round.
const PACKETS: u16 = 500;
/// Ports of new connections, from here on.
const FIRST_PORT: u16 = 2000;
/// Port of the connection that is established.
const KEPT_PORT: u16 = 1999;
/// Where packets of other machines come in: the program, and its interface.
const UPLINK: (&str, &str) = ("uplink_ingress", "eth0");
/// `TC_ACT_REDIRECT` of linux/pkt_cls.h.
const REDIRECT: u32 = 7;
/// Size of `__sk_buff` of linux/bpf.h, and where in it `ifindex`, its eleventh word, is.
const CONTEXT_SIZE: usize = 192;
const IFINDEX: std::ops::Range<usize> = 40..44;
/// Size of an eBPF instruction.
const INSTRUCTION_BYTES: u32 = 8;

/// Packets of one sort.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    program: &'static str,
    interface: &'static str,
    from: Ipv4Addr,
    to: SocketAddrV4,
    sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// ARP.
    Other,
    /// A new tuple each, of a connection that the backend answers and the client goes on with.
    New,
    /// The same without an answer, as in a flood: what it takes from the tables does not come back.
    Unanswered,
    /// Of the connection from [`KEPT_PORT`].
    Established,
    /// An answer to it.
    Reply,
}

pub(crate) fn measure(rounds: u32, variant: Variant, figures: &mut Figures) -> Result<()> {
    anstream::eprintln!("programs: {PACKETS} packets of each sort, {rounds} rounds");
    let engine = Engine::start(Kind::Fairlead, SERVICES, variant)?;
    let mut ebpf = load(&engine.lab)?;
    lengths(&ebpf, figures)?;
    let mut cases = cases(&engine)?;
    let has_baseline = ebpf.program(BASELINE).is_some();
    if !has_baseline {
        anstream::eprintln!("  no program `{BASELINE}` in the object: no ratios to it");
        cases.retain(|case| !case.is_measure());
    }
    let place = engine.lab.place("node1");
    let mut results: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut port = FIRST_PORT;
    // The first round warms caches and is not counted.
    for round in 0..=rounds {
        for case in &cases {
            let nanoseconds = run(&mut ebpf, place, case, &mut port)
                .with_context(|| format!("{}: {}", case.program, case.name))?;
            if round > 0 {
                results.entry(case.name).or_default().push(nanoseconds);
            }
        }
    }
    let baseline = results.get(BASELINE).cloned();
    let in_memory = results.get(IN_MEMORY).cloned();
    for case in &cases {
        let values = results.remove(case.name).unwrap_or_default();
        let name = format!("{}, {}", case.program, case.name);
        if let Some(baseline) = baseline.as_ref().filter(|_| !case.is_measure()) {
            let figure = ratio(&name, &values, BASELINE, baseline);
            figures.push(match case.sort {
                Sort::Other | Sort::Unanswered => figure,
                Sort::New => figure.at_most(NEW),
                Sort::Established | Sort::Reply => figure.at_most(ESTABLISHED),
            });
        }
        if let Some(in_memory) = in_memory.as_ref()
            && matches!(case.sort, Sort::New | Sort::Unanswered)
            && !case.is_measure()
        {
            figures.push(ratio(&name, &values, IN_MEMORY, in_memory));
        }
        figures.push(Figure::less(name, "ns", values));
    }
    Ok(())
}

/// How many times as long as a measure of the same rounds.
fn ratio(name: &str, values: &[f64], measure: &str, of_measure: &[f64]) -> Figure {
    let ratios = values.iter().zip(of_measure);
    Figure::less(
        format!("{name}: × {measure}"),
        "ratio",
        ratios.map(|(value, measure)| value / measure).collect(),
    )
}

fn cases(engine: &Engine) -> Result<Vec<Case>> {
    let (near, client) = (engine.v4("near")?, engine.v4("client")?);
    let (inside, outside) = (v4(engine.inside()?)?, v4(engine.outside()?)?);
    let pod = |name, program, to, sort| Case {
        name,
        program,
        interface: "p-near",
        from: near,
        to,
        sort,
    };
    let uplink = |name, from, to, sort| Case {
        name,
        program: UPLINK.0,
        interface: UPLINK.1,
        from,
        to,
        sort,
    };
    let far = engine.backend()?;
    // The order matters: a new connection has to be there before the packets of one.
    Ok(vec![
        pod("no IP packet", "workload_ingress", inside, Sort::Other),
        pod(BASELINE, BASELINE, inside, Sort::Established),
        pod(IN_MEMORY, IN_MEMORY, inside, Sort::New),
        pod("new connection", "workload_ingress", inside, Sort::New),
        pod(
            "new connection without an answer",
            "workload_ingress",
            inside,
            Sort::Unanswered,
        ),
        pod(
            "established connection",
            "workload_ingress",
            inside,
            Sort::Established,
        ),
        uplink("reply of a pod's connection", near, far, Sort::Reply),
        uplink("new connection to a node port", client, outside, Sort::New),
        uplink(
            "new connection to a node port without an answer",
            client,
            outside,
            Sort::Unanswered,
        ),
        uplink(
            "established connection to a node port",
            client,
            outside,
            Sort::Established,
        ),
    ])
}

/// Loads the programs once more, on the agent's tables.
pub(crate) fn load(lab: &Lab) -> Result<Ebpf> {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/fairlead.bpf.o");
    let bytes = std::fs::read(&object).with_context(|| {
        format!(
            "{}: cannot be read; `cargo xtask build` makes it",
            object.display()
        )
    })?;
    let pins = tests::harness::inventory(lab, "node1")?;
    let pin = pins
        .iter()
        .find(|pin| pin.ends_with("/CONNECTIONS_V2"))
        .context("the agent has pinned no connections")?;
    let directory = Path::new(pin)
        .parent()
        .context("invariant: a pin is in a directory")?;
    let mut ebpf = EbpfLoader::new()
        .default_map_pin_directory(directory)
        .load(&bytes)
        .context("the object cannot be loaded on the agent's tables")?;
    for (name, program) in ebpf.programs_mut() {
        if let Program::SchedClassifier(program) = program {
            program.load().with_context(|| format!("program {name}"))?;
        } else if let Program::CgroupSockAddr(program) = program {
            program.load().with_context(|| format!("program {name}"))?;
        } else if let Program::Xdp(program) = program {
            program.load().with_context(|| format!("program {name}"))?;
        }
    }
    Ok(ebpf)
}

fn lengths(ebpf: &Ebpf, figures: &mut Figures) -> Result<()> {
    for (name, program) in ebpf.programs() {
        let info: ProgramInfo = program.info().with_context(|| format!("program {name}"))?;
        let length = info
            .size_translated()
            .map(|bytes| bytes / INSTRUCTION_BYTES);
        for (what, count) in [
            ("instructions", length),
            (
                "instructions the verifier walked",
                info.verified_instruction_count(),
            ),
        ] {
            // Kernels before 5.16 do not tell the second.
            if let Some(count) = count {
                let values = vec![f64::from(count)];
                figures.push(Figure::less(
                    format!("{name}: {what}"),
                    "instructions",
                    values,
                ));
            }
        }
    }
    Ok(())
}

/// Nanoseconds of the median packet. `port` is the next unused one.
fn run(ebpf: &mut Ebpf, place: &Place, case: &Case, port: &mut u16) -> Result<f64> {
    let first = *port;
    if matches!(case.sort, Sort::New | Sort::Unanswered) {
        *port = first
            .checked_add(PACKETS)
            .context("out of ports; fewer rounds")?;
    }
    place.namespace.run(|| {
        if case.sort == Sort::Established && !case.is_measure() {
            establish(ebpf, case, KEPT_PORT)?;
        }
        let mut durations = Vec::new();
        for index in 0..PACKETS {
            durations.push(match case.sort {
                Sort::New if !case.is_measure() => establish(ebpf, case, first + index)?,
                Sort::New | Sort::Unanswered => sent(ebpf, case, first + index)?.0,
                Sort::Other | Sort::Established | Sort::Reply => sent(ebpf, case, KEPT_PORT)?.0,
            });
        }
        Ok(median(&durations))
    })
}

/// Runs the first packets of a connection: the client's, the backend's answer to what that one left as,
/// and the client's answer to that. Nanoseconds of the first.
fn establish(ebpf: &mut Ebpf, case: &Case, port: u16) -> Result<f64> {
    let (nanoseconds, left) = sent(
        ebpf,
        &Case {
            sort: Sort::New,
            ..*case
        },
        port,
    )?;
    once(ebpf, UPLINK, &answer(&left)?)?;
    sent(
        ebpf,
        &Case {
            sort: Sort::Established,
            ..*case
        },
        port,
    )?;
    Ok(nanoseconds)
}

/// Nanoseconds of a packet of a sort, and what it left as.
fn sent(ebpf: &mut Ebpf, case: &Case, port: u16) -> Result<(f64, Vec<u8>)> {
    let (verdict, nanoseconds, left) = once(
        ebpf,
        (case.program, case.interface),
        &case.frame(case.sort, port)?,
    )?;
    let is_served = case.sort != Sort::Other && !case.is_measure();
    ensure!(!is_served || verdict == REDIRECT, "verdict {verdict}");
    Ok((nanoseconds, left))
}

/// What the receiver of a SYN answers.
fn answer(syn: &[u8]) -> Result<Vec<u8>> {
    let headers = etherparse::PacketHeaders::from_ethernet_slice(syn)?;
    let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) =
        (headers.net, headers.transport)
    else {
        anyhow::bail!("a SYN that left is no TCP over IPv4");
    };
    let step = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(ip.destination, ip.source, 60)
        .tcp(tcp.destination_port, tcp.source_port, 5000, 64_000);
    let mut bytes = Vec::new();
    step.syn().ack(1001).write(&mut bytes, &[])?;
    Ok(bytes)
}

/// What the kernel gives a program along with a packet that came by an interface of this namespace.
pub(crate) fn context(interface: &str) -> Result<[u8; CONTEXT_SIZE]> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    let interface = rustix::net::netdevice::name_to_index(&socket, interface)?;
    let mut context = [0; CONTEXT_SIZE];
    context[IFINDEX].copy_from_slice(&interface.to_ne_bytes());
    Ok(context)
}

/// The verdict, the nanoseconds, and what the packet left as.
fn once(
    ebpf: &mut Ebpf,
    (program, interface): (&str, &str),
    frame: &[u8],
) -> Result<(u32, f64, Vec<u8>)> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(program)
        .with_context(|| format!("no program `{program}` in the object"))?
        .try_into()?;
    let mut left = frame.to_vec();
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut left),
        ctx_in: Some(&context(interface)?),
        ..TestRunOptions::default()
    })?;
    let nanoseconds = result.duration.as_secs_f64() * 1e9;
    Ok((result.return_value, nanoseconds, left))
}

impl Case {
    /// Whether it is what others are measured by.
    fn is_measure(&self) -> bool {
        matches!(self.program, BASELINE | IN_MEMORY)
    }

    fn frame(&self, sort: Sort, port: u16) -> Result<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let (from, to) = match sort {
            Sort::Reply => (self.to, SocketAddrV4::new(self.from, port)),
            Sort::Other | Sort::New | Sort::Unanswered | Sort::Established => {
                (SocketAddrV4::new(self.from, port), self.to)
            }
        };
        let step = ethernet.ipv4(from.ip().octets(), to.ip().octets(), 60).tcp(
            from.port(),
            to.port(),
            1000,
            64_000,
        );
        let mut bytes = Vec::new();
        match sort {
            Sort::New | Sort::Unanswered => step.syn().write(&mut bytes, &[])?,
            Sort::Other | Sort::Established | Sort::Reply => {
                step.ack(5000).write(&mut bytes, b"fairlead")?;
            }
        }
        if sort == Sort::Other {
            bytes[12..14].copy_from_slice(&[0x08, 0x06]);
        }
        Ok(bytes)
    }
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4> {
    match (address.ip(), address.port()) {
        (IpAddr::V4(ip), port) => Ok(SocketAddrV4::new(ip, port)),
        (IpAddr::V6(ip), _) => anyhow::bail!("{ip} is not IPv4"),
    }
}
