//! Gateways and their listeners: what they speak, where, with which certificate, and which of them
//! stand in each other's way.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{
    Cluster, Gateway, GatewayAddress, GatewayListener, Kind, ListenerTls, ObjectKey, Problem,
};

use super::Fault;
use super::grants::Grants;
use crate::edge::plan::{Certificate, HostTls, Listen, Origin};
use crate::edge::value::{HostMatch, Id};
use crate::edge::{GatewayConvention, certificate};

/// What becomes of a Gateway.
#[derive(Debug)]
pub(in crate::edge) struct OfGateway<'a> {
    pub(in crate::edge) gateway: &'a Gateway,
    /// Where its listeners are.
    pub(in crate::edge) addresses: Vec<IpAddr>,
    /// What of its addresses cannot be done; the others are served.
    pub(in crate::edge) address_fault: Option<Fault>,
    pub(in crate::edge) listeners: Vec<OfListener<'a>>,
}

/// What becomes of a listener.
#[derive(Debug)]
pub(in crate::edge) struct OfListener<'a> {
    pub(in crate::edge) listener: &'a GatewayListener,
    pub(in crate::edge) host: HostMatch,
    /// `None` where it is not accepted.
    pub(in crate::edge) speech: Option<Speech>,
    pub(in crate::edge) accepted: Result<(), Fault>,
    /// Another listener of the Gateway wants the same.
    pub(in crate::edge) conflict: Option<Fault>,
    pub(in crate::edge) resolved: Result<(), Fault>,
    /// Kinds of routes that it takes.
    pub(in crate::edge) kinds: Vec<&'static str>,
    pub(in crate::edge) tls: Option<HostTls>,
    /// How many routes are attached.
    pub(in crate::edge) attached: usize,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Speech {
    Http,
    Https,
    /// TLS that is passed through.
    Passthrough,
    Tcp,
}

impl Speech {
    fn of(listener: &GatewayListener) -> Result<Self, Fault> {
        let passes = listener.tls.as_ref().is_some_and(|tls| tls.is_passthrough);
        match &*listener.protocol {
            "HTTP" => Ok(Self::Http),
            "HTTPS" if !passes => Ok(Self::Https),
            "TLS" if passes => Ok(Self::Passthrough),
            "TCP" => Ok(Self::Tcp),
            other => Err(Fault::new(
                "UnsupportedProtocol",
                format!(
                    "protocol {other} is not done as it is asked for; \
                     HTTP, HTTPS that ends here, TLS that is passed through and TCP are"
                ),
            )),
        }
    }

    /// Of the kinds of routes, the one that it takes.
    pub(super) fn route(self) -> (Kind, &'static str) {
        match self {
            Self::Http | Self::Https => (Kind::HttpRoute, "HTTPRoute"),
            Self::Passthrough => (Kind::TlsRoute, "TLSRoute"),
            Self::Tcp => (Kind::TcpRoute, "TCPRoute"),
        }
    }

    /// Listeners of one port must be alike in this.
    fn on_the_wire(self) -> u8 {
        match self {
            Self::Http => 0,
            Self::Https | Self::Passthrough => 1,
            Self::Tcp => 2,
        }
    }
}

impl OfListener<'_> {
    /// Whether requests can come in there.
    pub(in crate::edge) fn is_served(&self) -> bool {
        let has_certificate = self.speech != Some(Speech::Https) || self.tls.is_some();
        self.accepted.is_ok() && self.conflict.is_none() && has_certificate
    }
}

impl<'a> OfGateway<'a> {
    pub(super) fn read(
        cluster: &Cluster,
        convention: &GatewayConvention,
        grants: &Grants<'_>,
        gateway: &'a Gateway,
        certificates: &mut BTreeMap<Id, Certificate>,
    ) -> Self {
        let (addresses, address_fault) = addresses(gateway, convention);
        let mut read = Self {
            gateway,
            addresses,
            address_fault,
            listeners: Vec::new(),
        };
        for listener in &gateway.listeners {
            let of = read.listener(cluster, grants, listener, certificates);
            read.listeners.push(of);
        }
        read.find_conflicts();
        read
    }

