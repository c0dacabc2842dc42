//! The server: every line and every datagram is answered with `NAME PEER-ADDRESS ECHO`,
//! an HTTP request with that as its body.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::{LISTENING, http, pace, sctp};

/// Room for a few thousand datagrams: a server that gets no processor for a second must not drop
/// what the datapath has delivered.
const RECEIVE_BUFFER: usize = 8 << 20;

pub(super) fn run(name: &str, ports: &[u16]) -> Result<()> {
    let mut threads = Vec::new();
    for &port in ports {
        // The unspecified IPv6 address takes IPv4 as well.
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let tcp = TcpListener::bind(any).with_context(|| format!("cannot listen on tcp {any}"))?;
        let udp = UdpSocket::bind(any).with_context(|| format!("cannot listen on udp {any}"))?;
        set_socket_recv_buffer_size_force(&udp, RECEIVE_BUFFER)?;
        let of_tcp = name.to_owned();
        let of_udp = name.to_owned();
        threads.push(thread::spawn(move || accept(&of_tcp, &tcp, at_once)));
        threads.push(thread::spawn(move || datagrams(&of_udp, &udp)));
        for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
            let any = SocketAddr::new(any, port);
            let listener = sctp::listener(any);
            if let Some(sctp) = listener.with_context(|| format!("cannot listen on sctp {any}"))? {
                let name = name.to_owned();
                threads.push(thread::spawn(move || accept(&name, &sctp, |_| Ok(()))));
            }
        }
    }
    pace::say(LISTENING);
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a listener panicked"))?;
    }
    Ok(())
}

/// Has each line of TCP leave at once.
fn at_once(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

fn accept(name: &str, listener: &TcpListener, set_up: fn(&TcpStream) -> io::Result<()>) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        thread::spawn(move || {
            // A client that is gone is the end of its connection and nothing else.
            let _ended = set_up(&stream).and_then(|()| converse(&name, stream));
        });
    }
}

fn converse(name: &str, mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let answer = if http::is_request(&line) {
            http::skip_head(&mut reader)?;
            http::answer(&format!("{name} {peer} {line}"))
        } else {
            format!("{name} {peer} {line}")
        };
        stream.write_all(answer.as_bytes())?;
        line.clear();
    }
    Ok(())
}

fn datagrams(name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        // An error is an ICMP message about an earlier answer.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let mut answer = format!("{name} {} ", peer.ip().to_canonical()).into_bytes();
        answer.extend_from_slice(&buffer[..length]);
        let _sent = socket.send_to(&answer, peer);
    }
}
