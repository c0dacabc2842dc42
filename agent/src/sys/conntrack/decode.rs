//! Answers of ctnetlink from bytes.
//!
//! An entry that cannot be read is counted and passed over; a datagram whose messages cannot be
//! told apart is an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rtnetlink::packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};

use super::attribute::{
    GENERIC_HEADER, MARK, Malformed, NEW, PROTOINFO, STATUS, TIMEOUT, TUPLE_ORIGINAL, TUPLE_REPLY,
    ZONE, find, fixed, ip, need, proto, protoinfo, tuple,
};
use super::{Flow, Tuple};

/// What was read of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its flows.
    pub(super) flows: Vec<Flow>,
    /// How many entries could not be read.
    pub(super) malformed: usize,
    /// Whether the table changed under the listing, which has to be repeated.
    pub(super) interrupted: bool,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In success.
    Done,
    /// In this error number.
    Error(i32),
}

/// Reads one datagram into the answer; says whether it was the last.
pub(super) fn datagram(mut rest: &[u8], answer: &mut Answer) -> Result<Option<End>, Malformed> {
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(|_| Malformed)?;
        answer.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_DONE | NLMSG_ERROR => return end(message.payload()).map(Some),
            NEW => match flow(message.payload()) {
                Ok(found) => answer.flows.extend(found),
                Err(Malformed) => answer.malformed += 1,
            },
            _ => {}
        }
        let length = usize::try_from(message.length()).map_err(|_| Malformed)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

/// 0, or a negative error number.
fn end(payload: &[u8]) -> Result<End, Malformed> {
    let code = payload.first_chunk().ok_or(Malformed)?;
    Ok(match i32::from_ne_bytes(*code) {
        0 => End::Done,
        code => End::Error(code.saturating_neg()),
    })
}

/// An entry; nothing where a [`Flow`] cannot name it.
fn flow(payload: &[u8]) -> Result<Option<Flow>, Malformed> {
    let attributes = payload.get(GENERIC_HEADER..).ok_or(Malformed)?;
    let original = direction(need(attributes, TUPLE_ORIGINAL)?)?;
    let reply = direction(need(attributes, TUPLE_REPLY)?)?;
    let (Some(original), Some(reply), None) = (original, reply, find(attributes, ZONE)?) else {
        return Ok(None);
    };
    Ok(Some(Flow {
        original,
        reply,
        timeout: Duration::from_secs(number(attributes, TIMEOUT)?.into()),
        tcp_state: tcp_state(attributes)?,
        status: number(attributes, STATUS)?,
        mark: number(attributes, MARK)?,
    }))
}

fn direction(attributes: &[u8]) -> Result<Option<Tuple>, Malformed> {
    let transport = need(attributes, tuple::PROTO)?;
    let [protocol] = fixed(need(transport, proto::NUMBER)?)?;
    if ![Tuple::TCP, Tuple::UDP, Tuple::SCTP].contains(&protocol)
        || find(attributes, tuple::ZONE)?.is_some()
    {
        return Ok(None);
    }
    let addresses = need(attributes, tuple::IP)?;
    let side = |v4, v6, port| -> Result<SocketAddr, Malformed> {
        let port = u16::from_be_bytes(fixed(need(transport, port)?)?);
        Ok(SocketAddr::new(address(addresses, v4, v6)?, port))
    };
    let source = side(ip::V4_SOURCE, ip::V6_SOURCE, proto::SOURCE_PORT)?;
    let destination = side(
        ip::V4_DESTINATION,
        ip::V6_DESTINATION,
        proto::DESTINATION_PORT,
    )?;
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(Malformed);
    }
    Ok(Some(Tuple {
        source,
        destination,
        protocol,
    }))
}

fn address(addresses: &[u8], v4: u16, v6: u16) -> Result<IpAddr, Malformed> {
    match find(addresses, v4)? {
        Some(value) => Ok(Ipv4Addr::from(fixed::<4>(value)?).into()),
        None => Ok(Ipv6Addr::from(fixed::<16>(need(addresses, v6)?)?).into()),
    }
}

/// A number that the kernel leaves out where it is zero or does not apply.
fn number(attributes: &[u8], kind: u16) -> Result<u32, Malformed> {
    let value = find(attributes, kind)?.map(fixed).transpose()?;
    Ok(value.map(u32::from_be_bytes).unwrap_or_default())
}

fn tcp_state(attributes: &[u8]) -> Result<Option<u8>, Malformed> {
    let Some(protocols) = find(attributes, PROTOINFO)? else {
        return Ok(None);
    };
    let Some(tcp) = find(protocols, protoinfo::TCP)? else {
        return Ok(None);
    };
    let [state] = fixed(need(tcp, protoinfo::TCP_STATE)?)?;
    Ok(Some(state))
}

#[cfg(test)]
mod tests;
