//! Datagrams with sequence numbers, each waited for. A datagram without an answer is lost.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::hold::answer_of;
use super::pace::Pace;
use super::{Client, Report};

pub(super) fn exchange(options: &Client, pace: &Pace) -> Report {
    let mut kept = None;
    pace.one_by_one(options, |before, begun| {
        one(options, &mut kept, &format!("{before}\n"), begun)
    })
}

fn one(
    options: &Client,
    kept: &mut Option<UdpSocket>,
    sequence: &str,
    begun: Instant,
) -> io::Result<(String, String)> {
    if options.fresh {
        *kept = None;
    }
    let socket = match kept.take() {
        Some(socket) => socket,
        None => open(options.to)?,
    };
    let answer = ask(&socket, sequence, begun + options.timeout());
    *kept = Some(socket);
    answer
}

fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket)
}

fn ask(socket: &UdpSocket, sequence: &str, deadline: Instant) -> io::Result<(String, String)> {
    socket.send(sequence.as_bytes())?;
    let mut buffer = [0; 2048];
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(rest.max(Duration::from_millis(1))))?;
        let length = socket.recv(&mut buffer)?;
        let answer = String::from_utf8_lossy(&buffer[..length]);
        // The late answer to an earlier datagram was counted as lost.
        if let Ok(answer) = answer_of(&answer, sequence) {
            return Ok(answer);
        }
    }
}