    /// Where a listener is.
    pub(in crate::edge) fn listens(
        &self,
        listener: &OfListener<'_>,
    ) -> impl Iterator<Item = Listen> + use<'_> {
        let port = listener.listener.port;
        let addresses = self.addresses.iter();
        addresses.map(move |address| Listen {
            address: *address,
            port,
        })
    }

    pub(super) fn origin(&self, listener: &GatewayListener) -> Origin {
        Origin {
            created_unix_seconds: self.gateway.created_unix_seconds,
            key: self.gateway.key.clone(),
            kind: Kind::Gateway,
            field: format!("spec.listeners[{}]", listener.index).into(),
        }
    }

    pub(super) fn report(&self, problems: &mut Vec<Problem>) {
        let mut tell = |field: String, fault: &Fault, effect: &str| {
            let message = format!("{} ({})", fault.message, fault.reason);
            let key = self.gateway.key.clone();
            problems.push(Problem::new(Kind::Gateway, key, field, message, effect));
        };
        if let Some(fault) = &self.address_fault {
            let effect = "the Gateway is served at its other addresses";
            tell("spec.addresses".to_owned(), fault, effect);
        }
        for listener in &self.listeners {
            let field = format!("spec.listeners[{}]", listener.listener.index);
            let faults = [listener.accepted.as_ref().err(), listener.conflict.as_ref()];
            for fault in faults.into_iter().flatten() {
                tell(field.clone(), fault, "this listener is not served");
            }
            if let Err(fault) = &listener.resolved {
                tell(field, fault, "the listener is served without it, or not");
            }
        }
    }

    fn listener(
        &self,
        cluster: &Cluster,
        grants: &Grants<'_>,
        listener: &'a GatewayListener,
        certificates: &mut BTreeMap<Id, Certificate>,
    ) -> OfListener<'a> {
        let host = listener.hostname.as_deref();
        let host = host.map_or(Ok(HostMatch::Any), HostMatch::parse);
        let host = host.map_err(|what| Fault::new("Invalid", format!("hostname {what}")));
        let asks_clients = self.gateway.validates_clients
            || listener
                .tls
                .as_ref()
                .is_some_and(|tls| tls.validates_clients);
        let speech = Speech::of(listener).and_then(|speech| match speech {
            Speech::Https if asks_clients => Err(Fault::new(
                "UnsupportedValue",
                "clients' certificates are asked for, which is not done; \
                 without them the listener would be open",
            )),
            Speech::Http | Speech::Https | Speech::Passthrough | Speech::Tcp => Ok(speech),
        });
        let accepted = match (&host, &speech) {
            (Err(fault), _) | (_, Err(fault)) => Err(fault.clone()),
            _ => Ok(()),
        };
        let speech = speech.ok().filter(|_| accepted.is_ok());
        let (kinds, kinds_fault) =
            speech.map_or_else(Default::default, |speech| kinds(listener, speech.route().1));
        let mut resolved = kinds_fault.map_or(Ok(()), Err);
        let mut tls = None;
        if speech == Some(Speech::Https) {
            let found = self.certificate(cluster, grants, listener, certificates);
            tls = found.0;
            if let Some(fault) = found.1 {
                resolved = Err(fault);
            }
        }
        OfListener {
            listener,
            host: host.unwrap_or(HostMatch::Any),
            speech,
            accepted,
            conflict: None,
            resolved,
            kinds,
            tls,
            attached: 0,
        }
    }

    /// The first certificate that can be used, and what is wrong with others.
    fn certificate(
        &self,
        cluster: &Cluster,
        grants: &Grants<'_>,
        listener: &GatewayListener,
        certificates: &mut BTreeMap<Id, Certificate>,
    ) -> (Option<HostTls>, Option<Fault>) {
        const INVALID: &str = "InvalidCertificateRef";
        let refs = listener
            .tls
            .as_ref()
            .map(|ListenerTls { certificates, .. }| certificates);
        let mut found = None;
        let mut fault = None;
        for reference in refs.into_iter().flatten() {
            let own = &self.gateway.key.namespace;
            let namespace = reference.namespace.as_ref().unwrap_or(own);
            let secret = ObjectKey::new(namespace, &reference.name);
            let usable = if !reference.group.is_empty() || &*reference.kind != "Secret" {
                let message = format!("{} {secret} is no Secret", reference.kind);
                Err(Fault::new(INVALID, message))
            } else if !grants.allow(("Gateway", own), "Secret", &secret) {
                let message = format!("no ReferenceGrant lets it refer to Secret {secret}");
                Err(Fault::new("RefNotPermitted", message))
            } else {
                self.usable(cluster, &secret, listener)
                    .map_err(|message| Fault::new(INVALID, message))
            };
            match usable {
                Ok((id, certificate)) if found.is_none() => {
                    found = Some(HostTls {
                        certificate: id.clone(),
                        clients: None,
                        origin: certificate.origin.clone(),
                    });
                    certificates.insert(id, certificate);
                }
                Ok(_) => {}
                Err(why) => {
                    fault.get_or_insert(why);
                }
            }
        }
        if found.is_none() && fault.is_none() {
            fault = Some(Fault::new(INVALID, "it names no certificate"));
        }
        (found, fault)
    }

    fn usable(
        &self,
        cluster: &Cluster,
        secret: &ObjectKey,
        listener: &GatewayListener,
    ) -> Result<(Id, Certificate), String> {
        let Some(found) = cluster.secret(secret) else {
            return Err(format!("Secret {secret} is not there"));
        };
        let part = |name: &str| found.data.get(name).map(AsRef::as_ref).unwrap_or_default();
        let origin = self.origin(listener);
        certificate::with_key(part("tls.crt"), part("tls.key"), origin)
            .map_err(|what| format!("Secret {secret}: its tls.crt and tls.key {what}"))
    }

    /// Listeners that want one port for different protocols, or one host twice: none of them is
    /// served, since nothing says which was meant.
    fn find_conflicts(&mut self) {
        let wants: Vec<_> = self
            .listeners
            .iter()
            .map(|of| (of.listener.port, of.speech, of.host.clone()))
            .collect();
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let Some(speech) = listener.speech else {
                continue;
            };
            for (other, (port, other_speech, host)) in wants.iter().enumerate() {
                let Some(other_speech) = other_speech else {
                    continue;
                };
                if other == index || *port != listener.listener.port {
                    continue;
                }
                let name = &self.gateway.listeners[other].name;
                if speech.on_the_wire() != other_speech.on_the_wire() {
                    let message = format!("listener {name} speaks another protocol at port {port}");
                    listener.conflict = Some(Fault::new("ProtocolConflict", message));
                    break;
                }
                if *host == listener.host || speech == Speech::Tcp {
                    let message = format!("listener {name} has the same port and host");
                    listener
                        .conflict
                        .get_or_insert(Fault::new("HostnameConflict", message));
                }
            }
        }
    }
}

