//! confgen at many hosts of two endpoints each: a full rendering, one endpoint's way into a running
//! HAProxy, memory; and one template with the same data in jinja2.
//!
//! HAProxy and confgen listen on loopback, at ports of the kernel's choice; endpoints are never
//! asked for anything.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ::tests::harness::Process;
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use confgen::edge::{EdgeConfig, EdgePlan, compile};
use confgen::output::Grammar;
use confgen::render::OperatorTemplate;
use confgen::{config, haproxy, nginx};
use model::k8s::{Detail, reduce_to};
use model::{Cluster, Event, Kind};
use serde_json::json;

use crate::figure::{Figure, Figures};

/// The debounce, which is taken off.
const QUIET: Duration = Duration::from_millis(100);
/// Long enough that the disk follows the last change (after 500 ms), and short enough that the next
/// one comes while that is checked.
const PAUSE: Duration = Duration::from_millis(550);
const PATIENCE: Duration = Duration::from_secs(120);

/// `confgen`.
#[derive(Debug, Args)]
pub(crate) struct Confgen {
    /// Numbers of hosts
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1000, 10_000])]
    sizes: Vec<u32>,
}

/// What is to be reached at a size: a full rendering, and resident memory.
fn targets(size: u32) -> Option<(f64, f64)> {
    match size {
        1_000 => Some((0.1, 60.0)),
        10_000 => Some((1.0, 150.0)),
        _ => None,
    }
}

pub(crate) fn measure(options: &Confgen, rounds: u32, figures: &mut Figures) -> Result<()> {
    for size in &options.sizes {
        render(*size, rounds, figures)?;
        live(*size, rounds, figures)?;
    }
    Ok(())
}

