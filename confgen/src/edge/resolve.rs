//! Who gets what of all that is claimed.
//!
//! The oldest claim of a port decides what the port speaks; the oldest of a host gives the host to
//! its owner's namespace; the oldest of two equal matches is the rule. Age is creation, then
//! namespace and name, so every edge node decides alike. Losers are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claim::{Claims, HttpClaim, SniClaim, TcpClaim, TlsClaim};
use super::plan::{
    HttpListener, Listen, Listener, Loss, LossCause, Origin, SniRoute, TcpListener, TlsListener,
    Unknown, VirtualHost,
};
use super::precedence;
use super::value::{HostMatch, Hostname};
use super::{Defaults, EdgeConfig, host_claims};

/// What is served, and who is not.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) listeners: BTreeMap<Listen, Listener>,
    pub(super) losses: Vec<Loss>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Http,
    Tls,
    Tcp,
}

/// Decides between the claims of all conventions.
pub(super) fn resolve(claims: &Claims, config: &EdgeConfig) -> Resolved {
    let mut resolved = Resolved::default();
    let allowed = Allowed::of(claims, config, &mut resolved.losses);
    let speeches = speeches(&allowed, config);
    let speaks = |listen: &Listen, speech| {
        let (winner, of_winner) = &speeches[listen];
        (*winner != speech).then(|| of_winner.clone())
    };
    let mut hosts: BTreeMap<(Listen, bool), BTreeMap<&HostMatch, HostClaims<'_>>> = BTreeMap::new();
    for claim in &allowed.http {
        let speech = if claim.is_tls {
            Speech::Tls
        } else {
            Speech::Http
        };
        match speaks(&claim.listen, speech) {
            None => {
                let of_listener = hosts.entry((claim.listen, claim.is_tls)).or_default();
                of_listener.entry(&claim.host).or_default().http.push(claim);
            }
            Some(winner) => resolved.lose_port(&claim.rule.origin, claim.listen, winner),
        }
    }
    for claim in &allowed.sni {
        match speaks(&claim.listen, Speech::Tls) {
            None => {
                let of_listener = hosts.entry((claim.listen, true)).or_default();
                of_listener.entry(&claim.host).or_default().sni.push(claim);
            }
            Some(winner) => resolved.lose_port(&claim.origin, claim.listen, winner),
        }
    }
    for claim in &allowed.tls {
        if let Some(of_listener) = hosts.get_mut(&(claim.listen, true)) {
            of_listener.entry(&claim.host).or_default().tls.push(claim);
        }
    }
    for ((listen, is_tls), hosts) in hosts {
        let listener = resolved.listener(listen, is_tls, &hosts, config);
        resolved.listeners.insert(listen, listener);
    }
    resolved.tcp(&allowed.tcp, &speeches, config);
    resolved.without_hosts(config);
    resolved
}

/// Claims that the host-claim policy lets through, the oldest first.
struct Allowed<'a> {
    http: Vec<&'a HttpClaim>,
    tls: Vec<&'a TlsClaim>,
    sni: Vec<&'a SniClaim>,
    tcp: Vec<&'a TcpClaim>,
}

impl<'a> Allowed<'a> {
    fn of(claims: &'a Claims, config: &EdgeConfig, losses: &mut Vec<Loss>) -> Self {
        let mut is_allowed = |origin: &Origin, host: &HostMatch| {
            let allowed = host_claims::allow(config, &origin.key.namespace, host);
            if !allowed {
                losses.push(Loss {
                    origin: origin.clone(),
                    about: format!("host {host}"),
                    cause: LossCause::HostNotAllowed,
                });
            }
            allowed
        };
        let mut http: Vec<_> = claims.http.iter().collect();
        http.retain(|claim| is_allowed(&claim.rule.origin, &claim.host));
        http.sort_by_key(|claim| &claim.rule.origin);
        let mut tls: Vec<_> = claims.tls.iter().collect();
        tls.retain(|claim| is_allowed(&claim.tls.origin, &claim.host));
        tls.sort_by_key(|claim| &claim.tls.origin);
        let mut sni: Vec<_> = claims.sni.iter().collect();
        sni.retain(|claim| is_allowed(&claim.origin, &claim.host));
        sni.sort_by_key(|claim| &claim.origin);
        let mut tcp: Vec<_> = claims.tcp.iter().collect();
        tcp.sort_by_key(|claim| &claim.origin);
        Self {
            http,
            tls,
            sni,
            tcp,
        }
    }
}

