//! `clsact` qdiscs, to which filters are attached before Linux 6.6.
//!
//! Answers are read as far as their headers: a filter of a kind nobody here knows is a filter too.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::ControlFlow as Flow;
use std::os::fd::OwnedFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcHeader, TcMessage};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send,
    socket_with,
};

/// `TC_H_MAJ` of a clsact qdisc of linux/pkt_sched.h.
const CLSACT_HANDLE: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};
/// A direction of packets at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the node.
    Ingress,
    /// Away from it.
    Egress,
}

impl Direction {
    const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The parent of its filters.
    fn parent(self) -> TcHandle {
        TcHandle {
            major: u16::MAX,
            minor: match self {
                Self::Ingress => TcHandle::MIN_INGRESS,
                Self::Egress => TcHandle::MIN_EGRESS,
            },
        }
    }
}

/// Messages and the group that hears of them, of linux/rtnetlink.h: `RTM_NEWQDISC` and so on,
/// `RTNLGRP_TC`.
const NEW_QDISC: u16 = 36;
const DELETED_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const DELETED_FILTER: u16 = 45;
const TC: u32 = 4;

/// Whether an interface has one.
///
/// # Errors
/// Where the kernel refuses.
pub fn is_there(interface: &str) -> io::Result<bool> {
    Qdisc::of(interface)?.is_there()
}

/// Indexes of the interfaces that have one, or the older `ingress`.
///
/// # Errors
/// Where the kernel refuses.
pub fn all() -> io::Result<BTreeSet<u32>> {
    let socket = route_socket()?;
    let mut found = BTreeSet::new();
    let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    Qdisc { socket, index: 0 }.ask(message, NLM_F_DUMP, |kind, tc| {
        if kind == NEW_QDISC && tc.parent == TcHandle::CLSACT {
            found.extend(u32::try_from(tc.index));
        }
    })?;
    Ok(found)
}

/// Whether an interface has a filter of this priority and handle. Without a qdisc it has none.
///
/// # Errors
/// Where the kernel refuses.
pub fn has_filter(
    index: u32,
    direction: Direction,
    priority: u16,
    handle: u16,
) -> io::Result<bool> {
    let mut found = false;
    Qdisc::at(index)?.filters(direction, |filter| {
        // The kernel has the priority in the upper half of `tcm_info`, the protocol in the lower.
        found |= filter.info >> 16 == u32::from(priority)
            && filter.handle.major == 0
            && filter.handle.minor == handle;
    })?;
    Ok(found)
}

/// Indexes of the interfaces with filters in such a qdisc, whoever's.
///
/// # Errors
/// Where the kernel refuses.
pub fn with_filters() -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for index in all()? {
        let qdisc = Qdisc::at(index)?;
        if qdisc.has_filters()? {
            found.insert(index);
        }
    }
    Ok(found)
}

/// Deletes an interface's qdisc; not where there is none, or where filters are left in it. Says
/// whether it did.
///
/// # Errors
/// Where the kernel refuses.
pub fn delete_if_empty(interface: &str) -> io::Result<bool> {
    let qdisc = Qdisc::of(interface)?;
    if !qdisc.is_there()? || qdisc.has_filters()? {
        return Ok(false);
    }
    qdisc.delete().map(|()| true)
}

/// News of qdiscs and filters that somebody deletes.
pub struct Deletions {
    socket: TokioSocket,
}

impl Deletions {
    /// Follows them from now on, on the runtime of the caller.
    ///
    /// # Errors
    /// Without a socket.
    pub fn follow() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(TC)?;
        Ok(Self { socket })
    }

    /// Returns when something was deleted at an interface that `concerns`. An interface that goes is not
    /// told: what was there goes without a word.
    ///
    /// # Errors
    /// Where news may have been lost, since there were more than the kernel keeps.
    pub async fn heard(&self, concerns: impl Fn(u32) -> bool) -> io::Result<()> {
        loop {
            let (messages, _) = self.socket.recv_from_full().await?;
            let heard = each(&messages, |kind, payload| {
                if !matches!(kind, DELETED_QDISC | DELETED_FILTER) {
                    return Ok(Flow::Continue(()));
                }
                let index = TcHeader::parse(payload).map_err(io::Error::other)?.index;
                Ok(match u32::try_from(index).is_ok_and(&concerns) {
                    true => Flow::Break(()),
                    false => Flow::Continue(()),
                })
            })?;
            if heard.is_break() {
                return Ok(());
            }
        }
    }
}

