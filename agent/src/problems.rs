//! All that is wrong, in one list: with objects, with their way into the kernel, with ports that cannot
//! be had, and with pods that policy does not reach. Status shows it, and Events tell it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{Kind, ObjectKey, Problem, Reason};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::applier::Applied;
use crate::cni::install::Installed;
use crate::control::health_check::Unanswered;
use crate::devices::pods::Unenforced;
use crate::reconcile::ClusterView;
use crate::route::keeper::Kept;

/// A pod whose interface is not there for this long has a problem. A pod's interface comes before
/// its address is told, and mostly goes before its end is; that passes in seconds.
const LASTING: Duration = Duration::from_secs(10);

/// Who finds what is wrong.
#[derive(Debug)]
pub struct Finders {
    /// With objects.
    pub view: watch::Receiver<ClusterView>,
    /// With their way into the kernel.
    pub applied: watch::Receiver<Applied>,
    /// With pods' interfaces.
    pub unenforced: watch::Receiver<Vec<Unenforced>>,
    /// With ports for health checks.
    pub unanswered: watch::Receiver<Unanswered>,
    /// With the pod network of this node.
    pub network: OfNetwork,
}

/// What is wrong with the pod network of this node.
#[derive(Debug)]
pub struct OfNetwork {
    /// Its Node.
    pub node: ObjectKey,
    /// With what container runtimes find.
    pub installed: watch::Receiver<Installed>,
    /// With the routes.
    pub kept: watch::Receiver<Kept>,
}

/// Merges until `cancel`.
pub async fn run(
    finders: Finders,
    problems: watch::Sender<Arc<[Problem]>>,
    cancel: CancellationToken,
) {
    let Finders {
        mut view,
        mut applied,
        mut unenforced,
        mut unanswered,
        mut network,
    } = finders;
    let mut since = BTreeMap::new();
    loop {
        let now = Instant::now();
        let mut all = view.borrow_and_update().problems.clone();
        let of_tables = applied.borrow_and_update().outcome.problems.clone();
        let missed = unenforced.borrow_and_update().clone();
        let of_ports: Vec<Problem> = unanswered.borrow_and_update().values().cloned().collect();
        let (lasting, next) = lasting(&missed, &mut since, now);
        let own: Vec<Problem> = of_tables
            .into_iter()
            .chain(of_ports)
            .chain(lasting)
            .chain(network.problems())
            .collect();
        all.extend(own.iter().cloned());
        problems.send_if_modified(|before| {
            if **before == *all {
                return false;
            }
            for problem in own.iter().filter(|problem| !before.contains(problem)) {
                tracing::warn!(kind = %problem.kind, object = %problem.key, field = problem.field, effect = problem.effect, "{}", problem.message);
            }
            *before = all.into();
            true
        });
        let again = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            () = cancel.cancelled() => return,
            changed = view.changed() => changed,
            changed = unenforced.changed() => changed,
            changed = applied.changed() => changed,
            changed = unanswered.changed() => changed,
            changed = network.installed.changed() => changed,
            changed = network.kept.changed() => changed,
            () = again => Ok(()),
        };
        if changed.is_err() {
            // The others end too.
            return cancel.cancelled().await;
        }
    }
}

impl OfNetwork {
    fn problems(&mut self) -> Vec<Problem> {
        let of_node = |message: &str, effect: &str| {
            Problem::new(Kind::Node, self.node.clone(), "", message, effect)
        };
        let installed = self.installed.borrow_and_update();
        let of_plugin = installed
            .error
            .iter()
            .map(|error| of_node(error, "new pods of this node get no network"));
        let kept = self.kept.borrow_and_update();
        let of_routes = kept.failures.iter().map(|(network, why)| match network {
            Some(network) => of_node(why, &format!("pods of {network} are not reached from here")),
            None => of_node(why, "pods of other nodes may not be reached from here"),
        });
        of_plugin.chain(of_routes).collect()
    }
}

/// Those that have lasted, and when the next one will have.
fn lasting(
    missed: &[Unenforced],
    since: &mut BTreeMap<(ObjectKey, IpAddr), Instant>,
    now: Instant,
) -> (Vec<Problem>, Option<Instant>) {
    let at = |missed: &Unenforced| (missed.pod.clone(), missed.address);
    since.retain(|key, _| missed.iter().any(|missed| at(missed) == *key));
    let mut problems = Vec::new();
    let mut next: Option<Instant> = None;
    for missed in missed {
        let due = *since.entry(at(missed)).or_insert(now) + LASTING;
        if due <= now {
            problems.push(problem(missed));
        } else {
            next = Some(next.map_or(due, |next| next.min(due)));
        }
    }
    (problems, next)
}

fn problem(missed: &Unenforced) -> Problem {
    let effect = if missed.has_rules {
        "its network policies are not enforced at this address"
    } else {
        "no network policy would be enforced at this address"
    };
    let message = format!("{}: {}", missed.address, missed.why);
    Problem::new(
        Kind::Pod,
        missed.pod.clone(),
        "status.podIPs",
        message,
        effect,
    )
    .because(Reason::PolicyNotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_pod_network_is_the_nodes_problem() {
        let installed = Installed {
            state: "not installed".to_owned(),
            error: Some("/etc/cni/net.d: cannot be written".to_owned()),
        };
        let kept = Kept {
            failures: vec![
                (Some("10.0.2.0/24".parse().unwrap()), "no way".to_owned()),
                (None, "no device".to_owned()),
            ],
            ..Kept::default()
        };
        let mut network = OfNetwork {
            node: ObjectKey::cluster_scoped("n"),
            installed: watch::channel(installed).1,
            kept: watch::channel(kept).1,
        };
        let texts: Vec<_> = network.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "Node n: /etc/cni/net.d: cannot be written; new pods of this node get no network",
                "Node n: no way; pods of 10.0.2.0/24 are not reached from here",
                "Node n: no device; pods of other nodes may not be reached from here",
            ]
        );
    }

    #[test]
    fn a_pod_that_is_not_reached_has_a_problem_once_that_lasts_and_until_it_ends() {
        let start = Instant::now();
        let mut since = BTreeMap::new();
        let missed = [Unenforced {
            pod: ObjectKey::new("shop", "web"),
            address: IpAddr::from([10, 0, 0, 5]),
            has_rules: true,
            why: "no route".to_owned(),
        }];
        let mut step = |missed: &[Unenforced], seconds| {
            lasting(missed, &mut since, start + Duration::from_secs(seconds))
        };
        let due = Some(start + LASTING);
        assert_eq!(step(&missed, 0), (Vec::new(), due));
        assert_eq!(step(&missed, 9), (Vec::new(), due));
        let (problems, next) = step(&missed, 10);
        assert_eq!(next, None);
        assert_eq!(
            problems[0].to_string(),
            "Pod shop/web: status.podIPs 10.0.0.5: no route; its network policies are not enforced at this address"
        );
        // It is reached meanwhile: the time begins anew.
        assert_eq!(step(&[], 11), (Vec::new(), None));
        assert!(step(&missed, 12).0.is_empty());
    }
}
