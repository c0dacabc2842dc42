//! A listening socket for both families.

use std::io;
use std::net::{SocketAddrV6, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Listens on an IPv6 address; on the unspecified one, IPv4 clients are heard too. On a node
/// without IPv6 it fails with `EAFNOSUPPORT`.
///
/// # Errors
/// Where the port is taken or the kernel refuses.
pub fn listen_dual_stack(address: SocketAddrV6, backlog: i32) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
    // net.ipv6.bindv6only may say otherwise.
    sockopt::set_ipv6_v6only(&socket, false)?;
    // Answered connections of a listener that was just closed are in TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, backlog)?;
    Ok(socket.into())
}
