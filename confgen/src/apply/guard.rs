//! Refuses to take most of the edge away at once, unless it was seen to be meant.
//!
//! An API server that answers with an empty list, or a label that was lost, must not take every
//! host off the edge. Deletions that were watched as events are meant; so is a smaller cluster that
//! further complete lists confirm.

use std::collections::{BTreeMap, BTreeSet};

use model::{Kind, ObjectKey};
use serde::Serialize;

use super::files::Extent;
use crate::edge::value::Id;
use crate::edge::{Backend, EdgePlan, Listener};

/// What is too much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Share that may go, in percent.
    pub max_removed_percent: u8,
    /// Of fewer than these, all may go.
    pub min_there: usize,
    /// Complete lists that confirm a smaller cluster before it is believed.
    pub confirmations: u32,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            max_removed_percent: 50,
            min_there: 10,
            confirmations: 2,
        }
    }
}

/// Deletions since the live plan, as far as they were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Objects that an event deleted or changed: what they asked for may go with them.
    pub objects: BTreeSet<(Kind, ObjectKey)>,
    /// Further deletions by events, of objects that are no origin themselves, such as Pods.
    pub deletions: usize,
    /// Complete lists since the plan became smaller, each of which agreed.
    pub confirmations: u32,
    /// `--force`.
    pub is_forced: bool,
}

/// Why a plan is not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error(
    "{removed} of {there} {what} would go at once, {unexplained} of them without a deletion that was \
     seen; the limit is {limit_percent} %. It is released by their deletion, by {confirmations} \
     complete lists that agree, or by --force"
)]
pub struct Refusal {
    /// `hosts`, `backends` or `servers`.
    pub what: &'static str,
    /// Are live.
    pub there: usize,
    /// Would go.
    pub removed: usize,
    /// Would go unseen.
    pub unexplained: usize,
    /// What may.
    pub limit_percent: u8,
    /// Lists that release it.
    pub confirmations: u32,
}

/// Things by name, and the object that asked for each.
type Things = BTreeMap<String, (Kind, ObjectKey)>;

/// Compares what is live with what is to be.
///
/// # Errors
/// [`Refusal`] where too much would go unseen.
pub fn judge(
    limits: &GuardLimits,
    live: &EdgePlan,
    next: &EdgePlan,
    seen: &Seen,
) -> Result<(), Refusal> {
    if seen.releases(limits) {
        return Ok(());
    }
    for (what, things) in [
        ("hosts", hosts as fn(&EdgePlan) -> Things),
        ("backends", backends),
        ("servers", servers),
    ] {
        let (before, after) = (things(live), things(next));
        limits.compare(what, before.len(), &before, &after, seen)?;
    }
    Ok(())
}

/// [`judge`], where nothing but the servers of these backends differs.
///
/// # Errors
/// [`Refusal`] where too much would go unseen.
pub fn judge_servers(
    limits: &GuardLimits,
    live: &EdgePlan,
    next: &EdgePlan,
    backends: &[Id],
    seen: &Seen,
) -> Result<(), Refusal> {
    if seen.releases(limits) {
        return Ok(());
    }
    let of = |plan: &EdgePlan| -> Things {
        let known = backends.iter().filter_map(|id| plan.backends.get(id));
        known.flat_map(|backend| servers_of(backend)).collect()
    };
    limits.compare("servers", count_servers(live), &of(live), &of(next), seen)
}

/// Compares by numbers alone: what was live before a restart is known by its extent.
///
/// # Errors
/// [`Refusal`] where too much would go unseen.
pub fn judge_extent(
    limits: &GuardLimits,
    live: Extent,
    next: &EdgePlan,
    seen: &Seen,
) -> Result<(), Refusal> {
    if seen.releases(limits) {
        return Ok(());
    }
    let next = Extent::of(next);
    for (what, there, left) in [
        ("hosts", live.hosts, next.hosts),
        ("backends", live.backends, next.backends),
        ("servers", live.servers, next.servers),
    ] {
        let removed = there.saturating_sub(left);
        let explained = seen.objects.len() + seen.deletions;
        limits.allow(what, there, removed, removed.saturating_sub(explained))?;
    }
    Ok(())
}

impl Seen {
    fn releases(&self, limits: &GuardLimits) -> bool {
        self.is_forced || self.confirmations >= limits.confirmations
    }
}

impl GuardLimits {
    /// Compares things among which there is all that goes; `there` are all of them.
    fn compare(
        &self,
        what: &'static str,
        there: usize,
        before: &Things,
        after: &Things,
        seen: &Seen,
    ) -> Result<(), Refusal> {
        let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
        let (removed, unseen) = gone.fold((0, 0), |(removed, unseen), (_, origin)| {
            // What the configuration names does not vanish with the cluster's objects.
            let is_seen = seen.objects.contains(origin) || origin.1.name.is_empty();
            (removed + 1, unseen + usize::from(!is_seen))
        });
        let unexplained = unseen.saturating_sub(seen.deletions);
        self.allow(what, there, removed, unexplained)
    }

    fn allow(
        &self,
        what: &'static str,
        there: usize,
        removed: usize,
        unexplained: usize,
    ) -> Result<(), Refusal> {
        let share = there.saturating_mul(usize::from(self.max_removed_percent));
        if there < self.min_there || unexplained.saturating_mul(100) <= share {
            return Ok(());
        }
        Err(Refusal {
            what,
            there,
            removed,
            unexplained,
            limit_percent: self.max_removed_percent,
            confirmations: self.confirmations,
        })
    }
}

