//! An agent of a lab's node.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::process::{self, Process};
use super::{Lab, Place, eventually};

/// Where an agent answers health checks, on its node's loopback.
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 20244);

/// Lines of the log shown with an error.
const LOG_TAIL: usize = 10;

/// Where an agent learns of the cluster, and flags of one test.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    /// Flags in place of `--manifests`.
    pub source: Option<Vec<String>>,
    /// Further flags.
    pub flags: Vec<String>,
    /// Another build of the agent than [`agent_program`]'s.
    pub program: Option<PathBuf>,
}

impl AgentOptions {
    /// Further flags.
    pub fn flags(flags: &[&str]) -> Self {
        Self {
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Self::default()
        }
    }
}

/// How a command of the agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub error: String,
}

/// A running agent. Dropped, it is killed.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    place: Place,
    program: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Agent {
    /// Starts the agent of a node.
    pub fn start(lab: &Lab, node: &str, options: &AgentOptions) -> Result<Self> {
        let place = lab.place(node).clone();
        let program = agent_program()?;
        let directory = lab.directory().join(node);
        let log = directory.join("agent.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Self::command(lab, node, options)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = Process::start(&format!("agent of {node}"), &mut command)?;
        Ok(Self {
            process,
            place,
            program,
            socket: directory.join("agent.sock"),
            log,
        })
    }

    /// Starts the agent of a node and waits until it is ready.
    pub fn ready(lab: &Lab, node: &str, options: &AgentOptions) -> Result<Self> {
        let mut agent = Self::start(lab, node, options)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// The command that runs the agent of a node.
    pub fn command(lab: &Lab, node: &str, options: &AgentOptions) -> Result<Command> {
        let place = lab.place(node);
        let program = match &options.program {
            Some(program) => program.clone(),
            None => agent_program()?,
        };
        let mut command = place.command(program);
        let manifests = lab.manifests().directory().display().to_string();
        let source = options
            .source
            .clone()
            .unwrap_or_else(|| vec!["--manifests".to_owned(), manifests]);
        command
            .args(source)
            .args(Self::identity(lab, node))
            .args(&options.flags);
        command.args(["--health-addr", &HEALTH.to_string()]);
        Ok(command)
    }

    /// Runs `--cleanup-config` on a node, with further flags.
    pub fn cleanup(lab: &Lab, node: &str, flags: &[&str]) -> Result<Answer> {
        let mut command = lab.place(node).command(agent_program()?);
        command
            .arg("--cleanup-config")
            .args(Self::identity(lab, node))
            .args(flags);
        answer(&mut command)
    }

    /// Runs a program of any arguments on a node as the agent.
    pub fn run(lab: &Lab, node: &str, arguments: &[&str]) -> Result<Answer> {
        answer(lab.place(node).command(agent_program()?).args(arguments))
    }

    fn identity(lab: &Lab, node: &str) -> Vec<String> {
        let flag = |name: &str, path: &Path| [name.to_owned(), path.display().to_string()];
        let directory = lab.directory().join(node);
        [
            ["--hostname-override".to_owned(), node.to_owned()],
            flag("--state-dir", &lab.state_directory(node)),
            flag("--bpf-root", &lab.bpf_root(node)),
            flag("--cgroup-root", &lab.place(node).cgroup),
            flag("--socket", &directory.join("agent.sock")),
        ]
        .concat()
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&mut self) -> Result<()> {
        let ready = eventually("the agent is ready", || {
            if let Some(status) = self.process.ended()? {
                // Waiting longer would not help; the log below says why.
                return Ok(Some(Err(anyhow::anyhow!("it has ended: {status}"))));
            }
            let (code, body) = self.get("/readyz")?;
            ensure!(code == 200, "/readyz: {code} {body}");
            Ok(Some(Ok(())))
        });
        ready.and_then(|ended| ended).map_err(|error| {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
            error.context(format!(
                "agent of {}; its log ends with:\n{tail}\n",
                self.place.name
            ))
        })
    }

    /// Asks the health address: status code and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.place.get(HEALTH, path)
    }

    /// The value of a metric with all its labels, as in `name{label="x"}`.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (_, text) = self.get("/metrics")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| {
            value
                .trim()
                .parse()
                .with_context(|| format!("{name}: {value:?}"))
        })
        .transpose()
    }

    /// `status --output json`.
    pub fn status(&self) -> Result<Value> {
        self.ask_json(&["status"])
    }

    /// `services --output json`.
    pub fn services(&self) -> Result<Value> {
        self.ask_json(&["services"])
    }

    /// Runs a subcommand against this agent.
    pub fn ask(&self, arguments: &[&str]) -> Result<Answer> {
        answer(
            self.place
                .command(&self.program)
                .args(arguments)
                .arg("--socket")
                .arg(&self.socket),
        )
    }

    /// Starts a subcommand against this agent that ends when it is told to, or when the agent does;
    /// what it prints goes to a file.
    pub fn ask_on(&self, arguments: &[&str], output: File) -> Result<Process> {
        let mut command = self.place.command(&self.program);
        command
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .stdin(Stdio::null())
            .stdout(output);
        Process::start(&arguments.join(" "), &mut command)
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log)
            .unwrap_or_else(|error| format!("{}: {error}", self.log.display()))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lets it run on without an owner.
    pub fn keep(self) {
        let Self { process, .. } = self;
        process.keep();
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn ask_json(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.ask(&[arguments, &["--output", "json"]].concat())?;
        if answer.code != Some(0) {
            bail!(
                "{}: exit {:?}: {}",
                arguments.join(" "),
                answer.code,
                answer.error.lines().next().unwrap_or_default()
            );
        }
        serde_json::from_str(&answer.output)
            .with_context(|| format!("{}: {}", arguments.join(" "), answer.output))
    }
}

fn answer(command: &mut Command) -> Result<Answer> {
    let (code, output, error) = process::run(command)?;
    Ok(Answer {
        code,
        output,
        error,
    })
}

/// The agent's binary: `FAIRLEAD_AGENT`, else beside the running program, else what
/// `cargo xtask build` gathered.
pub fn agent_program() -> Result<PathBuf> {
    program("FAIRLEAD_AGENT", "fairlead-agent")
}

/// The binary of `fairlead-confgen`, found as the agent's is.
pub fn confgen_program() -> Result<PathBuf> {
    program("FAIRLEAD_CONFGEN", "fairlead-confgen")
}

/// A binary: what the variable says, else beside the running program, else as gathered.
pub(super) fn program(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(given) = env::var_os(variable) {
        return Ok(given.into());
    }
    let running = env::current_exe()?;
    let beside = running.with_file_name(name);
    let gathered = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/dist")
        .join(name);
    [beside, gathered]
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} in target/dist; build it: cargo xtask build"))
}
