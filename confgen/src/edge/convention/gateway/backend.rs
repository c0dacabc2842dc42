//! What routes forward to: Services, by reference and grant, in clear text or by a BackendTLSPolicy.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    BackendTlsPolicy, Cluster, Kind, ObjectKey, PortName, Problem, Protocol, RouteBackend, Service,
};

use super::super::{spoken, target};
use super::Fault;
use super::grants::Grants;
use crate::edge::claim::{BackendSpec, Claims, Members};
use crate::edge::plan::{BackendProtocol, BackendTls, Certificate, Forward, Origin, Timeouts};
use crate::edge::value::{Hostname, Id};
use crate::edge::{EdgeConfig, certificate};

/// Backends as they are asked for; each is made once.
pub(super) struct Backends<'a> {
    cluster: &'a Cluster,
    config: &'a EdgeConfig,
    grants: &'a Grants<'a>,
    specs: BTreeMap<Id, BackendSpec>,
    certificates: BTreeMap<Id, Certificate>,
    problems: Vec<Problem>,
}

/// Who asks.
pub(super) struct Asker<'a> {
    /// The kind of route, as grants name it.
    pub(super) kind: &'static str,
    pub(super) origin: &'a Origin,
    /// Bytes, not HTTP.
    pub(super) is_stream: bool,
    /// What a server may take, where the route says it.
    pub(super) timeouts: Timeouts,
}

/// Where a rule's requests go.
pub(super) struct Forwarded {
    /// `None` where nobody is to get any: 500 (Gateway API).
    pub(super) to: Option<Forward>,
    /// The first reference that leads nowhere.
    pub(super) fault: Option<Fault>,
}

