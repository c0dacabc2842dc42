//! Who may send from behind a pod's interface.
//!
//! Policy judges by addresses, so what comes by a pod's interface under another's address is
//! dropped, where the agent knows whose interface it is. An address of the link goes no further than
//! the link, and is left to it; one that has no address yet asks all of the link for one (DHCP,
//! RFC 2131; duplicate address detection, RFC 4862).

use agent_abi::policy::{INTERFACE_BITS, InterfaceAddressV1, SOURCE_STRANGE};
use agent_abi::{Address, is_v4, mapped_v4};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::maps::lpm_trie::Key;

use crate::global::global;
use crate::kernel;
use crate::maps::{self, POLICY_INTERFACES_V1};
use crate::packet::same_address;

const WHOLE_ADDRESS_BITS: u32 = 128;
const NO_V4: Address = mapped_v4([0; 4]);
const EVERYBODY_V4: Address = mapped_v4([255; 4]);

global! {
    /// Whether the packet in the scratch space may come from where it comes: 1, or 0.
    fn source_may_come(skb: *mut __sk_buff) -> i32 {
        let Some(scratch) = maps::scratch() else {
            return 0;
        };
        let tuple = &scratch.packet.tuple;
        let key = InterfaceAddressV1 {
            interface: kernel::interface(skb),
            address: tuple.source,
        };
        let key = Key::new(INTERFACE_BITS + WHOLE_ADDRESS_BITS, key);
        let is_strange = POLICY_INTERFACES_V1.get(&key).is_some_and(|found| *found == SOURCE_STRANGE);
        i32::from(!is_strange || stays_on_the_link(&tuple.source, &tuple.destination))
    }
}

#[inline(always)]
fn stays_on_the_link(source: &Address, destination: &Address) -> bool {
    if is_v4(source) {
        return same_address(source, &NO_V4) && same_address(destination, &EVERYBODY_V4);
    }
    let is_link_local = |address: &Address| address[0] == 0xfe && address[1] & 0xc0 == 0x80;
    (is_link_local(source) || same_address(source, &[0; 16]))
        && (is_link_local(destination) || destination[0] == 0xff)
}
