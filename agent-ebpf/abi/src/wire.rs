//! Where `wire`, the bench's stand-in for a switch, sends frames.

use bytemuck::{Pod, Zeroable};

/// The one value of `WIRE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct WireV1 {
    /// The interface to send by; 0 for none.
    pub interface: u32,
    /// Ethernet address of the receiver.
    pub receiver: [u8; 6],
    /// Ethernet address of the sender.
    pub sender: [u8; 6],
}
