//! The policy tables: who is the peer, which rules go for the pod, what do they say.
//!
//! A packet of a new connection to or from a pod of this node asks
//! `POLICY_ENDPOINTS_V1[pod's address]` → the set of its direction; `POLICY_IDENTITIES_V1[peer's
//! address]` → identity; `POLICY_VERDICTS_V1[set, identity, protocol, port]`, and where there is
//! nothing, the same with [`IDENTITY_ANYBODY`]. A set that has any entry for an identity has all
//! of them, so the first answer is final. Where both have nothing, the packet is dropped: that is
//! a set that was never written.
//!
//! Between a pod and [`IDENTITY_HOST`] everything passes, before any set is asked.
//!
//! Nothing that a packet may be using is ever edited to mean something else. Ids of sets, of
//! identities and of rules are never used twice ([`ALLOCATOR_MAP`]). New rules are a new set:
//! its entries are written first, then one write to the endpoint switches the pod, then the old
//! entries go. There is no generation number and no bank: the id of the set is both.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Longest-prefix trie: [`PolicyAddressV1`] → identity (`u32`).
pub const IDENTITIES_MAP: &str = "POLICY_IDENTITIES_V1";
/// Longest-prefix trie: [`VerdictKeyV1`] → [`VerdictV1`].
pub const VERDICTS_MAP: &str = "POLICY_VERDICTS_V1";
/// Longest-prefix trie: [`PolicyAddressV1`] → [`EndpointV1`]. Addresses of pods, and networks of
/// pods that are closed to those that are not known.
pub const ENDPOINTS_MAP: &str = "POLICY_ENDPOINTS_V1";
/// Array of three `u32`: the next free ids. Written before the ids are used, so a crash skips ids
/// and never repeats one.
pub const ALLOCATOR_MAP: &str = "POLICY_ALLOCATOR_V1";

/// Array of one `u32`: goes up with every change of the tables, once it is whole. A connection that
/// was let through before (`agent_abi::connection`) is judged again.
pub const EPOCH_MAP: &str = "POLICY_EPOCH_V1";

/// Per-CPU hash: [`RuleKeyV1`] → [`RuleV1`].
pub const RULES_MAP: &str = "POLICY_RULES_V1";
/// Longest-prefix trie: [`InterfaceAddressV1`] → `SOURCE_*` (`u32`): what may come from behind a
/// pod's interface. Where there is nothing, nobody knows who is behind it, and everything may.
pub const INTERFACES_MAP: &str = "POLICY_INTERFACES_V1";

/// Index of the next identity in [`ALLOCATOR_MAP`].
pub const NEXT_IDENTITY: u32 = 0;
/// Index of the next set in [`ALLOCATOR_MAP`].
pub const NEXT_SET: u32 = 1;
/// Index of the next rule in [`ALLOCATOR_MAP`].
pub const NEXT_RULE: u32 = 2;
/// Elements of [`ALLOCATOR_MAP`].
pub const ALLOCATORS: u32 = 3;

/// Whoever has no entry in [`IDENTITIES_MAP`], and in [`VERDICTS_MAP`] whoever has none of his own.
pub const IDENTITY_ANYBODY: u32 = 0;
/// The node itself.
pub const IDENTITY_HOST: u32 = 1;
/// First identity that is allocated.
pub const FIRST_IDENTITY: u32 = 2;
/// In [`EndpointV1`]: no rules, everything passes.
pub const NO_SET: u32 = 0;
/// In [`VerdictV1`]: no rule decides.
pub const NO_RULE: u32 = 0;

/// Data of the keys of [`IDENTITIES_MAP`] and [`ENDPOINTS_MAP`]; the prefix counts the bits of the
/// mapped address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct PolicyAddressV1 {
    /// Address.
    pub address: Address,
}

/// Data of the keys of [`VERDICTS_MAP`]. The prefix counts [`VERDICT_BITS`], [`PROTOCOL_BITS`]
/// more where the protocol counts, and bits of the port where that counts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct VerdictKeyV1 {
    /// Set.
    pub set: u32,
    /// Identity of the peer.
    pub identity: u32,
    /// IANA number; that of ICMP for ICMPv6 too.
    pub protocol: u8,
    /// Zero.
    pub _pad: u8,
    /// Port of who receives, network order; zero for ICMP.
    pub port: [u8; 2],
}

/// Bits of set and identity.
pub const VERDICT_BITS: u32 = 64;
/// Bits of the protocol, and of what lies between it and the port.
pub const PROTOCOL_BITS: u32 = 16;
/// Bits of a whole key.
pub const WHOLE_VERDICT_BITS: u32 = 96;

/// Value of [`VERDICTS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct VerdictV1 {
    /// What decides, for reports.
    pub rule: u32,
    /// `OUTCOME_*`; what is none of them drops.
    pub outcome: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

/// The packet is dropped.
pub const OUTCOME_DENY: u8 = 0;
/// The packet passes.
pub const OUTCOME_ALLOW: u8 = 1;
/// The packet passes, and is reported as one that an audited policy would drop.
pub const OUTCOME_AUDIT_DENY: u8 = 2;

/// Key of [`RULES_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct RuleKeyV1 {
    /// Rule.
    pub rule: u32,
    /// Whether it was asked of a connection that the pod began: 0 or 1.
    pub begun_by_pod: u32,
}

/// Value of [`RULES_MAP`]: how often a rule decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RuleV1 {
    /// Connections that passed.
    pub allowed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Connections that passed, and an audited policy would drop.
    pub audited: u64,
}

/// Value of [`ENDPOINTS_MAP`]: one write switches both directions of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct EndpointV1 {
    /// Set for what comes in.
    pub ingress: u32,
    /// Set for what goes out.
    pub egress: u32,
    /// `ENDPOINT_*` bits.
    pub flags: u32,
    /// Zero.
    pub _pad: u32,
}

/// No pod is known at the address: nothing but the node passes, in either direction.
pub const ENDPOINT_CLOSED: u32 = 1;

/// Data of the keys of [`INTERFACES_MAP`]; the prefix counts [`INTERFACE_BITS`] and bits of the
/// mapped address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct InterfaceAddressV1 {
    /// Index of the interface.
    pub interface: u32,
    /// Source of what comes from there.
    pub address: Address,
}

/// Bits of the interface.
pub const INTERFACE_BITS: u32 = 32;
/// The source is one of the pod's addresses.
pub const SOURCE_OWN: u32 = 1;
/// It is not.
pub const SOURCE_STRANGE: u32 = 2;

const _: () = assert!(size_of::<InterfaceAddressV1>() == 20);
const _: () = assert!(size_of::<RuleKeyV1>() == 8 && size_of::<RuleV1>() == 24);
const _: () = assert!(size_of::<PolicyAddressV1>() == 16);
const _: () = assert!(size_of::<VerdictKeyV1>() == 12 && offset_of!(VerdictKeyV1, port) == 10);
const _: () = assert!(size_of::<VerdictV1>() == 8 && offset_of!(VerdictV1, outcome) == 4);
const _: () = assert!(size_of::<EndpointV1>() == 16 && offset_of!(EndpointV1, flags) == 8);