/// Of the kinds that a listener allows, the one that it can take; and what else it asks for.
fn kinds(listener: &GatewayListener, taken: &'static str) -> (Vec<&'static str>, Option<Fault>) {
    let asked = &listener.allowed.kinds;
    let is_taken = |(group, kind): &&(_, _)| {
        let (group, kind): (&std::sync::Arc<str>, &std::sync::Arc<str>) = (group, kind);
        **group == *super::GROUP && **kind == *taken
    };
    let is_allowed = asked.is_empty() || asked.iter().any(|kind| is_taken(&kind));
    let other = asked.iter().find(|kind| !is_taken(kind));
    let fault = other.map(|(group, kind)| {
        let message = format!("it takes {taken}, not {kind} of {group:?}");
        Fault::new("InvalidRouteKinds", message)
    });
    (is_allowed.then_some(taken).into_iter().collect(), fault)
}

/// Addresses that a Gateway names are among those of the configuration: no tenant takes another.
fn addresses(gateway: &Gateway, convention: &GatewayConvention) -> (Vec<IpAddr>, Option<Fault>) {
    let ours = &convention.addresses;
    if gateway.addresses.is_empty() {
        return (ours.clone(), None);
    }
    let mut usable = Vec::new();
    let mut fault = None;
    for address in &gateway.addresses {
        match address {
            GatewayAddress::Ip(address) => {
                let is_any_ours = ours
                    .iter()
                    .any(|ours| ours.is_unspecified() && ours.is_ipv4() == address.is_ipv4());
                if is_any_ours || ours.contains(address) {
                    usable.push(*address);
                } else {
                    let message = format!("address {address} is none of this edge");
                    fault.get_or_insert(Fault::new("AddressNotUsable", message));
                }
            }
            GatewayAddress::Other(kind) => {
                let message = format!("addresses of type {kind} are not done; IPAddress is");
                fault = Some(Fault::new("UnsupportedAddress", message));
            }
        }
    }
    (usable, fault)
}
