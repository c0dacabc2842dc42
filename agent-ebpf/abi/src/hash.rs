//! The hash that asks a ring. Every node computes the same.

use crate::Address;
use crate::connection::TupleV1;
use crate::service::{SERVICE_HASH_DESTINATION, SERVICE_HASH_PORT, SERVICE_HASH_SOURCE};

/// Hashes what `flags` (`SERVICE_HASH_*`) name of a packet; the protocol always counts.
#[inline(always)]
pub fn of_packet(tuple: &TupleV1, flags: u32) -> u32 {
    let mut state = u32::from(tuple.protocol) | 0x5eed_0000;
    if flags & SERVICE_HASH_SOURCE != 0 {
        state = mix_address(state, &tuple.source);
    }
    let mut ports = 0;
    if flags & SERVICE_HASH_PORT != 0 {
        ports |= u32::from(u16::from_be_bytes(tuple.source_port));
    }
    if flags & SERVICE_HASH_DESTINATION != 0 {
        state = mix_address(state, &tuple.destination);
        ports |= u32::from(u16::from_be_bytes(tuple.destination_port)) << 16;
    }
    finish(mix(state, ports))
}

/// Hashes all of a packet's five-tuple, for a Service: what one of them chooses says nothing of what
/// another does.
#[inline(always)]
pub fn of_connection(tuple: &TupleV1, service: u32) -> u32 {
    let state = mix_address(mix_address(service, &tuple.source), &tuple.destination);
    let ([s0, s1], [d0, d1]) = (tuple.source_port, tuple.destination_port);
    let state = mix(state, u32::from_be_bytes([s0, s1, d0, d1]));
    finish(mix(state, u32::from(tuple.protocol)))
}

#[inline(always)]
fn mix_address(state: u32, a: &Address) -> u32 {
    let mut state = mix(state, u32::from_be_bytes([a[0], a[1], a[2], a[3]]));
    state = mix(state, u32::from_be_bytes([a[4], a[5], a[6], a[7]]));
    state = mix(state, u32::from_be_bytes([a[8], a[9], a[10], a[11]]));
    mix(state, u32::from_be_bytes([a[12], a[13], a[14], a[15]]))
}

/// One round of MurmurHash3's 32-bit body.
#[inline(always)]
pub fn mix(state: u32, word: u32) -> u32 {
    let word = word
        .wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593);
    (state ^ word)
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}

/// MurmurHash3's finalizer: every bit of the input moves half of the output's.
#[inline(always)]
pub fn finish(state: u32) -> u32 {
    let state = (state ^ (state >> 16)).wrapping_mul(0x85eb_ca6b);
    let state = (state ^ (state >> 13)).wrapping_mul(0xc2b2_ae35);
    state ^ (state >> 16)
}
