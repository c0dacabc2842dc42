//! Echo requests of a given size that nobody on the way may cut into pieces.
#![expect(
    unsafe_code,
    reason = "an address of a family that rustix does not have"
)]

mod packet;

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
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, ipproto, recv,
    sendto, socket_with,
};

use packet::{Echoed, ether_type, of_frame, of_v4, of_v6, packet, request};

/// Smallest packet: headers of IPv6 and of ICMP, and some.
pub const LEAST: u32 = 64;
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

/// A device through which a packet goes, whatever the routes are. One for all questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// Index of the device.
    pub interface: u32,
    /// Where the answer goes: the device hears of it, whether or not this node has the address.
    pub from: IpAddr,
    /// What is put before the packet.
    pub outer: Outer,
}

/// What goes before a packet on its way through a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// An Ethernet header, with which the device takes it as it is.
    Ethernet {
        /// Hardware address of this node there.
        source: [u8; 6],
        /// Hardware address of the one asked.
        destination: [u8; 6],
    },
    /// The header of IP in IP (RFC 2003). The device itself sends by a route alone, so the packet goes
    /// past it to the one asked, as the device would send it.
    IpIp,
}

/// Sockets of both families, as far as there are.
#[derive(Debug)]
pub struct Echo {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
    /// Of the device of [`Through`].
    tap: Option<Tap>,
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
            self.tap = Some(Tap::open(through)?);
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
                (
                    self.tap.as_ref().map(Tap::heard),
                    self.tap.as_ref().map_or(of_frame, Tap::reads),
                ),
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
            let icmp = request(question.size, v6, self.identifier, sequence);
            return tap.send(through, question.to, icmp);
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

/// Sockets for what goes through a device.
#[derive(Debug)]
enum Tap {
    /// Whole frames, both ways.
    Ethernet(OwnedFd),
    /// What comes by the device without the outer header, and what is sent past it.
    IpIp { heard: OwnedFd, sent: OwnedFd },
}

impl Tap {
    fn open(through: &Through) -> io::Result<Self> {
        let of_device = |kind| -> io::Result<OwnedFd> {
            let socket = socket_with(AddressFamily::PACKET, kind, SocketFlags::CLOEXEC, None)?;
            bind(&socket, &at(through)?)?;
            set_socket_timeout(&socket, Timeout::Recv, Some(SLICE))?;
            Ok(socket)
        };
        Ok(match through.outer {
            Outer::Ethernet { .. } => Self::Ethernet(of_device(SocketType::RAW)?),
            Outer::IpIp => Self::IpIp {
                heard: of_device(SocketType::DGRAM)?,
                sent: raw(false, ipproto::IPIP)?,
            },
        })
    }

    fn heard(&self) -> &OwnedFd {
        match self {
            Self::Ethernet(socket) | Self::IpIp { heard: socket, .. } => socket,
        }
    }

    /// How what is heard is read.
    fn reads(&self) -> fn(&[u8]) -> Option<Echoed> {
        match self {
            Self::Ethernet(_) => of_frame,
            Self::IpIp { .. } => of_v4,
        }
    }

    fn send(&self, through: &Through, to: IpAddr, icmp: Vec<u8>) -> io::Result<()> {
        let packet = packet(through.from, to, icmp);
        match (self, through.outer) {
            (
                Self::Ethernet(socket),
                Outer::Ethernet {
                    source,
                    destination,
                },
            ) => {
                let frame = [&destination[..], &source, &ether_type(to), &packet].concat();
                sendto(socket, &frame, SendFlags::empty(), &at(through)?)?;
            }
            (Self::IpIp { sent, .. }, Outer::IpIp) => {
                sendto(sent, &packet, SendFlags::empty(), &SocketAddr::new(to, 0))?;
            }
            // One device for all questions.
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }
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

fn open(v6: bool) -> io::Result<OwnedFd> {
    raw(v6, if v6 { ipproto::ICMPV6 } else { ipproto::ICMP })
}

/// A socket for packets of a protocol, which the kernel puts the IP header before.
fn raw(v6: bool, protocol: Protocol) -> io::Result<OwnedFd> {
    let family = if v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
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
