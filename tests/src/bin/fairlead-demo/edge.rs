//! An edge node: HAProxy and nginx, kept in step by `fairlead-confgen`, serve the shop from outside
//! while its pods move.

mod proxy;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tests::harness::{Flow, Place, Process, Traffic, confgen_program, eventually};
use tests::traffic::Report;

use self::proxy::Proxy;
use crate::facts::Facts;
use crate::scenes::{API, WEB, spread};
use crate::shop::{Shop, answered_by, microseconds};

/// Host of `web`, by an annotation of its Service.
pub(crate) const WEB_HOST: &str = "www.shop.example";
/// Host of `api`, by an Ingress.
const API_HOST: &str = "api.shop.example";
/// The pods of `web`, one set after the other.
const MOVES: &[&[&str]] = &[
    &["web-1", "web-2"],
    &["web-2", "web-3"],
    &["web-3", "web-4"],
    &["web-1", "web-4"],
    &["web-3"],
    WEB,
];
/// How long a request may take on a busy machine.
const REQUEST_MILLISECONDS: u64 = 5000;
/// How long a proxy may take to end its last requests.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What runs on the edge node. Dropped, it is told to end, and the lab ends the rest.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    processes: Vec<Process>,
}

/// Requests while the pods moved.
struct Moved {
    requests: Vec<Report>,
    reloads: u64,
    runtime_changes: u64,
}

/// Starts the edge node and serves the shop from it.
pub(crate) fn edge(facts: &mut Facts, shop: &Shop) -> Edge {
    facts.section("An edge node: HAProxy and nginx serve the shop from outside");
    let mut edge = Edge::default();
    let mut there = None;
    facts.check("fairlead-confgen beside HAProxy, and beside nginx", || {
        let begun = Instant::now();
        there = Some(edge.start(shop)?);
        Ok(format!("live after {} ms", begun.elapsed().as_millis()))
    });
    let Some((node, proxies)) = there else {
        return edge;
    };
    for proxy in &proxies {
        for (host, what, pods) in [
            (WEB_HOST, "an annotated Service", WEB),
            (API_HOST, "an Ingress", API),
        ] {
            for (family, address) in ["IPv4", "IPv6"].into_iter().zip(proxy.addresses) {
                let tried = format!("{family} {}: {host}, {what}", proxy.title);
                facts.check(&tried, || answered_by(&ask(shop, address, host)?, pods));
            }
        }
    }
    let tried = format!(
        "web's pods move {} times while the client asks both",
        MOVES.len()
    );
    let before = syns_sent_again(shop, &node);
    let mut moved = Vec::new();
    facts.check(&tried, || {
        let (slowest, seen) = move_pods(shop, &node, &proxies)?;
        moved = seen;
        Ok(format!(
            "each in force at both after at most {} ms",
            slowest.as_millis()
        ))
    });
    for (proxy, moved) in proxies.iter().zip(moved) {
        facts.check(&format!("{}: meanwhile", proxy.title), || moved.told(proxy));
    }
    // Processes that wait for a processor make requests slow too; a lost SYN is the network's.
    facts.check("no connection had to be asked for twice", || {
        let (before, after) = (before?, syns_sent_again(shop, &node)?);
        ensure!(
            before == after,
            "SYNs sent again: {before:?}, then {after:?}"
        );
        Ok("no SYN sent again by the client, nor by the proxies".to_owned())
    });
    edge
}

impl Edge {
    fn start(&mut self, shop: &Shop) -> Result<(Place, [Proxy; 2])> {
        for program in ["haproxy", "nginx"] {
            expect_installed(program)?;
        }
        publish(shop)?;
        let node = shop.lab.add_edge_node()?;
        let files = shop.lab.directory().join(&node.name);
        let [first, second] = shop.lab.edge_addresses();
        let proxy = |title, program, addresses, port| Proxy {
            title,
            program,
            addresses,
            status: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            directory: files.join(program),
        };
        let proxies = [
            proxy("HAProxy", "haproxy", first, 9101),
            proxy("nginx", "nginx", second, 9102),
        ];
        let confgen = confgen_program()?;
        for proxy in &proxies {
            fs::create_dir(&proxy.directory)?;
            let config = proxy.directory.join("confgen.toml");
            fs::write(&config, proxy.config(shop))?;
            let mut command = node.command(&confgen);
            command.args(["run", "--config"]).arg(config);
            self.run(command, proxy, "fairlead-confgen")?;
        }
        for proxy in &proxies {
            let main = proxy.configuration();
            eventually("fairlead-confgen writes the configuration", || {
                ensure!(main.exists(), "{}: not there", main.display());
                Ok(Some(()))
            })
            .with_context(|| proxy.log("fairlead-confgen"))?;
            let mut command = node.command(proxy.program);
            command.args(proxy.arguments());
            self.run(command, proxy, proxy.program)?;
        }
        for proxy in &proxies {
            eventually(&format!("{} serves", proxy.title), || {
                let (code, body) = node.get(proxy.status, "/readyz")?;
                ensure!(code == 200, "/readyz: {code} {}", body.trim());
                Ok(Some(()))
            })
            .with_context(|| proxy.log("fairlead-confgen"))?;
        }
        Ok((node, proxies))
    }

