//! Packets without ports of their own: ICMP, its errors, later fragments.

use agent_abi::connection::EPOCH_UNJUDGED;
use agent_abi::counters::Counter;
use agent_abi::policy::NO_RULE;
use agent_abi::{Address, IPPROTO_ICMPV6};
use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};

use super::{AS_IT_IS, UNDECIDED, judge, reason};
use crate::connections;
use crate::fragment;
use crate::kernel;
use crate::maps::Scratch;
use crate::packet::{Family, Packet, UNREADABLE, is_icmp, parse_at};
use crate::source_check::source_may_come;

const ICMP_HEADER: u32 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;

#[inline(always)]
pub(super) fn judge_other(
    skb: *mut __sk_buff,
    scratch: &mut Scratch,
    from_pod: bool,
) -> Result<i32, Counter> {
    match kernel::ether_type(skb) {
        [0x08, 0x00] | [0x86, 0xdd] => {}
        // The kernel keeps one tag outside the packet, so this is the second. A tag of VLAN 0 is taken
        // off behind this program, and what is left may be IP that nobody has judged.
        [0x81, 0x00] | [0x88, 0xa8] => return Err(Counter::DropUnsupported),
        _ => return Ok(TC_ACT_UNSPEC),
    }
    let packet = &mut scratch.packet;
    if packet.tuple.protocol == UNREADABLE {
        scratch.decided.rule = NO_RULE;
        scratch.decided.service = 0;
        return Err(reason(from_pod));
    }
    let mut answers = false;
    if packet.later {
        answers = fragment::recall(scratch).is_some();
    } else if is_icmp(packet.tuple.protocol) {
        let [kind, _, _, _, id0, id1, ..] =
            kernel::load::<8>(skb, packet.transport).unwrap_or([0xff; 8]);
        if is_of_the_link(packet, kind) {
            if from_pod && source_may_come(skb) == 0 {
                return Err(Counter::DropSpoofed);
            }
            return Ok(TC_ACT_UNSPEC);
        }
        packet.tuple.source_port = [id0, id1];
        packet.tuple.destination_port = [id0, id1];
        answers = match packet.family {
            Family::V4 => kind == ECHO_REPLY_V4,
            Family::V6 => kind == ECHO_REPLY_V6,
        };
        if packet.is_first_fragment() {
            fragment::remember(scratch);
        }
    }
    judge(skb, scratch, from_pod, AS_IT_IS, !answers)
}

#[inline(always)]
pub(super) fn judge_error(
    skb: *mut __sk_buff,
    scratch: &mut Scratch,
    from_pod: bool,
) -> Result<i32, Counter> {
    let Scratch {
        packet,
        inner,
        policy_key: key,
        ..
    } = scratch;
    let at = packet.transport + ICMP_HEADER;
    let _parsed = parse_at(skb, at, packet.family, inner);
    if is_icmp(inner.tuple.protocol) {
        let [_, _, _, _, id0, id1, ..] =
            kernel::load::<8>(skb, inner.transport).unwrap_or([0xff; 8]);
        inner.tuple.source_port = [id0, id1];
        inner.tuple.destination_port = [id0, id1];
    }
    if inner.tuple.protocol != UNREADABLE {
        if from_pod {
            connections::reverse(&inner.tuple, key);
        } else {
            *key = inner.tuple;
        }
        let known = connections::entry(key);
        if known.is_some_and(|(known, _)| known.epoch != EPOCH_UNJUDGED) {
            if from_pod && source_may_come(skb) == 0 {
                return Err(Counter::DropSpoofed);
            }
            return Ok(TC_ACT_UNSPEC);
        }
    }
    Ok(UNDECIDED)
}

/// Neighbour discovery and multicast listeners (RFC 4861, RFC 2710, RFC 3810), to or from addresses
/// that no router forwards: without them nothing leaves the pod.
#[inline(always)]
fn is_of_the_link(packet: &Packet, kind: u8) -> bool {
    packet.tuple.protocol == IPPROTO_ICMPV6
        && matches!(kind, 130..=137 | 143)
        && (of_the_link(&packet.tuple.source) || of_the_link(&packet.tuple.destination))
}

#[inline(always)]
fn of_the_link(address: &Address) -> bool {
    (address[0] == 0xfe && address[1] & 0xc0 == 0x80)
        || (address[0] == 0xff && address[1] & 0x0f == 2)
}
