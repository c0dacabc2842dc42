//! Which routes are attached to which listeners, and for which hosts.

use std::sync::Arc;

use model::{Cluster, HttpRoute, Kind, ObjectKey, ParentRef, RouteNamespaces, StreamRoute};

use super::listener::OfGateway;
use super::{Fault, GROUP, OfListener, Parents, Speech};
use crate::edge::value::HostMatch;

/// What of a route says where it is attached.
pub(super) struct Route<'a> {
    pub(super) kind: Kind,
    pub(super) key: &'a ObjectKey,
    pub(super) generation: i64,
    parents: &'a [ParentRef],
    hostnames: &'a [Arc<str>],
}

/// A place where a route is served.
#[derive(Debug)]
pub(super) struct Served {
    /// The Gateway and its listener, by their places.
    pub(super) at: (usize, usize),
    /// Hosts, never none.
    pub(super) hosts: Vec<HostMatch>,
}

impl<'a> Route<'a> {
    pub(super) fn of_http(route: &'a HttpRoute) -> Self {
        Self {
            kind: Kind::HttpRoute,
            key: &route.key,
            generation: route.generation,
            parents: &route.parents,
            hostnames: &route.hostnames,
        }
    }

    pub(super) fn of_stream(kind: Kind, route: &'a StreamRoute) -> Self {
        Self {
            kind,
            key: &route.key,
            generation: route.generation,
            parents: &route.parents,
            hostnames: &route.hostnames,
        }
    }

    /// What each parent of ours says, and where the route is served.
    pub(super) fn attach(
        &self,
        cluster: &Cluster,
        gateways: &mut [OfGateway<'_>],
    ) -> (Parents<'a>, Vec<Served>) {
        let mut parents = Vec::new();
        let mut served: Vec<Served> = Vec::new();
        for parent in self.parents {
            let target = &parent.target;
            if *target.group != *GROUP || &*target.kind != "Gateway" {
                continue;
            }
            let namespace = target.namespace.as_ref().unwrap_or(&self.key.namespace);
            let key = ObjectKey::new(namespace, &target.name);
            let mut each = gateways.iter().enumerate();
            let Some((index, _)) = each.find(|(_, of)| of.gateway.key == key) else {
                continue;
            };
            let found = self.at(cluster, parent, &gateways[index]);
            let accepted = found.map(|places| {
                for (at, hosts) in places {
                    // Two references may lead to one listener.
                    if served.iter().any(|served| served.at == (index, at)) {
                        continue;
                    }
                    gateways[index].listeners[at].attached += 1;
                    let at = (index, at);
                    served.push(Served { at, hosts });
                }
            });
            parents.push((parent, accepted));
        }
        served.retain(|served| gateways[served.at.0].listeners[served.at.1].is_served());
        for served in &mut served {
            let gateway = &gateways[served.at.0];
            let own = &gateway.listeners[served.at.1];
            served.hosts.retain(|host| !is_anothers(gateway, own, host));
        }
        (parents, served)
    }

    /// The listeners of a Gateway that take the route, and the hosts there.
    fn at(
        &self,
        cluster: &Cluster,
        parent: &ParentRef,
        gateway: &OfGateway<'_>,
    ) -> Result<Vec<(usize, Vec<HostMatch>)>, Fault> {
        let meant = gateway.listeners.iter().enumerate().filter(|(_, of)| {
            let name = parent.section_name.as_ref();
            name.is_none_or(|name| *name == of.listener.name)
                && parent.port.is_none_or(|port| port == of.listener.port)
        });
        let meant: Vec<_> = meant.collect();
        let fault = |reason, message: &str| Err(Fault::new(reason, message));
        if meant.is_empty() {
            return fault("NoMatchingParent", "no listener has this name and port");
        }
        let mut allowed = meant;
        allowed.retain(|(_, of)| self.is_allowed(cluster, gateway, of));
        if allowed.is_empty() {
            let message = "no listener takes routes of this kind and namespace";
            return fault("NotAllowedByListeners", message);
        }
        let places = allowed.iter().filter_map(|(index, of)| {
            let hosts = self.hosts(of);
            (!hosts.is_empty()).then_some((*index, hosts))
        });
        let places: Vec<_> = places.collect();
        if places.is_empty() {
            let message = "no host is a listener's too";
            return fault("NoMatchingListenerHostname", message);
        }
        Ok(places)
    }

    fn is_allowed(&self, cluster: &Cluster, gateway: &OfGateway<'_>, of: &OfListener<'_>) -> bool {
        let takes = of.speech.map(Speech::route);
        let is_kind =
            takes.is_some_and(|(kind, name)| kind == self.kind && of.kinds.contains(&name));
        let namespace = &self.key.namespace;
        is_kind
            && match &of.listener.allowed.namespaces {
                RouteNamespaces::Same => *namespace == gateway.gateway.key.namespace,
                RouteNamespaces::All => true,
                RouteNamespaces::None => false,
                RouteNamespaces::Selector(selector) => {
                    let key = ObjectKey::cluster_scoped(namespace);
                    let labels = cluster.namespace(&key).map(|namespace| &namespace.labels);
                    labels.is_some_and(|labels| selector.selects(labels))
                }
            }
    }

    /// What is both the route's and the listener's. A name that is none matches nothing.
    fn hosts(&self, of: &OfListener<'_>) -> Vec<HostMatch> {
        if self.kind == Kind::TcpRoute {
            return vec![HostMatch::Any];
        }
        if self.hostnames.is_empty() {
            return vec![of.host.clone()];
        }
        let own = self.hostnames.iter();
        let own = own.filter_map(|host| HostMatch::parse(host).ok());
        let mut hosts: Vec<_> = own.filter_map(|host| both(&of.host, &host)).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// What two hosts have in common.
fn both(a: &HostMatch, b: &HostMatch) -> Option<HostMatch> {
    if covers(a, b) {
        Some(b.clone())
    } else if covers(b, a) {
        Some(a.clone())
    } else {
        None
    }
}

/// Whether everything of `inner` is of `outer`.
fn covers(outer: &HostMatch, inner: &HostMatch) -> bool {
    match (outer, inner) {
        (HostMatch::Any, _) => true,
        (HostMatch::Wildcard(_), HostMatch::Exact(name)) => outer.takes(name),
        (HostMatch::Wildcard(suffix), HostMatch::Wildcard(of)) => of.is_within(suffix),
        _ => outer == inner,
    }
}

/// Whether a closer listener of the same port takes the host: then this one's routes do not.
fn is_anothers(gateway: &OfGateway<'_>, own: &OfListener<'_>, host: &HostMatch) -> bool {
    let mut others = gateway.listeners.iter();
    others.any(|other| {
        other.listener.port == own.listener.port
            && other.speech != Some(Speech::Tcp)
            && other.accepted.is_ok()
            && other.conflict.is_none()
            && other.host != own.host
            && covers(&own.host, &other.host)
            && covers(&other.host, host)
    })
}
