//! What is sent and received without the kernel's help: SCTP, which it may not have, and echoes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom,
    sendto, socket_with,
};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Common header, chunk header, and an INIT without parameters (RFC 9260, 3.3.2).
const SCTP_LENGTH: usize = 12 + 20;
/// Echo request and reply.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);
const ROOM: usize = 4 << 20;

/// An answer: from where, of which protocol, and two numbers that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    from: IpAddr,
    is_sctp: bool,
    numbers: [u16; 2],
}

/// The raw sockets.
pub(super) struct Wire {
    sctp: [OwnedFd; 2],
    icmp: [OwnedFd; 2],
}

impl Wire {
    pub(super) fn open() -> Result<Self> {
        let (v4, v6) = (AddressFamily::INET, AddressFamily::INET6);
        Ok(Self {
            sctp: [raw(v4, ipproto::SCTP)?, raw(v6, ipproto::SCTP)?],
            icmp: [raw(v4, ipproto::ICMP)?, raw(v6, ipproto::ICMPV6)?],
        })
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sctp.iter().chain(&self.icmp).map(AsFd::as_fd)
    }

    /// Sends an INIT chunk from a port that the sequence number tells.
    pub(super) fn init(&self, to: SocketAddr, sequence: u32) -> io::Result<Answer> {
        let [_, _, high, low] = sequence.to_be_bytes();
        // Above the ports that anybody listens on.
        let port = u16::from_be_bytes([high, low]) | 0x8000;
        send(&self.sctp, to.ip(), &sctp(INIT, port, to.port(), sequence))?;
        Ok(Answer {
            from: to.ip(),
            is_sctp: true,
            numbers: [to.port(), port],
        })
    }

    /// Sends an echo request that the sequence number tells from others.
    pub(super) fn echo(&self, to: IpAddr, sequence: u32) -> io::Result<Answer> {
        let (request, _) = if to.is_ipv4() { ECHO_V4 } else { ECHO_V6 };
        let [id0, id1, number0, number1] = sequence.to_be_bytes();
        let mut packet = [request, 0, 0, 0, id0, id1, number0, number1];
        let sum = checksum(&packet);
        // Of ICMPv6 the kernel makes it, with the addresses.
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        send(&self.icmp, to, &packet)?;
        Ok(Answer {
            from: to,
            is_sctp: false,
            numbers: halves(sequence),
        })
    }

    /// Answers to what others began, and gives what was answered here.
    pub(super) fn take(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (from, packet) in received(&self.sctp) {
            let [s0, s1, d0, d1, ..] = packet[..] else {
                continue;
            };
            let ports = [u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])];
            match packet.get(12) {
                Some(&INIT) => {
                    let ack = sctp(INIT_ACK, ports[1], ports[0], 1);
                    // Who may not answer is found silent.
                    let _sent = send(&self.sctp, from, &ack);
                }
                Some(&INIT_ACK) => answers.push(Answer {
                    from,
                    is_sctp: true,
                    numbers: ports,
                }),
                _ => {}
            }
        }
        for (from, packet) in received(&self.icmp) {
            let (_, reply) = if from.is_ipv4() { ECHO_V4 } else { ECHO_V6 };
            if let [kind, 0, _, _, id0, id1, n0, n1, ..] = packet[..]
                && kind == reply
            {
                answers.push(Answer {
                    from,
                    is_sctp: false,
                    numbers: halves(u32::from_be_bytes([id0, id1, n0, n1])),
                });
            }
        }
        answers
    }
}

fn halves(number: u32) -> [u16; 2] {
    let [a, b, c, d] = number.to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

fn raw(family: AddressFamily, protocol: Protocol) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))
        .with_context(|| format!("no raw socket of {family:?}, {protocol:?}"))?;
    set_socket_recv_buffer_size_force(&socket, ROOM)?;
    Ok(socket)
}

fn send([v4, v6]: &[OwnedFd; 2], to: IpAddr, packet: &[u8]) -> io::Result<()> {
    let socket = if to.is_ipv4() { v4 } else { v6 };
    sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0))?;
    Ok(())
}

/// Everything that has come, without IP headers.
fn received(sockets: &[OwnedFd; 2]) -> Vec<(IpAddr, Vec<u8>)> {
    let mut packets = Vec::new();
    let mut buffer = [0; 2048];
    for socket in sockets {
        while let Ok((length, _, from)) = recvfrom(socket, &mut buffer[..], RecvFlags::empty()) {
            let Some(Ok(from)) = from.map(SocketAddr::try_from) else {
                continue;
            };
            let header = match from {
                SocketAddr::V4(_) => usize::from(buffer[0] & 0xf) * 4,
                SocketAddr::V6(_) => 0,
            };
            let packet = buffer[..length].get(header..).unwrap_or_default();
            packets.push((from.ip(), packet.to_vec()));
        }
    }
    packets
}

fn sctp(chunk: u8, source: u16, destination: u16, tag: u32) -> [u8; SCTP_LENGTH] {
    let mut packet = [0; SCTP_LENGTH];
    packet[0..2].copy_from_slice(&source.to_be_bytes());
    packet[2..4].copy_from_slice(&destination.to_be_bytes());
    packet[12] = chunk;
    packet[15] = 20;
    packet[16..20].copy_from_slice(&tag.to_be_bytes());
    // Window, one stream each way, first sequence number.
    packet[20..24].copy_from_slice(&0x1_0000_u32.to_be_bytes());
    packet[25] = 1;
    packet[27] = 1;
    packet[28..32].copy_from_slice(&tag.to_be_bytes());
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = 0_u32.wrapping_sub(sum & 1);
            sum = (sum >> 1) ^ (0x82f6_3b78 & mask);
        }
    }
    !sum
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum = words.by_ref().sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{checksum, crc32c};

    #[test]
    fn sums_are_those_of_the_books() {
        // RFC 3720, B.4, and RFC 1071, 3.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }
}
