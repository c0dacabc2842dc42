//! A pool beside what is wanted of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use agent_abi::service::{BackendV2, POOL_LOCAL};
use model::IpFamily;

use super::frontend::{Found, Wanted};
use super::{Facts, Step, Topic, socket, some_of};
use crate::desired::{Pool, Pools};

/// Why there is nobody in a pool, as far as the cluster says.
pub(super) fn emptiness(found: &Found<'_>, index: usize, facts: &Facts<'_>) -> String {
    let Some(Wanted { key, unit, .. }) = found.wanted else {
        return "no object asks for it".to_owned();
    };
    let somewhere = unit.pool(Pool::Cluster).count();
    if index == POOL_LOCAL && somewhere > 0 {
        return format!(
            "none of the endpoints in use ({somewhere}) is on {}",
            facts.desired.node.name
        );
    }
    let mut counts = [0_usize; 3];
    for slice in facts
        .cluster
        .slices_of(key.owner.key())
        .filter(|slice| slice.family == key.family)
    {
        for endpoint in &slice.endpoints {
            let state = endpoint.conditions;
            let which = match (state.ready, state.serving && state.terminating) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            };
            counts[which] += 1;
        }
    }
    let draining = unit
        .backends
        .iter()
        .filter(|backend| backend.pools == Pools::default())
        .count();
    let family = match key.family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    };
    match counts {
        [0, 0, 0] => format!("the Service's EndpointSlices have no {family} endpoint"),
        [0, 0, not_ready] => format!("none of its {not_ready} {family} endpoints is ready"),
        [ready, terminating, not_ready] => format!(
            "{ready} ready, {terminating} terminating and {not_ready} other {family} endpoints, of which {draining} only finish what they have begun, and none has this port and a weight"
        ),
    }
}

/// Where the kernel's members are not those that are wanted.
pub(super) fn difference(
    found: &Found<'_>,
    index: usize,
    backends: &[(u32, u32, BackendV2)],
) -> Option<Step> {
    let wanted = found.wanted?;
    let pool = if index == POOL_LOCAL {
        Pool::Local
    } else {
        Pool::Cluster
    };
    let here: BTreeSet<SocketAddr> = backends
        .iter()
        .map(|(_, _, value)| socket(&value.address, value.port))
        .collect();
    let there: BTreeSet<SocketAddr> = wanted
        .unit
        .pool(pool)
        .map(|backend| SocketAddr::new(backend.address, backend.port.get()))
        .collect();
    let list = |found: Vec<&SocketAddr>| {
        let found: Vec<String> = found.into_iter().map(ToString::to_string).collect();
        if found.is_empty() {
            "nobody".to_owned()
        } else {
            some_of(&found)
        }
    };
    (here != there).then(|| {
        let missing = list(there.difference(&here).collect());
        let extra = list(here.difference(&there).collect());
        Step::new(
            Topic::Tables,
            "the pool beside what is wanted",
            format!("lacks {missing}; has {extra} beyond it"),
            "the kernel's pool is explained; see `fairlead-agent status` for why it is not in force",
        )
        .because_of(Some(wanted.key))
        .differing()
    })
}
