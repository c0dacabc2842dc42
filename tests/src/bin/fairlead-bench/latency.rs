//! Round trips through a ClusterIP against round trips straight to the same backend.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::harness::{Agent, Builder, Place, Process, ServiceSpec};

use crate::figure::{Figure, Figures};
use crate::workload;

/// Ports of the Service and of the backend: balanced at `connect`, and packet by packet. Each way of
/// getting there has a port of its own in the same process, so that no connection has the addresses
/// and ports of one of another kind that the backend still remembers.
const PORTS: [u16; 2] = [7000, 7001];
/// Added for the direct way.
const DIRECT: u16 = 100;

/// Compared with the direct way: how much slower may it be?
struct Case {
    name: &'static str,
    kind: &'static str,
    exchanges: u32,
    covered: bool,
    target: Option<f64>,
}

const CASES: [Case; 4] = [
    Case {
        name: "request/response",
        kind: "request",
        exchanges: 4000,
        covered: true,
        target: Some(1.03),
    },
    Case {
        name: "connect/request/close",
        kind: "connect",
        exchanges: 1000,
        covered: true,
        target: Some(1.10),
    },
    Case {
        name: "request/response, packet by packet",
        kind: "request",
        exchanges: 4000,
        covered: false,
        target: None,
    },
    Case {
        name: "connect/request/close, packet by packet",
        kind: "connect",
        exchanges: 1000,
        covered: false,
        target: None,
    },
];

pub(crate) fn measure(rounds: u32, figures: &mut Figures) -> Result<()> {
    anstream::eprintln!("latency: a pod of one node to a pod of another, {rounds} rounds");
    let lab = Builder::new(std::env::current_exe()?, 2)
        .traffic_arguments(&["traffic"])
        .pod("near", 1)
        .pod("far", 2)
        .build()?;
    let service = ServiceSpec::new("bench", 10)
        .tcp(PORTS[0], PORTS[0])
        .tcp(PORTS[1], PORTS[1])
        .endpoints(&["far"]);
    lab.apply_nodes()?;
    lab.apply(&service)?;
    let _agents = ["node1", "node2"]
        .into_iter()
        .map(|node| Agent::ready(&lab, node, &workload::proxy_alone()))
        .collect::<Result<Vec<_>>>()?;
    let mut echo = lab.place("far").traffic();
    echo.arg("echo");
    for port in PORTS {
        echo.args([
            "--port",
            &port.to_string(),
            "--port",
            &(port + DIRECT).to_string(),
        ]);
    }
    let _echo = Process::listening("echo", &mut echo)?;
    for case in CASES {
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let (from, port) = if case.covered {
                (lab.place("near").clone(), PORTS[0])
            } else {
                (lab.uncovered("near"), PORTS[1])
            };
            let targets = [
                (lab.address("far", v6), port + DIRECT),
                (service.ip(v6), port),
            ];
            let [direct, balanced] = compare(&from, targets, &case, rounds)?;
            let ratios = direct
                .iter()
                .zip(&balanced)
                .map(|(direct, balanced)| balanced / direct)
                .collect();
            let ratio = Figure::less(
                format!("{}, {family}: ClusterIP / direct", case.name),
                "ratio",
                ratios,
            );
            figures.push(match case.target {
                Some(target) => ratio.at_most(target),
                None => ratio,
            });
            let microseconds = direct
                .iter()
                .map(|nanoseconds| nanoseconds / 1000.0)
                .collect();
            figures.push(Figure::less(
                format!("{}, {family}: direct", case.name),
                "µs",
                microseconds,
            ));
        }
    }
    Ok(())
}

/// Nanoseconds of one exchange with each target, a value for each round.
fn compare(
    from: &Place,
    targets: [(IpAddr, u16); 2],
    case: &Case,
    rounds: u32,
) -> Result<[Vec<f64>; 2]> {
    let mut command = from.traffic();
    command.args(["compare", "--kind", case.kind]);
    command.args([
        "--rounds",
        &rounds.to_string(),
        "--exchanges",
        &case.exchanges.to_string(),
    ]);
    for target in targets {
        command.args(["--to", &SocketAddr::from(target).to_string()]);
    }
    let output = command.output().context("the client cannot be run")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", case.name, error.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}
