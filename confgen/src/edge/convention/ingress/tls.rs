//! TLS of an Ingress's hosts.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::ObjectKey;

use super::OfIngress;
use crate::edge::certificate;
use crate::edge::claim::{Claims, TlsClaim};
use crate::edge::plan::HostTls;
use crate::edge::value::HostMatch;

/// Hosts that are served in TLS.
pub(super) type Hosts = BTreeSet<HostMatch>;

impl OfIngress<'_> {
    /// Claims a certificate for each host of `spec.tls` and says which hosts have one. Where a
    /// Secret cannot be used, its hosts have the default certificate, or are closed in TLS.
    pub(super) fn tls(&self, claims: &mut Claims) -> Hosts {
        let mut hosts = Hosts::new();
        for (index, entry) in self.ingress.tls.iter().enumerate() {
            let field = format!("spec.tls[{index}]");
            let named = entry.hosts.iter();
            let mut of_entry: Hosts = named
                .filter_map(|host| HostMatch::parse(host).ok())
                .collect();
            if of_entry.is_empty() {
                let of_rules = self.ingress.rules.iter();
                let of_rules = of_rules.filter_map(|rule| rule.host.as_deref());
                of_entry.extend(of_rules.filter_map(|host| HostMatch::parse(host).ok()));
            }
            let own = entry.secret.as_ref();
            let own = own.map(|name| ObjectKey::new(&self.key.namespace, name));
            let found = own
                .map(|secret| self.certificate(&secret, &field, claims))
                .unwrap_or_default();
            let default = self.config.defaults.certificate_secret.as_ref();
            let found = found.or_else(|| {
                let secret = default?;
                self.certificate(secret, &field, claims)
            });
            // Another Ingress's certificate for the host, or one for a wildcard, would open it.
            let closed = || {
                let asks = self.options.client_authorities.is_some();
                asks.then(|| HostTls::closed(self.origin(format!("{field}.secretName"))))
            };
            if let Some(tls) = found.or_else(closed) {
                for host in &of_entry {
                    claims
                        .tls
                        .extend(self.config.listen.https.iter().map(|listen| TlsClaim {
                            listen: *listen,
                            owner: Arc::clone(&self.key.namespace),
                            host: host.clone(),
                            tls: tls.clone(),
                        }));
                }
            }
            // Without a certificate the host is claimed all the same: nobody else gets it, and it
            // is not served in clear text because its Secret is broken.
            hosts.extend(of_entry);
        }
        hosts
    }

    fn certificate(&self, secret: &ObjectKey, field: &str, claims: &mut Claims) -> Option<HostTls> {
        let field = format!("{field}.secretName");
        let mut problem = |message: String| {
            let effect = "the hosts are not served in TLS with it";
            claims.problems.push(self.problem(&field, message, effect));
        };
        let Some(found) = self.cluster.secret(secret) else {
            problem(format!("is Secret {secret}, which is not there"));
            return None;
        };
        let part = |name: &str| found.data.get(name).map(AsRef::as_ref).unwrap_or_default();
        let origin = self.origin(field.clone());
        match certificate::with_key(part("tls.crt"), part("tls.key"), origin.clone()) {
            Ok((id, certificate)) => {
                claims.certificates.insert(id.clone(), certificate);
                match self.options.clients(self, claims) {
                    Ok(clients) => Some(HostTls {
                        certificate: id,
                        clients,
                        origin,
                    }),
                    Err(problem) => {
                        claims.problems.push(*problem);
                        None
                    }
                }
            }
            Err(what) => {
                problem(format!(
                    "is Secret {secret}, whose tls.crt and tls.key {what}"
                ));
                None
            }
        }
    }
}
