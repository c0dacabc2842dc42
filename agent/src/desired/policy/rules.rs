//! From policies to one list of rules, asked from its beginning.
//!
//! All tiers, isolation and audit are in the list itself: a NetworkPolicy's isolation is a rule at
//! the end of its tier that denies, an audited one's a rule that notes what it would deny.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{
    ClusterNetworkPolicy, ClusterPolicyRule, Direction, NetworkPolicy, PeerSelection, PolicyMode,
    PolicyPort, PolicyRule, PortName, PortSelection, Protocol, RuleAction, Tier,
};

use super::term::{PolicyRef, PortOfName, Term};

/// One policy, as it is compiled.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) id: Arc<PolicyRef>,
    pub(super) subject: Arc<Term>,
    mode: PolicyMode,
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
}

/// One rule of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of what it matches.
    pub(super) action: Action,
    /// Who says so.
    pub(super) by: Reason,
    /// Whom it is about; `None` for everybody.
    pub(super) peers: Option<Vec<Arc<Term>>>,
    /// What it is about; `None` for everything.
    pub(super) ports: Option<Ports>,
}

/// Ports of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) ranges: Vec<PortRange>,
    /// To be looked up at who receives.
    pub(super) named: Vec<PortOfName>,
}

/// Ports of a protocol, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortRange {
    pub(super) protocol: Protocol,
    pub(super) first: u16,
    pub(super) last: u16,
}

/// What becomes of the traffic that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It passes.
    Accept,
    /// It is dropped.
    Deny,
    /// The next tier decides.
    Pass,
    /// An audited policy would let it pass: the next tier decides.
    WouldAccept,
    /// An audited policy would drop it: noted, and the next rule decides.
    WouldDeny,
}

/// What decides over a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A rule of a policy, by its index in `ingress` or `egress`.
    Rule(Arc<PolicyRef>, u16),
    /// The pod is isolated by policies, of which this is the first, and no rule allows it.
    Isolated(Arc<PolicyRef>),
    /// No policy says anything.
    NoPolicy,
}

impl Policy {
    /// A policy of a namespace.
    pub(super) fn of_namespace(policy: &NetworkPolicy) -> Self {
        let id = Arc::new(PolicyRef {
            tier: Tier::NetworkPolicy,
            priority: 0,
            key: policy.key.clone(),
        });
        let action = match policy.mode {
            PolicyMode::Enforce => Action::Accept,
            PolicyMode::Audit => Action::WouldAccept,
        };
        let own = &policy.key.namespace;
        let rules = |rules: &Vec<PolicyRule>| -> Vec<Rule> {
            let rules = (0..).zip(rules);
            rules
                .map(|(index, PolicyRule { peers, ports })| Rule {
                    action,
                    by: Reason::Rule(Arc::clone(&id), index),
                    peers: terms(peers, own),
                    ports: Ports::of(ports),
                })
                .collect()
        };
        Self {
            subject: Arc::new(Term::of_own_pods(&policy.pods, own)),
            mode: policy.mode,
            ingress: policy.ingress.as_ref().map(rules),
            egress: policy.egress.as_ref().map(rules),
            id,
        }
    }

    /// A policy of the cluster.
    pub(super) fn of_cluster(policy: &ClusterNetworkPolicy) -> Self {
        let id = Arc::new(PolicyRef {
            tier: policy.tier,
            priority: policy.priority,
            key: policy.key.clone(),
        });
        let rules = |rules: &Vec<ClusterPolicyRule>| -> Vec<Rule> {
            let rules = (0..).zip(rules);
            rules
                .map(|(index, rule)| Rule {
                    action: match rule.action {
                        RuleAction::Accept => Action::Accept,
                        RuleAction::Deny => Action::Deny,
                        RuleAction::Pass => Action::Pass,
                    },
                    by: Reason::Rule(Arc::clone(&id), index),
                    peers: terms(&rule.peers, &policy.key.namespace),
                    ports: Ports::of(&rule.ports),
                })
                .collect()
        };
        let some = |rules: Vec<Rule>| (!rules.is_empty()).then_some(rules);
        Self {
            subject: Arc::new(Term::of_subject(&policy.subject)),
            mode: PolicyMode::Enforce,
            ingress: some(rules(&policy.ingress)),
            egress: some(rules(&policy.egress)),
            id,
        }
    }

