//! Functions that the verifier walks once.
//!
//! It walks any other function anew for each state it is called in, and what follows for each state
//! it returns in, so the ways through a program multiply. A global function (kernel 5.6) it takes
//! for any context, any numbers and any answer; what else one needs and gives is in [`Scratch`].
//!
//! [`Scratch`]: crate::maps::Scratch

use agent_abi::counters::Counter;
use aya_ebpf::bindings::TC_ACT_SHOT;

use crate::flow;
use crate::maps::count;

/// Defines such functions: of the packet, and of plain numbers.
macro_rules! global {
    ($(
        $(#[$attribute:meta])*
        fn $name:ident($($argument:ident: $kind:ty),+) -> i32 $body:block
    )+) => {$(
        $(#[$attribute])*
        #[expect(unsafe_code, reason = "the kernel knows global functions by their symbols")]
        // SAFETY: no other symbol of the object has this name.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $name($($argument: $kind),+) -> i32 $body
    )+};
}
pub(crate) use global;

/// Turns an outcome into a verdict, and counts a drop by its reason. The program's entry tells of it
/// (`flow`), when it has left all functions that need room on the stack.
#[inline(always)]
pub(crate) fn verdict(outcome: Result<i32, Counter>) -> i32 {
    match outcome {
        Ok(verdict) => verdict,
        Err(reason) => {
            count(reason);
            flow::note(reason);
            TC_ACT_SHOT
        }
    }
}
