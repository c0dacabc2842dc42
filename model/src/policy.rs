//! A NetworkPolicy as the API says it; what it means for packets is the agent's to compile.

use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Labels, ObjectKey, PortName, Protocol};

/// `networking.k8s.io/v1/NetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// What becomes of what it denies.
    pub mode: PolicyMode,
    /// Pods of the namespace it applies to.
    pub pods: LabelSelector,
    /// Rules for what comes in; `None` where the policy does not isolate this direction.
    pub ingress: Option<Vec<PolicyRule>>,
    /// Rules for what goes out; `None` where the policy does not isolate this direction.
    pub egress: Option<Vec<PolicyRule>>,
}

/// What becomes of traffic that a policy denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyMode {
    /// It is dropped.
    #[default]
    Enforce,
    /// It is counted and reported, and passes (`fairlead.io/policy-mode: audit`).
    Audit,
}

/// `policy.networking.k8s.io/v1alpha2/ClusterNetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNetworkPolicy {
    /// Name; the namespace is empty.
    pub key: ObjectKey,
    /// Before or after the policies of namespaces.
    pub tier: Tier,
    /// Lower comes first within the tier; 0 to 1000.
    pub priority: u16,
    /// Pods it applies to.
    pub subject: Subject,
    /// Rules for what comes in, in order; where none matches, the next policy decides.
    pub ingress: Vec<ClusterPolicyRule>,
    /// Rules for what goes out.
    pub egress: Vec<ClusterPolicyRule>,
}

/// When a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// First: ClusterNetworkPolicies of administrators.
    Admin,
    /// Then NetworkPolicies.
    NetworkPolicy,
    /// ClusterNetworkPolicies for pods that no NetworkPolicy isolates.
    Baseline,
}

/// Pods in namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Labels of the namespaces.
    pub namespaces: LabelSelector,
    /// Labels of the pods.
    pub pods: LabelSelector,
}

/// One rule of a ClusterNetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPolicyRule {
    /// What becomes of the traffic it matches.
    pub action: RuleAction,
    /// `from` or `to`.
    pub peers: PeerSelection,
    /// `protocols`.
    pub ports: PortSelection,
}

/// `action` of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// It passes; nothing else is asked.
    Accept,
    /// It is dropped; nothing else is asked.
    Deny,
    /// The next tier decides.
    Pass,
}

/// Direction of traffic, seen from the selected pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of the pod.
    Egress,
}

/// One entry of `ingress` or `egress`: these peers, on these ports. One that cannot be read has
/// neither, so that those after it keep their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// `from` or `to`.
    pub peers: PeerSelection,
    /// `ports`.
    pub ports: PortSelection,
}

/// Peers of a rule. An absent or empty list means every peer; a list whose entries make no sense
/// means none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerSelection {
    /// Everybody.
    All,
    /// These.
    Only(Vec<PolicyPeer>),
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPeer {
    /// Pods by their labels, in namespaces by theirs.
    Pods {
        /// Labels of the pods.
        pods: LabelSelector,
        /// Labels of the namespaces; `None` means the policy's own.
        namespaces: Option<LabelSelector>,
    },
    /// Nodes by their labels (egress of a ClusterNetworkPolicy).
    Nodes(LabelSelector),
    /// Addresses.
    IpBlock {
        /// The block.
        cidr: IpNet,
        /// What is not meant of it.
        except: Vec<IpNet>,
    },
}

/// Ports of a rule. An absent or empty list means every port of every protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSelection {
    /// Everything.
    All,
    /// These.
    Only(Vec<PolicyPort>),
}

/// One entry of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPort {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// A range, ends included.
    Range {
        /// Protocol.
        protocol: Protocol,
        /// First port.
        first: NonZeroU16,
        /// Last port (`endPort`), equal to the first where absent.
        last: NonZeroU16,
    },
    /// A port of the peer's by its name.
    Named {
        /// Protocol.
        protocol: Protocol,
        /// Name.
        name: PortName,
    },
}

/// A label selector; all requirements hold. Without any, it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSelector {
    /// `matchLabels` (as [`Requirement::In`] of one value) and `matchExpressions`.
    pub requirements: Vec<Requirement>,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label has one of the values.
    In(Arc<str>, Vec<Arc<str>>),
    /// The label is absent or has none of the values.
    NotIn(Arc<str>, Vec<Arc<str>>),
    /// The label is there.
    Exists(Arc<str>),
    /// The label is absent.
    DoesNotExist(Arc<str>),
}

impl LabelSelector {
    /// Whether it selects an object with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    /// Whether it holds for these labels.
    pub fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}
