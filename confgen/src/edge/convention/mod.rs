//! How objects say what they want of the edge. One file a convention.

mod endpoints;
pub(super) mod gateway;
mod ingress;
mod pods;
mod services;
mod spoken;
mod target;

use std::collections::BTreeSet;

use model::{Cluster, Kind, KindSet, ObjectKey, Problem};

use super::EdgeConfig;
use super::claim::Claims;
use super::value::Invalid;

pub(super) use self::ingress::ours as our_ingresses;

/// What the conventions in force claim.
pub(super) fn claims(cluster: &Cluster, config: &EdgeConfig) -> Claims {
    let mut claims = Claims::default();
    if let Some(convention) = &config.endpoints {
        claims.extend(endpoints::claims(cluster, convention, config));
    }
    if let Some(convention) = &config.services {
        claims.extend(services::claims(cluster, convention));
    }
    if let Some(convention) = &config.ingress {
        claims.extend(ingress::claims(cluster, convention, config));
    }
    if let Some(convention) = &config.gateway {
        claims.extend(gateway::claims(cluster, convention, config));
    }
    for convention in &config.pods {
        claims.extend(pods::claims(cluster, convention, config));
    }
    claims
}

/// The kinds that the conventions in force read.
pub(super) fn kinds(config: &EdgeConfig) -> KindSet {
    let mut kinds = KindSet::new();
    if config.endpoints.is_some() {
        kinds.extend([Kind::Endpoints, Kind::Service, Kind::EndpointSlice]);
    }
    if config.services.is_some() {
        kinds.extend([Kind::Service, Kind::EndpointSlice, Kind::Node]);
    }
    if config.ingress.is_some() {
        kinds.extend([
            Kind::Ingress,
            Kind::IngressClass,
            Kind::Service,
            Kind::EndpointSlice,
            Kind::Secret,
        ]);
    }
    if config.gateway.is_some() {
        kinds.extend([
            Kind::GatewayClass,
            Kind::Gateway,
            Kind::HttpRoute,
            Kind::TlsRoute,
            Kind::TcpRoute,
            Kind::ReferenceGrant,
            Kind::BackendTlsPolicy,
            Kind::ConfigMap,
            Kind::Namespace,
            Kind::Service,
            Kind::EndpointSlice,
            Kind::Secret,
        ]);
    }
    if !config.pods.is_empty() {
        kinds.extend([Kind::Namespace, Kind::Pod, Kind::Secret]);
    }
    kinds
}

impl Claims {
    fn extend(&mut self, other: Self) {
        let Self {
            http,
            tls,
            sni,
            tcp,
            backends,
            certificates,
            views,
            problems,
        } = other;
        self.http.extend(http);
        self.tls.extend(tls);
        self.sni.extend(sni);
        self.tcp.extend(tcp);
        self.backends.extend(backends);
        self.certificates.extend(certificates);
        self.views.domains.extend(views.domains);
        self.views.services.extend(views.services);
        self.views.nodes.extend(views.nodes);
        // Two conventions may read the same words of a Service.
        let known: BTreeSet<&Problem> = self.problems.iter().collect();
        let new = problems.into_iter().filter(|it| !known.contains(it));
        let new: Vec<Problem> = new.collect();
        self.problems.extend(new);
    }
}

/// An annotation that makes no sense.
fn invalid(
    (kind, key): (Kind, &ObjectKey),
    field: impl Into<String>,
    what: &Invalid,
    effect: &str,
) -> Problem {
    Problem::new(kind, key.clone(), field, what.to_string(), effect)
}
