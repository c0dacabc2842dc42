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

/// The measure for the others: a bare program that parses the packet and looks it up in the table of
/// connections. It is given packets of the same sort, so of a new connection its look-up waits for memory,
/// as any look-up of a key that is new does.
const BARE: &str = "baseline_in_memory";
/// The same with a table of 1,024 entries, which the processor's cache holds; shown beside it.
const SMALL: &str = "baseline";
/// What their rows are called.
const BARE_KNOWN: &str = "bare, a known connection";
const BARE_NEW: &str = "bare, a new connection";
const SMALL_KNOWN: &str = "bare with a small table, a known connection";
/// How many times the bare program's run time a packet of a new connection may take.
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

impl Sort {
    /// Whether each packet is another connection's.
    fn is_new(self) -> bool {
        matches!(self, Self::New | Self::Unanswered)
    }
}

pub(crate) fn measure(rounds: u32, variant: Variant, figures: &mut Figures) -> Result<()> {
    anstream::eprintln!("programs: {PACKETS} packets of each sort, {rounds} rounds");
    let engine = Engine::start(Kind::Fairlead, SERVICES, variant)?;
    let mut ebpf = load(&engine.lab)?;
    lengths(&ebpf, figures)?;
    let cases = cases(&engine)?;
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
    let measures: BTreeMap<&str, Vec<f64>> = cases
        .iter()
        .filter(|case| case.is_measure())
        .filter_map(|case| Some((case.name, results.get(case.name)?.clone())))
        .collect();
    for case in &cases {
        let values = results.remove(case.name).unwrap_or_default();
        let name = format!("{}, {}", case.program, case.name);
        let bare = if case.sort.is_new() {
            BARE_NEW
        } else {
            BARE_KNOWN
        };
        for measure in [bare, SMALL_KNOWN] {
            let Some(of_measure) = measures.get(measure).filter(|_| !case.is_measure()) else {
                continue;
            };
            let figure = ratio(&name, &values, measure, of_measure);
            figures.push(match case.sort {
                Sort::New if measure == bare => figure.at_most(NEW),
                Sort::Established | Sort::Reply if measure == bare => figure.at_most(ESTABLISHED),
                Sort::New | Sort::Established | Sort::Reply | Sort::Other | Sort::Unanswered => {
                    figure
                }
            });
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
        pod(SMALL_KNOWN, SMALL, inside, Sort::Established),
        pod(BARE_KNOWN, BARE, inside, Sort::Established),
        pod(BARE_NEW, BARE, inside, Sort::New),
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
        .find(|pin| pin.ends_with("/CONNECTIONS_V3"))
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
    if case.sort.is_new() {
        *port = first
            .checked_add(PACKETS)
            .context("out of ports; fewer rounds")?;
    }
    place.namespace.run(|| {
        let mut runner = Runner::new(ebpf, case)?;
        if case.sort == Sort::Established && !case.is_measure() {
            runner.establish(case, KEPT_PORT)?;
        }
        let mut durations = Vec::new();
        for index in 0..PACKETS {
            durations.push(match case.sort {
                Sort::New if !case.is_measure() => runner.establish(case, first + index)?,
                Sort::New | Sort::Unanswered => runner.sent(case, first + index)?.0,
                Sort::Other | Sort::Established | Sort::Reply => runner.sent(case, KEPT_PORT)?.0,
            });
        }
        Ok(median(&durations))
    })
}

/// What runs the packets of a case. What it needs beside a packet is made before, since between two runs
/// the caches should lose no more than a packet's way through the kernel takes from them.
struct Runner<'a> {
    ebpf: &'a mut Ebpf,
    context: [u8; CONTEXT_SIZE],
    uplink: [u8; CONTEXT_SIZE],
}

impl<'a> Runner<'a> {
    fn new(ebpf: &'a mut Ebpf, case: &Case) -> Result<Self> {
        Ok(Self {
            ebpf,
            context: context(case.interface)?,
            uplink: context(UPLINK.1)?,
        })
    }

    /// Runs the first packets of a connection: the client's, the backend's answer to what that one left
    /// as, and the client's answer to that. Nanoseconds of the first.
    fn establish(&mut self, case: &Case, port: u16) -> Result<f64> {
        let of_sort = |sort| Case { sort, ..*case };
        let (nanoseconds, left) = self.sent(&of_sort(Sort::New), port)?;
        once(self.ebpf, UPLINK.0, &self.uplink, &answer(&left)?)?;
        self.sent(&of_sort(Sort::Established), port)?;
        Ok(nanoseconds)
    }

    /// Nanoseconds of a packet of a sort, and what it left as.
    fn sent(&mut self, case: &Case, port: u16) -> Result<(f64, Vec<u8>)> {
        let frame = case.frame(case.sort, port)?;
        let (verdict, nanoseconds, left) = once(self.ebpf, case.program, &self.context, &frame)?;
        let is_served = case.sort != Sort::Other && !case.is_measure();
        ensure!(!is_served || verdict == REDIRECT, "verdict {verdict}");
        Ok((nanoseconds, left))
    }
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
    program: &str,
    context: &[u8; CONTEXT_SIZE],
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
        ctx_in: Some(context),
        ..TestRunOptions::default()
    })?;
    let nanoseconds = result.duration.as_secs_f64() * 1e9;
    Ok((result.return_value, nanoseconds, left))
}

impl Case {
    /// Whether it is what others are measured by.
    fn is_measure(&self) -> bool {
        matches!(self.program, BARE | SMALL)
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