    fn run(&mut self, mut command: Command, proxy: &Proxy, name: &str) -> Result<()> {
        let output = File::create(proxy.directory.join(format!("{name}.log")))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        self.processes.push(Process::start(name, &mut command)?);
        Ok(())
    }

    /// Lets it run on after the demo.
    pub(crate) fn keep(mut self) {
        std::mem::take(&mut self.processes)
            .into_iter()
            .for_each(Process::keep);
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // A process that ended already, or does not end, is the lab's to clear away.
        for process in &self.processes {
            let _told = process.terminate();
        }
        for process in &mut self.processes {
            let _ended = process.wait(END_PATIENCE);
        }
    }
}

impl Moved {
    fn told(&self, proxy: &Proxy) -> Result<String> {
        let Self {
            requests,
            reloads,
            runtime_changes,
        } = self;
        for report in requests {
            ensure!(
                report.is_clean(),
                "{} of {} requests failed: {:?}",
                report.failed(),
                report.attempts,
                report.errors
            );
        }
        let attempts: u64 = requests.iter().map(|report| report.attempts).sum();
        let times = requests
            .iter()
            .map(|report| report.latency.slowest_microseconds);
        let slowest = times.max().unwrap_or(0);
        let mut told = format!(
            "0 of {attempts} requests failed, slowest {}; {reloads} reloads",
            microseconds(slowest)
        );
        if proxy.program == "haproxy" {
            ensure!(
                *runtime_changes > 0,
                "{told}: none of its changes went without one"
            );
            told += &format!(", {runtime_changes} changes without one");
        }
        Ok(told)
    }
}

/// Moves the pods of `web`; answers with how long a proxy took at most, and what each one did.
fn move_pods(shop: &Shop, node: &Place, proxies: &[Proxy; 2]) -> Result<(Duration, Vec<Moved>)> {
    let client = shop.lab.place("client");
    let mut load = Vec::new();
    for proxy in proxies {
        let flows = proxy.addresses.map(|address| {
            let traffic = Traffic::http(address, 80, WEB_HOST)
                .every_milliseconds(3)
                .timeout_milliseconds(REQUEST_MILLISECONDS);
            Flow::start(client, &traffic)
        });
        load.push((proxy.totals(node)?, flows));
    }
    let mut slowest = Duration::ZERO;
    for pods in MOVES {
        let begun = Instant::now();
        shop.scale("web", pods)?;
        for proxy in proxies {
            for address in proxy.addresses {
                eventually(&format!("the change arrives at {}", proxy.title), || {
                    answered_by(&ask(shop, address, WEB_HOST)?, pods).map(Some)
                })?;
            }
        }
        slowest = slowest.max(begun.elapsed());
    }
    let mut moved = Vec::new();
    for (proxy, (before, flows)) in proxies.iter().zip(load) {
        let requests = flows.into_iter().map(|flow| flow?.stop());
        let requests = requests.collect::<Result<_>>()?;
        let after = proxy.totals(node)?;
        moved.push(Moved {
            requests,
            reloads: after.0 - before.0,
            runtime_changes: after.1 - before.1,
        });
    }
    Ok((slowest, moved))
}

/// SYNs that the client, and the proxies, had to send again.
fn syns_sent_again(shop: &Shop, node: &Place) -> Result<[u64; 2]> {
    let client = shop.lab.place("client").syns_sent_again()?;
    Ok([client, node.syns_sent_again()?])
}

/// Requests of the outside client for a host.
fn ask(shop: &Shop, address: IpAddr, host: &str) -> Result<Report> {
    shop.run("client", &spread(Traffic::http(address, 80, host)))
}

/// Gives `web` and `api` hosts at the edge.
fn publish(shop: &Shop) -> Result<()> {
    let manifests = shop.lab.manifests();
    manifests.edit("web.yaml", |documents| {
        for service in documents
            .iter_mut()
            .filter(|document| document["kind"] == "Service")
        {
            service["metadata"]["annotations"] = json!({"domain": WEB_HOST, "proto": "http"});
        }
    })?;
    let backend = json!({"service": {"name": "api", "port": {"name": "http"}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"namespace": "shop", "name": "api"},
        "spec": {
            "ingressClassName": "edge",
            "rules": [{"host": API_HOST, "http": {"paths": paths}}],
        },
    });
    manifests.write("edge.yaml", &[ingress])
}

fn expect_installed(program: &str) -> Result<()> {
    match Command::new(program)
        .arg("-v")
        .stdin(Stdio::null())
        .output()
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{program} is not installed; get it: cargo xtask setup")
        }
        Err(error) => Err(error).with_context(|| format!("{program} cannot be run")),
    }
}
