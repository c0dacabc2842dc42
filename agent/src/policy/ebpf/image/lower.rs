//! From tables and numbers to the exact keys and values of the maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_abi::policy::{
    ENDPOINT_CLOSED, EndpointV1, IDENTITY_ANYBODY, IDENTITY_HOST, NO_SET, OUTCOME_ALLOW,
    OUTCOME_AUDIT_DENY, OUTCOME_DENY, PROTOCOL_BITS, VERDICT_BITS, VerdictKeyV1, VerdictV1,
};
use agent_abi::{Address, IPPROTO_ICMP, mapped_v4};
use ipnet::{IpNet, Ipv4Net};

use super::{Image, Numbers, Prefix, VerdictPrefix};
use crate::desired::policy::{Entry, Identity, Match, Outcome, PolicyTables};

/// The contents of the maps.
pub(super) fn lower(numbers: &Numbers, tables: &PolicyTables) -> Image {
    let mut image = Image::default();
    for (network, identity) in tables.identities() {
        let number = match identity {
            Identity::Host => IDENTITY_HOST,
            Identity::Class(class) => numbers.class(class),
        };
        image.identities.insert(prefix(network), number);
    }
    // IPv4 lies within `::/0` as the maps have it, and not as policies mean it.
    let v4 = prefix(&IpNet::V4(Ipv4Net::default()));
    if image.identities.keys().any(|(bits, _)| *bits < v4.0) {
        image.identities.entry(v4).or_insert(IDENTITY_ANYBODY);
    }
    for (key, set) in tables.sets() {
        let number = numbers.set(key);
        let mut put = |identity, entries: &[Entry]| {
            for entry in entries {
                let (key, value) = verdict(numbers, number, identity, entry);
                image.verdicts.insert(key, value);
            }
        };
        put(IDENTITY_ANYBODY, &set.anybody);
        for (class, entries) in &set.classes {
            put(numbers.class(class), entries);
        }
    }
    for network in tables.closed() {
        let endpoint = EndpointV1 {
            ingress: NO_SET,
            egress: NO_SET,
            flags: ENDPOINT_CLOSED,
            _pad: 0,
        };
        image.endpoints.insert(prefix(network), endpoint);
    }
    for (address, pod) in tables.endpoints() {
        let set = |key: &Option<_>| key.as_ref().map_or(NO_SET, |key| numbers.set(key));
        let endpoint = EndpointV1 {
            ingress: set(&pod.ingress),
            egress: set(&pod.egress),
            flags: 0,
            _pad: 0,
        };
        image
            .endpoints
            .insert(prefix(&IpNet::from(*address)), endpoint);
    }
    image
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
pub(super) fn longest<'a, T>(map: &'a BTreeMap<Prefix, T>, prefix: &Prefix) -> Option<&'a T> {
    let (bits, address) = prefix;
    (0..=*bits)
        .rev()
        .find_map(|bits| map.get(&(bits, masked(*address, bits))))
}

fn masked(address: Address, bits: u32) -> Address {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    (u128::from_be_bytes(address) & mask).to_be_bytes()
}

/// What a set says of an identity.
pub(super) fn of_identity(
    verdicts: &BTreeMap<VerdictPrefix, VerdictV1>,
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
    verdicts: &BTreeMap<VerdictPrefix, VerdictV1>,
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
