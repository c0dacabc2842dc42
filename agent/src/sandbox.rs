//! What a CNI plugin tells of a pod before the pod runs, and is told.
//!
//! A Pod's status has its addresses only after its network is set up, and its policies have to be
//! in force before its first packet. So the plugin says which addresses it gave; until the Pod's
//! status says some, they count as the Pod's. The messages are part of `POST /v1/pod-interface`:
//! [`Request`] to [`Ready`] or [`Refusal`]. Nothing here does I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{Cluster, Event, Kind, Object, ObjectKey, Pod};
use serde::{Deserialize, Serialize};

/// The version of these messages.
pub const VERSION: u32 = 1;

/// "Program this pod's interface now, and tell me when its programs and its verdict are in place."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// Namespace of the Pod.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The host-side interface.
    pub interface: String,
    /// Its index, which tells it from an earlier one of its name.
    pub index: u32,
    /// The addresses that the pod is given.
    pub addresses: Vec<IpAddr>,
}

impl Request {
    /// The Pod.
    pub fn pod(&self) -> ObjectKey {
        ObjectKey::new(&self.namespace, &self.name)
    }
}

/// What is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// [`VERSION`].
    pub version: u32,
    /// The interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// The programs there, ingress and egress as the host has it.
    pub programs: Vec<String>,
    /// Whether network policy is on. Where it is off, all may pass.
    pub policed: bool,
    /// The policies that decide what may come in; `None` where everything may.
    pub ingress: Option<Vec<String>>,
    /// The policies that decide what may go out; `None` where everything may.
    pub egress: Option<Vec<String>>,
}

/// Why nothing is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// [`VERSION`].
    pub version: u32,
    /// Which sort it is.
    pub reason: Reason,
    /// Whether asking again may help. The pod must not run before.
    pub retry: bool,
    /// What was found, for people.
    pub message: String,
}

/// Sorts of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The message has another version, or makes no sense.
    BadRequest,
    /// The agent has not heard the whole cluster yet.
    NotSynced,
    /// The agent has not heard of the Pod yet.
    UnknownPod,
    /// The Pod is another node's, is finished, or has the node's network.
    NotAPodOfThisNode,
    /// The Pod has other addresses: it is one of the same name that is about to go.
    OtherAddresses,
    /// The interface has no programs.
    NotAttached,
    /// The Pod's rules are not in the kernel.
    NotInForce,
}

impl Reason {
    /// A refusal of this sort.
    pub fn because(self, message: impl Into<String>) -> Refusal {
        Refusal {
            version: VERSION,
            reason: self,
            retry: self != Self::BadRequest,
            message: message.into(),
        }
    }
}

/// Addresses of pods whose status does not say them yet.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    pods: BTreeMap<ObjectKey, Vec<IpAddr>>,
}

impl Announced {
    /// Makes the addresses the Pod's.
    ///
    /// # Errors
    /// Where there is no such Pod here.
    pub fn announce(
        &mut self,
        cluster: &mut Cluster,
        node: &str,
        key: &ObjectKey,
        addresses: &[IpAddr],
    ) -> Result<(), Refusal> {
        let pod = cluster.pod(key).ok_or_else(|| {
            Reason::UnknownPod.because(format!("Pod {key} has not been heard of on this node yet"))
        })?;
        if pod.host_network || pod.finished || pod.node_name.as_deref() != Some(node) {
            return Err(Reason::NotAPodOfThisNode.because(format!(
                "Pod {key} runs elsewhere, is finished, or has the network of its node"
            )));
        }
        let is_told = |address: &IpAddr| pod.addresses.contains(address);
        if pod.addresses.len() >= addresses.len() && addresses.iter().all(is_told) {
            return Ok(());
        }
        if !pod.addresses.is_empty() && !self.pods.contains_key(key) {
            return Err(Reason::OtherAddresses.because(format!(
                "Pod {key} has {:?}, so it is not the one that is being set up",
                pod.addresses
            )));
        }
        let pod = with_addresses(pod, addresses);
        self.pods.insert(key.clone(), addresses.to_vec());
        let problems = cluster.problems();
        let problems = problems.filter(|problem| problem.kind == Kind::Pod && problem.key == *key);
        let problems = problems.cloned().collect();
        cluster.apply(Event::Applied {
            kind: Kind::Pod,
            key: key.clone(),
            object: Some(Object::Pod(pod.into())),
            problems,
        });
        Ok(())
    }

    /// An event with the addresses that its pods lack. What their status says is the truth.
    pub fn fill(&mut self, event: Event) -> Event {
        if self.pods.is_empty() {
            return event;
        }
        match event {
            Event::Replaced {
                kind: Kind::Pod,
                objects,
                problems,
            } => {
                let objects: Vec<Object> = objects
                    .into_iter()
                    .map(|object| self.fill_one(object))
                    .collect();
                let there = |key: &ObjectKey| objects.iter().any(|object| object.key() == key);
                self.pods.retain(|key, _| there(key));
                Event::Replaced {
                    kind: Kind::Pod,
                    objects,
                    problems,
                }
            }
            Event::Applied {
                kind: Kind::Pod,
                key,
                object,
                problems,
            } => Event::Applied {
                kind: Kind::Pod,
                key,
                object: object.map(|object| self.fill_one(object)),
                problems,
            },
            Event::Deleted {
                kind: Kind::Pod,
                key,
            } => {
                self.pods.remove(&key);
                Event::Deleted {
                    kind: Kind::Pod,
                    key,
                }
            }
            other @ (Event::Replaced { .. }
            | Event::Applied { .. }
            | Event::Deleted { .. }
            | Event::Source { .. }) => other,
        }
    }

    fn fill_one(&mut self, object: Object) -> Object {
        let Object::Pod(pod) = &object else {
            return object;
        };
        if !pod.addresses.is_empty() || pod.finished {
            self.pods.remove(&pod.key);
            return object;
        }
        match self.pods.get(&pod.key) {
            Some(addresses) => Object::Pod(with_addresses(pod, addresses).into()),
            None => object,
        }
    }
}

fn with_addresses(pod: &Pod, addresses: &[IpAddr]) -> Pod {
    Pod {
        addresses: addresses.to_vec(),
        ..pod.clone()
    }
}

#[cfg(test)]
mod tests;
