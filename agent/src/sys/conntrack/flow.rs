//! Flows as connection tracking knows them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// One direction of a flow: what its packets carry as they arrive from their sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// IANA number: [`Tuple::TCP`], [`Tuple::UDP`] or [`Tuple::SCTP`].
    pub protocol: u8,
}

impl Tuple {
    /// IANA number of TCP.
    pub const TCP: u8 = 6;
    /// IANA number of UDP.
    pub const UDP: u8 = 17;
    /// IANA number of SCTP.
    pub const SCTP: u8 = 132;

    /// The answers to it, where nothing is translated.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            protocol,
        } = self;
        match *protocol {
            Self::TCP => formatter.write_str("tcp")?,
            Self::UDP => formatter.write_str("udp")?,
            Self::SCTP => formatter.write_str("sctp")?,
            other => write!(formatter, "protocol {other}")?,
        }
        write!(formatter, " {source} -> {destination}")
    }
}

/// An entry of connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The direction of its first packet, before any translation.
    pub original: Tuple,
    /// The other direction, before any translation: its source is where the first packet went
    /// after DNAT, its destination whence that came after SNAT.
    pub reply: Tuple,
    /// When it goes without further packets, to the second. Zero for one in a flow table, where
    /// the kernel does not tell.
    pub timeout: Duration,
    /// `TCP_CONNTRACK_*` of linux/netfilter/nf_conntrack_tcp.h.
    pub tcp_state: Option<u8>,
    /// `IPS_*` of linux/netfilter/nf_conntrack_common.h.
    pub status: u32,
    /// The connection's mark.
    pub mark: u32,
}

impl Flow {
    /// `IPS_SEEN_REPLY`: there were packets in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// `IPS_ASSURED`: does not make room for others when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// `IPS_CONFIRMED`: stands in the table.
    pub const CONFIRMED: u32 = 1 << 3;
    /// `TCP_CONNTRACK_ESTABLISHED`.
    pub const TCP_ESTABLISHED: u8 = 3;

    /// A flow as [`create`](super::create) makes it.
    #[must_use]
    pub fn established(original: Tuple, reply: Tuple, timeout: Duration) -> Self {
        Self {
            original,
            reply,
            timeout,
            tcp_state: (original.protocol == Tuple::TCP).then_some(Self::TCP_ESTABLISHED),
            status: Self::CONFIRMED | Self::SEEN_REPLY | Self::ASSURED,
            mark: 0,
        }
    }

    /// Whether the kernel changes its packets' addresses or ports.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.has_dnat() || self.has_snat()
    }

    /// Whether its first packet went elsewhere than it was sent to.
    #[must_use]
    pub fn has_dnat(&self) -> bool {
        differ(self.reply.source, self.original.destination)
    }

    /// Whether its first packet left with another source than it was sent with.
    #[must_use]
    pub fn has_snat(&self) -> bool {
        differ(self.reply.destination, self.original.source)
    }

    /// Whether both sides were heard, and TCP is between its handshake and its first FIN.
    #[must_use]
    pub fn is_established(&self) -> bool {
        let heard = self.status & Self::SEEN_REPLY != 0;
        heard
            && self
                .tcp_state
                .is_none_or(|state| state == Self::TCP_ESTABLISHED)
    }
}

/// An IPv6 address's flow label and scope are no part of what a packet is tracked by.
fn differ(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) != (other.ip(), other.port())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: Tuple::TCP,
        }
    }

    #[test]
    fn a_flow_is_translated_where_its_reply_is_not_its_reverse() {
        let original = tuple("10.0.0.1:1000", "10.96.0.1:80");
        let cases = [
            (original.reversed(), [false, false]),
            (tuple("10.0.1.1:80", "10.0.0.1:1000"), [true, false]),
            (tuple("10.96.0.1:8080", "10.0.0.1:1000"), [true, false]),
            (tuple("10.96.0.1:80", "10.0.0.9:1000"), [false, true]),
            (tuple("10.96.0.1:80", "10.0.0.1:1001"), [false, true]),
            (tuple("10.0.1.1:8080", "10.0.0.9:1000"), [true, true]),
        ];
        for (reply, [dnat, snat]) in cases {
            let flow = Flow::established(original, reply, Duration::ZERO);
            assert_eq!([flow.has_dnat(), flow.has_snat()], [dnat, snat], "{reply}");
            assert_eq!(flow.is_translated(), dnat || snat, "{reply}");
        }
    }

    #[test]
    fn scope_and_flow_label_translate_nothing() {
        let original = tuple("[fd00::1]:1000", "[fd00::2]:80");
        let SocketAddr::V6(to) = original.destination else {
            panic!("IPv6 above");
        };
        let mut reply = original.reversed();
        reply.source = SocketAddrV6::new(*to.ip(), to.port(), 7, 3).into();
        assert!(!Flow::established(original, reply, Duration::ZERO).is_translated());
    }

    #[test]
    fn a_flow_is_established_when_both_sides_were_heard_and_tcp_says_so() {
        let original = tuple("10.0.0.1:1000", "10.96.0.1:80");
        let tcp = Flow::established(original, original.reversed(), Duration::ZERO);
        let with = |tcp_state, status| {
            Flow {
                tcp_state,
                status,
                ..tcp
            }
            .is_established()
        };
        assert!(tcp.is_established());
        assert!(!with(Some(2), tcp.status));
        assert!(!with(Some(3), Flow::CONFIRMED));
        assert!(!with(None, Flow::CONFIRMED));
        assert!(with(None, Flow::CONFIRMED | Flow::SEEN_REPLY));
    }
}
