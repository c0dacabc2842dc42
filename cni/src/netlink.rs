//! A netlink socket of one network namespace: one request, one answer.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's messages are an open set, of which a few matter here"
)]

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send,
    socket_with,
};

use crate::message::{self, Change};
use crate::range::Family;

/// What the kernel puts into one part of an answer at most (`NLMSG_GOODSIZE` is smaller).
const LARGEST_ANSWER: usize = 32 * 1024;

/// A socket; it stays in the namespace where it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one in the calling thread's namespace.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Index of an interface; `None` where there is none of this name.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn index(&self, name: &str) -> io::Result<Option<u32>> {
        match netdevice::name_to_index(&self.socket, name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a change.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn change(&mut self, (message, flags): Change) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    /// An interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn link(&mut self, index: u32) -> io::Result<LinkMessage> {
        let answers = self.exchange(message::get_link(index), NLM_F_ACK)?;
        let mut links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        links.next().ok_or_else(|| Errno::NODEV.into())
    }

    /// The route that leads to an address; `None` where none does.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn route_to(&mut self, address: std::net::IpAddr) -> io::Result<Option<RouteMessage>> {
        let answers = match self.exchange(message::route_to(address), NLM_F_ACK) {
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL)
                ) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        Ok(routes(answers).next())
    }

    /// All routes of a family.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn routes(&mut self, family: Family) -> io::Result<Vec<RouteMessage>> {
        let answers = self.exchange(message::get_routes(family), NLM_F_DUMP)?;
        Ok(routes(answers).collect())
    }

    /// All answers to a request that ask for an end: an acknowledgement, or a dump's last part.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; LARGEST_ANSWER];
        loop {
            let (length, _) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let (header, payload) = answer.into_parts();
                // Each message begins at a multiple of four bytes (`NLMSG_ALIGN`).
                let length = usize::try_from(header.length).map_err(io::Error::other)?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
            }
        }
    }
}

/// The interface that a route leaves by.
pub fn outgoing(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}

/// Largest packet of an interface, in bytes.
pub fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
}

fn routes(answers: Vec<RouteNetlinkMessage>) -> impl Iterator<Item = RouteMessage> {
    answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    })
}