impl fmt::Debug for Deletions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deletions").finish_non_exhaustive()
    }
}

fn route_socket() -> io::Result<OwnedFd> {
    // Protocol 0 is `NETLINK_ROUTE`.
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        None,
    )?)
}

struct Qdisc {
    socket: OwnedFd,
    index: i32,
}

impl Qdisc {
    fn of(interface: &str) -> io::Result<Self> {
        let socket = route_socket()?;
        let index = netdevice::name_to_index(&socket, interface)?;
        let index = i32::try_from(index).map_err(io::Error::other)?;
        Ok(Self { socket, index })
    }

    fn at(index: u32) -> io::Result<Self> {
        let index = i32::try_from(index).map_err(io::Error::other)?;
        Ok(Self {
            socket: route_socket()?,
            index,
        })
    }

    fn is_there(&self) -> io::Result<bool> {
        let mut found = false;
        let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        // The kernel answers with the qdiscs of all interfaces.
        self.ask(message, NLM_F_DUMP, |kind, tc| {
            found |= kind == NEW_QDISC
                && tc.index == self.index
                && tc.parent == TcHandle::CLSACT
                && tc.handle == CLSACT_HANDLE;
        })?;
        Ok(found)
    }

    fn has_filters(&self) -> io::Result<bool> {
        let mut found = false;
        for direction in Direction::ALL {
            self.filters(direction, |_| found = true)?;
        }
        Ok(found)
    }

    fn filters(&self, direction: Direction, mut see: impl FnMut(TcHeader)) -> io::Result<()> {
        let mut message = TcMessage::with_index(self.index);
        message.header.parent = direction.parent();
        let message = RouteNetlinkMessage::GetTrafficFilter(message);
        self.ask(message, NLM_F_DUMP, |kind, filter| {
            if kind == NEW_FILTER {
                see(filter);
            }
        })
    }

    fn delete(&self) -> io::Result<()> {
        let mut message = TcMessage::with_index(self.index);
        message.header.parent = TcHandle::CLSACT;
        message.header.handle = CLSACT_HANDLE;
        let message = RouteNetlinkMessage::DelQueueDiscipline(message);
        self.ask(message, NLM_F_ACK, |_, _| ())
    }

    fn ask(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut see: impl FnMut(u16, TcHeader),
    ) -> io::Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        // What the kernel puts into one answer at most.
        let mut answer = vec![0; 32 * 1024];
        loop {
            let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            let answered = each(&answer[..length], |kind, payload| match kind {
                NLMSG_DONE => Ok(Flow::Break(())),
                NLMSG_ERROR => error(payload).map(Flow::Break),
                kind => {
                    see(kind, TcHeader::parse(payload).map_err(io::Error::other)?);
                    Ok(Flow::Continue(()))
                }
            })?;
            if answered.is_break() {
                return Ok(());
            }
        }
    }
}

/// Shows `see` the kind and the payload of each message, until it has seen enough.
fn each(
    messages: &[u8],
    mut see: impl FnMut(u16, &[u8]) -> io::Result<Flow<()>>,
) -> io::Result<Flow<()>> {
    let mut rest = messages;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
        if see(message.message_type(), message.payload())?.is_break() {
            return Ok(Flow::Break(()));
        }
        let length = usize::try_from(message.length()).map_err(io::Error::other)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Flow::Continue(()))
}

/// What an acknowledgement says: 0, or a negative error number.
fn error(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
