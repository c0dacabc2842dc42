//! Pods, Namespaces, Secrets and Endpoints, reduced.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::{Annotations, ObjectKey, PodEdge, PortName, Protocol};

/// Labels of an object.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// `v1/Pod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// What its node's cgroups call it.
    pub uid: Option<PodUid>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.nodeName`, once it is scheduled.
    pub node_name: Option<Arc<str>>,
    /// `spec.hostNetwork`: its addresses are the node's.
    pub host_network: bool,
    /// `status.podIPs` (or `status.podIP`).
    pub addresses: Vec<IpAddr>,
    /// `status.phase` is Succeeded or Failed: its addresses may belong to another pod by now.
    pub finished: bool,
    /// Named container ports.
    pub ports: Vec<(PortName, Protocol, NonZeroU16)>,
    /// Container ports that are served on the node's addresses too.
    pub host_ports: Vec<HostPort>,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
    /// What only edge proxies read, where it is asked for.
    pub edge: Option<Box<PodEdge>>,
}

/// What a kubelet calls a pod where it starts its containers: `metadata.uid`, or of a static pod the hash
/// of its file (`kubernetes.io/config.hash`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PodUid(u128);

impl PodUid {
    /// Reads 32 hexadecimal digits, with or without `-` or `_` (as systemd has it) between them.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | '_')).collect();
        let number = u128::from_str_radix(&digits, 16).ok();
        number.filter(|_| digits.len() == 32).map(Self)
    }
}

/// One entry of `spec.containers[].ports` with a `hostPort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `protocol`, TCP where absent.
    pub protocol: Protocol,
    /// `hostPort`.
    pub host_port: NonZeroU16,
    /// `containerPort`.
    pub container_port: NonZeroU16,
    /// `hostIP`; every address of the node where absent or unspecified.
    pub host_ip: Option<IpAddr>,
}

/// `v1/Namespace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Name; the namespace of the key is empty.
    pub key: ObjectKey,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`, where they are asked for.
    pub annotations: Option<Box<Annotations>>,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
}

/// `v1/Secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `type`.
    pub secret_type: Arc<str>,
    /// `data`, decoded, and `stringData` of manifests.
    pub data: BTreeMap<Arc<str>, Arc<[u8]>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values never reach a log.
        let names: Vec<_> = self.data.keys().collect();
        f.debug_struct("Secret")
            .field("key", &self.key)
            .field("data", &names)
            .finish_non_exhaustive()
    }
}

/// `v1/Endpoints`, of which only the annotations matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointsAnnotations {
    /// Namespace and name, those of the Service.
    pub key: ObjectKey,
    /// `metadata.annotations`.
    pub annotations: Annotations,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
}
