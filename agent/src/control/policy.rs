//! Network policy as metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use agent_abi::policy::{RULES_MAP, RuleKeyV1};
use model::{Cluster, ObjectKey, Tier};

use super::page::{Labels, Page};
use crate::desired::Desired;
use crate::desired::policy::{PolicyRef, PolicyTables, Reason, Size};
use crate::histogram::Histogram;
use crate::policy::ebpf::facility::InForce;
use crate::policy::ebpf::image::RuleNames;
use crate::sys::map::{TableError, per_cpu_delete, per_cpu_sums_by_key};

/// Counters of `agent_abi::policy::RuleV1`.
const PARTS: usize = 3;
/// Their names, in its order.
const VERDICTS: [&str; PARTS] = ["allowed", "dropped", "audited"];

/// How often rules decided.
type Counts = Vec<(RuleKeyV1, [u64; PARTS])>;

/// What is measured of network policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What policies decided, by kind, namespace, name and direction.
    pub verdicts: BTreeMap<[String; 4], [u64; PARTS]>,
    /// How large the tables are.
    pub size: Size,
    /// Entries that go for each pod of the node that has any.
    pub pods: BTreeMap<ObjectKey, usize>,
    /// How long applies took.
    pub applies: Histogram,
}

/// Measures. Reads the kernel's tables.
pub(super) fn measure(
    pins: &Path,
    InForce {
        rules,
        applies,
        revision: _,
    }: InForce,
    desired: Option<&Desired>,
    cluster: &Cluster,
) -> Policy {
    let counts = counts(pins).unwrap_or_else(|error| {
        tracing::warn!(%error, "what policies decided cannot be read; it is left out");
        Counts::new()
    });
    let tables = desired.map(|desired| &desired.policy);
    Policy {
        verdicts: by_policy(&counts, &rules.unwrap_or_default(), cluster),
        size: tables.map(PolicyTables::size).unwrap_or_default(),
        pods: tables.map(entries_of_pods).unwrap_or_default(),
        applies,
    }
}

impl Policy {
    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let samples = self.verdicts.iter().flat_map(|(of, counts)| {
            VERDICTS
                .into_iter()
                .zip(counts)
                .map(|(verdict, count)| (labels(of, verdict), *count))
        });
        page.counters(
            "fairlead_policy_verdicts",
            "Connections that a policy let pass, packets that it dropped, and connections that it would drop (audited)",
            samples,
        )?;
        let Size {
            prefixes,
            classes,
            sets,
            entries,
            largest_set: _,
            endpoints,
        } = self.size;
        for (name, help, value) in [
            (
                "identities",
                "Classes of peers that policies in force tell apart",
                classes,
            ),
            (
                "prefixes",
                "Addresses and networks with an identity",
                prefixes,
            ),
            ("sets", "Sets of rules that pods share", sets),
            ("entries", "Verdicts of all sets", entries),
            ("pod_addresses", "Addresses of pods of this node", endpoints),
            (
                "largest_pod_entries",
                "Verdicts that go for the pod that has the most",
                self.pods.values().copied().max().unwrap_or(0),
            ),
        ] {
            page.gauge(&format!("fairlead_policy_{name}"), help, value)?;
        }
        let of_pods = self.pods.iter().map(|(pod, entries)| {
            let labels = vec![
                ("namespace", pod.namespace.to_string()),
                ("pod", pod.name.to_string()),
            ];
            (labels, *entries)
        });
        page.gauges(
            "fairlead_policy_pod_entries",
            "Verdicts that go for a pod of this node",
            of_pods,
        )?;
        page.histogram(
            "fairlead_policy_apply_duration_seconds",
            "How long changes of the policy tables took to be in force",
            &self.applies,
        )
    }
}

fn labels([kind, namespace, policy, direction]: &[String; 4], verdict: &str) -> Labels {
    vec![
        ("kind", kind.clone()),
        ("namespace", namespace.clone()),
        ("policy", policy.clone()),
        ("direction", direction.clone()),
        ("verdict", verdict.to_owned()),
    ]
}

/// Sums for each policy that is there. Rules that a policy has no longer stay in its sum, since a
/// counter does not go down.
fn by_policy(
    counts: &Counts,
    rules: &RuleNames,
    cluster: &Cluster,
) -> BTreeMap<[String; 4], [u64; PARTS]> {
    let mut sums: BTreeMap<[String; 4], [u64; PARTS]> = BTreeMap::new();
    for (key, counts) in counts {
        let Some(policy) = rules.get(&key.rule).and_then(named) else {
            continue;
        };
        if !is_there(policy, cluster) {
            continue;
        }
        let direction = match key.begun_by_pod {
            0 => "ingress",
            _ => "egress",
        };
        let of = [
            policy.kind().to_string(),
            policy.key.namespace.to_string(),
            policy.key.name.to_string(),
            direction.to_owned(),
        ];
        for (sum, count) in sums.entry(of).or_default().iter_mut().zip(counts) {
            *sum += count;
        }
    }
    sums
}

fn named(reason: &Reason) -> Option<&PolicyRef> {
    match reason {
        Reason::Rule(policy, _) | Reason::Isolated(policy) => Some(policy),
        Reason::NoPolicy => None,
    }
}

fn is_there(policy: &PolicyRef, cluster: &Cluster) -> bool {
    match policy.tier {
        Tier::NetworkPolicy => cluster.network_policy(&policy.key).is_some(),
        Tier::Admin | Tier::Baseline => cluster.cluster_network_policy(&policy.key).is_some(),
    }
}

fn entries_of_pods(tables: &PolicyTables) -> BTreeMap<ObjectKey, usize> {
    let entries = |key: &_| tables.sets().get(key).map_or(0, |set| set.size());
    let pods = tables.pods().iter();
    pods.map(|(key, pod)| (key.clone(), pod.sets().map(entries).sum()))
        .filter(|(_, entries)| *entries > 0)
        .collect()
}

fn counts(pins: &Path) -> Result<Counts, TableError> {
    per_cpu_sums_by_key::<RuleKeyV1, PARTS>(pins, RULES_MAP)
}

/// Forgets what rules decided whose policies are gone; the table would fill up. The answer is how
/// many there were.
pub(super) fn forget_departed(
    pins: &Path,
    rules: &RuleNames,
    cluster: &Cluster,
) -> Result<usize, TableError> {
    let is_departed = |key: &RuleKeyV1| {
        let policy = rules.get(&key.rule).and_then(named);
        policy.is_none_or(|policy| !is_there(policy, cluster))
    };
    let departed: Vec<RuleKeyV1> = counts(pins)?
        .into_iter()
        .map(|(key, _)| key)
        .filter(is_departed)
        .collect();
    per_cpu_delete::<RuleKeyV1, PARTS>(pins, RULES_MAP, &departed)?;
    Ok(departed.len())
}
