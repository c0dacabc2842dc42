//! Tries many targets at once, again and again, and answers to the SCTP of others.
//!
//! One thread and one `poll`: a row of a truth table takes as long as its slowest target. A batch is
//! a line of JSON on standard input, its answer a line with a letter for each target.

mod wire;

use std::collections::HashMap;
use std::io::{self, Read, stdin};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use serde::{Deserialize, Serialize};

use super::{LISTENING, pace};
use wire::{Answer, Wire};

/// What is tried at once, and for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// How long an answer may take.
    pub timeout_milliseconds: u64,
    /// What is tried.
    pub targets: Vec<Target>,
}

/// One thing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// How.
    pub way: Way,
    /// Where.
    pub address: IpAddr,
    /// The port, where the way has one.
    pub port: u16,
}

/// A way to try it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Way {
    /// A connection that is reset once it stands.
    Tcp,
    /// A datagram from a new socket.
    Udp,
    /// A datagram from the socket that earlier batches used for the same target.
    KeptUdp,
    /// An INIT chunk, which the prober there answers with INIT ACK.
    Sctp,
    /// An echo request.
    Icmp,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Found {
    /// It was answered.
    Open,
    /// Nothing came.
    Silent,
    /// It was refused.
    Refused,
    /// It could not be tried.
    Failed,
}

impl Found {
    const ALL: [(Self, char); 4] = [
        (Self::Open, 'o'),
        (Self::Silent, '-'),
        (Self::Refused, 'r'),
        (Self::Failed, 'f'),
    ];

    /// What a letter of an answer means.
    pub fn of(letter: char) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, of)| *of == letter).map(|(found, _)| found)
    }

    fn letter(self) -> char {
        let mut all = Self::ALL.into_iter();
        all.find(|(found, _)| *found == self)
            .map_or('?', |(_, letter)| letter)
    }

    fn of_error(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            Self::Refused
        } else {
            Self::Failed
        }
    }
}

/// The targets of one batch, and what is known of them.
struct Trial {
    deadline: Instant,
    found: Vec<Option<Found>>,
    /// Connections and datagrams on their way.
    sockets: Vec<(usize, Socket)>,
    /// The rest, by what their answer will be.
    awaited: HashMap<Answer, usize>,
}

enum Socket {
    Tcp(OwnedFd),
    Udp(UdpSocket, Vec<u8>),
    Kept(SocketAddr, Vec<u8>),
}

struct Prober {
    wire: Wire,
    kept: HashMap<SocketAddr, UdpSocket>,
    /// Numbers datagrams of all batches: late answers are those to no datagram of this one.
    sequence: u32,
    trial: Option<Trial>,
}

pub(super) fn run() -> Result<()> {
    let mut prober = Prober {
        wire: Wire::open()?,
        kept: HashMap::new(),
        sequence: 0,
        trial: None,
    };
    pace::say(LISTENING);
    let mut line = Vec::new();
    loop {
        let input_ready = prober.wait()?;
        prober.look();
        if input_ready {
            let mut buffer = [0; 64 * 1024];
            let length = stdin().lock().read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            line.extend_from_slice(&buffer[..length]);
            if line.ends_with(b"\n") {
                let batch: Batch = serde_json::from_slice(&line)?;
                line.clear();
                prober.begin(&batch);
            }
        }
        prober.end();
    }
}

