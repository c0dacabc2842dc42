//! Traffic of the labs: one program with a server and three clients.
//!
//! It runs as processes of its own because the cgroup hooks see processes: [`run`] is the body of
//! the binary `fairlead-traffic`, and the demo and the bench run it out of themselves. `exec` puts
//! a process into a network namespace and a cgroup before anything else happens.
//!
//! A client runs until its count is reached, its time is over or its standard input is closed,
//! then prints one [`Report`] as a line of JSON. Before that it prints `flowing` once, when its
//! first exchange (of every connection or flow it keeps) has worked.

mod bench;
mod connect;
mod hold;
mod http;
mod pace;
mod probe;
mod report;
mod sctp;
mod serve;
mod udp;

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

pub use probe::{Batch, Found, Target, Way};
pub use report::{Latency, Report};

/// First line of a client's output.
pub const FLOWING: &str = "flowing";
/// First line of a server's output.
pub const LISTENING: &str = "listening";

#[derive(Debug, Parser)]
#[command(
    name = "fairlead-traffic",
    about = "Servers and clients of Fairlead's labs"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Answers on TCP, UDP and, where the kernel has it, SCTP, IPv4 and IPv6, with its own name and the
    /// peer it saw
    Serve(Serve),
    /// Opens short TCP connections, one after the other
    Connect(Client),
    /// Keeps TCP connections open and exchanges a line on each again and again
    Hold(Client),
    /// Exchanges datagrams
    Udp(Client),
    /// Answers single bytes, for the bench
    Echo(bench::Echo),
    /// Measures round trips to several targets in turn
    Compare(bench::Compare),
    /// Tries many targets at once, a batch for each line of standard input; answers to SCTP
    Probe,
    /// Runs a program in a network namespace and a cgroup
    Exec(Exec),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
struct Serve {
    /// Name to answer with
    #[arg(long)]
    name: String,
    /// Port to listen on; may be given again
    #[arg(long = "port", required = true)]
    ports: Vec<u16>,
}

/// Arguments of the clients.
#[derive(Clone, Debug, Args)]
struct Client {
    /// Where to
    #[arg(long)]
    to: SocketAddr,
    /// Exchanges of each worker; without it, until the time is over or standard input is closed
    #[arg(long)]
    count: Option<u64>,
    /// How long
    #[arg(long)]
    seconds: Option<f64>,
    /// Connections or flows at a time
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// From the start of one exchange to the start of the next; 0 for as fast as it goes
    #[arg(long, default_value_t = 10)]
    interval_milliseconds: u64,
    /// How long an exchange may take
    #[arg(long, default_value_t = 2000)]
    timeout_milliseconds: u64,
    /// A socket of its own for each datagram, so each is a flow
    #[arg(long)]
    fresh: bool,
    /// Asks for this host in HTTP (`connect` only)
    #[arg(long)]
    host: Option<String>,
    /// SCTP in place of TCP (`hold` only)
    #[arg(long)]
    sctp: bool,
    /// Stop at the first failure
    #[arg(long)]
    stop_on_error: bool,
}

impl Client {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_milliseconds)
    }
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
struct Exec {
    /// Network namespace, as in /run/netns/NAME
    #[arg(long)]
    net: Option<PathBuf>,
    /// Directory of a cgroup (version 2)
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

/// `main` of a program whose labs' processes are the program as well: after the argument `traffic` it
/// is `fairlead-traffic`, else `own`, which says whether all went well.
pub fn main_beside(name: &str, own: impl FnOnce() -> Result<bool>) -> ExitCode {
    let mut arguments = std::env::args_os();
    let result = if arguments.nth(1).as_deref() == Some("traffic".as_ref()) {
        let program = [OsString::from("fairlead-traffic")];
        run(program.into_iter().chain(arguments)).map(|()| true)
    } else {
        own()
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("{name}: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the program with its arguments, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    match Arguments::parse_from(arguments).command {
        Task::Serve(options) => serve::run(&options.name, &options.ports),
        Task::Connect(options) => client(&options, connect::exchange),
        Task::Hold(options) => client(&options, hold::keep),
        Task::Udp(options) => client(&options, udp::exchange),
        Task::Echo(options) => bench::echo(&options),
        Task::Compare(options) => bench::compare(&options),
        Task::Probe => probe::run(),
        Task::Exec(options) => exec(&options),
    }
}

/// Runs one worker a thread and prints the sum of their reports.
fn client(options: &Client, work: fn(&Client, &pace::Pace) -> Report) -> Result<()> {
    let pace = pace::Pace::new(options);
    let total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers)
            .map(|_| scope.spawn(|| work(options, &pace)))
            .collect();
        workers
            .into_iter()
            .try_fold(Report::default(), |mut total, worker| {
                let report = worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a worker panicked"))?;
                total.add(report);
                anyhow::Ok(total)
            })
    })?;
    pace::say(&serde_json::to_string(&total)?);
    Ok(())
}

fn exec(options: &Exec) -> Result<()> {
    let Exec {
        net,
        cgroup,
        command,
    } = options;
    if let Some(cgroup) = cgroup {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, "0")
            .with_context(|| format!("{}: cannot enter the cgroup", procs.display()))?;
    }
    if let Some(net) = net {
        crate::harness::enter_network(net)?;
    }
    let (program, arguments) = command.split_first().context("no program given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("{program}: cannot be run"))
}
