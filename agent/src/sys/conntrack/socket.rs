//! Requests to the kernel, one a socket.

use std::io;

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::decode::{Answer, End, datagram};

/// What the kernel puts into one datagram of a listing at most.
const DATAGRAM: usize = 32 * 1024;

/// Sends a request and reads its answer to the end. The kernel has written the first datagram
/// before `send` returns, and each next one before `recv` does, so this waits for nobody.
pub(super) fn ask(request: &[u8]) -> io::Result<Answer> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    retry_on_intr(|| send(&socket, request, SendFlags::empty()))?;
    let mut buffer = vec![0; DATAGRAM];
    let mut answer = Answer::default();
    loop {
        let (read, length) = retry_on_intr(|| recv(&socket, &mut buffer[..], RecvFlags::TRUNC))?;
        let bytes = buffer.get(..read).filter(|_| read == length);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidData)?;
        let end = datagram(bytes, &mut answer).map_err(|_| io::ErrorKind::InvalidData)?;
        match end {
            None => {}
            Some(End::Done) => return Ok(answer),
            Some(End::Error(code)) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}
