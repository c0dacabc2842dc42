//! Which conventions are on, and what they take for granted.
//!
//! Plain values: the native file and the originals' flags are read in `crate::config`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::LabelSelector;

use super::name_template::NameTemplate;
use super::outside::Outside;
use super::plan::{Balance, Listen, Unknown};
use super::value::{HeaderName, Hostname, UrlPath};

/// What the plan is compiled by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeConfig {
    /// Listeners of hosts that name no port themselves.
    pub listen: DefaultListeners,
    /// What applies where an object says nothing.
    pub defaults: Defaults,
    /// Endpoint annotations (pyconfd).
    pub endpoints: Option<EndpointsConvention>,
    /// NodePort and LoadBalancer Services (kube2lb).
    pub services: Option<ServicesConvention>,
    /// Pods and namespaces (dispatcher); several serve several publics.
    pub pods: Vec<PodsConvention>,
    /// Ingress v1.
    pub ingress: Option<IngressConvention>,
    /// Gateway API.
    pub gateway: Option<GatewayConvention>,
    /// Which namespaces may have which hosts; the first that fits a namespace counts, and where
    /// none does, nothing is allowed. `None` allows everything.
    pub host_claims: Option<Vec<HostClaimRule>>,
    /// Servers and a certificate that are not of the cluster.
    pub outside: Outside,
}

/// Listeners of hosts that name no port themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultListeners {
    /// In clear text.
    pub http: Vec<Listen>,
    /// In TLS.
    pub https: Vec<Listen>,
    /// Listeners at which clients speak the PROXY protocol first.
    pub proxy_protocol: Vec<Listen>,
}

/// What applies where an object says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// What a request for no known host gets.
    pub unknown_host: Unknown,
    /// What a request of a known host gets that no rule takes.
    pub unknown_path: Unknown,
    /// Answers 200 for unknown hosts.
    pub status_path: Option<UrlPath>,
    /// How a server is chosen.
    pub balance: Balance,
    /// Until a server accepts.
    pub connect_timeout: Duration,
    /// Between two bytes of a server.
    pub server_timeout: Duration,
    /// Between two bytes of a client.
    pub client_timeout: Duration,
    /// Largest request body.
    pub max_body_bytes: Option<u64>,
    /// Used by TLS hosts whose own certificate cannot be used, and for none else.
    pub certificate_secret: Option<model::ObjectKey>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            unknown_host: Unknown::Close,
            unknown_path: Unknown::Status(404),
            status_path: None,
            balance: Balance::default(),
            connect_timeout: Duration::from_secs(5),
            server_timeout: Duration::from_secs(60),
            client_timeout: Duration::from_secs(60),
            max_body_bytes: None,
            certificate_secret: None,
        }
    }
}

/// Annotations `domain` and `proto` of Endpoints and Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointsConvention {
    /// Annotation of the domain.
    pub domain_annotation: Arc<str>,
    /// Annotation of the protocol.
    pub protocol_annotation: Arc<str>,
}

/// NodePort and LoadBalancer Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicesConvention {
    /// Templates of server names.
    pub server_name_templates: Vec<NameTemplate>,
    /// `.Domain` of the templates.
    pub domain: Hostname,
    /// Where Services listen that have no `loadBalancerIP`.
    pub default_address: IpAddr,
    /// Mode of ports without one.
    pub default_mode: HeaderName,
    /// Whether nodes at their nodePort are the servers, in place of endpoints.
    pub nodes_as_servers: bool,
    /// Ports within are the kernel's to give away; a Service that has one is left out.
    pub ephemeral_ports: (u16, u16),
    /// Addresses that can be listened on; `None` is any (`net.ipv4.ip_nonlocal_bind`).
    pub local_addresses: Option<Vec<IpAddr>>,
}

/// Pods and namespaces with JSON annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodsConvention {
    /// Names this instance in findings and generated names.
    pub name: Arc<str>,
    /// Selects pods and namespaces alike.
    pub selector: LabelSelector,
    /// Annotation of a namespace: hosts.
    pub hosts_annotation: Arc<str>,
    /// Annotation of a pod: paths.
    pub paths_annotation: Arc<str>,
    /// Secret of a namespace with its key and TLS material.
    pub secret_name: Arc<str>,
    /// Field of it that is the API key.
    pub key_field: Arc<str>,
    /// Header that carries the key.
    pub key_header: HeaderName,
    /// The header's value is the key in base64, as the original compares.
    pub key_is_base64: bool,
    /// What becomes of requests where the Secret or its key is missing.
    pub missing_key: MissingKey,
    /// Whether probes become health checks.
    pub health_checks: bool,
    /// Pods are told the client's address first.
    pub sends_proxy_protocol: bool,
    /// In clear text.
    pub http: Listen,
    /// In TLS; without it, hosts that ask for TLS are left out.
    pub https: Option<Listen>,
    /// Whether clear text of hosts that are served in TLS is sent there.
    pub redirects_to_tls: bool,
    /// What a known host's other paths get.
    pub unknown_path: Unknown,
}

/// What becomes of requests to a namespace that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// They are refused.
    #[default]
    Refuse,
    /// They need none, as in the original: deleting the Secret opens the namespace.
    Allow,
}

/// Ingress v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressConvention {
    /// IngressClasses with this controller are ours.
    pub controller: Arc<str>,
    /// `spec.ingressClassName` or the old annotation with this value is ours without a class.
    pub class_name: Option<Arc<str>>,
    /// Ingresses that name no class are ours.
    pub takes_classless: bool,
    /// Prefix of the annotations that are translated.
    pub annotation_prefix: Arc<str>,
}

/// Gateway API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConvention {
    /// GatewayClasses with this controller are ours.
    pub controller: Arc<str>,
    /// Addresses that Gateways listen on which name none, and that their status tells.
    pub addresses: Vec<IpAddr>,
}

/// Which hosts the namespaces of a pattern may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostClaimRule {
    /// A namespace's name, with `*` for any run of characters.
    pub namespaces: Arc<str>,
    /// The suffix itself and everything below it; empty allows nothing.
    pub suffixes: Vec<Hostname>,
    /// Whether expressions and the host `*` are allowed, which no suffix bounds.
    pub allows_unbounded: bool,
}
