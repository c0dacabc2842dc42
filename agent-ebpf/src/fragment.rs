//! Fragments: what the first one says of the ports is kept for the later ones.

use agent_abi::connection::{FragmentKeyV1, FragmentV1};

use crate::maps::{FRAGMENTS_V2, Scratch};
use crate::packet::Packet;

/// Keeps the ports of a first fragment.
#[inline(always)]
pub(crate) fn remember(scratch: &mut Scratch) {
    let Scratch {
        packet, fragment, ..
    } = scratch;
    key(packet, fragment);
    let value = FragmentV1 {
        source_port: packet.tuple.source_port,
        destination_port: packet.tuple.destination_port,
    };
    // Without it the later fragments pass untranslated, and the packet is lost, as IP allows.
    let _kept = FRAGMENTS_V2.insert(&*fragment, &value, 0);
}

/// Gives a later fragment the ports of its first one; `None` where that was not seen.
#[inline(always)]
pub(crate) fn recall(scratch: &mut Scratch) -> Option<()> {
    let Scratch {
        packet, fragment, ..
    } = scratch;
    key(packet, fragment);
    let found = FRAGMENTS_V2
        .get_ptr(&*fragment)
        .map(crate::kernel::fragment)?;
    packet.tuple.source_port = found.source_port;
    packet.tuple.destination_port = found.destination_port;
    Some(())
}

#[inline(always)]
fn key(packet: &Packet, key: &mut FragmentKeyV1) {
    key.source = packet.tuple.source;
    key.destination = packet.tuple.destination;
    key.identification = packet.identification;
    key.protocol = packet.tuple.protocol;
    key._pad = [0; 3];
}
