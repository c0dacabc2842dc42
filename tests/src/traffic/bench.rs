//! Round trips for the bench: as little as possible beside the system calls.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{LISTENING, pace};

/// Longest silence of a working lab.
const PATIENCE: Duration = Duration::from_secs(5);
/// Exchanges with one target before it is the other's turn: short against the machine's moods.
const BLOCK: u32 = 20;

/// Connections of a port served at a time; a comparison has one.
const CONNECTIONS: u32 = 2;

/// Arguments of `echo`.
#[derive(Debug, Args)]
pub(super) struct Echo {
    #[arg(long = "port", required = true)]
    ports: Vec<u16>,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// A target; all are measured in turn
    #[arg(long = "to", required = true)]
    targets: Vec<SocketAddr>,
    #[arg(long)]
    rounds: u32,
    /// Exchanges with each target in a round
    #[arg(long)]
    exchanges: u32,
    #[arg(long)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Request and response on one connection
    Request,
    /// Connect, request, response, close
    Connect,
}

/// Answers `r` with one byte, and `c` with one byte and the end of the connection.
pub(super) fn echo(options: &Echo) -> Result<()> {
    stay_on_one_processor()?;
    let mut listeners = Vec::new();
    for port in &options.ports {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
        let listener = TcpListener::bind(any);
        listeners.push(listener.with_context(|| format!("cannot listen on tcp {any}"))?);
    }
    pace::say(LISTENING);
    std::thread::scope(|scope| {
        for listener in &listeners {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    for stream in listener.incoming().flatten() {
                        // A client that is gone is the end of its connection and nothing else.
                        let _ended = answer(stream);
                    }
                });
            }
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    loop {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        stream.write_all(&byte)?;
        if byte == *b"c" {
            return Ok(());
        }
    }
}

/// Prints nanoseconds of one exchange, a list for each target with a number for each round.
pub(super) fn compare(options: &Compare) -> Result<()> {
    let Compare {
        targets,
        rounds,
        exchanges,
        kind,
    } = options;
    stay_on_one_processor()?;
    let blocks = (exchanges / BLOCK).max(1);
    let mut kept = Vec::new();
    for target in targets.iter().filter(|_| *kind == Kind::Request) {
        kept.push(connect(*target)?);
    }
    let mut results = vec![Vec::new(); targets.len()];
    // The first round warms caches and neighbour tables and is not counted.
    for round in 0..=*rounds {
        let mut spent = vec![Duration::ZERO; targets.len()];
        for block in 0..blocks {
            for turn in 0..targets.len() {
                let index = (turn + usize::try_from(block)?) % targets.len();
                let begun = Instant::now();
                match kind {
                    Kind::Request => {
                        (0..BLOCK).try_for_each(|_| request(&mut kept[index], *b"r"))?
                    }
                    Kind::Connect => {
                        (0..BLOCK).try_for_each(|_| connect_and_close(targets[index]))?
                    }
                }
                spent[index] += begun.elapsed();
            }
        }
        if round > 0 {
            for (result, spent) in results.iter_mut().zip(spent) {
                result.push(spent.as_secs_f64() * 1e9 / f64::from(blocks * BLOCK));
            }
        }
    }
    pace::say(&serde_json::to_string(&results)?);
    Ok(())
}

/// Client and server share the first processor they may use: else the scheduler decides for each
/// connection whether an answer wakes the other processor, which costs more than the round trip.
fn stay_on_one_processor() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU)
        .find(|cpu| allowed.is_set(*cpu))
        .context("no processor")?;
    let mut one = CpuSet::new();
    one.set(first);
    Ok(sched_setaffinity(None, &one)?)
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn request(stream: &mut TcpStream, what: [u8; 1]) -> Result<()> {
    stream.write_all(&what)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    ensure!(answer == what, "not what was sent: {answer:?}");
    Ok(())
}

/// The server closes first, so that it keeps the closed connection's state and the client's port is
/// free again.
fn connect_and_close(target: SocketAddr) -> Result<()> {
    let mut stream =
        TcpStream::connect(target).with_context(|| format!("cannot connect to {target}"))?;
    request(&mut stream, *b"c")?;
    ensure!(stream.read(&mut [0])? == 0, "not closed");
    Ok(())
}
