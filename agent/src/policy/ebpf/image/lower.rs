//! From tables and numbers to the exact keys and values of the maps.

use std::net::IpAddr;

use agent_abi::policy::{
    EndpointV1, IDENTITY_ANYBODY, IDENTITY_HOST, NO_SET, OUTCOME_ALLOW, OUTCOME_AUDIT_DENY,
    OUTCOME_DENY, PROTOCOL_BITS, VERDICT_BITS, VerdictKeyV1, VerdictV1,
};
use agent_abi::{Address, IPPROTO_ICMP, mapped_v4};
use ipnet::IpNet;

use super::{CLOSED, Image, Numbers, Prefix, VerdictPrefix, Verdicts};
use crate::desired::policy::{
    Entry, Identity, LocalPod, Match, Outcome, PolicySet, PolicyTables, SetKey,
};

/// The contents of the maps.
pub(super) fn lower(numbers: &Numbers, tables: &PolicyTables) -> Image {
    let mut image = Image::default();
    for (network, found) in tables.identities() {
        let number = identity(numbers, found);
        image.identities.insert(prefix(network), number);
    }
    // IPv4 lies within `::/0` as the maps have it, and not as policies mean it.
    if image.identities.keys().any(|(bits, _)| *bits < ALL_OF_V4.0) {
        let v4 = image.identities.entry(ALL_OF_V4);
        v4.or_insert(IDENTITY_ANYBODY);
    }
    for (key, set) in tables.sets() {
        put_set(&mut image.verdicts, numbers, key, set);
    }
    for network in tables.closed() {
        image.endpoints.insert(prefix(network), CLOSED);
    }
    for (address, pod) in tables.endpoints() {
        let prefix = prefix(&IpNet::from(*address));
        image.endpoints.insert(prefix, endpoint(numbers, pod));
    }
    image
}

/// All of IPv4 in mapped addresses.
pub(super) const ALL_OF_V4: Prefix = (96, mapped_v4([0; 4]));

pub(super) fn identity(numbers: &Numbers, identity: &Identity) -> u32 {
    match identity {
        Identity::Host => IDENTITY_HOST,
        Identity::Class(class) => numbers.class(class),
    }
}

pub(super) fn endpoint(numbers: &Numbers, pod: &LocalPod) -> EndpointV1 {
    let set = |key: &Option<_>| key.as_ref().map_or(NO_SET, |key| numbers.set(key));
    EndpointV1 {
        ingress: set(&pod.ingress),
        egress: set(&pod.egress),
        flags: 0,
        _pad: 0,
    }
}

/// Adds what a set says.
pub(super) fn put_set(verdicts: &mut Verdicts, numbers: &Numbers, key: &SetKey, set: &PolicySet) {
    let number = numbers.set(key);
    put_entries(verdicts, numbers, (number, IDENTITY_ANYBODY), &set.anybody);
    for (class, entries) in &set.classes {
        put_entries(verdicts, numbers, (number, numbers.class(class)), entries);
    }
}

/// Adds what a set says of an identity.
pub(super) fn put_entries(
    verdicts: &mut Verdicts,
    numbers: &Numbers,
    (set, identity): (u32, u32),
    entries: &[Entry],
) {
    for entry in entries {
        let (key, value) = verdict(numbers, set, identity, entry);
        verdicts.insert(key, value);
    }
}

/// A network in mapped addresses.
pub(super) fn prefix(network: &IpNet) -> Prefix {
    let bits = u32::from(network.prefix_len());
    match network.network() {
        IpAddr::V4(v4) => (96 + bits, mapped_v4(v4.octets())),
        IpAddr::V6(v6) => (bits, v6.octets()),
    }
}

pub(super) fn verdict(
    numbers: &Numbers,
    set: u32,
    identity: u32,
    entry: &Entry,
) -> (VerdictPrefix, VerdictV1) {
    let (protocol, port, more) = match entry.traffic {
        Match::Any => (0, 0, 0),
        Match::Icmp => (IPPROTO_ICMP, 0, PROTOCOL_BITS),
        Match::Ports {
            protocol,
            port,
            bits,
        } => (protocol.number(), port, PROTOCOL_BITS + u32::from(bits)),
    };
    let key = VerdictKeyV1 {
        set,
        identity,
        protocol,
        _pad: 0,
        port: port.to_be_bytes(),
    };
    let value = VerdictV1 {
        rule: numbers.rule(&entry.verdict.by),
        outcome: match entry.verdict.outcome {
            Outcome::Deny => OUTCOME_DENY,
            Outcome::Allow => OUTCOME_ALLOW,
            Outcome::AuditDeny => OUTCOME_AUDIT_DENY,
        },
        _pad: [0; 3],
    };
    ((key, VERDICT_BITS + more), value)
}

/// The value of the longest prefix that all of `prefix` is in.
pub(super) fn longest<T>(prefix: &Prefix, get: impl Fn(&Prefix) -> Option<T>) -> Option<T> {
    let (bits, address) = prefix;
    (0..=*bits)
        .rev()
        .find_map(|bits| get(&(bits, masked(*address, bits))))
}

fn masked(address: Address, bits: u32) -> Address {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    (u128::from_be_bytes(address) & mask).to_be_bytes()
}

/// What a set says of an identity.
pub(super) fn of_identity(
    verdicts: &Verdicts,
    set: u32,
    identity: u32,
) -> impl Iterator<Item = (&VerdictPrefix, &VerdictV1)> {
    let key = VerdictKeyV1 {
        set,
        identity,
        protocol: 0,
        _pad: 0,
        port: [0; 2],
    };
    let from = verdicts.range((key, 0)..);
    from.take_while(move |((key, _), _)| (key.set, key.identity) == (set, identity))
}

/// What a set says.
pub(super) fn of_set(
    verdicts: &Verdicts,
    set: u32,
) -> impl Iterator<Item = (&VerdictPrefix, &VerdictV1)> {
    let key = VerdictKeyV1 {
        set,
        identity: 0,
        protocol: 0,
        _pad: 0,
        port: [0; 2],
    };
    let from = verdicts.range((key, 0)..);
    from.take_while(move |((key, _), _)| key.set == set)
}