/// What each port speaks, and by whose claim. The configured listeners are the operator's: no
/// tenant's claim takes them away.
fn speeches(allowed: &Allowed<'_>, config: &EdgeConfig) -> BTreeMap<Listen, (Speech, Origin)> {
    let http = allowed.http.iter().map(|claim| {
        let speech = if claim.is_tls {
            Speech::Tls
        } else {
            Speech::Http
        };
        (claim.listen, speech, &claim.rule.origin)
    });
    let sni = allowed.sni.iter();
    let sni = sni.map(|claim| (claim.listen, Speech::Tls, &claim.origin));
    let tcp = allowed.tcp.iter();
    let tcp = tcp.map(|claim| (claim.listen, Speech::Tcp, &claim.origin));
    let mut all: Vec<_> = http.chain(sni).chain(tcp).collect();
    let is_configured = |listen: &Listen, speech: &Speech| match speech {
        Speech::Http => config.listen.http.contains(listen),
        Speech::Tls => config.listen.https.contains(listen),
        Speech::Tcp => false,
    };
    all.sort_by_key(|(listen, speech, origin)| (!is_configured(listen, speech), *origin));
    let mut speeches = BTreeMap::new();
    for (listen, speech, origin) in all {
        speeches
            .entry(listen)
            .or_insert_with(|| (speech, origin.clone()));
    }
    speeches
}

/// Claims of one host at one listener, the oldest first.
#[derive(Default)]
struct HostClaims<'a> {
    http: Vec<&'a HttpClaim>,
    tls: Vec<&'a TlsClaim>,
    sni: Vec<&'a SniClaim>,
}

impl HostClaims<'_> {
    /// The oldest claim: whose namespace has the host, and whether it is passed through.
    fn winner(&self) -> Option<(&Origin, &Arc<str>, bool)> {
        let http = self.http.first();
        let http = http.map(|claim| (&claim.rule.origin, &claim.owner, false));
        let sni = self
            .sni
            .first()
            .map(|claim| (&claim.origin, &claim.owner, true));
        http.into_iter()
            .chain(sni)
            .min_by_key(|(origin, ..)| *origin)
    }
}

impl Resolved {
    /// Configured listeners that nobody has a host at. Those that answer unknown hosts are there all
    /// the same: load balancers in front ask them whether they are well.
    fn without_hosts(&mut self, config: &EdgeConfig) {
        let Defaults {
            unknown_host,
            status_path,
            ..
        } = &config.defaults;
        if *unknown_host == Unknown::Close && status_path.is_none() {
            return;
        }
        let http = config.listen.http.iter().map(|listen| (*listen, false));
        let https = config.listen.https.iter().map(|listen| (*listen, true));
        let https = https.filter(|_| config.outside.certificate.is_some());
        for (listen, is_tls) in http.chain(https) {
            if !self.listeners.contains_key(&listen) {
                let listener = self.listener(listen, is_tls, &BTreeMap::new(), config);
                self.listeners.insert(listen, listener);
            }
        }
    }

    fn lose(&mut self, origin: &Origin, about: String, winner: &Origin) {
        // One object may ask twice for the same: that is its own affair, and told all the same.
        self.losses.push(Loss {
            origin: origin.clone(),
            about,
            cause: LossCause::OlderClaim(winner.clone()),
        });
    }

    fn lose_port(&mut self, origin: &Origin, listen: Listen, winner: Origin) {
        self.lose(origin, format!("port {}", listen.port), &winner);
    }

