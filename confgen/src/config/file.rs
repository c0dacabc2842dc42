//! The native file, key by key. Doc lines are what `examples/` and the README show.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::outputs::{Apply, Haproxy, Nginx, Template};

/// The whole file. Every table may be left out; a convention is on where its table is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where objects come from.
    pub cluster: Cluster,
    /// Listeners of hosts that name no port themselves.
    pub listen: Listen,
    /// What applies where an object says nothing.
    pub defaults: Defaults,
    /// Annotations `domain` and `proto` of Endpoints and Services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// NodePort and LoadBalancer Services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Services>,
    /// Pods and namespaces; each table is one public.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Pods>,
    /// Ingress v1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// Gateway API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// Which namespaces may have which hosts; without any, all may have all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_claims: Vec<HostClaim>,
    /// A whole configuration of HAProxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub haproxy: Option<Haproxy>,
    /// A whole configuration of nginx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nginx: Option<Nginx>,
    /// Files made by the operator's own templates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Template>,
    /// How changes are applied.
    pub apply: Apply,
    /// Health, metrics and status over HTTP.
    pub status: Status,
}

/// `[cluster]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Directory of Kubernetes YAML, in place of an API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<PathBuf>,
    /// URLs of API servers, tried in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Credentials; without it, the files below, or those of the Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// PEM file of the certificate that `servers` are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// PEM file of the CAs that `servers` are known by; without it, those of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    /// Believe any certificate of `servers`: whoever is on the way can be the API server.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_tls_verify: bool,
    /// How often a kind is listed whose watch is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resync: Option<Period>,
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// In clear text: `ADDRESS:PORT`, IPv6 in brackets.
    pub http: Vec<String>,
    /// In TLS.
    pub https: Vec<String>,
    /// Those of the above at which clients speak the PROXY protocol first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<String>,
    /// PEM file of the certificate that TLS clients are shown who ask for no known host; without
    /// it, their handshakes are refused. It is read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: vec!["0.0.0.0:80".to_owned()],
            https: vec!["0.0.0.0:443".to_owned()],
            proxy_protocol: Vec::new(),
            certificate: None,
            key: None,
        }
    }
}

/// `[defaults]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// What a request for no known host gets: `"close"`, a status, or a URL without a path, whose
    /// servers are asked. A name's addresses are looked up again and again; while it has none,
    /// requests get 503.
    pub unknown_host: Unknown,
    /// What a request of a known host gets that nothing takes.
    pub unknown_path: Unknown,
    /// Answers 200 there for unknown hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_path: Option<String>,
    /// `roundrobin`, `leastconn` or `source`.
    pub balance: String,
    /// Until a server accepts a connection.
    pub connect_timeout: Period,
    /// Between two bytes of a server.
    pub server_timeout: Period,
    /// Between two bytes of a client.
    pub client_timeout: Period,
    /// Largest request body in bytes; without it, any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
    /// `NAMESPACE/NAME` of a TLS Secret for hosts whose own cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        let of = crate::edge::Defaults::default();
        Self {
            unknown_host: Unknown::Word("close".to_owned()),
            unknown_path: Unknown::Status(404),
            status_path: None,
            balance: "roundrobin".to_owned(),
            connect_timeout: Period(of.connect_timeout),
            server_timeout: Period(of.server_timeout),
            client_timeout: Period(of.client_timeout),
            max_body_bytes: None,
            certificate: None,
        }
    }
}

/// `"close"`, a status, or a URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Unknown {
    /// A status.
    Status(u16),
    /// `close`, or `http://` or `https://` with a name or address, and perhaps a port.
    Word(String),
}

/// `[endpoints]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// Annotation of the domain.
    pub domain_annotation: String,
    /// Annotation of the protocol.
    pub protocol_annotation: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            domain_annotation: "domain".to_owned(),
            protocol_annotation: "proto".to_owned(),
        }
    }
}

