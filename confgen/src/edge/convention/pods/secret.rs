//! The routing Secret of a namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use model::{Cluster, Kind, Namespace, ObjectKey, Problem, Secret};

use super::annotations::TlsFields;
use crate::edge::plan::{Certificate, ClientCertificates, HostTls, Origin};
use crate::edge::value::{ApiKey, HeaderName, Hostname, Id};
use crate::edge::{MissingKey, PodsConvention, certificate};

/// The Secret, if it is there.
pub(super) struct RoutingSecret<'a> {
    key: ObjectKey,
    secret: Option<&'a Arc<Secret>>,
}

impl<'a> RoutingSecret<'a> {
    pub(super) fn find(cluster: &'a Cluster, convention: &PodsConvention, namespace: &str) -> Self {
        let key = ObjectKey::new(namespace, &convention.secret_name);
        let secret = cluster.secret(&key);
        Self { key, secret }
    }

    /// What requests must carry; a header without its value lets nobody in.
    pub(super) fn api_key(
        &self,
        convention: &PodsConvention,
    ) -> Option<(HeaderName, Option<ApiKey>)> {
        let field = self
            .secret
            .and_then(|secret| secret.data.get(&convention.key_field));
        let key = match field {
            Some(bytes) if convention.key_is_base64 => {
                ApiKey::new(BASE64_STANDARD.encode(bytes).as_bytes())
            }
            Some(bytes) => ApiKey::new(bytes),
            None if convention.missing_key == MissingKey::Allow => return None,
            None => None,
        };
        Some((convention.key_header.clone(), key))
    }

    /// TLS of a host, and what it uses.
    pub(super) fn tls(
        &self,
        namespace: &Namespace,
        convention: &PodsConvention,
        host: &Hostname,
        fields: &TlsFields,
    ) -> Result<(HostTls, BTreeMap<Id, Certificate>), Box<Problem>> {
        let origin = |field: &str| Origin {
            created_unix_seconds: namespace.created_unix_seconds,
            key: self.key.clone(),
            kind: Kind::Secret,
            field: format!("data.{field}").into(),
        };
        let unusable = |field: &str, message: String| {
            let field = format!("data.{field}");
            let effect = format!("host {host} is not served");
            Box::new(Problem::new(
                Kind::Secret,
                self.key.clone(),
                field,
                message,
                effect,
            ))
        };
        let bytes = |field: &str| {
            let secret = self.secret.ok_or_else(|| {
                let annotation = &convention.hosts_annotation;
                let at = &namespace.key;
                let message = format!("is missing: Namespace {at} names it in {annotation}");
                unusable(field, message)
            })?;
            let bytes = secret.data.get(field);
            bytes.ok_or_else(|| unusable(field, "is missing".to_owned()))
        };
        let (chain, key) = (bytes(&fields.certificate)?, bytes(&fields.key)?);
        let pair = certificate::with_key(chain, key, origin(&fields.certificate));
        let (id, pair) = pair.map_err(|what| unusable(&fields.certificate, what.to_string()))?;
        let mut certificates = BTreeMap::from([(id.clone(), pair)]);
        let mut clients = None;
        if let Some(field) = &fields.client_authorities {
            let read = certificate::authorities(bytes(field)?, origin(field));
            let (authorities, chain) = read.map_err(|what| unusable(field, what.to_string()))?;
            certificates.insert(authorities.clone(), chain);
            clients = Some(ClientCertificates {
                authorities,
                is_required: true,
            });
        }
        let tls = HostTls {
            certificate: id,
            clients,
            origin: origin(&fields.certificate),
        };
        Ok((tls, certificates))
    }

    pub(super) fn no_tls_listener(
        &self,
        namespace: &Namespace,
        convention: &PodsConvention,
        host: &Hostname,
    ) -> Problem {
        let annotation = &convention.hosts_annotation;
        Problem::new(
            Kind::Namespace,
            namespace.key.clone(),
            format!("metadata.annotations.{annotation}[{:?}].ssl", host.as_str()),
            "asks for TLS, for which this edge has no listener; give it one",
            "this host is not served",
        )
    }
}
