//! From the rules that concern a peer to entries of a longest-prefix table.
//!
//! Of a protocol, the verdict is a step function of the port. The verdict of most ports becomes
//! one entry, each step that differs becomes prefixes of the port: at most 30 a range. What goes
//! for every protocol is one entry.

use std::sync::Arc;

use model::{Protocol, Tier};

use super::rules::{Action, PortRange, Reason, Rule};

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verdict {
    /// What becomes of it.
    pub outcome: Outcome,
    /// What decides; of [`Outcome::AuditDeny`], what would deny.
    pub by: Reason,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
    /// It passes, and an audited policy would drop it.
    AuditDeny,
}

/// What a packet is, as far as policies look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// A protocol with ports, and the port of who receives.
    Port(Protocol, u16),
    /// ICMP and ICMPv6. It follows the peers: where a rule accepts anything of a peer, this too. A
    /// rule that denies or passes on single ports does not concern it.
    Icmp,
    /// Any other protocol: only rules without ports concern it.
    Other,
}

/// Traffic that an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    /// All that no other entry is about.
    Any,
    /// ICMP and ICMPv6.
    Icmp,
    /// Ports that begin with the first `bits` bits of `port`.
    Ports {
        /// Protocol.
        protocol: Protocol,
        /// First port.
        port: u16,
        /// 0 to 16.
        bits: u8,
    },
}

impl Match {
    fn concerns(self, traffic: Traffic) -> bool {
        match (self, traffic) {
            (Self::Any, _) | (Self::Icmp, Traffic::Icmp) => true,
            (
                Self::Ports {
                    protocol,
                    port: first,
                    bits,
                },
                Traffic::Port(of, port),
            ) => protocol == of && (bits == 0 || (first ^ port) >> (16 - bits) == 0),
            (Self::Icmp | Self::Ports { .. }, _) => false,
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Traffic it is about.
    pub traffic: Match,
    /// Its verdict.
    pub verdict: Verdict,
}

/// Entries for one peer; the first is [`Match::Any`]. In order, so of those that concern some
/// traffic the last is the longest.
pub type Entries = Arc<[Entry]>;

/// What entries say, as the longest prefix has it.
pub fn look_up(entries: &[Entry], traffic: Traffic) -> Option<&Verdict> {
    let found = entries
        .iter()
        .filter(|entry| entry.traffic.concerns(traffic));
    let longest = found.max_by_key(|entry| match entry.traffic {
        Match::Any => 0,
        Match::Icmp => 1,
        Match::Ports { bits, .. } => 1 + bits,
    });
    longest.map(|entry| &entry.verdict)
}

/// A rule that concerns a peer, with its ports; `None` for everything.
pub(super) struct Concerning<'a> {
    pub(super) rule: &'a Rule,
    pub(super) ports: Option<Vec<PortRange>>,
}

impl Concerning<'_> {
    fn matches(&self, traffic: Traffic) -> bool {
        let Some(ports) = &self.ports else {
            return true;
        };
        match traffic {
            Traffic::Port(protocol, port) => ports.iter().any(|range| {
                range.protocol == protocol && (range.first..=range.last).contains(&port)
            }),
            Traffic::Icmp => {
                let accepts = matches!(self.rule.action, Action::Accept | Action::WouldAccept);
                accepts && !ports.is_empty()
            }
            Traffic::Other => false,
        }
    }

    fn tier(&self) -> Option<Tier> {
        match &self.rule.by {
            Reason::Rule(policy, _) | Reason::Isolated(policy) => Some(policy.tier),
            Reason::NoPolicy => None,
        }
    }
}

/// Asks the rules from the first on.
pub(super) fn decide(rules: &[Concerning<'_>], traffic: Traffic) -> Verdict {
    let (mut passed, mut noted) = (None, None);
    let mut decided = None;
    for concerning in rules {
        if passed.is_some() && passed == concerning.tier() {
            continue;
        }
        if !concerning.matches(traffic) {
            continue;
        }
        let by = || concerning.rule.by.clone();
        match concerning.rule.action {
            Action::Accept => {
                decided = Some(by());
                break;
            }
            Action::Deny => {
                let (outcome, by) = (Outcome::Deny, by());
                return Verdict { outcome, by };
            }
            Action::Pass | Action::WouldAccept => passed = concerning.tier(),
            Action::WouldDeny => noted = Some(by()),
        }
    }
    match noted {
        Some(by) => Verdict {
            outcome: Outcome::AuditDeny,
            by,
        },
        None => Verdict {
            outcome: Outcome::Allow,
            by: decided.unwrap_or(Reason::NoPolicy),
        },
    }
}

/// The entries for a peer that these rules concern, in their order.
pub(super) fn entries(rules: &[Concerning<'_>]) -> Entries {
    let other = decide(rules, Traffic::Other);
    let icmp = decide(rules, Traffic::Icmp);
    let mut entries = Vec::new();
    if icmp != other {
        entries.push((Match::Icmp, icmp));
    }
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        of_protocol(rules, protocol, &other, &mut entries);
    }
    entries.push((Match::Any, other));
    entries.sort_unstable_by_key(|(traffic, _)| *traffic);
    let entries = entries.into_iter();
    entries
        .map(|(traffic, verdict)| Entry { traffic, verdict })
        .collect()
}

fn of_protocol(
    rules: &[Concerning<'_>],
    protocol: Protocol,
    other: &Verdict,
    entries: &mut Vec<(Match, Verdict)>,
) {
    let ranges = rules.iter().flat_map(|rule| rule.ports.iter().flatten());
    let mut steps = vec![0];
    for range in ranges.filter(|range| range.protocol == protocol) {
        steps.push(range.first);
        steps.extend(range.last.checked_add(1));
    }
    steps.sort_unstable();
    steps.dedup();
    let ends = steps.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    let decided: Vec<(u16, u16, Verdict)> = steps
        .iter()
        .zip(ends)
        .map(|(first, last)| {
            let verdict = decide(rules, Traffic::Port(protocol, *first));
            (*first, last, verdict)
        })
        .collect();
    // Of equally many ports, the first verdict.
    let mut counts: Vec<(&Verdict, u32)> = Vec::new();
    for (first, last, verdict) in &decided {
        let count = u32::from(last - first) + 1;
        match counts.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, known)) => *known += count,
            None => counts.push((verdict, count)),
        }
    }
    counts.reverse();
    let most = counts.iter().max_by_key(|(_, count)| *count);
    let most = most.map_or(other, |(verdict, _)| verdict).clone();
    let ports = |port, bits| Match::Ports {
        protocol,
        port,
        bits,
    };
    if most != *other {
        entries.push((ports(0, 0), most.clone()));
    }
    for (first, last, verdict) in decided.into_iter().filter(|(_, _, v)| *v != most) {
        for (port, bits) in prefixes(first, last) {
            entries.push((ports(port, bits), verdict.clone()));
        }
    }
}

/// The fewest prefixes that are a range together.
fn prefixes(first: u16, last: u16) -> impl Iterator<Item = (u16, u8)> {
    let mut next = Some(u32::from(first));
    std::iter::from_fn(move || {
        let at = next.filter(|at| *at <= u32::from(last))?;
        let left = u32::from(last) - at + 1;
        let aligned = if at == 0 {
            16
        } else {
            at.trailing_zeros().min(16)
        };
        let size = aligned.min(left.ilog2());
        next = Some(at + (1 << size));
        Some((u16::try_from(at).ok()?, u8::try_from(16 - size).ok()?))
    })
}
