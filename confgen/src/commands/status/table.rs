//! What is shown of an answer: a column an output, and a sentence for what is wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

/// What is shown of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    outputs: BTreeMap<String, Of>,
    #[serde(default)]
    problems: Vec<String>,
    #[serde(default)]
    losses: Vec<Value>,
    #[serde(default)]
    certificates: Vec<Certificate>,
}

#[derive(Debug, Deserialize)]
struct Certificate {
    kind: String,
    object: String,
    field: String,
    days_left: i64,
    findings: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Of {
    seen: u64,
    live: u64,
    gap: Option<String>,
    generation: Option<String>,
    extent: Option<Extent>,
    last_good: Option<String>,
    restored: Option<String>,
    guard: Option<String>,
    quarantined: Vec<Quarantined>,
    old_processes: u64,
    drift: Vec<String>,
    last_causes: Vec<Cause>,
    totals: Totals,
    waited_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Extent {
    hosts: u64,
    backends: u64,
    servers: u64,
}

#[derive(Debug, Deserialize)]
struct Quarantined {
    kind: String,
    key: String,
    proof: String,
}

#[derive(Debug, Deserialize)]
struct Cause {
    what: String,
    origin: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Totals {
    reloads: BTreeMap<String, u64>,
    failed_reloads: u64,
    runtime_changes: u64,
    commands: u64,
    rollbacks: u64,
    failed_checks: u64,
    refused: u64,
    repairs: u64,
}

type Row = (&'static str, fn(&Of) -> String);

const ROWS: [Row; 15] = [
    ("generation", |of| or_dash(of.generation.as_deref())),
    ("state live/seen", |of| format!("{}/{}", of.live, of.seen)),
    ("hosts", |of| extent(of, |extent| extent.hosts)),
    ("backends", |of| extent(of, |extent| extent.backends)),
    ("servers", |of| extent(of, |extent| extent.servers)),
    ("last good", |of| {
        let short = of.last_good.as_deref();
        or_dash(short.map(|digest| digest.get(..12).unwrap_or(digest)))
    }),
    ("guard", |of| {
        let word = if of.guard.is_some() { "holds" } else { "open" };
        format!("{word} ({} refused)", of.totals.refused)
    }),
    ("quarantined", |of| of.quarantined.len().to_string()),
    ("drift", |of| {
        format!("{} ({} repaired)", of.drift.len(), of.totals.repairs)
    }),
    ("reloads", |of| {
        let all: u64 = of.totals.reloads.values().sum();
        format!("{all} ({} did not take)", of.totals.failed_reloads)
    }),
    ("rollbacks", |of| of.totals.rollbacks.to_string()),
    ("failed checks", |of| of.totals.failed_checks.to_string()),
    ("runtime changes", |of| {
        let Totals {
            runtime_changes,
            commands,
            ..
        } = of.totals;
        format!("{runtime_changes} ({commands} commands)")
    }),
    ("old processes", |of| of.old_processes.to_string()),
    ("last wait", |of| format!("{:.3} s", of.waited_seconds)),
];

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn extent(of: &Of, which: fn(&Extent) -> u64) -> String {
    let count = of.extent.as_ref().map(which);
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

/// A column an output; below it what takes a sentence.
pub(super) fn table(told: &Told) -> String {
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(told.outputs.keys().cloned());
    for (name, cell) in ROWS {
        let cells = told.outputs.values().map(cell);
        lines.push([name.to_owned()].into_iter().chain(cells).collect());
    }
    let columns = told.outputs.len() + 1;
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let padded: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    let mut say = |what: &str, sentence: &str| {
        writeln!(text, "! {what}: {sentence}").expect("writing to a string cannot fail");
    };
    for (name, of) in &told.outputs {
        if let Some(gap) = &of.gap {
            say(name, &format!("behind: {gap}"));
        }
        if let Some(restored) = &of.restored {
            say(name, &format!("at the start: {restored}"));
        }
        for Quarantined { kind, key, proof } in &of.quarantined {
            say(
                name,
                &format!("left out {kind} {key}: {}", proof.trim_end()),
            );
        }
        for drift in &of.drift {
            say(name, &format!("drift: {drift}"));
        }
        if let Some(Cause { what, origin }) = of.last_causes.first() {
            let by = origin.as_ref().map(|by| format!(", asked for by {by}"));
            say(
                name,
                &format!("last reload: {what}{}", by.unwrap_or_default()),
            );
        }
    }
    for problem in &told.problems {
        say("problem", problem);
    }
    for told in &told.certificates {
        let Certificate {
            kind,
            object,
            field,
            days_left,
            findings,
        } = told;
        for finding in findings {
            let of = format!("{kind} {object} {field}");
            say(
                "certificate",
                &format!("{of}: {finding} ({days_left} days left)"),
            );
        }
    }
    if !told.losses.is_empty() {
        let count = told.losses.len();
        say(
            "losses",
            &format!("{count} claims lost; see `explain`, or -o json"),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{Told, table};
    use crate::apply::files::Extent;
    use crate::apply::status::{Quarantined, Status};
    use crate::haproxy::runtime::Cause;

    fn told() -> Told {
        let mut haproxy = Status {
            seen: 7,
            live: 6,
            gap: Some("a reload waits for the reload budget".to_owned()),
            generation: Some("g-1".to_owned()),
            extent: Some(Extent {
                hosts: 3,
                backends: 2,
                servers: 4,
            }),
            last_good: Some("0123456789abcdef".to_owned()),
            guard: Some("12 of 20 hosts would go".to_owned()),
            quarantined: vec![Quarantined {
                kind: "Ingress",
                key: "shop/web".to_owned(),
                proof: "line 7: unknown keyword".to_owned(),
                suspect: (model::Kind::Service, model::ObjectKey::new("shop", "web")),
            }],
            drift: vec!["server b/s has another weight".to_owned()],
            last_causes: vec![Cause::of("backend b: added")],
            ..Status::default()
        };
        haproxy.totals.reloads.insert("start".to_owned(), 1);
        haproxy.totals.refused = 2;
        let outputs = serde_json::json!({"haproxy": haproxy, "/etc/out": Status::default()});
        let all = serde_json::json!({"outputs": outputs, "problems": ["Secret a/b: x; y"], "losses": [1],
            "certificates": [{"kind": "Ingress", "object": "shop/web", "field": "spec.tls[0]", "days_left": 3,
                "expires_unix_seconds": 1, "findings": ["ends at 2030-01-01T00:00:00Z"]}]});
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn every_output_is_a_column_and_what_is_wrong_a_sentence() {
        expect![[r#"
                             /etc/out            haproxy
            generation       -                   g-1
            state live/seen  0/0                 6/7
            hosts            -                   3
            backends         -                   2
            servers          -                   4
            last good        -                   0123456789ab
            guard            open (0 refused)    holds (2 refused)
            quarantined      0                   1
            drift            0 (0 repaired)      1 (0 repaired)
            reloads          0 (0 did not take)  1 (0 did not take)
            rollbacks        0                   0
            failed checks    0                   0
            runtime changes  0 (0 commands)      0 (0 commands)
            old processes    0                   0
            last wait        0.000 s             0.000 s
            ! haproxy: behind: a reload waits for the reload budget
            ! haproxy: left out Ingress shop/web: line 7: unknown keyword
            ! haproxy: drift: server b/s has another weight
            ! haproxy: last reload: backend b: added
            ! problem: Secret a/b: x; y
            ! certificate: Ingress shop/web spec.tls[0]: ends at 2030-01-01T00:00:00Z (3 days left)
            ! losses: 1 claims lost; see `explain`, or -o json
        "#]]
        .assert_eq(&table(&told()));
    }
}
