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
use crate::control::health_check::Unanswered;
use crate::devices::pods::Unenforced;
use crate::reconcile::ClusterView;

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
            () = again => Ok(()),
        };
        if changed.is_err() {
            // The others end too.
            return cancel.cancelled().await;
        }
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
