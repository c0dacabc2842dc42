//! Every certificate that serves a host: when it ends, and what is wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Kind, ObjectKey, Problem};
use serde::Serialize;

use super::{findings, last_valid};
use crate::edge::value::{HostMatch, Id};
use crate::edge::{EdgePlan, Listener};

/// Renewals of a certificate that lives 90 days come 30 days before its end; one that is not there
/// after a week of trying is somebody's work.
const WARN_BEFORE: Duration = Duration::from_secs(21 * 24 * 3600);

const DAY: i64 = 24 * 3600;

/// One certificate, of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Kind of the object that names it.
    #[serde(serialize_with = "kind")]
    pub kind: Kind,
    /// `namespace/name`.
    pub object: String,
    /// Where it names it.
    pub field: String,
    /// When it ends.
    pub expires_unix_seconds: i64,
    /// Whole days until then; negative after it.
    pub days_left: i64,
    /// What is wrong.
    pub findings: Vec<String>,
    #[serde(skip)]
    key: ObjectKey,
}

fn kind<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// What is to be told of a plan's certificates, the first to end first.
pub fn report(plan: &EdgePlan, now_unix_seconds: i64) -> Vec<Told> {
    let mut found: BTreeMap<(Kind, ObjectKey, String, Id), Told> = BTreeMap::new();
    for listener in plan.listeners.values() {
        let http = match listener {
            Listener::Http(http) => http,
            Listener::Tls(tls) => &tls.http,
            Listener::Tcp(_) => continue,
        };
        let of_hosts = http.hosts.iter().filter_map(|(host, served)| {
            let tls = served.tls.as_ref()?;
            Some((host, &tls.certificate, Some(&tls.origin)))
        });
        let of_unknown = match listener {
            Listener::Tls(tls) => tls.unknown_host.as_ref(),
            Listener::Http(_) | Listener::Tcp(_) => None,
        };
        let of_unknown = of_unknown.map(|id| (&HostMatch::Any, id, None));
        for (host, id, origin) in of_hosts.chain(of_unknown) {
            let Some(certificate) = plan.certificates.get(id) else {
                continue;
            };
            let of = origin.unwrap_or(&certificate.origin);
            let name = (of.kind, of.key.clone(), of.field.to_string(), id.clone());
            let told = found.entry(name).or_insert_with(|| Told {
                kind: of.kind,
                object: of.key.to_string(),
                field: of.field.to_string(),
                expires_unix_seconds: certificate.expires_unix_seconds,
                days_left: (certificate.expires_unix_seconds - now_unix_seconds).div_euclid(DAY),
                findings: Vec::new(),
                key: of.key.clone(),
            });
            for finding in findings(certificate, host, now_unix_seconds, WARN_BEFORE) {
                let finding = match finding {
                    super::Finding::Expired(at) => format!("ended at {}", last_valid::time(at)),
                    super::Finding::ExpiresSoon(at) => format!("ends at {}", last_valid::time(at)),
                    super::Finding::NotForHost(_) => finding.to_string(),
                };
                if !told.findings.contains(&finding) {
                    told.findings.push(finding);
                }
            }
        }
    }
    let mut found: Vec<Told> = found.into_values().collect();
    found.sort_by_key(|told| told.expires_unix_seconds);
    found
}

/// The findings as problems of their objects.
pub fn problems(told: &[Told]) -> Vec<Problem> {
    // A file of the operator's is no object that an Event could be about.
    let of_objects = told.iter().filter(|told| !told.key.name.is_empty());
    let each = of_objects.flat_map(|told| {
        told.findings.iter().map(|finding| {
            Problem::new(
                told.kind,
                told.key.clone(),
                told.field.as_str(),
                format!("names a certificate that {finding}"),
                "clients that check it refuse it",
            )
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::{problems, report};
    use crate::samples;

    #[test]
    fn the_end_of_each_certificate_is_told_in_days() {
        let plan = samples::tls();
        let told = report(&plan, 0);
        let end = told.first().unwrap().expires_unix_seconds;
        assert!(told.iter().all(|told| told.days_left == end / 86400));
        assert_eq!(
            report(&plan, end - 86400 * 3 - 1)
                .first()
                .unwrap()
                .days_left,
            3
        );
        let last = report(&plan, end);
        assert_eq!(last.first().unwrap().days_left, 0);
        let text = format!("{:?}", problems(&last));
        assert!(text.contains("names a certificate that ended at"), "{text}");
        assert!(!text.contains("BEGIN"));
        let before = problems(&report(&plan, end - 86400));
        assert!(
            before
                .iter()
                .any(|problem| problem.message.contains("ends at")),
            "{before:?}"
        );
    }
}
