//! A connection that is being opened: who has answered, and when it moves to those that work.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_FORWARD, CONNECTION_TUNNEL, ConnectionV3, EPOCH_UNJUDGED,
};
use agent_abi::counters::Counter;
use aya_ebpf::bindings::BPF_ANY;

use super::{
    SECOND, answers, clear_verdict, copy_verdict, lookup_opening, must_reopen, remove,
    remove_opening, reverse, take, translated,
};
use crate::global::global;
use crate::maps::{self, CONNECTIONS_V3, Scratch, count};

/// Where a connection that is being opened stands. One side alone has sent, or the client has not shown
/// that it receives.
pub(super) const WAITS: i32 = 0;
/// Both sides have sent, and the client has shown that it receives: its segment after the other side's.
/// For what is no TCP, the other side's own packet is enough. Of a tunnelled connection the answers are
/// not seen here: what is no TCP has to go on for a second, which a flood from forged addresses does not.
pub(super) const ANSWERED: i32 = 1;
/// The packet is of a backend that a packet of the client went to, but the connection is another one's:
/// the set has changed between two of them. What is not translated the client refuses. The entry stays,
/// so that what the client sends again goes to the other one.
const STALE: i32 = 2;

global! {
    /// What the packet makes of its connection, which is being opened. The first reply writes the
    /// client's entry: whose backend answers first has the connection.
    fn opening_progress(protocol: u32) -> i32 {
        let is_tcp = protocol == u32::from(IPPROTO_TCP);
        let answer = maps::scratch().and_then(|scratch| progress(scratch, is_tcp));
        answer.unwrap_or(WAITS)
    }
}

#[inline(always)]
fn progress(scratch: &mut Scratch, is_tcp: bool) -> Option<i32> {
    let Scratch {
        packet,
        reply: restored,
        reply_key: forward_key,
        now,
        ..
    } = scratch;
    let connection = lookup_opening(&packet.tuple)?;
    if connection.flags & CONNECTION_FORWARD != 0 {
        let is_tunnelled = connection.flags & CONNECTION_TUNNEL != 0;
        let follows = if is_tcp {
            let answered = is_tunnelled || connection.flags & CONNECTION_ANSWERED != 0;
            answered && !packet.opens() && !packet.closes()
        } else {
            is_tunnelled && now.saturating_sub(connection.last_seen) >= SECOND
        };
        return Some(if follows { ANSWERED } else { WAITS });
    }
    reverse(&connection.rewrite, forward_key);
    if let Some(known) = translated(forward_key) {
        let is_its_own = answers(&packet.tuple, &known.rewrite);
        if must_reopen(packet, known, *now) {
            if !is_its_own {
                remove(&known.rewrite.reversed());
            }
            remove(forward_key);
        } else if is_its_own {
            known.flags |= CONNECTION_ANSWERED;
            return Some(if is_tcp { WAITS } else { ANSWERED });
        } else if known.flags & CONNECTION_ANSWERED != 0 {
            return Some(STALE);
        }
    }
    if !is_tcp {
        return Some(ANSWERED);
    }
    *restored = *connection;
    reverse(&packet.tuple, &mut restored.rewrite);
    restored.flags |= CONNECTION_FORWARD | CONNECTION_ANSWERED;
    clear_verdict(restored);
    // Where it fails, so does the connection: the client's next segment opens none.
    let _taken = take(forward_key, restored);
    Some(WAITS)
}

/// Moves a pair to the table of connections that work.
#[inline(never)]
pub(super) fn promote(scratch: &mut Scratch, connection: &ConnectionV3, now: u64) {
    scratch.forward = *connection;
    scratch.forward.last_seen = now;
    scratch.forward.flags |= CONNECTION_ANSWERED;
    let any = u64::from(BPF_ANY);
    // Where the table refuses, the pair stays where it is, and works.
    if CONNECTIONS_V3
        .insert(&scratch.packet.tuple, &scratch.forward, any)
        .is_err()
    {
        return;
    }
    if connection.flags & CONNECTION_TUNNEL == 0 {
        reverse(&scratch.forward.rewrite, &mut scratch.reply_key);
        scratch.reply = scratch.forward;
        reverse(&scratch.packet.tuple, &mut scratch.reply.rewrite);
        scratch.reply.flags ^= CONNECTION_FORWARD;
        if maps::policy_epoch() != EPOCH_UNJUDGED {
            // It is of another pod than that of the first entry.
            match lookup_opening(&scratch.reply_key) {
                Some(other) => copy_verdict(other, &mut scratch.reply),
                None => clear_verdict(&mut scratch.reply),
            }
        }
        // The first entry restores the second where this fails.
        let _other = CONNECTIONS_V3.insert(&scratch.reply_key, &scratch.reply, any);
        remove_opening(&scratch.reply_key);
    }
    remove_opening(&scratch.packet.tuple);
    count(Counter::ConnectionsPromoted);
}