/// `[services]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Services {
    /// Templates of server names.
    pub server_names: Vec<String>,
    /// `.Domain` of the templates.
    pub domain: String,
    /// Where Services listen that have no `loadBalancerIP`.
    pub default_address: String,
    /// Mode of ports without one.
    pub default_mode: String,
    /// `endpoints`, or `nodes` at their nodePort.
    pub servers: String,
    /// First and last port that the kernel gives to outgoing connections; without it, this
    /// machine's `net.ipv4.ip_local_port_range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_ports: Option<(u16, u16)>,
    /// Whether addresses may be listened on that this machine does not have; without it, as
    /// `net.ipv4.ip_nonlocal_bind` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_addresses: Option<bool>,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            server_names: vec![
                "{{ .Service.Name }}.{{ .Service.Namespace }}.svc.{{ .Domain }}".to_owned(),
            ],
            domain: "local".to_owned(),
            default_address: "0.0.0.0".to_owned(),
            default_mode: "http".to_owned(),
            servers: "endpoints".to_owned(),
            ephemeral_ports: None,
            foreign_addresses: None,
        }
    }
}

/// `[[pods]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pods {
    /// Tells this public from others.
    pub name: String,
    /// Labels that pods and namespaces must have; without any and without a selector,
    /// `github.com/30x.dispatcher.routable = "true"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// A selector that they must fit too, as `kubectl get --selector` takes it: `a=b`, `a!=b`,
    /// `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Annotation of a namespace: hosts.
    pub hosts_annotation: String,
    /// Annotation of a pod: paths.
    pub paths_annotation: String,
    /// Secret of a namespace with its key and TLS material.
    pub secret: String,
    /// Field of it that is the API key.
    pub key_field: String,
    /// Header that carries the key.
    pub key_header: String,
    /// The header carries the key in base64.
    pub key_base64: bool,
    /// `refuse` or `allow` requests to a namespace that has no key.
    pub missing_key: String,
    /// Whether probes become health checks.
    pub health_checks: bool,
    /// Whether pods are told the client's address first (PROXY protocol, version 2).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub send_proxy_protocol: bool,
    /// Whether requests in clear text for hosts that are served in TLS are sent there.
    pub redirect_to_tls: bool,
    /// In clear text; without it, the first of `listen.http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// In TLS; without it, the first of `listen.https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// What other paths of a known host get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_path: Option<Unknown>,
}

impl Pods {
    /// The label that says `true` where nothing else is asked for.
    pub const ROUTABLE: &str = "github.com/30x.dispatcher.routable";
}

impl Default for Pods {
    fn default() -> Self {
        let name = |name: &str| format!("github.com/30x.dispatcher.{name}");
        Self {
            name: "public".to_owned(),
            labels: None,
            selector: None,
            hosts_annotation: name("hosts"),
            paths_annotation: name("paths"),
            secret: "routing".to_owned(),
            key_field: "api-key".to_owned(),
            key_header: "X-ROUTING-API-KEY".to_owned(),
            key_base64: true,
            missing_key: "refuse".to_owned(),
            health_checks: true,
            send_proxy_protocol: false,
            redirect_to_tls: true,
            http: None,
            https: None,
            unknown_path: None,
        }
    }
}

/// `[ingress]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingress {
    /// `spec.controller` of IngressClasses that are ours.
    pub controller: String,
    /// A class that is ours though no IngressClass says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether Ingresses that name no class are ours.
    pub classless: bool,
    /// Prefix of the annotations that are translated.
    pub annotation_prefix: String,
}

impl Default for Ingress {
    fn default() -> Self {
        Self {
            controller: "fairlead.io/edge".to_owned(),
            class: None,
            classless: false,
            annotation_prefix: "nginx.ingress.kubernetes.io".to_owned(),
        }
    }
}

/// `[gateway]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// `spec.controllerName` of GatewayClasses that are ours.
    pub controller: String,
    /// Addresses of Gateways that name none.
    pub addresses: Vec<String>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            controller: "fairlead.io/edge".to_owned(),
            addresses: vec!["0.0.0.0".to_owned()],
        }
    }
}

/// `[[host_claims]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostClaim {
    /// A namespace's name, with `*` for any run of characters.
    pub namespaces: String,
    /// Hosts and what is below them.
    #[serde(default)]
    pub suffixes: Vec<String>,
    /// Whether expressions and the host `*` are allowed too.
    #[serde(default)]
    pub unbounded: bool,
}

/// `[status]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// Where health, readiness, metrics and status are served; empty is nowhere.
    pub listen: String,
    /// `NAMESPACE/NAME` of the Lease whose holder writes the status of Gateways, routes and
    /// Ingresses; empty writes none.
    pub lease: String,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9115".to_owned(),
            lease: "kube-system/fairlead-confgen".to_owned(),
        }
    }
}