impl Prober {
    /// Waits for news; the answer is whether there are some on standard input.
    fn wait(&self) -> Result<bool> {
        let stdin = stdin();
        let mut polled = vec![PollFd::new(&stdin, PollFlags::IN)];
        polled.extend(
            self.wire
                .sockets()
                .map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)),
        );
        let mut timeout = None;
        if let Some(trial) = &self.trial {
            for (_, socket) in &trial.sockets {
                let (socket, flags) = match socket {
                    Socket::Tcp(socket) => (socket.as_fd(), PollFlags::OUT),
                    Socket::Udp(socket, _) => (socket.as_fd(), PollFlags::IN),
                    Socket::Kept(to, _) => match self.kept.get(to) {
                        Some(socket) => (socket.as_fd(), PollFlags::IN),
                        None => continue,
                    },
                };
                polled.push(PollFd::from_borrowed_fd(socket, flags));
            }
            let rest = trial.deadline.saturating_duration_since(Instant::now());
            timeout = Some(Timespec::try_from(rest)?);
        }
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(!polled[0].revents().is_empty()),
            Err(error) => Err(error).context("poll"),
        }
    }

    fn begin(&mut self, batch: &Batch) {
        let mut trial = Trial {
            deadline: Instant::now() + Duration::from_millis(batch.timeout_milliseconds),
            found: vec![None; batch.targets.len()],
            sockets: Vec::new(),
            awaited: HashMap::new(),
        };
        for (index, target) in batch.targets.iter().enumerate() {
            if let Err(error) = self.try_one(&mut trial, index, target) {
                trial.found[index] = Some(Found::of_error(&error));
            }
        }
        self.trial = Some(trial);
    }

    fn try_one(&mut self, trial: &mut Trial, index: usize, target: &Target) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let to = SocketAddr::new(target.address, target.port);
        let text = format!("{}\n", self.sequence).into_bytes();
        match target.way {
            Way::Tcp => trial.sockets.push((index, Socket::Tcp(open(to)?))),
            Way::Udp => {
                let socket = datagrams(to)?;
                socket.send(&text)?;
                trial.sockets.push((index, Socket::Udp(socket, text)));
            }
            Way::KeptUdp => {
                let socket = match self.kept.entry(to) {
                    std::collections::hash_map::Entry::Occupied(kept) => kept.into_mut(),
                    std::collections::hash_map::Entry::Vacant(free) => free.insert(datagrams(to)?),
                };
                socket.send(&text)?;
                trial.sockets.push((index, Socket::Kept(to, text)));
            }
            Way::Sctp | Way::Icmp => {
                let answer = if target.way == Way::Sctp {
                    self.wire.init(to, self.sequence)?
                } else {
                    self.wire.echo(target.address, self.sequence)?
                };
                trial.awaited.insert(answer, index);
            }
        }
        Ok(())
    }

    /// Takes what has come.
    fn look(&mut self) {
        let answers = self.wire.take();
        let Some(trial) = &mut self.trial else {
            return;
        };
        for answer in answers {
            if let Some(index) = trial.awaited.remove(&answer) {
                trial.found[index] = Some(Found::Open);
            }
        }
        let Trial { found, sockets, .. } = trial;
        sockets.retain(|(index, socket)| {
            let news = match socket {
                Socket::Tcp(socket) => connected(socket),
                Socket::Udp(socket, text) => received(socket, text),
                Socket::Kept(to, text) => {
                    self.kept.get(to).and_then(|socket| received(socket, text))
                }
            };
            found[*index] = news;
            news.is_none()
        });
    }

    /// Answers once everything is known or the time is over.
    fn end(&mut self) {
        let is_over = |trial: &mut Trial| {
            trial.found.iter().all(Option::is_some) || Instant::now() >= trial.deadline
        };
        if let Some(trial) = self.trial.take_if(is_over) {
            let found = trial.found.into_iter();
            let letters = found.map(|found| found.unwrap_or(Found::Silent).letter());
            pace::say(&letters.collect::<String>());
        }
    }
}

/// Begins a connection whose end leaves nothing behind on either side.
fn open(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

fn connected(socket: &OwnedFd) -> Option<Found> {
    match socket_error(socket) {
        Ok(Err(error)) | Err(error) => return Some(Found::of_error(&error.into())),
        Ok(Ok(())) => {}
    }
    rustix::net::getpeername(socket)
        .is_ok()
        .then_some(Found::Open)
}

fn received(socket: &UdpSocket, text: &[u8]) -> Option<Found> {
    let mut buffer = [0; 256];
    loop {
        match socket.recv(&mut buffer) {
            // The server answers with its name, the address that it saw, and what it got.
            Ok(length) if buffer[..length].ends_with(&[b" ", text].concat()) => {
                return Some(Found::Open);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => return Some(Found::of_error(&error)),
        }
    }
}
