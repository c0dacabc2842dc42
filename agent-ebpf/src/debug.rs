//! A line for each packet, for who debugs the programs: the feature `debug`, which the object of
//! `--debug-programs` has. Without it there is nothing of this in the programs.

use aya_ebpf::bindings::__sk_buff;
use aya_log_ebpf::debug;

use crate::global::global;
use crate::{kernel, maps};

/// The macros take a context, and do not look at it.
const NO_CONTEXT: () = ();

global! {
    /// Says what became of the packet. The answer says nothing.
    fn say_verdict(skb: *mut __sk_buff, place: u32, verdict: i32) -> i32 {
        let Some(scratch) = maps::scratch() else {
            return 0;
        };
        let tuple = &scratch.packet.tuple;
        debug!(
            &NO_CONTEXT,
            "place {} interface {} protocol {} {:i} {} > {:i} {} verdict {}",
            place,
            kernel::interface(skb),
            tuple.protocol,
            tuple.source,
            u16::from_be_bytes(tuple.source_port),
            tuple.destination,
            u16::from_be_bytes(tuple.destination_port),
            verdict
        );
        0
    }

    /// Says what policy decides on the connection in the scratch space: 0 it passes, 1 it is audited,
    /// 2 it is dropped. The answer says nothing.
    fn say_decided(decision: u32) -> i32 {
        let Some(scratch) = maps::scratch() else {
            return 0;
        };
        debug!(
            &NO_CONTEXT,
            "policy of {:i} with {:i}: rule {} decision {}",
            scratch.policy_key.source,
            scratch.policy.peer,
            scratch.decided.rule,
            decision
        );
        0
    }
}