impl<'a> Backends<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        config: &'a EdgeConfig,
        grants: &'a Grants<'a>,
    ) -> Self {
        Self {
            cluster,
            config,
            grants,
            specs: BTreeMap::new(),
            certificates: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// What was made, put to the other claims.
    pub(super) fn put_into(self, claims: &mut Claims) {
        claims.backends = self.specs;
        claims.certificates.extend(self.certificates);
        claims.problems.extend(self.problems);
    }

    /// To backends by their weights. The share of a reference that leads nowhere goes to a backend
    /// without servers, which refuses it.
    pub(super) fn forward(&mut self, asker: &Asker<'_>, refs: &[RouteBackend]) -> Forwarded {
        let mut fault = None;
        let mut to: Vec<(Id, u32)> = Vec::new();
        let mut refused: u32 = 0;
        for backend in refs {
            match self.one(asker, backend) {
                // Two references to one port are one backend with both weights.
                Ok(id) => match to.iter_mut().find(|(of, _)| *of == id) {
                    Some((_, weight)) => *weight = weight.saturating_add(backend.weight),
                    None => to.push((id, backend.weight)),
                },
                Err(why) => {
                    refused = refused.saturating_add(backend.weight);
                    fault.get_or_insert(why);
                }
            }
        }
        let is_any_asked = to.iter().any(|(_, weight)| *weight > 0);
        if refused > 0 && (is_any_asked || asker.is_stream) {
            to.push((self.nobody(asker), refused));
        }
        let to = (is_any_asked || asker.is_stream).then_some(Forward { to });
        Forwarded { to, fault }
    }

    /// One backend; its id is that of the Service's port, so routes share it.
    pub(super) fn one(&mut self, asker: &Asker<'_>, backend: &RouteBackend) -> Result<Id, Fault> {
        let RouteBackend { target, port, .. } = backend;
        let own = &asker.origin.key.namespace;
        let namespace = target.namespace.as_ref().unwrap_or(own);
        let key = ObjectKey::new(namespace, &target.name);
        if !target.group.is_empty() || &*target.kind != "Service" {
            let message = format!(
                "backend {} {key} of {:?} is no Service",
                target.kind, target.group
            );
            return Err(Fault::new("InvalidKind", message));
        }
        if !self.grants.allow((asker.kind, own), "Service", &key) {
            let message = format!("no ReferenceGrant lets it refer to Service {key}");
            return Err(Fault::new("RefNotPermitted", message));
        }
        let not_found = |message| Fault::new("BackendNotFound", message);
        let service = self
            .cluster
            .service(&key)
            .ok_or_else(|| not_found(format!("Service {key} is not there")))?;
        let number = port.ok_or_else(|| not_found(format!("Service {key}: it names no port")))?;
        let mut ports = service.ports.iter();
        let port = ports
            .find(|port| port.port == number && port.protocol == Protocol::Tcp)
            .ok_or_else(|| not_found(format!("Service {key} has no TCP port {number}")))?;
        let protocol = if asker.is_stream {
            BackendProtocol::Tcp
        } else {
            self.protocol(service, &port.name)?
        };
        let number = number.to_string();
        let mut parts = vec!["gateway", &key.namespace, &key.name, &number];
        parts.extend(asker.is_stream.then_some("stream"));
        // A time-out is the backend's in some proxies.
        let server = asker.timeouts.server.map(|server| format!("{server:?}"));
        parts.extend(server.as_deref());
        let id = Id::of(&parts);
        let members = Members::Endpoints {
            service: key,
            port: Some(port.name.clone()),
        };
        self.put(asker, &id, protocol, members);
        Ok(id)
    }

    /// A backend without servers.
    fn nobody(&mut self, asker: &Asker<'_>) -> Id {
        let id = Id::of(&["gateway", "nobody", asker.kind]);
        let protocol = if asker.is_stream {
            BackendProtocol::Tcp
        } else {
            BackendProtocol::Http
        };
        self.put(asker, &id, protocol, Members::Pods(Vec::new()));
        id
    }

    fn put(&mut self, asker: &Asker<'_>, id: &Id, protocol: BackendProtocol, members: Members) {
        let Self {
            cluster,
            config,
            specs,
            problems,
            ..
        } = self;
        specs.entry(id.clone()).or_insert_with(|| {
            let (balance, origin) = (config.defaults.balance, asker.origin.clone());
            let mut spec = target::backend(id.clone(), protocol, balance, origin, members);
            spec.backend.timeouts.server = asker.timeouts.server;
            spoken::put(&mut spec, cluster, problems);
            spec
        });
    }

    /// What the endpoints of a Service's port speak, if its `appProtocol` says nothing else.
    fn protocol(&mut self, service: &Service, port: &PortName) -> Result<BackendProtocol, Fault> {
        match policy(self.cluster, &service.key, port) {
            Some(policy) => self.tls(policy).map(BackendProtocol::Https),
            None => Ok(BackendProtocol::Http),
        }
    }

    /// What cannot be verified as the policy asks is not spoken to.
    fn tls(&mut self, policy: &BackendTlsPolicy) -> Result<BackendTls, Fault> {
        let key = &policy.key;
        let fault = |message: String| {
            Fault::new(
                "BackendNotFound",
                format!("BackendTLSPolicy {key}: {message}"),
            )
        };
        if let Some(other) = policy.others.first() {
            return Err(fault(format!("validation.{other} is not done")));
        }
        let server_name = Hostname::parse(&policy.hostname)
            .map_err(|what| fault(format!("validation.hostname {what}")))?;
        let mut chain = Vec::new();
        for reference in &policy.authorities {
            let at = ObjectKey::new(&key.namespace, &reference.name);
            let found: Option<Arc<[u8]>> = match (&*reference.group, &*reference.kind) {
                ("", "ConfigMap") => {
                    let map = self.cluster.config_map(&at);
                    map.map(|map| map.authorities.as_bytes().into())
                }
                ("", "Secret") => {
                    let secret = self.cluster.secret(&at);
                    secret.and_then(|secret| secret.data.get("ca.crt").cloned())
                }
                _ => None,
            };
            let kind = &reference.kind;
            let found = found.ok_or_else(|| fault(format!("{kind} {at} holds no ca.crt")))?;
            chain.extend_from_slice(&found);
            chain.push(b'\n');
        }
        let origin = Origin {
            created_unix_seconds: policy.created_unix_seconds,
            key: key.clone(),
            kind: Kind::BackendTlsPolicy,
            field: "spec.validation.caCertificateRefs".into(),
        };
        let (id, authorities) = certificate::authorities(&chain, origin)
            .map_err(|what| fault(format!("its authorities: {what}")))?;
        self.certificates.insert(id.clone(), authorities);
        Ok(BackendTls {
            server_name: Some(server_name),
            authorities: Some(id),
        })
    }
}

/// The policy of a Service's port: one for the port before one for the whole, then the oldest.
fn policy<'a>(
    cluster: &'a Cluster,
    service: &ObjectKey,
    port: &PortName,
) -> Option<&'a BackendTlsPolicy> {
    let policies = cluster.backend_tls_policies().filter_map(|(key, policy)| {
        let closest = policy.targets.iter().filter_map(|(target, section)| {
            let is_meant = target.group.is_empty()
                && &*target.kind == "Service"
                && target.name == service.name
                && key.namespace == service.namespace
                && section.as_ref().is_none_or(|section| *section == port.0);
            is_meant.then_some(section.is_none())
        });
        Some((closest.min()?, policy.created_unix_seconds, key, &**policy))
    });
    let first = policies.min_by_key(|(is_whole, created, key, _)| (*is_whole, *created, *key));
    first.map(|(.., policy)| policy)
}
