//! Reports as tables for people.

use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::report::{EgressReport, FastPathRow, Routing, ServiceRow, Services, Status};
use crate::explain::Explanation;

/// Whether packets skip the host's stack.
fn fast_path(row: Option<&FastPathRow>) -> String {
    match row {
        None => "no: an older agent".to_owned(),
        Some(FastPathRow { off: Some(why), .. }) => format!("off: {why}"),
        Some(row) => format!(
            "on, between {} pods of this node, and to and from {} pod networks of others",
            row.pods, row.networks
        ),
    }
}

/// `status`.
pub fn status(status: &Status) -> String {
    let apply = &status.apply;
    let generation =
        |generation: Option<u64>| generation.map_or("none".to_owned(), |g| g.to_string());
    let ago = apply
        .seconds_ago
        .map_or("never".to_owned(), |ago| format!("{ago:.0} s ago"));
    let mut text = String::new();
    let facts = [
        (
            "agent",
            format!(
                "{} pid {} up {} s",
                status.version, status.pid, status.uptime_seconds
            ),
        ),
        ("node", status.node.clone()),
        ("dataplane", status.dataplane.clone()),
        ("TCP at connect", status.connect.clone()),
        ("fast path", fast_path(status.fast_path.as_ref())),
        (
            "synced",
            if status.synced { "yes" } else { "no" }.to_owned(),
        ),
        (
            "generation",
            format!(
                "{} wanted, {} applied",
                generation(apply.desired_generation),
                generation(apply.applied_generation)
            ),
        ),
        (
            "last apply",
            format!(
                "{ago}, {} operations in {:.1} ms",
                apply.operations, apply.took_milliseconds
            ),
        ),
        (
            "since start",
            format!(
                "{} applies, {} failed, {} operations, {} repairs",
                apply.applies_total,
                apply.failed_total,
                apply.operations_total,
                apply.repaired_total
            ),
        ),
    ];
    text += &table(
        &[],
        facts
            .into_iter()
            .map(|(name, value)| vec![name.to_owned(), value]),
    );
    let not_applied = apply.error.iter().chain(&apply.no_room);
    for error in not_applied.chain(&apply.failures) {
        writeln_to(&mut text, &format!("NOT APPLIED  {error}"));
    }
    for why in status.fast_path.iter().flat_map(|row| &row.left_out) {
        writeln_to(&mut text, &format!("through the stack  {why}"));
    }
    let sources = status.sources.iter();
    let sources = sources.map(|row| {
        vec![
            row.kind.clone(),
            row.state.clone(),
            row.reason.clone().unwrap_or_default(),
        ]
    });
    text += &section("Kinds", &["KIND", "STATE", "REASON"], sources);
    let maps = status.maps.iter().map(|row| {
        let percent = row
            .used
            .saturating_mul(100)
            .checked_div(row.max)
            .unwrap_or(0);
        vec![
            row.map.clone(),
            row.used.to_string(),
            row.max.to_string(),
            format!("{percent} %"),
        ]
    });
    text += &section("Tables", &["MAP", "USED", "MAX", "FULL"], maps);
    let devices = status.devices.iter();
    let devices = devices.map(|row| {
        vec![
            row.name.clone(),
            row.role.clone(),
            row.error.clone().unwrap_or_default(),
        ]
    });
    text += &section("Interfaces", &["NAME", "ROLE", "ERROR"], devices);
    let unenforced = status.unenforced.iter().map(|row| {
        let effect = if row.has_rules {
            "its policies are NOT ENFORCED"
        } else {
            "no policy would be enforced"
        };
        vec![
            row.pod.clone(),
            row.address.clone(),
            row.reason.clone(),
            effect.to_owned(),
        ]
    });
    text += &section(
        "Pods without network policy",
        &["POD", "ADDRESS", "FOUND", "EFFECT"],
        unenforced,
    );
    let counters = status.counters.iter().filter(|row| row.value > 0);
    text += &section(
        "Counters",
        &["WHAT", "VALUE"],
        counters.map(|row| vec![row.name.clone(), row.value.to_string()]),
    );
    if let Some(routing) = &status.routing {
        text += &routes(routing);
    }
    if let Some(egress) = &status.egress {
        text += &leaving(egress);
    }
    let problems = status.problems.iter();
    let problems = problems.map(|row| {
        vec![
            format!("{} {}", row.kind, row.object),
            row.field.clone(),
            row.message.clone(),
            row.effect.clone(),
        ]
    });
    text += &section(
        "Problems",
        &["OBJECT", "FIELD", "FOUND", "EFFECT"],
        problems,
    );
    let notes = status.notes.iter();
    let notes = notes.map(|row| vec![row.object.clone(), row.note.clone()]);
    text += &section("Notes", &["OBJECT", "HOW IT IS DONE"], notes);
    text += &section(
        "Flags without effect in this build",
        &["FLAG"],
        status
            .flags_without_effect
            .iter()
            .map(|flag| vec![flag.clone()]),
    );
    text
}

