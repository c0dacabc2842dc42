//! What one Service or pod asks for by itself. [`super::claims`] settles what several ask for.

use std::num::NonZeroU16;
use std::sync::Arc;

use model::{ObjectKey, Problem};

use super::unit::{LbService, LbServiceKey};

/// What one Service or pod asks for, before others' claims are considered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compiled {
    /// Age of the object, which decides conflicts.
    pub created_unix_seconds: i64,
    /// Its units, in order. A list, since most have one: a map's node has room for eleven.
    pub units: Vec<(LbServiceKey, Arc<LbService>)>,
    /// Health that load balancers ask for.
    pub health_check: Option<HealthCheck>,
    /// Findings about it.
    pub problems: Vec<Problem>,
    /// How something that was asked for is done.
    pub notes: Vec<String>,
}

impl Compiled {
    /// One of its units.
    pub(super) fn unit(&self, key: &LbServiceKey) -> Option<&Arc<LbService>> {
        let found = self.units.binary_search_by(|(own, _)| own.cmp(key)).ok()?;
        self.units.get(found).map(|(_, unit)| unit)
    }

    /// Puts the units in order, in no more room than they need.
    pub(super) fn settle(&mut self) {
        self.units.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.units.dedup_by(|(a, _), (b, _)| a == b);
        self.units.shrink_to_fit();
    }
}

/// What a load balancer is told that asks a `healthCheckNodePort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port.
    pub port: NonZeroU16,
    /// The Service.
    pub service: ObjectKey,
    /// Endpoints on this node that get new connections and are not terminating.
    pub local_endpoints: usize,
}