    fn listener(
        &mut self,
        listen: Listen,
        is_tls: bool,
        hosts: &BTreeMap<&HostMatch, HostClaims<'_>>,
        config: &EdgeConfig,
    ) -> Listener {
        let mut http = HttpListener {
            hosts: BTreeMap::new(),
            unknown_host: config.defaults.unknown_host.clone(),
            status_path: config.defaults.status_path.clone(),
            accepts_proxy_protocol: config.listen.proxy_protocol.contains(&listen),
        };
        let mut passthrough = BTreeMap::new();
        for (&host, claims) in hosts {
            let Some((winner, owner, is_passed_through)) = claims.winner() else {
                continue;
            };
            for claim in &claims.sni {
                if !is_passed_through || claim.origin != *winner {
                    self.lose(&claim.origin, format!("host {host}"), winner);
                }
            }
            if is_passed_through {
                for claim in &claims.http {
                    self.lose(&claim.rule.origin, format!("host {host}"), winner);
                }
                passthrough.extend(claims.sni.first().map(|claim| {
                    let route = SniRoute {
                        forward: claim.forward.clone(),
                        origin: claim.origin.clone(),
                    };
                    (host.clone(), route)
                }));
                continue;
            }
            let tls = own_tls(&claims.tls, owner).or_else(|| covering(hosts, host, owner));
            let mut virtual_host = self.virtual_host(host, &claims.http, winner, owner);
            virtual_host.tls = tls.map(|claim| claim.tls.clone());
            http.hosts.insert(host.clone(), virtual_host);
        }
        if is_tls {
            let certificate = config.outside.certificate.as_deref();
            Listener::Tls(TlsListener {
                http,
                passthrough,
                unknown_host: certificate.map(|(id, _)| id.clone()),
            })
        } else {
            Listener::Http(http)
        }
    }

    fn virtual_host(
        &mut self,
        host: &HostMatch,
        claims: &[&HttpClaim],
        winner: &Origin,
        owner: &Arc<str>,
    ) -> VirtualHost {
        let mut by_match = BTreeMap::new();
        for claim in claims {
            if claim.owner != *owner {
                self.lose(&claim.rule.origin, format!("host {host}"), winner);
                continue;
            }
            let first = *by_match.entry(&claim.rule.matches).or_insert(claim);
            if first.rule.id != claim.rule.id {
                let about = format!("{host}{}", claim.rule.matches.path);
                self.lose(&claim.rule.origin, about, &first.rule.origin);
            }
        }
        let mut rules: Vec<_> = by_match.values().map(|claim| claim.rule.clone()).collect();
        rules.sort_by(precedence::compare);
        VirtualHost {
            tls: None,
            rules,
            unknown_path: claims
                .first()
                .map(|claim| claim.unknown_path.clone())
                .unwrap_or_default(),
        }
    }

    fn tcp(
        &mut self,
        claims: &[&TcpClaim],
        speeches: &BTreeMap<Listen, (Speech, Origin)>,
        config: &EdgeConfig,
    ) {
        for claim in claims {
            let (speech, winner) = &speeches[&claim.listen];
            if *speech == Speech::Tcp && *winner == claim.origin {
                let listener = TcpListener {
                    forward: claim.forward.clone(),
                    accepts_proxy_protocol: config.listen.proxy_protocol.contains(&claim.listen),
                    origin: claim.origin.clone(),
                };
                self.listeners.insert(claim.listen, Listener::Tcp(listener));
            } else {
                self.lose_port(&claim.origin, claim.listen, winner.clone());
            }
        }
    }
}

/// A certificate of the owner for the wildcard that takes the host. It is looked up, not looked for:
/// every host without a certificate of its own asks.
fn covering<'a>(
    hosts: &BTreeMap<&HostMatch, HostClaims<'a>>,
    host: &HostMatch,
    owner: &Arc<str>,
) -> Option<&'a TlsClaim> {
    let HostMatch::Exact(name) = host else {
        return None;
    };
    // A certificate's wildcard stands for one label (RFC 6125 §6.4.3).
    let (_, rest) = name.as_str().split_once('.')?;
    let wildcard = HostMatch::Wildcard(Hostname::parse(rest).ok()?);
    own_tls(&hosts.get(&&wildcard)?.tls, owner)
}

/// The owner's oldest claim that asks for clients' certificates, else the oldest: an object that asks
/// for none does not open a host to which another one lets only known clients.
fn own_tls<'a>(claims: &[&'a TlsClaim], owner: &Arc<str>) -> Option<&'a TlsClaim> {
    let mut own = claims.iter().filter(|claim| claim.owner == *owner);
    let first = own.clone().next();
    own.find(|claim| claim.tls.clients.is_some())
        .or(first)
        .copied()
}
