//! SCTP associations, one a socket (RFC 6458 §4), where the kernel has them.
//!
//! Such a socket is used as one of TCP is. Each is of one family: an association of both would name
//! addresses of both to its peer, and none of them is translated in a packet.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, Result};
use rustix::net::sockopt::{Timeout, set_ipv6_v6only, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen, socket};

const WAITING: i32 = 128;

/// `None` where the kernel has no SCTP.
pub(super) fn listener(at: SocketAddr) -> Result<Option<TcpListener>> {
    let socket = match open(at) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    bind(&socket, &at)?;
    listen(&socket, WAITING)?;
    Ok(Some(socket.into()))
}

/// An association, of which neither its beginning nor an answer takes longer than `timeout`.
pub(super) fn connect(to: SocketAddr, timeout: Duration) -> Result<TcpStream> {
    let socket = open(to)?;
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, direction, Some(timeout))?;
    }
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

fn open(family_of: SocketAddr) -> Result<OwnedFd> {
    let family = match family_of {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, Some(ipproto::SCTP))?;
    if family_of.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}
