//! Finding a free source port, by writing the entry of the replies.

use agent_abi::connection::{CONNECTION_ANSWERED, CONNECTION_CLOSING};
use agent_abi::counters::Counter;

use super::{
    SECOND, entry, insert_opening, is_brief, is_translated, lookup_opening, reverse, same, take,
};
use crate::maps::{self, Scratch};
use crate::source;

/// A connection that only one side has sent for holds its source port for this long; TCP gives up
/// on its first SYNs later, and its next one opens anew.
const OPENING_LIFETIME: u64 = 30 * SECOND;
/// Attempts to find a free source port; with half of all ports taken, one of 65,536 searches fails.
const PORT_ATTEMPTS: u32 = 16;
/// Of them, those that leave a connection that has ended its port for as long as is asked. When these
/// fail, ports are scarce, and one that is quiet has to do: a client that cannot connect waits for a
/// second. One side may still send after the other's FIN, but then it is not quiet.
const PATIENT_ATTEMPTS: u32 = 6;
const QUIET: u64 = 2 * SECOND;

/// Which packet of a connection the replies' entry was written for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first.
    First,
    /// The client's second one, before any reply.
    Again,
    /// Of a connection that is there.
    Known,
}

/// Inserts the reply's entry. Where its key is taken by another connection (one backend behind two
/// Services, or a port of the node in use), other source ports are tried.
#[inline(never)]
pub(crate) fn reserve(
    scratch: &mut Scratch,
    keep_port: bool,
    may_be_known: bool,
) -> Result<Place, Counter> {
    let Scratch {
        forward,
        reply,
        reply_key: key,
        now,
        ..
    } = scratch;
    let (reply, now) = (&*reply, *now);
    let settings = maps::settings().ok_or(Counter::DropFailed)?;
    let closing_lifetime = u64::from(settings.tcp_closing_seconds) * SECOND;
    let lifetime = u64::from(if is_brief(reply.rewrite.protocol) {
        settings.udp_seconds
    } else {
        settings.tcp_seconds
    }) * SECOND;
    let ports = source::Ports::of(&reply.rewrite);
    for attempt in 0..PORT_ATTEMPTS {
        if attempt > 0 || !keep_port {
            forward.rewrite.source_port = ports.nth(attempt);
        }
        reverse(&forward.rewrite, key);
        // The insertion would tell that there is none, but it takes a lock, and waits for memory
        // before; two look-ups in a row wait for it together.
        let holder = match entry(key) {
            Some((holder, _)) if is_translated(holder) => holder,
            Some(_) if take(key, reply) => return Ok(Place::First),
            Some(_) => return Err(Counter::DropTableFull),
            None if insert_opening(key, reply) => return Ok(Place::First),
            // What took the place in between is gone again, or the table takes nothing.
            None => lookup_opening(key).ok_or(Counter::DropTableFull)?,
        };
        let idle = now.saturating_sub(holder.last_seen);
        let is_ours = same(&holder.rewrite, &reply.rewrite);
        let is_open = holder.flags & (CONNECTION_CLOSING | CONNECTION_ANSWERED) == 0;
        let waits = if holder.flags & CONNECTION_CLOSING != 0 {
            if attempt < PATIENT_ATTEMPTS {
                closing_lifetime
            } else {
                closing_lifetime.min(QUIET)
            }
        } else if is_open {
            // In the table of those that work, all have the bit for an answer.
            OPENING_LIFETIME
        } else {
            lifetime
        };
        let is_over = idle > waits || holder.flags & CONNECTION_CLOSING != 0;
        if is_ours && !is_over && may_be_known {
            return Ok(Place::Known);
        }
        if is_ours || idle > waits {
            if !take(key, reply) {
                return Err(Counter::DropTableFull);
            }
            return Ok(if is_ours && is_open && !is_over {
                Place::Again
            } else {
                Place::First
            });
        }
    }
    Err(Counter::DropNoPort)
}
