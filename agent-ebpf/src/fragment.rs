//! Fragments: what the first one says of the ports is kept for the later ones, and a later one that
//! comes before it is kept until it comes.
//!
//! A later fragment does not say whether it is a Service's, so all are held, as netfilter's connection
//! tracking does with all that passes. The first one remembers its ports, and then lets copies of what
//! is held come in anew behind it, each made of its own buffer; so nothing goes in circles while it
//! waits. What never gets its first one is driven out of `HELD`.

use agent_abi::connection::{FragmentKeyV1, FragmentV2};
use agent_abi::counters::Counter;
use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};

use crate::global::global;
use crate::kernel;
use crate::maps::{self, FRAGMENTS_V3, HELD, Scratch, count};
use crate::packet::{Family, Packet};

/// Longest packet that is held, with its link-layer header: Ethernet's usual 1514, and some more.
pub(crate) const LARGEST: u32 = 2048;
/// Fragments held of one packet: those of the largest one, at 1500 bytes each.
const SLOTS: u32 = 44;
/// Empty slots in a row that end a search. Slots are taken in order, but two fragments that come
/// with the first one, on three CPUs, can leave one of them empty.
const GAP: u32 = 2;

/// Key of `HELD`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct HeldKey {
    pub(crate) packet: FragmentKeyV1,
    /// Below [`SLOTS`].
    pub(crate) slot: u32,
    pub(crate) _pad: u32,
}

/// A packet.
#[repr(C)]
pub(crate) struct Held {
    /// Bytes of it.
    pub(crate) length: u32,
    /// From the link-layer header on.
    pub(crate) bytes: [u8; LARGEST as usize],
}

global! {
    /// [`begin`], on the packet in the scratch space; 0 where it fails.
    fn fragment_begin(skb: *mut __sk_buff) -> i32 {
        let begun = maps::scratch().map(|scratch| begin(skb, scratch));
        i32::from(begun == Some(Ok(())))
    }

    /// [`follow`], on the packet in the scratch space; the answer is a [`Later`].
    fn fragment_follow(skb: *mut __sk_buff, may_hold: u32) -> i32 {
        let scratch = maps::scratch();
        scratch.map_or(Later::Unknown, |scratch| follow(skb, scratch, may_hold != 0)) as i32
    }
}

/// What becomes of a later fragment.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Later {
    /// It passes.
    Unknown,
    /// It has its first one's ports.
    Known,
    /// It is kept; this copy goes.
    Held,
}

/// Keeps the ports of a first fragment.
#[inline(always)]
pub(crate) fn remember(scratch: &mut Scratch) {
    let Scratch { packet, held, .. } = scratch;
    key(packet, &mut held.packet);
    let value = FragmentV2 {
        source_port: packet.tuple.source_port,
        destination_port: packet.tuple.destination_port,
        protocol: packet.tuple.protocol,
        _pad: [0; 3],
    };
    // Without it the later fragments are not translated, and the packet is lost, as IP allows.
    let _kept = FRAGMENTS_V3.insert(&held.packet, &value, 0);
}

/// Gives a later fragment the ports of its first one; `None` where that was not seen.
#[inline(always)]
pub(crate) fn recall(scratch: &mut Scratch) -> Option<()> {
    let Scratch { packet, held, .. } = scratch;
    key(packet, &mut held.packet);
    let found = FRAGMENTS_V3.get_ptr(&held.packet).map(kernel::fragment)?;
    packet.tuple.source_port = found.source_port;
    packet.tuple.destination_port = found.destination_port;
    packet.tuple.protocol = found.protocol;
    Some(())
}

/// Lets the later fragments that came before this first one follow it. It need not be translated:
/// those of a packet to the node itself wait for it too.
#[inline(always)]
fn begin(skb: *mut __sk_buff, scratch: &mut Scratch) -> Result<(), Counter> {
    remember(scratch);
    let own = maps::room().ok_or(Counter::DropFailed)?;
    let key = &mut scratch.held;
    let (mut copied, mut missing) = (false, 0);
    for slot in 0..SLOTS {
        key.slot = slot;
        let Some(held) = HELD.get_ptr(&*key).map(kernel::held) else {
            missing += 1;
            if missing == GAP {
                break;
            }
            continue;
        };
        if !copied && kernel::copy(skb, own).is_none() {
            return Ok(());
        }
        copied = true;
        let ready = kernel::become_copy(skb, held).is_ok();
        // Where it cannot be removed it was another's by now, or has been taken back.
        if HELD.remove(&*key).is_ok() && ready && kernel::clone_in(skb).is_ok() {
            count(Counter::FragmentsReleased);
        }
    }
    if copied {
        kernel::become_copy(skb, own).map_err(|_| Counter::DropFailed)?;
    }
    Ok(())
}

/// Finds a later fragment's ports, or keeps it until they come.
#[inline(always)]
fn follow(skb: *mut __sk_buff, scratch: &mut Scratch, may_hold: bool) -> Later {
    if recall(scratch).is_some() {
        return Later::Known;
    }
    if !may_hold {
        return Later::Unknown;
    }
    hold(skb, scratch).unwrap_or_else(|| {
        count(Counter::FragmentsNotHeld);
        Later::Unknown
    })
}

#[inline(always)]
fn hold(skb: *mut __sk_buff, scratch: &mut Scratch) -> Option<Later> {
    let room = maps::room()?;
    kernel::copy(skb, room)?;
    for slot in 0..SLOTS {
        let key = &mut scratch.held;
        key.slot = slot;
        // An insertion that fails drives out another's all the same.
        if HELD.get_ptr(&*key).is_some()
            || HELD.insert(&*key, &*room, u64::from(BPF_NOEXIST)).is_err()
        {
            continue;
        }
        // The first one may have come on another CPU, and have found nothing here.
        let late = recall(scratch).is_some();
        if late && HELD.remove(&scratch.held).is_ok() {
            return Some(Later::Known);
        }
        count(Counter::FragmentsHeld);
        return Some(Later::Held);
    }
    None
}

#[inline(always)]
fn key(packet: &Packet, key: &mut FragmentKeyV1) {
    key.source = packet.tuple.source;
    key.destination = packet.tuple.destination;
    key.identification = packet.identification;
    key.protocol = match packet.family {
        Family::V4 => packet.tuple.protocol,
        Family::V6 => 0,
    };
    key._pad = [0; 3];
}
