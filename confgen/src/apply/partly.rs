//! What can go live while a reload waits. Pure.

use std::sync::Arc;

use crate::edge::{Backend, EdgePlan};

/// The live plan with the servers of the next one, where both have the same backend; `None` where
/// that changes nothing.
pub fn with_servers_of(live: &EdgePlan, next: &EdgePlan) -> Option<EdgePlan> {
    let mut plan = live.clone();
    let mut is_changed = false;
    for (id, backend) in &mut plan.backends {
        let Some(next) = next.backends.get(id) else {
            continue;
        };
        if Arc::ptr_eq(backend, next) || backend.servers == next.servers {
            continue;
        }
        let moved = Backend {
            servers: next.servers.clone(),
            ..Backend::clone(backend)
        };
        // Whatever else a backend says is for the reload.
        *backend = Arc::new(moved);
        is_changed = true;
    }
    is_changed.then_some(plan)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::with_servers_of;
    use crate::apply::fixture::plan;
    use crate::edge::Balance;

    #[test]
    fn only_servers_of_backends_that_are_live_follow() {
        let live = plan(3);
        assert_eq!(with_servers_of(&live, &live), None);
        // A new backend, and one that is gone, wait.
        assert_eq!(with_servers_of(&live, &plan(4)), None);
        assert_eq!(with_servers_of(&live, &plan(2)), None);
        let mut next = plan(4);
        let id = live.backends.keys().next().unwrap().clone();
        let mut other = next.backends[&id].as_ref().clone();
        other.servers.truncate(1);
        other.balance = Balance::LeastConnections;
        let servers = other.servers.clone();
        next.backends.insert(id.clone(), Arc::new(other));
        let partly = with_servers_of(&live, &next).unwrap();
        assert_eq!(partly.backends[&id].servers, servers);
        assert_eq!(partly.backends[&id].balance, live.backends[&id].balance);
        assert_eq!(partly.backends.len(), 3);
    }
}
