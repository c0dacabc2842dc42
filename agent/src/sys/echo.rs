//! Echo requests of a given size that nobody on the way may cut into pieces.
#![expect(
    unsafe_code,
    reason = "an address of a family that rustix does not have"
)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, Timeout, set_ip_mtu_discover,
    set_ipv6_mtu_discover, set_socket_timeout,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, ipproto, recv, sendto,
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
    /// The way, where it is not the one that the node's routes have.
    pub through: Option<Through>,
}

/// A device on which a packet is put as it is, whatever the routes are. One for all questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// Index of the device.
    pub interface: u32,
    /// Where the answer goes: the device hears of it, whether or not this node has the address.
    pub from: IpAddr,
    /// Hardware address of this node there.
    pub source: [u8; 6],
    /// Hardware address of the one asked.
    pub destination: [u8; 6],
}

/// Sockets of both families, as far as there are.
#[derive(Debug)]
pub struct Echo {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
    /// On the device of [`Through`].
    tap: Option<OwnedFd>,
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
            tap: None,
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
        let mut through = questions.iter().filter_map(|asked| asked.through.as_ref());
        if let (None, Some(through)) = (&self.tap, through.next()) {
            self.tap = Some(tap(through)?);
        }
        let first = self.sequence;
        for question in questions {
            // The kernel says what does not fit into the interface, or leads nowhere.
            let _sent = self.send(question, self.sequence);
            self.sequence = self.sequence.wrapping_add(1);
        }
        let mut answered = vec![false; questions.len()];
        let mut buffer = vec![0; 1 << 16];
        while answered.contains(&false) && Instant::now() < deadline {
            for (socket, read) in [
                (Some(&self.v4), of_v4 as fn(&[u8]) -> Option<Echoed>),
                (self.v6.as_ref(), of_v6),
                (self.tap.as_ref(), of_frame),
            ] {
                let Some(socket) = socket else { continue };
                match recv(socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => {
                        let packet = buffer.get(..length).unwrap_or_default();
                        let echoed = read(packet);
                        let own = echoed.filter(|echoed| echoed.identifier == self.identifier);
                        let index = own.map(|own| own.sequence.wrapping_sub(first));
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
        if let (Some(through), Some(tap)) = (&question.through, &self.tap) {
            let v6 = question.to.is_ipv6();
            let packet = request(question.size, v6, self.identifier, sequence);
            sendto(
                tap,
                &frame(through, question.to, packet),
                SendFlags::empty(),
                &at(through)?,
            )?;
            return Ok(());
        }
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

/// A socket for the frames of a device.
fn tap(through: &Through) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&socket, &at(through)?)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(SLICE))?;
    Ok(socket)
}

/// The device, and the frames of its family, as an address (packet(7)).
fn at(through: &Through) -> io::Result<Device> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    Ok(Device(libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(too_large)?,
        sll_protocol: u16::from_ne_bytes(ether_type(through.from)),
        sll_ifindex: i32::try_from(through.interface).map_err(too_large)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    }))
}

struct Device(libc::sockaddr_ll);

// SAFETY: the pointer is to a whole `sockaddr_ll` that lives while `f` runs, with its length.
// JUSTIFICATION: rustix has no address of this family.
unsafe impl SocketAddrArg for Device {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let length = SocketAddrLen::try_from(size_of_val(&self.0));
        let length = length.expect("invariant: a few bytes");
        f((&raw const self.0).cast(), length)
    }
}

fn ether_type(address: IpAddr) -> [u8; 2] {
    match address {
        IpAddr::V4(_) => [0x08, 0x00],
        IpAddr::V6(_) => [0x86, 0xdd],
    }
}

/// A packet of ICMP with all that comes before it; it may not be fragmented.
fn frame(through: &Through, to: IpAddr, icmp: Vec<u8>) -> Vec<u8> {
    const HOPS: u8 = 64;
    let mut icmp = icmp;
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = Vec::new();
    match (through.from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            const DO_NOT_FRAGMENT: u8 = 0x40;
            let [high, low] = length(20 + icmp.len());
            header.extend([0x45, 0, high, low, 0, 0, DO_NOT_FRAGMENT, 0, HOPS, 1, 0, 0]);
            header.extend(from.octets().into_iter().chain(to.octets()));
            let sum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
        }
        (from, to) => {
            const ICMPV6: u8 = 58;
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let addresses = [octets(from), octets(to)].concat();
            let [high, low] = length(icmp.len());
            header.extend([0x60, 0, 0, 0, high, low, ICMPV6, HOPS]);
            header.extend(&addresses);
            // RFC 8200 §8.1: addresses, length and protocol are summed up too.
            let pseudo = [&addresses[..], &[0, 0, high, low, 0, 0, 0, ICMPV6], &icmp].concat();
            let sum = checksum(&pseudo).to_be_bytes();
            icmp[2..4].copy_from_slice(&sum);
        }
    }
    let kind = ether_type(to);
    [
        &through.destination[..],
        &through.source,
        &kind,
        &header,
        &icmp,
    ]
    .concat()
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

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Echoed {
    identifier: u16,
    sequence: u16,
}

