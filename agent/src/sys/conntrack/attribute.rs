//! Attributes of ctnetlink messages, which hold one another.

use rtnetlink::packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

/// Length of `struct nfgenmsg`, before the first attribute.
pub(in crate::sys) const GENERIC_HEADER: usize = 4;
/// `AF_INET` and `AF_INET6`, as `nfgen_family`; 0 is any.
pub(in crate::sys) const FAMILY_ANY: u8 = 0;
pub(in crate::sys) const FAMILY_V4: u8 = 2;
pub(in crate::sys) const FAMILY_V6: u8 = 10;

/// `NFNL_SUBSYS_CTNETLINK << 8` with `IPCTNL_MSG_CT_*`.
pub(in crate::sys) const NEW: u16 = 0x100;
pub(in crate::sys) const GET: u16 = 0x101;
pub(in crate::sys) const DELETE: u16 = 0x102;

/// Of linux/netfilter/nfnetlink_conntrack.h, `CTA_*`; each module is one of its enumerations.
pub(in crate::sys) const TUPLE_ORIGINAL: u16 = 1;
pub(in crate::sys) const TUPLE_REPLY: u16 = 2;
pub(in crate::sys) const STATUS: u16 = 3;
pub(in crate::sys) const PROTOINFO: u16 = 4;
pub(in crate::sys) const NAT_SOURCE: u16 = 6;
pub(in crate::sys) const TIMEOUT: u16 = 7;
pub(in crate::sys) const MARK: u16 = 8;
pub(in crate::sys) const NAT_DESTINATION: u16 = 13;
pub(in crate::sys) const ZONE: u16 = 18;

/// `CTA_TUPLE_*`.
pub(in crate::sys) mod tuple {
    pub(in crate::sys) const IP: u16 = 1;
    pub(in crate::sys) const PROTO: u16 = 2;
    pub(in crate::sys) const ZONE: u16 = 3;
}

/// `CTA_IP_*`.
pub(in crate::sys) mod ip {
    pub(in crate::sys) const V4_SOURCE: u16 = 1;
    pub(in crate::sys) const V4_DESTINATION: u16 = 2;
    pub(in crate::sys) const V6_SOURCE: u16 = 3;
    pub(in crate::sys) const V6_DESTINATION: u16 = 4;
}

/// `CTA_PROTO_*`.
pub(in crate::sys) mod proto {
    pub(in crate::sys) const NUMBER: u16 = 1;
    pub(in crate::sys) const SOURCE_PORT: u16 = 2;
    pub(in crate::sys) const DESTINATION_PORT: u16 = 3;
}

/// `CTA_PROTOINFO_*`.
pub(in crate::sys) mod protoinfo {
    pub(in crate::sys) const TCP: u16 = 1;
    pub(in crate::sys) const TCP_STATE: u16 = 1;
    pub(in crate::sys) const TCP_FLAGS_ORIGINAL: u16 = 4;
    pub(in crate::sys) const TCP_FLAGS_REPLY: u16 = 5;
    pub(in crate::sys) const SCTP: u16 = 3;
    pub(in crate::sys) const SCTP_STATE: u16 = 1;
    pub(in crate::sys) const SCTP_TAG_ORIGINAL: u16 = 2;
    pub(in crate::sys) const SCTP_TAG_REPLY: u16 = 3;
}

/// `CTA_NAT_*` and `CTA_PROTONAT_*`.
pub(in crate::sys) mod nat {
    pub(in crate::sys) const V4_FIRST: u16 = 1;
    pub(in crate::sys) const V4_LAST: u16 = 2;
    pub(in crate::sys) const PROTO: u16 = 3;
    pub(in crate::sys) const V6_FIRST: u16 = 4;
    pub(in crate::sys) const V6_LAST: u16 = 5;
    pub(in crate::sys) const PORT_FIRST: u16 = 1;
    pub(in crate::sys) const PORT_LAST: u16 = 2;
}

/// Bytes that are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sys) struct Malformed;

/// One attribute.
pub(in crate::sys) fn attribute(kind: u16, value: impl Into<Vec<u8>>) -> Vec<u8> {
    let attribute = DefaultNla::new(kind, value.into());
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

/// One attribute that holds others.
pub(in crate::sys) fn nested(kind: u16, held: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, held.concat())
}

/// The value of the first attribute of a kind.
pub(in crate::sys) fn find(attributes: &[u8], kind: u16) -> Result<Option<&[u8]>, Malformed> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| Malformed)?;
        if attribute.kind() == kind {
            let length = usize::from(attribute.length());
            let value = attribute.into_inner().get(NLA_HEADER_SIZE..length);
            return value.map(Some).ok_or(Malformed);
        }
    }
    Ok(None)
}

/// The same where the attribute has to be there.
pub(in crate::sys) fn need(attributes: &[u8], kind: u16) -> Result<&[u8], Malformed> {
    find(attributes, kind)?.ok_or(Malformed)
}

/// A value of a fixed length.
pub(in crate::sys) fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed)
}
