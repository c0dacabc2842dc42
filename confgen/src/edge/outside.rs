//! What the configuration names outside the cluster: servers for requests that nothing takes, and a
//! certificate for hosts that nobody has. `crate::outside` looks both up; here they are values.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::Kind;

use super::claim::{BackendSpec, Members};
use super::plan::{Backend, BackendProtocol, BackendTls, Balance, Certificate, Origin, Timeouts};
use super::value::{Hostname, Id};

/// Everything that is named outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Where requests go that nothing takes, by the backend that each is.
    pub fallbacks: BTreeMap<Id, Fallback>,
    /// Shown to TLS clients that ask for no known host.
    pub certificate: Option<Arc<(Id, Certificate)>>,
}

/// Servers outside the cluster. Where the name has no address, they are none, and requests get 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Whether they are spoken to in TLS. Nobody knows their authorities: none is verified.
    pub is_tls: bool,
    /// Name or address.
    pub host: Hostname,
    /// Port.
    pub port: NonZeroU16,
    /// What the name stands for.
    pub addresses: Vec<IpAddr>,
    /// The key of the configuration that names it first.
    pub key: Arc<str>,
}

impl Fallback {
    /// The name of its backend; the same servers are one backend, whoever names them.
    pub fn id(&self) -> Id {
        let scheme = if self.is_tls { "https" } else { "http" };
        Id::of(&[
            "fallback",
            scheme,
            self.host.as_str(),
            &self.port.to_string(),
        ])
    }

    /// Whether the host is a name, whose addresses are to be looked up.
    pub fn is_name(&self) -> bool {
        self.host.as_str().parse::<IpAddr>().is_err()
    }

    pub(super) fn backend(&self) -> BackendSpec {
        let tls = BackendTls {
            server_name: self.is_name().then(|| self.host.clone()),
            authorities: None,
        };
        let backend = Backend {
            id: self.id(),
            protocol: match self.is_tls {
                true => BackendProtocol::Https(tls),
                false => BackendProtocol::Http,
            },
            balance: Balance::RoundRobin,
            servers: Vec::new(),
            health: None,
            timeouts: Timeouts::default(),
            sticky: None,
            sends_proxy_protocol: false,
            origin: Origin::of_configuration(Kind::Service, Arc::clone(&self.key)),
        };
        let members = Members::Addresses(self.addresses.clone(), self.port);
        BackendSpec { backend, members }
    }
}
