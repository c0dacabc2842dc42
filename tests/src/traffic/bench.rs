//! Round trips for the bench: as little as possible beside the system calls.

use std::io::{self, BufRead, Read, Write};
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

/// Bytes given to the kernel at a time by a stream: enough that the calls do not count.
const CHUNK: usize = 256 * 1024;
const CHUNKS_A_MEBIBYTE: u64 = 4;

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
    /// Rounds; without it, each line of standard input is answered with the nanoseconds of one
    /// exchange, which is how clients of several labs take turns
    #[arg(long)]
    rounds: Option<u32>,
    /// Exchanges with each target in a round, or with the first one for a line
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
    /// A mebibyte to the server on one connection; the server answers the last one
    Stream,
}

/// Answers `r` with one byte, `c` with one byte and the end of the connection, and `s`, a number of
/// mebibytes and as many bytes with one byte.
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
        if byte == *b"s" {
            let mut mebibytes = [0; 4];
            stream.read_exact(&mut mebibytes)?;
            let mut chunk = vec![0; CHUNK];
            for _ in 0..u64::from(u32::from_be_bytes(mebibytes)) * CHUNKS_A_MEBIBYTE {
                stream.read_exact(&mut chunk)?;
            }
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
    let Some(rounds) = rounds else {
        let target = targets.first().context("no target")?;
        return by_line(*target, *exchanges, *kind);
    };
    ensure!(*kind != Kind::Stream, "a stream has no rounds");
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
                    Kind::Connect | Kind::Stream => {
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

/// Answers each line of standard input with the nanoseconds of one exchange. Each stream has a
/// connection of its own, made before its time begins: windows and buffers grow with a connection,
/// and how far is its luck.
fn by_line(target: SocketAddr, exchanges: u32, kind: Kind) -> Result<()> {
    let mut kept = connect(target)?;
    let chunk = vec![0; CHUNK];
    for line in io::stdin().lock().lines() {
        line?;
        if kind == Kind::Stream {
            kept = connect(target)?;
        }
        let begun = Instant::now();
        match kind {
            Kind::Request => (0..exchanges).try_for_each(|_| request(&mut kept, *b"r"))?,
            Kind::Connect => (0..exchanges).try_for_each(|_| connect_and_close(target))?,
            Kind::Stream => stream(&mut kept, exchanges, &chunk)?,
        }
        let spent = begun.elapsed().as_secs_f64() * 1e9 / f64::from(exchanges);
        pace::say(&spent.to_string());
    }
    Ok(())
}

fn stream(stream: &mut TcpStream, mebibytes: u32, chunk: &[u8]) -> Result<()> {
    stream.write_all(b"s")?;
    stream.write_all(&mebibytes.to_be_bytes())?;
    for _ in 0..u64::from(mebibytes) * CHUNKS_A_MEBIBYTE {
        stream.write_all(chunk)?;
    }
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    ensure!(answer == *b"s", "not what was sent: {answer:?}");
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
