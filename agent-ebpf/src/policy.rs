//! What policy says of a packet, once it is known who sends what to whom.
//!
//! Reads the policy tables (`agent_abi::policy`); knows neither packets nor connections.

use agent_abi::connection::{EPOCH_UNJUDGED, TupleV1};
use agent_abi::policy::{
    ENDPOINT_CLOSED, EndpointV1, IDENTITY_ANYBODY, IDENTITY_HOST, NO_RULE, NO_SET, OUTCOME_ALLOW,
    OUTCOME_AUDIT_DENY, PolicyAddressV1, VerdictKeyV1, VerdictV1, WHOLE_VERDICT_BITS,
};
use agent_abi::{Address, IPPROTO_ICMP, IPPROTO_ICMPV6, hash};
use aya_ebpf::maps::lpm_trie::Key;

use crate::kernel;
use crate::maps::{DECISIONS, POLICY_ENDPOINTS_V1, POLICY_IDENTITIES_V1, POLICY_VERDICTS_V1};
use crate::packet::same_address;
use crate::route::words;

const WHOLE_ADDRESS_BITS: u32 = 128;

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Decision {
    Allow,
    /// It passes, and an audited policy would drop it.
    Audit,
    Deny,
}

/// The same, and the rule that says so.
pub(crate) type Decided = (Decision, u32);

/// A decision, and what it was about. A program run owns it, as the scratch space.
#[repr(C)]
pub(crate) struct KeptDecision {
    pod: Address,
    peer: Address,
    /// Direction, protocol, port.
    asked: u32,
    /// Epoch of the tables; [`EPOCH_UNJUDGED`] where nothing is kept.
    epoch: u32,
    decision: Decision,
    rule: u32,
}

/// Slots of a CPU; a power of two. Decisions that share one are made each time.
pub(crate) const KEPT_DECISIONS: u32 = 1024;

/// The same as [`decide`] as of `epoch`, which was read before: the tables are tries, and four questions
/// to them take longer than all else that a new connection takes.
#[inline(always)]
pub(crate) fn decide_as_before(
    from_pod: bool,
    pod: &Address,
    peer: &Address,
    traffic: (u8, [u8; 2]),
    epoch: u32,
) -> Decided {
    let (protocol, [p0, p1]) = traffic;
    let asked = u32::from_be_bytes([u8::from(from_pod), protocol, p0, p1]);
    let slot = hash::finish(hash::mix(folded(pod, asked), folded(peer, 0))) % KEPT_DECISIONS;
    let Some(kept) = DECISIONS.get_ptr_mut(slot).map(kernel::of_this_cpu) else {
        return decide(from_pod, pod, peer, traffic);
    };
    let is_kept = kept.epoch == epoch
        && epoch != EPOCH_UNJUDGED
        && kept.asked == asked
        && same_address(&kept.pod, pod)
        && same_address(&kept.peer, peer);
    if !is_kept {
        (kept.decision, kept.rule) = decide(from_pod, pod, peer, traffic);
        kept.pod = *pod;
        kept.peer = *peer;
        kept.asked = asked;
        kept.epoch = epoch;
    }
    (kept.decision, kept.rule)
}

#[inline(always)]
fn folded(address: &Address, with: u32) -> u32 {
    let [a, b, c, d] = words(address);
    a ^ b ^ c ^ d ^ with
}

/// Decides on what goes from `pod` to `peer`, or the other way. `port` is that of who receives,
/// network order. Nothing goes for a pod that is not known, unless its network is closed.
#[inline(always)]
fn decide(from_pod: bool, pod: &Address, peer: &Address, traffic: (u8, [u8; 2])) -> Decided {
    let Some(endpoint) = endpoint(pod) else {
        return (Decision::Allow, NO_RULE);
    };
    let identity = identity(peer);
    if identity == IDENTITY_HOST {
        return (Decision::Allow, NO_RULE);
    }
    if endpoint.flags & ENDPOINT_CLOSED != 0 {
        return (Decision::Deny, NO_RULE);
    }
    let set = if from_pod {
        endpoint.egress
    } else {
        endpoint.ingress
    };
    if set == NO_SET {
        return (Decision::Allow, NO_RULE);
    }
    let found = verdict(set, identity, traffic);
    let Some(found) = found.or_else(|| verdict(set, IDENTITY_ANYBODY, traffic)) else {
        return (Decision::Deny, NO_RULE);
    };
    let decision = match found.outcome {
        OUTCOME_ALLOW => Decision::Allow,
        OUTCOME_AUDIT_DENY => Decision::Audit,
        _ => Decision::Deny,
    };
    (decision, found.rule)
}

/// What a connection asks for: its protocol, and the port of who receives.
#[inline(always)]
pub(crate) fn traffic(tuple: &TupleV1, port: [u8; 2]) -> (u8, [u8; 2]) {
    match tuple.protocol {
        IPPROTO_ICMP | IPPROTO_ICMPV6 => (IPPROTO_ICMP, [0; 2]),
        protocol => (protocol, port),
    }
}

#[inline(always)]
fn endpoint(pod: &Address) -> Option<&'static EndpointV1> {
    POLICY_ENDPOINTS_V1.get(&whole(pod))
}

#[inline(always)]
fn identity(peer: &Address) -> u32 {
    let found = POLICY_IDENTITIES_V1.get(&whole(peer));
    found.copied().unwrap_or(IDENTITY_ANYBODY)
}

#[inline(always)]
fn whole(address: &Address) -> Key<PolicyAddressV1> {
    Key::new(WHOLE_ADDRESS_BITS, PolicyAddressV1 { address: *address })
}

#[inline(always)]
fn verdict(set: u32, identity: u32, (protocol, port): (u8, [u8; 2])) -> Option<&'static VerdictV1> {
    let key = VerdictKeyV1 {
        set,
        identity,
        protocol,
        _pad: 0,
        port,
    };
    POLICY_VERDICTS_V1.get(&Key::new(WHOLE_VERDICT_BITS, key))
}
