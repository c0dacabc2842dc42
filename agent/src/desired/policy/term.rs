//! What policies say about peers, and the classes of peers that they cannot tell apart.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use model::{LabelSelector, Labels, Node, Pod, PolicyPeer, PortName, Protocol, Subject};

/// One statement about peers. Equal statements of different policies are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// Pods.
    Pods {
        /// Where they are.
        namespaces: Namespaces,
        /// Their labels.
        pods: LabelSelector,
    },
    /// Nodes, at the addresses of their Node objects.
    Nodes(LabelSelector),
    /// Addresses, those of pods and nodes among them: the API advises against meaning pods by an
    /// `ipBlock`, and says of ClusterNetworkPolicies that networks match them.
    Block {
        /// The block.
        cidr: IpNet,
        /// What is not meant of it, in order. It is this block's alone: another peer of the same
        /// rule may well mean it.
        except: Vec<IpNet>,
    },
}

/// Where pods are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// In one namespace, whether or not an object for it is known.
    Named(Arc<str>),
    /// In those with these labels.
    Labelled(LabelSelector),
}

impl Term {
    /// What a peer of a policy says; `own` is the namespace of the policy.
    pub(super) fn of_peer(peer: &PolicyPeer, own: &Arc<str>) -> Self {
        match peer {
            PolicyPeer::Pods { pods, namespaces } => Self::Pods {
                namespaces: match namespaces {
                    None => Namespaces::Named(Arc::clone(own)),
                    Some(selector) => Namespaces::Labelled(in_order(selector)),
                },
                pods: in_order(pods),
            },
            PolicyPeer::Nodes(selector) => Self::Nodes(in_order(selector)),
            PolicyPeer::IpBlock { cidr, except } => {
                let mut except = except.clone();
                except.sort_unstable();
                except.dedup();
                Self::Block {
                    cidr: *cidr,
                    except,
                }
            }
        }
    }

    /// The pods that a NetworkPolicy applies to.
    pub(super) fn of_own_pods(pods: &LabelSelector, own: &Arc<str>) -> Self {
        Self::Pods {
            namespaces: Namespaces::Named(Arc::clone(own)),
            pods: in_order(pods),
        }
    }

    /// The pods that a ClusterNetworkPolicy applies to.
    pub(super) fn of_subject(subject: &Subject) -> Self {
        Self::Pods {
            namespaces: Namespaces::Labelled(in_order(&subject.namespaces)),
            pods: in_order(&subject.pods),
        }
    }

    /// Whether it means a pod, by its labels.
    pub(super) fn means_pod(&self, pod: &Pod, labels_of_namespace: &Labels) -> bool {
        match self {
            Self::Pods { namespaces, pods } => {
                let there = match namespaces {
                    Namespaces::Named(name) => *name == pod.key.namespace,
                    Namespaces::Labelled(selector) => selector.selects(labels_of_namespace),
                };
                there && pods.selects(&pod.labels)
            }
            Self::Nodes(_) | Self::Block { .. } => false,
        }
    }

    /// Whether it means a node.
    pub(super) fn means_node(&self, node: &Node) -> bool {
        match self {
            Self::Nodes(selector) => selector.selects(&node.labels),
            Self::Pods { .. } | Self::Block { .. } => false,
        }
    }

    /// Whether it means every address of a network.
    pub(super) fn means_network(&self, network: &IpNet) -> bool {
        match self {
            Self::Block { cidr, except } => {
                cidr.contains(network) && !except.iter().any(|hole| hole.contains(network))
            }
            Self::Pods { .. } | Self::Nodes(_) => false,
        }
    }
}

fn in_order(selector: &LabelSelector) -> LabelSelector {
    let mut requirements = selector.requirements.clone();
    requirements.sort_unstable();
    requirements.dedup();
    LabelSelector { requirements }
}

/// A port that pods have a name for.
pub type PortOfName = (PortName, Protocol);

/// Addresses that no policy in force can tell apart: what is said about one goes for all. Named
/// by what is said about them, so it is the same however the cluster came to be known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// What means them, in order.
    pub terms: Vec<Arc<Term>>,
    /// Their numbers for the names that egress rules in force use, in order.
    pub ports: Vec<(PortName, Protocol, NonZeroU16)>,
}

impl Class {
    /// Whether nothing is said about it but what goes for everybody.
    pub fn is_anybody(&self) -> bool {
        self.terms.is_empty() && self.ports.is_empty()
    }
}

/// Who is at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The node itself. Between it and its pods everything passes, as Kubernetes has it: probes.
    Host,
    /// One of a class.
    Class(Arc<Class>),
}

/// Who decides: the order of these is the order in which policies are asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyRef {
    /// Tier; tells the kinds of policies apart.
    pub tier: model::Tier,
    /// Priority within the tier, 0 for NetworkPolicies.
    pub priority: u16,
    /// Namespace and name.
    pub key: model::ObjectKey,
}

impl PolicyRef {
    /// Kind of the object.
    pub fn kind(&self) -> model::Kind {
        match self.tier {
            model::Tier::NetworkPolicy => model::Kind::NetworkPolicy,
            model::Tier::Admin | model::Tier::Baseline => model::Kind::ClusterNetworkPolicy,
        }
    }
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key)
    }
}

/// Values by the label they are found at.
#[derive(Debug, Default)]
pub(super) struct ByLabel {
    by_value: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Vec<u32>>>,
    by_key: BTreeMap<Arc<str>, Vec<u32>>,
    anywhere: Vec<u32>,
}

impl ByLabel {
    /// Files `id` under one requirement that has to hold for `selector`; where none can be looked
    /// up, under all labels.
    pub(super) fn file(&mut self, selector: &LabelSelector, id: u32) {
        use model::Requirement::{DoesNotExist, Exists, In, NotIn};
        let rank = |requirement: &&model::Requirement| match requirement {
            In(..) => 0,
            Exists(_) => 1,
            NotIn(..) | DoesNotExist(_) => 2,
        };
        match selector.requirements.iter().min_by_key(rank) {
            Some(In(key, values)) => {
                let by_value = self.by_value.entry(Arc::clone(key)).or_default();
                for value in values {
                    by_value.entry(Arc::clone(value)).or_default().push(id);
                }
            }
            Some(Exists(key)) => self.by_key.entry(Arc::clone(key)).or_default().push(id),
            Some(NotIn(..) | DoesNotExist(_)) | None => self.anywhere.push(id),
        }
    }

    /// What may select an object with these labels.
    pub(super) fn candidates<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = u32> + 'a {
        let found = labels.iter().flat_map(|(key, value)| {
            let by_value = self.by_value.get(key).and_then(|values| values.get(value));
            let by_key = self.by_key.get(key);
            by_value.into_iter().chain(by_key).flatten()
        });
        self.anywhere.iter().chain(found).copied()
    }
}
