//! A NetworkPolicy as the API says it; what it means for packets is the agent's to compile.

use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{ObjectKey, PortName, Protocol};

/// `networking.k8s.io/v1/NetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Pods of the namespace it applies to.
    pub pods: LabelSelector,
    /// Rules for what comes in; `None` where the policy does not isolate this direction.
    pub ingress: Option<Vec<PolicyRule>>,
    /// Rules for what goes out; `None` where the policy does not isolate this direction.
    pub egress: Option<Vec<PolicyRule>>,
}

/// Direction of traffic, seen from the selected pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of the pod.
    Egress,
}

/// One entry of `ingress` or `egress`: these peers, on these ports.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels` (as [`Requirement::In`] of one value) and `matchExpressions`.
    pub requirements: Vec<Requirement>,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
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