/// The answer in what comes after the IPv6 header, if it is one.
fn of_v6(icmp: &[u8]) -> Option<Echoed> {
    const REPLY: u8 = 129;
    echoed(icmp, REPLY)
}

/// The answer in an IPv4 packet, if it is one.
fn of_v4(packet: &[u8]) -> Option<Echoed> {
    const REPLY: u8 = 0;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    const ICMP: u8 = 1;
    let is_icmp = packet.get(9) == Some(&ICMP);
    echoed(packet.get(header..).filter(|_| is_icmp)?, REPLY)
}

/// The answer in a frame, if it is one.
fn of_frame(frame: &[u8]) -> Option<Echoed> {
    const ICMPV6: u8 = 58;
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    match kind {
        [0x08, 0x00] => of_v4(packet),
        [0x86, 0xdd] if packet.get(6) == Some(&ICMPV6) => of_v6(packet.get(40..)?),
        _ => None,
    }
}

fn echoed(icmp: &[u8], reply: u8) -> Option<Echoed> {
    let [kind, _, _, _, i0, i1, s0, s1] = *icmp.first_chunk::<HEADER>()?;
    (kind == reply).then_some(Echoed {
        identifier: u16::from_be_bytes([i0, i1]),
        sequence: u16::from_be_bytes([s0, s1]),
    })
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
    fn a_frame_has_right_lengths_and_checksums() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (from, to, header) in [("172.31.0.1", "172.31.1.2", 20), ("fd00::1", "fd00::2", 40)] {
            let through = Through {
                interface: 2,
                from: ip(from),
                source: [1; 6],
                destination: [2; 6],
            };
            let v6 = through.from.is_ipv6();
            let frame = frame(&through, ip(to), request(1450, v6, 7, 9));
            assert_eq!(frame.len(), 14 + 1450);
            assert_eq!(
                frame[..14],
                [&[2; 6][..], &[1; 6], &ether_type(ip(to))].concat()
            );
            let (head, icmp) = frame[14..].split_at(header);
            if v6 {
                let length = (1450_u16 - 40).to_be_bytes();
                assert_eq!(head[4..6], length);
                let pseudo = [&head[8..], &[0, 0], &length, &[0, 0, 0, 58], icmp].concat();
                assert_eq!(checksum(&pseudo), 0);
            } else {
                assert_eq!(head[2..4], 1450_u16.to_be_bytes());
                assert_eq!((checksum(head), checksum(icmp)), (0, 0));
            }
        }
    }

    #[test]
    fn answers_are_told_from_all_else() {
        let found = Some(Echoed {
            identifier: 7,
            sequence: 9,
        });
        let mut v4 = vec![0x45; 20];
        v4[9] = 1;
        v4.extend([0, 0, 0, 0, 0, 7, 0, 9]);
        assert_eq!(of_v4(&v4), found);
        let mut v6 = vec![0x60; 40];
        v6[6] = 58;
        v6.extend([129, 0, 0, 0, 0, 7, 0, 9]);
        assert_eq!(of_v6(&v6[40..]), found);
        let framed = |kind: [u8; 2], packet: &[u8]| [&[0; 12][..], &kind, packet].concat();
        assert_eq!(of_frame(&framed([0x08, 0x00], &v4)), found);
        assert_eq!(of_frame(&framed([0x86, 0xdd], &v6)), found);
        assert_eq!(of_frame(&framed([0x08, 0x06], &v4)), None, "ARP");
        v4[20] = 8;
        assert_eq!(of_v4(&v4), None, "a request");
        v6[6] = 17;
        assert_eq!(of_frame(&framed([0x86, 0xdd], &v6)), None, "UDP");
        assert_eq!((of_v4(&[]), of_v6(&[]), of_frame(&[])), (None, None, None));
    }
}
