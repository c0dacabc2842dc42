//! What only edge proxies read of objects: annotations, probes, states. The agent, which watches
//! ten thousands of them for other ends, leaves it out ([`crate::k8s::Detail`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::{PortName, Protocol};

/// `metadata.annotations`.
pub type Annotations = BTreeMap<Arc<str>, Arc<str>>;

/// Of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEdge {
    /// `metadata.annotations`.
    pub annotations: Annotations,
    /// `spec.loadBalancerIP` as it is written.
    pub load_balancer_ip: Option<Arc<str>>,
    /// `status.loadBalancer.ingress[].ip`.
    pub ingress_ips: Vec<IpAddr>,
    /// `spec.ports[].appProtocol`, of ports that have one.
    pub app_protocols: BTreeMap<PortName, Arc<str>>,
}

/// Of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodEdge {
    /// `metadata.annotations`.
    pub annotations: Annotations,
    /// `status.phase` is Running.
    pub is_running: bool,
    /// Its condition Ready is True.
    pub is_ready: bool,
    /// It has a `metadata.deletionTimestamp`.
    pub is_terminating: bool,
    /// Ports that its containers declare.
    pub ports: Vec<ContainerPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// `containerPort`.
    pub port: NonZeroU16,
    /// `protocol`.
    pub protocol: Protocol,
    /// The readiness probe of its container, else the liveness probe.
    pub probe: Option<PodProbe>,
}

/// A probe of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProbe {
    /// What is asked.
    pub action: ProbeAction,
    /// `periodSeconds`.
    pub period: Duration,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// `successThreshold`.
    pub successes: u32,
    /// `failureThreshold`.
    pub failures: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// `httpGet`.
    Http {
        /// `path`.
        path: Arc<str>,
        /// `port`.
        port: ProbePort,
        /// `scheme` is HTTPS.
        is_tls: bool,
    },
    /// `tcpSocket`.
    Tcp(ProbePort),
    /// `exec` and `grpc`, which a proxy cannot ask.
    Other,
}

/// A port of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbePort {
    /// By number.
    Number(NonZeroU16),
    /// By the name of a port of the container.
    Name(PortName),
}
