//! Echo requests of a given size that nobody on the way may cut into pieces.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, Timeout, set_ip_mtu_discover,
    set_ipv6_mtu_discover, set_socket_timeout,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
    socket_with,
};

/// Smallest packet: headers of IPv6 and of ICMP, and some.
pub const LEAST: u32 = 64;
/// Header of an echo request (RFC 792).
const HEADER: usize = 8;
/// Longest wait for one answer, so that the other family is listened to as well.
const SLICE: Duration = Duration::from_millis(10);

/// One packet to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom to ask.
    pub to: IpAddr,
    /// Size of the packet with its IP header in bytes.
    pub size: u32,
}

/// Sockets of both families, as far as there are.
#[derive(Debug)]
pub struct Echo {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
    identifier: u16,
    sequence: u16,
}

impl Echo {
    /// Opens the sockets.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let [high, low, ..] = std::process::id().to_le_bytes();
        Ok(Self {
            v4: open(false)?,
            v6: open(true).ok(),
            identifier: u16::from_le_bytes([high, low]),
            sequence: 0,
        })
    }

    /// Asks all at once; says who has answered within `patience`.
    ///
    /// # Errors
    /// Where answers cannot be read. What cannot be sent is not answered.
    pub fn ask(&mut self, questions: &[Question], patience: Duration) -> io::Result<Vec<bool>> {
        let deadline = Instant::now() + patience;
        let first = self.sequence;
        for question in questions {
            // The kernel says what does not fit into the interface, or leads nowhere.
            let _sent = self.send(question, self.sequence);
            self.sequence = self.sequence.wrapping_add(1);
        }
        let mut answered = vec![false; questions.len()];
        let mut buffer = vec![0; 1 << 16];
        while answered.contains(&false) && Instant::now() < deadline {
            for (socket, v6) in [(Some(&self.v4), false), (self.v6.as_ref(), true)] {
                let Some(socket) = socket else { continue };
                match recv(socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => {
                        let packet = buffer.get(..length).unwrap_or_default();
                        let sequence = answer(packet, v6, self.identifier);
                        let index = sequence.map(|sequence| sequence.wrapping_sub(first));
                        let entry = index.and_then(|index| answered.get_mut(usize::from(index)));
                        if let Some(entry) = entry {
                            *entry = true;
                        }
                    }
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    // What came back for another question: that somebody cannot be reached.
                    Err(
                        rustix::io::Errno::HOSTUNREACH
                        | rustix::io::Errno::MSGSIZE
                        | rustix::io::Errno::CONNREFUSED,
                    ) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(answered)
    }

    fn send(&self, question: &Question, sequence: u16) -> io::Result<()> {
        let v6 = question.to.is_ipv6();
        let socket = if v6 {
            self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?
        } else {
            &self.v4
        };
        let packet = request(question.size, v6, self.identifier, sequence);
        let to = SocketAddr::new(question.to, 0);
        sendto(socket, &packet, SendFlags::empty(), &to)?;
        Ok(())
    }
}

fn open(v6: bool) -> io::Result<OwnedFd> {
    let (family, protocol) = if v6 {
        (AddressFamily::INET6, ipproto::ICMPV6)
    } else {
        (AddressFamily::INET, ipproto::ICMP)
    };
    let socket = socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?;
    // Not to be fragmented, whatever is known of the path.
    if v6 {
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
    } else {
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
    }
    set_socket_timeout(&socket, Timeout::Recv, Some(SLICE))?;
    Ok(socket)
}

/// An echo request; the kernel puts the IP header before it, and the checksum of ICMPv6 into it.
fn request(size: u32, v6: bool, identifier: u16, sequence: u16) -> Vec<u8> {
    let header: usize = if v6 { 40 } else { 20 };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut packet = vec![0; size.saturating_sub(header).max(HEADER)];
    packet[0] = if v6 { 128 } else { 8 };
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    if !v6 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// The sequence number, where the packet answers one of ours.
fn answer(packet: &[u8], v6: bool, identifier: u16) -> Option<u16> {
    let icmp = if v6 {
        packet
    } else {
        packet.get(usize::from(packet.first()? & 0x0f) * 4..)?
    };
    let [kind, _, _, _, i0, i1, s0, s1] = *icmp.first_chunk::<HEADER>()?;
    let is_reply = kind == if v6 { 129 } else { 0 };
    let ours = u16::from_be_bytes([i0, i1]) == identifier;
    (is_reply && ours).then_some(u16::from_be_bytes([s0, s1]))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or_default();
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("invariant: folded into 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_size_and_a_right_checksum() {
        for (size, v6, length) in [(1500, false, 1480), (1500, true, 1460), (64, false, 44)] {
            let packet = request(size, v6, 7, 9);
            assert_eq!(packet.len(), length);
            if !v6 {
                assert_eq!(checksum(&packet), 0, "a sum over a right checksum is 0");
            }
        }
    }

    #[test]
    fn only_answers_to_this_process_count() {
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0, 7, 0, 9]);
        assert_eq!(answer(&packet, false, 7), Some(9));
        assert_eq!(answer(&packet, false, 8), None);
        packet[20] = 8;
        assert_eq!(answer(&packet, false, 7), None, "a request");
        assert_eq!(answer(&[129, 0, 0, 0, 0, 7, 0, 9], true, 7), Some(9));
        assert_eq!(answer(&[], false, 7), None);
    }
}
