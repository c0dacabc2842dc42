//! How long it takes from a change of endpoints in the cluster until the kernel has it.
//!
//! The EndpointSlice controller notes when the pod or Service changed that made it write a slice.
//! [`triggers`] finds those times in what a generation of `Desired` brings; [`run`] waits for the
//! generation to be in force. Clocks of two machines differ, so the latency is as right as they are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{ChangeSet, Cluster, Kind};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::applier::Applied;
use crate::histogram::Histogram;

/// Generations that wait to be in force. While a kernel refuses everything they are made at most
/// twice a second; those that find no room are not measured.
pub const WAITING: usize = 64;

/// What set off the changes of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triggered {
    /// The generation.
    pub generation: u64,
    /// When the changes happened.
    pub at: Vec<SystemTime>,
}

/// When that happened which `changes` made of `before`: of every changed slice that notes a time
/// other than it did.
pub fn triggers(before: &Cluster, cluster: &Cluster, changes: &ChangeSet) -> Vec<SystemTime> {
    let slices = changes.get(&Kind::EndpointSlice).into_iter().flatten();
    let noted = slices.filter_map(|key| {
        let time = |cluster: &Cluster| cluster.endpoint_slice(key)?.triggered_unix_micros;
        time(cluster).filter(|now| time(before) != Some(*now))
    });
    let since_1970 = noted.filter_map(|micros| u64::try_from(micros).ok());
    since_1970
        .filter_map(|micros| UNIX_EPOCH.checked_add(Duration::from_micros(micros)))
        .collect()
}

/// Measures until `cancel`.
pub async fn run(
    mut triggered: mpsc::Receiver<Triggered>,
    mut applied: watch::Receiver<Applied>,
    latency: watch::Sender<Histogram>,
    cancel: CancellationToken,
) {
    let mut ahead = None;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = applied.changed() => if changed.is_err() {
                // The applier has ended, and says why itself.
                return cancel.cancelled().await;
            },
        }
        let (generation, at) = {
            let applied = applied.borrow_and_update();
            (applied.generation, applied.at)
        };
        let (Some(generation), Some(at)) = (generation, at) else {
            continue;
        };
        while let Some(next) = ahead.take().or_else(|| triggered.try_recv().ok()) {
            if next.generation > generation {
                ahead = Some(next);
                break;
            }
            latency.send_modify(|histogram| {
                for trigger in next.at {
                    // A clock that is ahead of ours makes the latency negative.
                    histogram.observe(at.duration_since(trigger).unwrap_or_default());
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{EndpointSlice, Event, IpFamily, Object, ObjectKey};

    use super::*;

    fn put(cluster: &mut Cluster, name: &str, triggered: Option<i64>, family: IpFamily) {
        let key = ObjectKey::new("shop", name);
        cluster.apply(Event::Applied {
            kind: Kind::EndpointSlice,
            key: key.clone(),
            object: Some(Object::EndpointSlice(Arc::new(EndpointSlice {
                key,
                service: None,
                family,
                ports: Vec::new(),
                endpoints: Vec::new(),
                triggered_unix_micros: triggered,
            }))),
            problems: Vec::new(),
        });
    }

    #[test]
    fn a_trigger_counts_once_and_only_where_one_is_noted() {
        let mut cluster = Cluster::default();
        put(&mut cluster, "same", Some(1_000_000), IpFamily::V4);
        put(&mut cluster, "newer", Some(1_000_000), IpFamily::V4);
        put(&mut cluster, "untouched", Some(1_000_000), IpFamily::V4);
        cluster.take_changes();
        let before = cluster.clone();
        put(&mut cluster, "same", Some(1_000_000), IpFamily::V6);
        put(&mut cluster, "newer", Some(2_000_000), IpFamily::V4);
        put(&mut cluster, "silent", None, IpFamily::V4);
        put(&mut cluster, "ancient", Some(-1), IpFamily::V4);
        let changes = cluster.take_changes();
        assert_eq!(
            triggers(&before, &cluster, &changes),
            [UNIX_EPOCH + Duration::from_secs(2)]
        );
    }

    #[tokio::test]
    async fn a_change_is_measured_when_its_generation_is_in_force() {
        let (sender, triggered) = mpsc::channel(WAITING);
        let (applied_tx, applied) = watch::channel(Applied::default());
        let (latency_tx, mut latency) = watch::channel(Histogram::default());
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(triggered, applied, latency_tx, cancel.clone()));
        let second = |n| UNIX_EPOCH + Duration::from_secs(n);
        let of = |generation, at| Triggered { generation, at };
        for message in [of(2, vec![second(5), second(30)]), of(4, vec![second(9)])] {
            sender.try_send(message).unwrap();
        }
        let mut counts = Vec::new();
        for (generation, at, expected) in [
            (None, 10, 0),
            (Some(1), 11, 0),
            (Some(3), 12, 2),
            (Some(4), 13, 3),
        ] {
            applied_tx.send_modify(|applied| {
                (applied.generation, applied.at) = (generation, Some(second(at)));
            });
            let found = latency.wait_for(|found| found.count() >= expected).await;
            counts.push((found.unwrap().count(), expected));
        }
        assert!(
            counts.iter().all(|(found, expected)| found == expected),
            "{counts:?}"
        );
        assert_eq!(latency.borrow().sum(), Duration::from_secs(7 + 4));
        cancel.cancel();
        task.await.unwrap();
    }
}