impl Extent {
    /// Of a plan.
    pub fn of(plan: &EdgePlan) -> Self {
        Self {
            hosts: plan.listeners.values().map(hosts_at).sum(),
            backends: plan.backends.len(),
            servers: count_servers(plan),
        }
    }
}

/// As many as [`hosts`] names, without naming them: it is asked after every change.
fn hosts_at(listener: &Listener) -> usize {
    let (http, passed) = match listener {
        Listener::Http(http) => (http, 0),
        Listener::Tls(tls) => (&tls.http, tls.passthrough.len()),
        Listener::Tcp(_) => return 1,
    };
    let served = http.hosts.values();
    served
        .filter(|host| !host.rules.is_empty() || host.tls.is_some())
        .count()
        + passed
}

fn hosts(plan: &EdgePlan) -> Things {
    let mut found = Things::new();
    for (listen, listener) in plan.listeners.iter() {
        let name =
            |host: &dyn std::fmt::Display| format!("{}:{} {host}", listen.address, listen.port);
        let (http, passed) = match listener {
            Listener::Http(http) => (Some(http), None),
            Listener::Tls(tls) => (Some(&tls.http), Some(&tls.passthrough)),
            Listener::Tcp(tcp) => {
                let origin = (tcp.origin.kind, tcp.origin.key.clone());
                found.insert(name(&"tcp"), origin);
                (None, None)
            }
        };
        for (host, virtual_host) in http.into_iter().flat_map(|http| &http.hosts) {
            // A host without rules is of its certificate's object.
            let origin = virtual_host.rules.first().map(|rule| &rule.origin);
            let origin = origin.or(virtual_host.tls.as_ref().map(|tls| &tls.origin));
            if let Some(origin) = origin {
                found.insert(name(host), (origin.kind, origin.key.clone()));
            }
        }
        for (host, route) in passed.into_iter().flatten() {
            let origin = (route.origin.kind, route.origin.key.clone());
            found.insert(name(host), origin);
        }
    }
    found
}

fn backends(plan: &EdgePlan) -> Things {
    let backends = plan.backends.iter();
    backends
        .map(|(id, backend)| {
            let origin = (backend.origin.kind, backend.origin.key.clone());
            (id.to_string(), origin)
        })
        .collect()
}

fn servers(plan: &EdgePlan) -> Things {
    let backends = plan.backends.values();
    backends.flat_map(|backend| servers_of(backend)).collect()
}

fn servers_of(backend: &Backend) -> impl Iterator<Item = (String, (Kind, ObjectKey))> {
    backend.servers.iter().map(|server| {
        // A server is of the Pod or node that it is, where that is known.
        let origin = match &server.target {
            Some(target) if target.namespace.is_empty() => (Kind::Node, target.clone()),
            Some(target) => (Kind::Pod, target.clone()),
            None => (backend.origin.kind, backend.origin.key.clone()),
        };
        (format!("{}/{}", backend.id, server.name), origin)
    })
}

fn count_servers(plan: &EdgePlan) -> usize {
    let backends = plan.backends.values();
    backends.map(|backend| backend.servers.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::{GuardLimits, Seen, judge};
    use crate::apply::fixture::{key, plan};
    use model::Kind;

    #[track_caller]
    fn check(live: usize, next: usize, seen: &Seen, refused: Option<(&str, usize)>) {
        let found = judge(&GuardLimits::default(), &plan(live), &plan(next), seen);
        let found = found
            .err()
            .map(|refusal| (refusal.what, refusal.unexplained));
        assert_eq!(found, refused, "{live} -> {next}");
    }

    #[test]
    fn most_of_the_edge_does_not_go_unseen() {
        let unseen = Seen::default();
        check(100, 0, &unseen, Some(("backends", 100)));
        check(100, 49, &unseen, Some(("backends", 51)));
        check(100, 50, &unseen, None);
        check(0, 100, &unseen, None);
        // Small edges are their operators' to empty; their servers count apart.
        check(4, 0, &unseen, None);
    }

    #[test]
    fn what_was_seen_or_confirmed_may_go() {
        let objects = |count| (0..count).map(|n| (Kind::Service, key(n))).collect();
        let deleted = |count| Seen {
            objects: objects(count),
            // Each service of the fixture has two servers.
            deletions: 2 * count,
            ..Seen::default()
        };
        check(100, 0, &deleted(100), None);
        check(
            100,
            0,
            &Seen {
                deletions: 0,
                ..deleted(20)
            },
            Some(("backends", 80)),
        );
        let confirmed = Seen {
            confirmations: 2,
            ..Seen::default()
        };
        check(100, 0, &confirmed, None);
        let forced = Seen {
            is_forced: true,
            ..Seen::default()
        };
        check(100, 0, &forced, None);
    }

    #[test]
    fn a_refusal_says_how_it_is_released() {
        let refusal = judge(
            &GuardLimits::default(),
            &plan(20),
            &plan(1),
            &Seen::default(),
        );
        let text = refusal.unwrap_err().to_string();
        assert!(
            text.starts_with("19 of 20 backends would go at once"),
            "{text}"
        );
        assert!(text.contains("--force"), "{text}");
    }
}
