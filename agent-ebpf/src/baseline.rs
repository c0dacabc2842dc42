//! The measure for the others: parses a packet's headers, makes one look-up, decides nothing.
//!
//! `baseline`, `baseline_in_memory` and `baseline_and_one` are tc classifiers (5.10) that
//! `fairlead-bench` runs beside the programs; the agent attaches them nowhere. They read `BASELINE` and
//! `CONNECTIONS_V3`; their verdict is always to continue.

use agent_abi::connection::TupleV1;
use agent_abi::mapped_v4;
use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::TcContext;

use crate::kernel;
use crate::maps::CONNECTIONS_V3;
use crate::packet::{LINK_HEADER, V6_HEADER};

/// Of the connection table's kind, small and empty.
#[map]
static BASELINE: LruHashMap<TupleV1, u64> = LruHashMap::with_max_entries(1024, 0);

const V4_WITH_PORTS: usize = 24;
const V4_WITHOUT_OPTIONS: u8 = 0x45;

/// tc ingress: the least that a program for Services does for a packet.
#[classifier]
pub(crate) fn baseline(context: TcContext) -> i32 {
    if let Some(tuple) = parse(&context) {
        // What counts is the time it takes.
        core::hint::black_box(BASELINE.get_ptr(&tuple));
    }
    TC_ACT_UNSPEC
}

/// tc ingress: the same with the connections' own table, which does not fit the processor's cache: of a
/// packet that nobody has seen before, the look-up waits for memory, as it does in the programs.
#[classifier]
pub(crate) fn baseline_in_memory(context: TcContext) -> i32 {
    if let Some(tuple) = parse(&context) {
        core::hint::black_box(CONNECTIONS_V3.get_ptr(&tuple));
    }
    TC_ACT_UNSPEC
}

/// tc ingress: the same and one look-up more, of the connections.
#[classifier]
pub(crate) fn baseline_and_one(context: TcContext) -> i32 {
    if let Some(tuple) = parse(&context) {
        core::hint::black_box(BASELINE.get_ptr(&tuple));
        core::hint::black_box(CONNECTIONS_V3.get_ptr(&tuple));
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn parse(context: &TcContext) -> Option<TupleV1> {
    let skb = context.skb.skb;
    match kernel::ether_type(skb) {
        [0x08, 0x00] => {
            let header: [u8; V4_WITH_PORTS] = kernel::load(skb, LINK_HEADER)?;
            let [version, .., s0, s1, d0, d1] = header;
            (version == V4_WITHOUT_OPTIONS).then(|| TupleV1 {
                source: mapped_v4([header[12], header[13], header[14], header[15]]),
                destination: mapped_v4([header[16], header[17], header[18], header[19]]),
                source_port: [s0, s1],
                destination_port: [d0, d1],
                protocol: header[9],
                _pad: [0; 3],
            })
        }
        [0x86, 0xdd] => {
            let [protocol] = kernel::load(skb, LINK_HEADER + 6)?;
            let [s0, s1, d0, d1] = kernel::load(skb, LINK_HEADER + V6_HEADER)?;
            Some(TupleV1 {
                source: kernel::load(skb, LINK_HEADER + 8)?,
                destination: kernel::load(skb, LINK_HEADER + 24)?,
                source_port: [s0, s1],
                destination_port: [d0, d1],
                protocol,
                _pad: [0; 3],
            })
        }
        _ => None,
    }
}
