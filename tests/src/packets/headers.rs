//! What the network header of a packet says, and where it ends.

use std::net::IpAddr;

use agent_abi::IPPROTO_ICMP;

use super::checksum::{sum, transport_sum};

/// What a packet's network header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Who has sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// What comes behind the extension headers.
    pub protocol: u8,
    /// Where that begins.
    pub transport: usize,
    /// Where the packet ends; padding may follow.
    pub end: usize,
    /// Whether it is a part of a packet, the first or a later one.
    pub is_fragment: bool,
}

impl Headers {
    /// Reads them. `None` where they do not fit the packet.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let headers = match packet.first()? >> 4 {
            4 => Self::read_v4(packet)?,
            6 => Self::read_v6(packet)?,
            _ => return None,
        };
        (headers.transport <= headers.end && headers.end <= packet.len()).then_some(headers)
    }

    fn read_v4(packet: &[u8]) -> Option<Self> {
        let header: [u8; 20] = *packet.first_chunk()?;
        let transport = usize::from(header[0] & 0x0f) * 4;
        (transport >= 20).then(|| Self {
            source: IpAddr::from(slice::<4>(&header, 12)),
            destination: IpAddr::from(slice::<4>(&header, 16)),
            protocol: header[9],
            transport,
            end: usize::from(u16::from_be_bytes([header[2], header[3]])),
            is_fragment: u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0,
        })
    }

    fn read_v6(packet: &[u8]) -> Option<Self> {
        let header: [u8; 40] = *packet.first_chunk()?;
        let mut protocol = header[6];
        let mut transport = 40;
        let mut is_fragment = false;
        // RFC 8200 §4: hop-by-hop, routing, destination options, authentication, fragment.
        while let Some(unit) = match protocol {
            0 | 43 | 60 => Some(8),
            51 => Some(4),
            44 => Some(0),
            _ => None,
        } {
            let extension: [u8; 8] = *packet.get(transport..)?.first_chunk()?;
            let fragment = u16::from_be_bytes([extension[2], extension[3]]);
            is_fragment |= unit == 0 && fragment & 0xfff9 != 0;
            protocol = extension[0];
            transport += 8 + usize::from(extension[1]) * unit;
            if is_fragment {
                break;
            }
        }
        Some(Self {
            source: IpAddr::from(slice::<16>(&header, 8)),
            destination: IpAddr::from(slice::<16>(&header, 24)),
            protocol,
            transport,
            end: 40 + usize::from(u16::from_be_bytes([header[4], header[5]])),
            is_fragment,
        })
    }

    pub(super) fn is_v4_sum_right(&self, packet: &[u8]) -> bool {
        let header = usize::from(packet[0] & 0x0f) * 4;
        self.source.is_ipv6() || sum(&[&packet[..header]]) == 0xffff
    }

    /// `0xffff` where the checksum is right.
    pub(super) fn transport_sum(&self, payload: &[u8]) -> u16 {
        if self.protocol == IPPROTO_ICMP {
            sum(&[payload])
        } else {
            transport_sum(self.source, self.destination, self.protocol, &[payload])
        }
    }
}

fn slice<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
    *bytes.expect("invariant: the header is longer")
}