fn routes(routing: &Routing) -> String {
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let ago = routing.seconds_ago;
    let facts = [
        ("pod networks", routing.pod_networks.join(", ")),
        (
            "MTU of pods",
            routing
                .pod_mtu
                .map_or("not known".to_owned(), |mtu| mtu.to_string()),
        ),
        ("overlay", or_none(&routing.overlay)),
        ("CNI", or_none(&routing.cni)),
        (
            "last apply",
            ago.map_or("never".to_owned(), |ago| format!("{ago:.0} s ago")),
        ),
        (
            "since start",
            format!(
                "{} applies, {} failed, {} operations, {} repairs",
                routing.applies_total,
                routing.failed_total,
                routing.operations_total,
                routing.repaired_total
            ),
        ),
    ];
    let facts = facts.into_iter();
    let facts = facts.map(|(name, value)| vec![name.to_owned(), value]);
    let mut text = section("Pod network", &[], facts);
    for error in routing.failures.iter().chain(&routing.cni_error) {
        writeln_to(&mut text, &format!("NOT APPLIED  {error}"));
    }
    let rows = routing.routes.iter().map(|row| {
        vec![
            row.network.clone(),
            row.node.clone(),
            row.way.clone(),
            row.why.clone(),
            row.error.clone().unwrap_or_default(),
        ]
    });
    text + &section(
        "Pods of other nodes",
        &["NETWORK", "NODE", "WAY", "WHY", "ERROR"],
        rows,
    )
}

fn leaving(egress: &EgressReport) -> String {
    /// What fits a screen; `--output json` has more.
    const SHOWN: usize = 30;
    let mut facts = vec![vec!["pods of".to_owned(), egress.pod_networks.join(", ")]];
    facts.extend(egress.sources.iter().map(|(uplink, addresses)| {
        let addresses = match addresses.as_slice() {
            [] => "their own address: the uplink has none".to_owned(),
            addresses => addresses.join(", "),
        };
        vec![format!("leave by {uplink} as"), addresses]
    }));
    let mut text = section("Leaving the cluster (masquerade)", &[], facts.into_iter());
    let rows = egress.kept.iter().take(SHOWN);
    let rows = rows.map(|row| vec![row.network.clone(), row.why.clone()]);
    text += &section("Not masqueraded", &["TO", "WHY"], rows);
    let shown = egress.kept.len().min(SHOWN);
    if egress.kept_total > shown {
        let more = egress.kept_total - shown;
        writeln_to(&mut text, &format!("and {more} more; see --output json"));
    }
    text
}

/// `services`; with `detail`, their endpoints too.
pub fn services(services: &Services, detail: bool) -> String {
    let rows = services.services.iter().flat_map(|row| {
        let wanted = row
            .backends
            .iter()
            .filter(|backend| backend.desired && !backend.draining)
            .count();
        row.frontends.iter().map(move |frontend| {
            vec![
                row.service.clone(),
                row.port.clone(),
                format!("{}/{}", frontend.address, row.protocol),
                frontend.scope.clone(),
                wanted.to_string(),
                row.slots.map_or("-".to_owned(), |slots| slots.to_string()),
                row.state.clone(),
            ]
        })
    });
    let mut text = table(
        &[
            "SERVICE",
            "PORT",
            "FRONTEND",
            "SCOPE",
            "WANTED",
            "IN KERNEL",
            "STATE",
        ],
        rows,
    );
    if detail {
        services
            .services
            .iter()
            .for_each(|row| text += &endpoints(row));
    }
    text
}

fn endpoints(row: &ServiceRow) -> String {
    let rows = row.backends.iter().map(|backend| {
        vec![
            backend.address.clone(),
            if backend.local { "local" } else { "remote" }.to_owned(),
            match (backend.desired, backend.draining) {
                (true, false) => "yes",
                (true, true) => "draining",
                (false, _) => "no",
            }
            .to_owned(),
            backend.id.map_or("-".to_owned(), |id| id.to_string()),
        ]
    });
    let id = row.id.map_or("no id".to_owned(), |id| format!("id {id}"));
    let title = format!("{} `{}`/{} ({id})", row.service, row.port, row.protocol);
    section(
        &title,
        &["ENDPOINT", "WHERE", "WANTED", "ID IN KERNEL"],
        rows,
    )
}

/// `explain`.
pub fn explanation(explanation: &Explanation) -> String {
    let mut text = String::new();
    for (index, step) in explanation.steps.iter().enumerate() {
        let mark = if step.differs { "  DIFFERS" } else { "" };
        writeln_to(
            &mut text,
            &format!("{:>2}. {}{mark}", index + 1, step.topic.as_str()),
        );
        let lines = [
            ("looked at", Some(&step.looked_at)),
            ("found", Some(&step.found)),
            ("so", Some(&step.follows)),
            ("because of", step.object.as_ref()),
        ];
        for (name, line) in lines {
            if let Some(line) = line {
                writeln_to(&mut text, &format!("    {name:<10}  {line}"));
            }
        }
    }
    writeln_to(&mut text, "");
    writeln_to(&mut text, &explanation.result);
    text
}

pub(crate) fn section(
    title: &str,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        String::new()
    } else {
        format!("\n{title}\n{}", table(header, rows))
    }
}

/// Aligned rows under a header; without one, rows alone.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if !header.is_empty() {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row);
    }
    // Each cell has a blank on either side.
    let lines: Vec<String> = table
        .to_string()
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

fn writeln_to(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}
