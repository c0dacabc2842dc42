//! What policy says of a packet, once it is known who sends what to whom.
//!
//! Reads the policy tables (`agent_abi::policy`); knows neither packets nor connections.

use agent_abi::connection::TupleV1;
use agent_abi::policy::{
    ENDPOINT_CLOSED, EndpointV1, IDENTITY_ANYBODY, IDENTITY_HOST, NO_RULE, NO_SET, OUTCOME_ALLOW,
    OUTCOME_AUDIT_DENY, PolicyAddressV1, VerdictKeyV1, VerdictV1, WHOLE_VERDICT_BITS,
};
use agent_abi::{Address, IPPROTO_ICMP, IPPROTO_ICMPV6};
use aya_ebpf::maps::lpm_trie::Key;

use crate::maps::{POLICY_ENDPOINTS_V1, POLICY_IDENTITIES_V1, POLICY_VERDICTS_V1};

const WHOLE_ADDRESS_BITS: u32 = 128;

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    /// It passes, and an audited policy would drop it.
    Audit,
    Deny,
}

/// The same, and the rule that says so.
pub(crate) type Decided = (Decision, u32);

/// Decides on what goes from `pod` to `peer`, or the other way. `port` is that of who receives,
/// network order. Nothing goes for a pod that is not known, unless its network is closed.
#[inline(always)]
pub(crate) fn decide(
    from_pod: bool,
    pod: &Address,
    peer: &Address,
    traffic: (u8, [u8; 2]),
) -> Decided {
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