    /// Its rules for a direction; `None` where it says nothing about it.
    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

fn terms(peers: &PeerSelection, own: &Arc<str>) -> Option<Vec<Arc<Term>>> {
    match peers {
        PeerSelection::All => None,
        PeerSelection::Only(peers) => {
            let terms = peers.iter().map(|peer| Arc::new(Term::of_peer(peer, own)));
            Some(terms.collect())
        }
    }
}

impl Ports {
    fn of(ports: &PortSelection) -> Option<Self> {
        let PortSelection::Only(ports) = ports else {
            return None;
        };
        let mut found = Self::default();
        for port in ports {
            match port {
                PolicyPort::Protocol(protocol) => found.ranges.push(PortRange {
                    protocol: *protocol,
                    first: 0,
                    last: u16::MAX,
                }),
                PolicyPort::Range {
                    protocol,
                    first,
                    last,
                } => found.ranges.push(PortRange {
                    protocol: *protocol,
                    first: first.get(),
                    last: last.get(),
                }),
                PolicyPort::Named { protocol, name } => {
                    found.named.push((name.clone(), *protocol));
                }
            }
        }
        Some(found)
    }

    /// With the numbers that who receives has for the names. A name without a number, as every
    /// name is for an address that is no pod's, matches nothing.
    pub(super) fn resolved(&self, numbers: &[(PortName, Protocol, NonZeroU16)]) -> Vec<PortRange> {
        let mut ranges = self.ranges.clone();
        for (name, protocol) in &self.named {
            let numbers = numbers
                .iter()
                .filter(|(n, p, _)| n == name && p == protocol);
            ranges.extend(numbers.map(|(_, _, number)| PortRange {
                protocol: *protocol,
                first: number.get(),
                last: number.get(),
            }));
        }
        ranges
    }
}

/// Which rules go for a pod in a direction: all pods with the same name share the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetKey {
    /// Direction, seen from the pod.
    pub direction: Direction,
    /// Policies that say something about it, in the order in which they are asked.
    pub policies: Arc<[Arc<PolicyRef>]>,
    /// The pod's own numbers for the names that they use for its ports.
    pub ports: Arc<[(PortName, Protocol, NonZeroU16)]>,
}

/// The list of rules of a set; `policies` are those of its key, in its order.
pub(super) fn list(key: &SetKey, policies: &[Arc<Policy>]) -> Vec<Rule> {
    let isolating = |mode| {
        let of_namespaces = policies.iter().filter(|p| p.id.tier == Tier::NetworkPolicy);
        of_namespaces.into_iter().find(|policy| policy.mode == mode)
    };
    let enforced = isolating(PolicyMode::Enforce);
    // Where another policy isolates anyway, one more could only allow more.
    let end = match (enforced, isolating(PolicyMode::Audit)) {
        (Some(policy), _) => Some((Action::Deny, policy)),
        (None, Some(policy)) => Some((Action::WouldDeny, policy)),
        (None, None) => None,
    };
    let end = end.map(|(action, policy)| Rule {
        action,
        by: Reason::Isolated(Arc::clone(&policy.id)),
        peers: None,
        ports: None,
    });
    let of_tier = |tier: Tier| {
        let policies = policies.iter().filter(move |policy| policy.id.tier == tier);
        policies
            .filter(|policy| enforced.is_none() || policy.mode == PolicyMode::Enforce)
            .flat_map(|policy| policy.rules(key.direction).unwrap_or_default())
            .cloned()
    };
    let mut rules: Vec<Rule> = of_tier(Tier::Admin)
        .chain(of_tier(Tier::NetworkPolicy))
        .chain(end)
        .chain(of_tier(Tier::Baseline))
        .collect();
    if key.direction == Direction::Ingress {
        for ports in rules.iter_mut().filter_map(|rule| rule.ports.as_mut()) {
            let ranges = ports.resolved(&key.ports);
            *ports = Ports {
                ranges,
                named: Vec::new(),
            };
        }
    }
    rules
}

/// The names that rules use for ports.
pub(super) fn names<'a, Rules: IntoIterator<Item = &'a Rule>>(
    rules: Rules,
) -> BTreeSet<PortOfName> {
    let ports = rules.into_iter().filter_map(|rule| rule.ports.as_ref());
    ports
        .flat_map(|ports| ports.named.iter().cloned())
        .collect()
}
