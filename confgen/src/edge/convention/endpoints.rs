//! Annotations `domain` and `proto` of Endpoints and Services (pyconfd).
//!
//! `http` is a host in clear text, `https` a host passed through by SNI, and any other word is for
//! templates that look for it. Servers are the Service's endpoints, at the port that is named as
//! the protocol, else at the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Annotations, Cluster, Kind, ObjectKey, Problem};

use super::{invalid, spoken, target};
use crate::edge::claim::{Claims, HttpClaim, Members, SniClaim};
use crate::edge::plan::{
    Access, Action, BackendProtocol, Domain, Forward, HttpRule, Origin, RequestMatch, Timeouts,
};
use crate::edge::value::{HeaderName, HostMatch, Hostname, Id, PathMatch};
use crate::edge::{EdgeConfig, EndpointsConvention};

const LEFT_OUT: &str = "the domain is not served";

/// What annotated Endpoints and Services claim. Where both are annotated, the Endpoints count, as
/// in the original.
pub(super) fn claims(
    cluster: &Cluster,
    convention: &EndpointsConvention,
    config: &EdgeConfig,
) -> Claims {
    let mut claims = Claims::default();
    let of_endpoints = cluster.endpoints().map(|(key, endpoints)| {
        let created = endpoints.created_unix_seconds;
        (key, Kind::Endpoints, created, &endpoints.annotations)
    });
    let of_services = cluster.services().filter_map(|(key, service)| {
        let edge = service.edge.as_ref()?;
        let created = service.created_unix_seconds;
        Some((key, Kind::Service, created, &edge.annotations))
    });
    let mut annotated: BTreeMap<&ObjectKey, (Kind, i64, &Annotations)> = BTreeMap::new();
    for (key, kind, created, annotations) in of_endpoints.chain(of_services) {
        if annotations.contains_key(&convention.domain_annotation) {
            annotated.entry(key).or_insert((kind, created, annotations));
        }
    }
    let mut domains: Vec<(Hostname, Domain)> = Vec::new();
    for (key, (kind, created, annotations)) in annotated {
        let object = Annotated {
            kind,
            key,
            annotations,
            convention,
        };
        match object.read() {
            Ok(Some((domain, protocol))) => {
                let origin = Origin {
                    created_unix_seconds: created,
                    key: key.clone(),
                    kind,
                    field: object.path(&convention.domain_annotation).into(),
                };
                let domain_of = claims.claim(cluster, config, domain.clone(), protocol, &origin);
                domains.push((domain, domain_of));
            }
            Ok(None) => {}
            Err(problem) => claims.problems.push(*problem),
        }
    }
    // The oldest of two with one domain: resolving tells the other one about http and https.
    domains.sort_by(|(_, a), (_, b)| a.origin.cmp(&b.origin));
    for (name, domain) in domains {
        claims.views.domains.entry(name).or_insert(domain);
    }
    claims
}

/// An object with the domain's annotation.
struct Annotated<'a> {
    kind: Kind,
    key: &'a ObjectKey,
    annotations: &'a Annotations,
    convention: &'a EndpointsConvention,
}

impl Annotated<'_> {
    fn path(&self, annotation: &str) -> String {
        format!("metadata.annotations.{annotation}")
    }

    /// Domain and protocol; `None` where there is no protocol, which the original skips too.
    fn read(&self) -> Result<Option<(Hostname, HeaderName)>, Box<Problem>> {
        let EndpointsConvention {
            domain_annotation,
            protocol_annotation,
        } = self.convention;
        let Some(protocol) = self.annotations.get(protocol_annotation) else {
            return Ok(None);
        };
        let object = (self.kind, self.key);
        let domain = Hostname::parse(&self.annotations[domain_annotation]).map_err(|what| {
            Box::new(invalid(
                object,
                self.path(domain_annotation),
                &what,
                LEFT_OUT,
            ))
        })?;
        let protocol = HeaderName::parse(protocol).map_err(|what| {
            Box::new(invalid(
                object,
                self.path(protocol_annotation),
                &what,
                LEFT_OUT,
            ))
        })?;
        Ok(Some((domain, protocol)))
    }
}

impl Claims {
    fn claim(
        &mut self,
        cluster: &Cluster,
        config: &EdgeConfig,
        name: Hostname,
        protocol: HeaderName,
        origin: &Origin,
    ) -> Domain {
        let key = &origin.key;
        let id = Id::of(&["endpoints", &key.namespace, &key.name]);
        let members = Members::Endpoints {
            service: key.clone(),
            port: target::port_for(cluster, key, protocol.as_str()),
        };
        let speaks = match protocol.as_str() {
            "http" => BackendProtocol::Http,
            _ => BackendProtocol::Tcp,
        };
        let mut spec = target::backend(
            id.clone(),
            speaks,
            config.defaults.balance,
            origin.clone(),
            members,
        );
        spoken::put(&mut spec, cluster, &mut self.problems);
        self.backends.insert(id.clone(), spec);
        let forward = Forward::to(id.clone());
        let host = HostMatch::Exact(name);
        let owner = &key.namespace;
        match protocol.as_str() {
            "http" => self
                .http
                .extend(config.listen.http.iter().map(|listen| HttpClaim {
                    listen: *listen,
                    owner: Arc::clone(owner),
                    is_tls: false,
                    host: host.clone(),
                    rule: rule(&id, forward.clone(), origin),
                    unknown_path: config.defaults.unknown_path.clone(),
                })),
            "https" => self
                .sni
                .extend(config.listen.https.iter().map(|listen| SniClaim {
                    listen: *listen,
                    owner: Arc::clone(owner),
                    host: host.clone(),
                    forward: forward.clone(),
                    origin: origin.clone(),
                })),
            _ => {}
        }
        Domain {
            protocol,
            backend: id,
            origin: origin.clone(),
        }
    }
}

fn rule(id: &Id, forward: Forward, origin: &Origin) -> HttpRule {
    HttpRule {
        id: id.clone(),
        matches: RequestMatch::path(PathMatch::all()),
        access: Access::default(),
        filters: Vec::new(),
        action: Action::Forward(forward),
        timeouts: Timeouts::default(),
        max_body_bytes: None,
        origin: origin.clone(),
    }
}
