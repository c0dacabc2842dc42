//! A switch, for the labs of tests and `fairlead-bench`: frames go from one interface to another as they are.
//!
//! Hook: XDP, 5.10; the agent attaches it nowhere. It reads `WIRE`. Without an interface there it passes
//! everything: a veth takes what other drivers send where it has a program.

use agent_abi::wire::WireV1;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;

use crate::{frame, services};

#[map]
static WIRE: Array<WireV1> = Array::with_max_entries(1, 0);

/// XDP of a link: IPv4 goes on by another one.
#[xdp]
pub(crate) fn wire(context: XdpContext) -> u32 {
    cross(&context).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn cross(context: &XdpContext) -> Option<u32> {
    let to = services::read(WIRE.get_ptr(0))?;
    let kind: [u8; 2] = frame::load(context.ctx, 12)?;
    if to.interface == 0 || kind != [0x08, 0x00] {
        return None;
    }
    frame::store(context.ctx, 0, &to.receiver)?;
    frame::store(context.ctx, 6, &to.sender)?;
    Some(frame::redirect(to.interface))
}
