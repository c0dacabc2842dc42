//! Clients of several labs that take turns.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use tests::harness::Place;

/// A way to use a connection, and from where.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    kind: Kind,
    pub(super) is_outside: bool,
    /// Turns of each engine in a round: short against the machine's moods.
    turns: usize,
    /// Exchanges of a turn.
    exchanges: u32,
    /// Whether packets come to the node as a wire brings them: [`Engine::send_as_a_wire_brings`].
    ///
    /// [`Engine::send_as_a_wire_brings`]: super::engine::Engine::send_as_a_wire_brings
    pub(super) is_of_a_wire: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    Connect,
    /// An exchange is a mebibyte.
    Stream,
}

/// What the last one changes about the labs stays.
pub(super) const WAYS: [Way; 7] = [
    Way {
        name: "connect/request/close, pod to ClusterIP",
        kind: Kind::Connect,
        is_outside: false,
        turns: 50,
        exchanges: 20,
        is_of_a_wire: false,
    },
    Way {
        name: "request/response, pod to ClusterIP",
        kind: Kind::Request,
        is_outside: false,
        turns: 50,
        exchanges: 80,
        is_of_a_wire: false,
    },
    Way {
        name: "one stream, pod to ClusterIP",
        kind: Kind::Stream,
        is_outside: false,
        turns: 100,
        exchanges: 8,
        is_of_a_wire: false,
    },
    Way {
        name: "connect/request/close, outside to NodePort",
        kind: Kind::Connect,
        is_outside: true,
        turns: 50,
        exchanges: 20,
        is_of_a_wire: false,
    },
    Way {
        name: "request/response, outside to NodePort",
        kind: Kind::Request,
        is_outside: true,
        turns: 50,
        exchanges: 80,
        is_of_a_wire: false,
    },
    Way {
        name: "one stream, outside to NodePort",
        kind: Kind::Stream,
        is_outside: true,
        turns: 100,
        exchanges: 8,
        is_of_a_wire: false,
    },
    Way {
        name: "one stream segment by segment, outside to NodePort",
        kind: Kind::Stream,
        is_outside: true,
        turns: 100,
        exchanges: 2,
        is_of_a_wire: true,
    },
];

/// The same between pods, without a Service.
pub(crate) const POD_WAYS: [Way; 3] = [
    Way {
        name: "connect/request/close, pod to pod",
        ..WAYS[0]
    },
    Way {
        name: "request/response, pod to pod",
        ..WAYS[1]
    },
    Way {
        name: "one stream, pod to pod",
        ..WAYS[2]
    },
];

impl Way {
    pub(crate) fn is_rate(&self) -> bool {
        self.kind == Kind::Stream
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Stream => "MB/s",
            Kind::Request | Kind::Connect => "µs",
        }
    }

    /// Nanoseconds of one exchange in the unit of the way.
    pub(crate) fn shown(&self, nanoseconds: f64) -> f64 {
        match self.kind {
            Kind::Stream => 1_048_576.0 * 1e3 / nanoseconds,
            Kind::Request | Kind::Connect => nanoseconds / 1e3,
        }
    }

    fn argument(&self) -> &'static str {
        match self.kind {
            Kind::Request => "request",
            Kind::Connect => "connect",
            Kind::Stream => "stream",
        }
    }
}

/// One of those who take turns: a client's place, and where it connects to.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    pub(crate) place: &'a Place,
    pub(crate) to: SocketAddr,
}

/// Nanoseconds of one exchange: for each contender a value a round.
pub(crate) fn take(contenders: &[Contender<'_>], way: &Way, rounds: u32) -> Result<Vec<Vec<f64>>> {
    let named = |contender: &Contender<'_>| format!("client of {}", contender.name);
    let mut results = vec![Vec::new(); contenders.len()];
    // The first round warms caches and neighbour tables and is not counted.
    for round in 0..=rounds {
        // Where a process's memory lies makes some per cent, so each round has other ones.
        let mut clients = contenders
            .iter()
            .map(|contender| Client::start(contender, way).with_context(|| named(contender)))
            .collect::<Result<Vec<_>>>()?;
        let mut spent = vec![0.0; clients.len()];
        for turn in 0..way.turns {
            for place in 0..clients.len() {
                let index = (turn + place) % contenders.len();
                spent[index] += clients[index]
                    .turn()
                    .with_context(|| named(&contenders[index]))?;
            }
        }
        if round > 0 {
            for (result, spent) in results.iter_mut().zip(spent) {
                result.push(spent / f64::from(u32::try_from(way.turns)?));
            }
        }
    }
    Ok(results)
}

/// A client process that does a turn when it is told to. Dropped, it ends.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(contender: &Contender<'_>, way: &Way) -> Result<Self> {
        let Contender { place, to, .. } = contender;
        let mut child = place
            .traffic()
            .args(["compare", "--kind", way.argument()])
            .args(["--exchanges", &way.exchanges.to_string()])
            .args(["--to", &to.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot be run")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            child,
            input: input.context("invariant: standard input is piped")?,
            output: BufReader::new(output.context("invariant: standard output is piped")?),
        })
    }

    fn turn(&mut self) -> Result<f64> {
        // One that has ended wrote its reason to standard error, which is ours.
        self.input.write_all(b"\n").context("it has ended")?;
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "it has ended");
        line.trim()
            .parse()
            .with_context(|| format!("not a number: {line:?}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Ended already is as good.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}