fn objects(host: u32, endpoints: [u8; 2]) -> String {
    let [a, b] = endpoints;
    let (high, low) = (host / 250, host % 250);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: web{host}, annotations: {{domain: h{host}.example, proto: http}}}}\nspec: {{clusterIP: 10.96.{high}.{low}, ports: [{{name: http, port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: shop, name: web{host}-1, labels: {{kubernetes.io/service-name: web{host}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [10.{a}.{high}.{low}]}}, {{addresses: [10.{b}.{high}.{low}]}}]\n---\n"
    )
}

fn settings(text: &str) -> Result<EdgeConfig> {
    Ok(config::parse(text)?.edge)
}

fn cluster(size: u32) -> Cluster {
    let mut cluster = Cluster::default();
    for kind in Kind::ALL {
        cluster.apply(Event::Replaced {
            kind,
            objects: Vec::new(),
            problems: Vec::new(),
        });
    }
    for host in 0..size {
        model_watch::manifests::parse(&objects(host, [1, 2]), |kind, value| {
            let reduced = reduce_to(Detail::Edge, kind, &value);
            cluster.apply(Event::Applied {
                kind,
                key: reduced.key,
                object: reduced.object,
                problems: reduced.problems,
            });
        });
    }
    cluster
}

fn timed<T>(rounds: u32, mut work: impl FnMut() -> Result<T>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        drop(work()?);
        times.push(began.elapsed().as_secs_f64());
    }
    Ok(times)
}

fn render(size: u32, rounds: u32, figures: &mut Figures) -> Result<()> {
    let config = settings("[endpoints]\n")?;
    let cluster = cluster(size);
    let plan = compile(&cluster, &config);
    let name = |what: &str| format!("{size} hosts, {what}");
    let compiled = timed(rounds, || Ok(compile(&cluster, &config)))?;
    figures.push(Figure::less(name("plan compiled"), "s", compiled));
    let of_haproxy = timed(rounds, || {
        Ok(haproxy::render(&plan, &haproxy::Options::default())?)
    })?;
    let mut figure = Figure::less(
        name("HAProxy rendered in full, proof included"),
        "s",
        of_haproxy,
    );
    if let Some((seconds, _)) = targets(size) {
        figure = figure.at_most(seconds);
    }
    figures.push(figure);
    let of_nginx = timed(rounds, || {
        Ok(nginx::render(&plan, &nginx::Options::default())?)
    })?;
    let mut figure = Figure::less(
        name("nginx rendered in full, proof included"),
        "s",
        of_nginx,
    );
    if let Some((seconds, _)) = targets(size) {
        figure = figure.at_most(seconds);
    }
    figures.push(figure);
    template(size, rounds, &plan, figures)
}

/// pyconfd's HTTP template, near enough, in both languages at once.
const TEMPLATE: &str = "frontend http-in\n{% for name, domain in domains|dictsort %}  acl {{ domain.backend }} hdr(host) -i {{ name }}\n  use_backend be{{ domain.backend }} if {{ domain.backend }}\n{% endfor %}{% for name, domain in domains|dictsort %}backend be{{ domain.backend }}\n  balance roundrobin\n{% for ip in domain.ips %}  server s{{ loop.index }} {{ ip }}:{{ domain.port }} check\n{% endfor %}{% endfor %}";

fn template(size: u32, rounds: u32, plan: &EdgePlan, figures: &mut Figures) -> Result<()> {
    let plan = std::sync::Arc::new(plan.clone());
    // Names are of the plan here and of the dictionary there; what is written is of one form.
    let ours = TEMPLATE.replace("domain.backend", "name|replace('.', '_')");
    let own = OperatorTemplate::single("bench", &ours, Grammar::Plain)
        .or_else(|_| OperatorTemplate::single("bench", &ours, Grammar::Haproxy))?;
    let ours_times = timed(rounds, || Ok(own.render(&plan, "0")?));
    let domains: serde_json::Map<_, _> = (0..size)
        .map(|host| {
            let (high, low) = (host / 250, host % 250);
            let ips = [format!("10.1.{high}.{low}"), format!("10.2.{high}.{low}")];
            (
                format!("h{host}.example"),
                json!({"proto": "http", "port": 8080, "ips": ips}),
            )
        })
        .collect();
    let directory = tempfile::TempDir::new()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("t"), &ours)?;
    fs::write(path("d"), serde_json::to_vec(&domains)?)?;
    let script = "import jinja2,json,sys,time\nt=jinja2.Environment(trim_blocks=True).from_string(open(sys.argv[1]).read())\nd=json.load(open(sys.argv[2]))\nfor _ in range(int(sys.argv[3])):\n b=time.perf_counter();t.render(domains=d);print(time.perf_counter()-b)\n";
    let ran = Command::new("python3")
        .args(["-c", script, &path("t"), &path("d"), &rounds.to_string()])
        .output();
    let theirs: Vec<f64> = match ran {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().filter_map(|line| line.parse().ok()).collect()
        }
        Ok(_) | Err(_) => Vec::new(),
    };
    if theirs.is_empty() {
        anstream::eprintln!("jinja2 is not there (python3-jinja2): not compared");
        return Ok(());
    }
    let ours_times = ours_times?;
    let ratios = ours_times
        .iter()
        .zip(&theirs)
        .map(|(ours, theirs)| ours / theirs);
    let name = |what: &str| format!("{size} hosts, {what}");
    figures.push(Figure::less(
        name("pyconfd's template, jinja2"),
        "s",
        theirs.clone(),
    ));
    figures.push(Figure::less(
        name("pyconfd's template, time, minijinja with its proof / jinja2"),
        "ratio",
        ratios.collect(),
    ));
    Ok(())
}

/// A directory with confgen's and HAProxy's files and processes.
struct Running {
    directory: tempfile::TempDir,
    confgen: Process,
    proxy: Process,
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in [&mut self.confgen, &mut self.proxy] {
            let _told = process.terminate();
            let _ended = process.wait(Duration::from_secs(10));
        }
    }
}

fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("fairlead-confgen");
    ensure!(
        beside.is_file(),
        "{} is missing; run cargo xtask build",
        beside.display()
    );
    Ok(beside)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn live(size: u32, rounds: u32, figures: &mut Figures) -> Result<()> {
    let running = start(size)?;
    let socket = running.directory.path().join("ha.sock");
    let changed = running.directory.path().join("shop/changed.yaml");
    let mut times = Vec::new();
    for round in 0..rounds {
        let last = u8::try_from(round % 200)? + 20;
        let next = running.directory.path().join("next");
        fs::write(&next, objects(0, [1, last]))?;
        let wanted = format!("10.{last}.0.0");
        let began = Instant::now();
        fs::rename(&next, &changed)?;
        wait(&socket, &wanted)?;
        times.push((began.elapsed().saturating_sub(QUIET)).as_secs_f64() * 1000.0);
        thread::sleep(PAUSE);
    }
    let name = |what: &str| format!("{size} hosts, {what}");
    figures.push(
        Figure::less(
            name("one endpoint: file to live in HAProxy, without the debounce"),
            "ms",
            times,
        )
        .at_most(50.0),
    );
    let told = http(&running)?;
    let resident = resident(running.confgen.id())?;
    let mut figure = Figure::less(name("resident"), "MiB", vec![resident]);
    if let Some((_, mebibytes)) = targets(size) {
        figure = figure.at_most(mebibytes);
    }
    figures.push(figure);
    let totals = &told["outputs"]["haproxy"]["totals"]["reloads"];
    let reloads = totals.as_object().into_iter().flatten();
    let reloads: u64 = reloads.filter_map(|(_, count)| count.as_u64()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    figures.push(
        Figure::less(
            name("reloads, of the start alone"),
            "",
            vec![reloads as f64],
        )
        .at_most(1.0),
    );
    Ok(())
}

fn start(size: u32) -> Result<Running> {
    let directory = tempfile::TempDir::new()?;
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("shop"))?;
    let mut all = String::new();
    for host in 1..size {
        all += &objects(host, [1, 2]);
    }
    fs::write(at("shop/all.yaml"), all)?;
    fs::write(at("shop/changed.yaml"), objects(0, [1, 2]))?;
    let (port, status) = (free_port()?, free_port()?);
    fs::write(at("status"), status.to_string())?;
    let text = format!(
        "[cluster]\nmanifests = {:?}\n[listen]\nhttp = [\"127.0.0.1:{port}\"]\nhttps = []\n[endpoints]\n[haproxy]\ndirectory = {:?}\nsocket = {:?}\nmaster_socket = {:?}\n[status]\nlisten = \"127.0.0.1:{status}\"\n",
        at("shop"),
        at("haproxy"),
        at("ha.sock"),
        at("master.sock"),
    );
    fs::write(at("confgen.toml"), text)?;
    let mut command = Command::new(program()?);
    command
        .args(["run", "--config"])
        .arg(at("confgen.toml"))
        .env("RUST_LOG", "warn");
    let confgen = Process::start("fairlead-confgen", &mut command)?;
    let main = at("haproxy/current/haproxy.cfg");
    until(|| main.exists(), "confgen writes")?;
    let mut command = Command::new("haproxy");
    let master = format!("{},level,admin", at("master.sock").display());
    command.args(["-W", "-S", &master, "-q", "-f"]).arg(&main);
    let proxy = Process::start("haproxy", &mut command)?;
    let running = Running {
        directory,
        confgen,
        proxy,
    };
    until(
        || http(&running).is_ok_and(|told| told["outputs"]["haproxy"]["live"] == 1),
        "the first state is live",
    )?;
    Ok(running)
}

fn until(mut is: impl FnMut() -> bool, what: &str) -> Result<()> {
    let began = Instant::now();
    while !is() {
        ensure!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Until HAProxy has a server of this address.
fn wait(socket: &Path, address: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(b"show servers state endpoints_shop_web0_3f92ad830045\n")?;
        let mut told = String::new();
        stream.read_to_string(&mut told)?;
        if told.contains(&format!(" {address} ")) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{address} is not live within {PATIENCE:?}:\n{told}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn http(running: &Running) -> Result<serde_json::Value> {
    let port = fs::read_to_string(running.directory.path().join("status"))?;
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a body")?;
    Ok(serde_json::from_str(body)?)
}

fn resident(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 = line
        .context("no VmRSS")?
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()?;
    Ok(kibibytes / 1024.0)
}
