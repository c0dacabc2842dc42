//! From an address and port to a backend.

use agent_abi::Address;
use agent_abi::service::{BackendV1, FrontendKeyV1, FrontendV1};

use crate::kernel;
use crate::maps::{BACKENDS_V1, FRONTENDS_V1, SERVICES_V1, SLOTS_V1};

/// How often a choice is repeated when the agent shrinks the service at the same moment: between
/// reading the number of slots and reading the slot, at most one write of the agent fits.
const ATTEMPTS: u32 = 4;

/// Where a new connection goes.
pub(crate) enum Choice {
    /// To this backend.
    Backend {
        id: u32,
        backend: &'static BackendV1,
    },
    /// Nowhere: the Service has no endpoint.
    NoEndpoint,
    /// The tables changed under every attempt.
    Unsettled,
}

/// The frontend at an address and port.
#[inline(always)]
pub(crate) fn frontend(
    address: Address,
    port: [u8; 2],
    protocol: u8,
) -> Option<&'static FrontendV1> {
    let key = FrontendKeyV1 {
        address,
        port,
        protocol,
        _pad: 0,
    };
    read(FRONTENDS_V1.get_ptr(&key))
}

/// Chooses a backend at random.
#[inline(always)]
pub(crate) fn choose(service: u32) -> Choice {
    for _ in 0..ATTEMPTS {
        let Some(found) = read(SERVICES_V1.get_ptr(&service)) else {
            return Choice::NoEndpoint;
        };
        if found.slots == 0 {
            return Choice::NoEndpoint;
        }
        let key = agent_abi::service::SlotKeyV1 {
            service,
            slot: kernel::random() % found.slots,
        };
        let Some(id) = read(SLOTS_V1.get_ptr(&key)) else {
            continue;
        };
        if let Some(backend) = backend(*id) {
            return Choice::Backend { id: *id, backend };
        }
    }
    Choice::Unsettled
}

/// A backend that is still in force.
#[inline(always)]
pub(crate) fn backend(id: u32) -> Option<&'static BackendV1> {
    read(BACKENDS_V1.get_ptr(&id))
}

#[expect(unsafe_code, reason = "map values are raw pointers")]
#[inline(always)]
fn read<T>(value: Option<*const T>) -> Option<&'static T> {
    // SAFETY: the pointer comes from a lookup of this program run in a map that is not
    // preallocated, so its memory is not reused before the run ends (RCU); the agent replaces
    // elements whole and the programs do not write them.
    value.map(|value| unsafe { &*value })
}
