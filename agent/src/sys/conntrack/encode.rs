//! Requests to ctnetlink as bytes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rtnetlink::packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
};

use super::attribute::{
    DELETE, FAMILY_ANY, FAMILY_V4, FAMILY_V6, GET, MARK, NAT_DESTINATION, NAT_SOURCE, NEW,
    PROTOINFO, STATUS, TIMEOUT, TUPLE_ORIGINAL, TUPLE_REPLY, attribute, ip, nat, nested, proto,
    protoinfo, tuple,
};
use super::{Flow, Tuple};

/// `IP_CT_TCP_FLAG_BE_LIBERAL` of linux/netfilter/nf_conntrack_tcp.h.
const BE_LIBERAL: u8 = 0x08;
/// `SCTP_CONNTRACK_ESTABLISHED` of linux/netfilter/nf_conntrack_sctp.h.
const SCTP_ESTABLISHED: u8 = 4;

/// Lists the entries of both families.
pub(super) fn dump() -> Vec<u8> {
    message(GET, NLM_F_DUMP, FAMILY_ANY, &[])
}

/// Makes an entry; nothing where there can be none.
pub(super) fn create(flow: &Flow) -> Option<Vec<u8>> {
    let Flow {
        original,
        reply,
        timeout,
        tcp_state: _,
        status: _,
        mark,
    } = flow;
    let family = family(original)?;
    if self::family(reply)? != family || reply.protocol != original.protocol {
        return None;
    }
    let mut attributes = vec![
        direction(TUPLE_ORIGINAL, original)?,
        // The kernel derives the reply from the translation below, and marks the flow as
        // translated only if that changes the reply given here (nf_nat_setup_info()).
        direction(TUPLE_REPLY, &original.reversed())?,
    ];
    if flow.is_translated() {
        // Both, even where one changes nothing: to a side without a range the kernel may give a
        // port of its choice when that of the flow is taken. With a range it refuses instead.
        attributes.push(range(NAT_DESTINATION, reply.source));
        attributes.push(range(NAT_SOURCE, reply.destination));
    }
    let status = Flow::CONFIRMED | Flow::SEEN_REPLY | Flow::ASSURED;
    attributes.push(attribute(STATUS, status.to_be_bytes()));
    attributes.push(attribute(TIMEOUT, seconds(*timeout).to_be_bytes()));
    if *mark != 0 {
        attributes.push(attribute(MARK, mark.to_be_bytes()));
    }
    attributes.extend(state(original.protocol));
    Some(message(
        NEW,
        NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        family,
        &attributes,
    ))
}

/// Deletes an entry; nothing where there can be none.
pub(super) fn delete(original: &Tuple) -> Option<Vec<u8>> {
    let attributes = [direction(TUPLE_ORIGINAL, original)?];
    Some(message(DELETE, NLM_F_ACK, family(original)?, &attributes))
}

/// A request.
pub(in crate::sys) fn message(
    kind: u16,
    flags: u16,
    family: u8,
    attributes: &[Vec<u8>],
) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    // `struct nfgenmsg`: family, version 0, resource 0.
    let body = [&[family, 0, 0, 0][..], &attributes.concat()].concat();
    let start = header.buffer_len();
    header.length =
        u32::try_from(start + body.len()).expect("invariant: a request has a few hundred bytes");
    header.message_type = kind;
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut bytes = vec![0; start];
    header.emit(&mut bytes);
    bytes.extend(body);
    bytes
}

fn family(tuple: &Tuple) -> Option<u8> {
    match (tuple.source.ip(), tuple.destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => Some(FAMILY_V4),
        (IpAddr::V6(_), IpAddr::V6(_)) => Some(FAMILY_V6),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

fn direction(kind: u16, of: &Tuple) -> Option<Vec<u8>> {
    let Tuple {
        source,
        destination,
        protocol,
    } = of;
    if ![Tuple::TCP, Tuple::UDP, Tuple::SCTP].contains(protocol) {
        return None;
    }
    let addresses = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => [
            attribute(ip::V4_SOURCE, source.octets()),
            attribute(ip::V4_DESTINATION, destination.octets()),
        ],
        (IpAddr::V6(source), IpAddr::V6(destination)) => [
            attribute(ip::V6_SOURCE, source.octets()),
            attribute(ip::V6_DESTINATION, destination.octets()),
        ],
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let transport = [
        attribute(proto::NUMBER, [*protocol]),
        attribute(proto::SOURCE_PORT, source.port().to_be_bytes()),
        attribute(proto::DESTINATION_PORT, destination.port().to_be_bytes()),
    ];
    let held = [
        nested(tuple::IP, &addresses),
        nested(tuple::PROTO, &transport),
    ];
    Some(nested(kind, &held))
}

/// A range of one address and one port to translate to.
fn range(kind: u16, to: SocketAddr) -> Vec<u8> {
    let [first, last] = match to.ip() {
        IpAddr::V4(address) => {
            [nat::V4_FIRST, nat::V4_LAST].map(|kind| attribute(kind, address.octets()))
        }
        IpAddr::V6(address) => {
            [nat::V6_FIRST, nat::V6_LAST].map(|kind| attribute(kind, address.octets()))
        }
    };
    let ports =
        [nat::PORT_FIRST, nat::PORT_LAST].map(|kind| attribute(kind, to.port().to_be_bytes()));
    nested(kind, &[first, last, nested(nat::PROTO, &ports)])
}

/// What the protocol's own tracking begins with.
fn state(protocol: u8) -> Option<Vec<u8>> {
    let (kind, held) = match protocol {
        Tuple::TCP => {
            // `struct nf_ct_tcp_flags`: flags, and which of them to set. The windows are not known.
            let liberal = [BE_LIBERAL, BE_LIBERAL];
            let held = [
                attribute(protoinfo::TCP_STATE, [Flow::TCP_ESTABLISHED]),
                attribute(protoinfo::TCP_FLAGS_ORIGINAL, liberal),
                attribute(protoinfo::TCP_FLAGS_REPLY, liberal),
            ];
            (protoinfo::TCP, held)
        }
        Tuple::SCTP => {
            // The kernel learns a tag of zero from the next heartbeat.
            let held = [
                attribute(protoinfo::SCTP_STATE, [SCTP_ESTABLISHED]),
                attribute(protoinfo::SCTP_TAG_ORIGINAL, [0; 4]),
                attribute(protoinfo::SCTP_TAG_REPLY, [0; 4]),
            ];
            (protoinfo::SCTP, held)
        }
        _ => return None,
    };
    Some(nested(PROTOINFO, &[nested(kind, &held)]))
}

/// Whole seconds, rounded up so that no flow goes early.
fn seconds(timeout: Duration) -> u32 {
    let more = u64::from(timeout.subsec_nanos() > 0);
    u32::try_from(timeout.as_secs().saturating_add(more)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
