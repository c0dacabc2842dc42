//! What became of one image to be another, and whether a running HAProxy can follow.

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::str;

use serde::Serialize;

pub(crate) use self::servers::options_of;
use self::servers::{Servers, servers};
use super::command::Command;
use super::config::{Config, Section};
use super::leaving::Leaving;
use super::lists;
use super::maps::{self, Uses};
use crate::edge::{EdgePlan, Listener, Origin, VirtualHost};
use crate::haproxy::Moved;
use crate::output::{Grammar, Rendered};

/// What is to be live: the files, and the plan they were rendered of.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Tells which object a cause comes from.
    pub plan: &'a EdgePlan,
    /// What is compared.
    pub rendered: &'a Rendered,
}

/// How a running HAProxy gets from one image to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing differs.
    Nothing,
    /// By these commands, in order; none where only comments differ.
    Runtime(Vec<Command>),
    /// By a reload.
    Reload {
        /// Everything that needs it, up to [`MAX_CAUSES`]; never empty.
        causes: Vec<Cause>,
    },
}

/// Why a reload is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What changed. No value of the configuration is in it: some are secret.
    pub what: String,
    /// The object that asked for it, as `kind namespace/name field`, where one did.
    pub origin: Option<String>,
}

/// A new template changes everything; the first causes tell enough.
const MAX_CAUSES: usize = 20;

impl Cause {
    /// A cause that no object asked for.
    pub fn of(what: impl Into<String>) -> Self {
        let what = what.into();
        Self { what, origin: None }
    }

    fn by(what: String, origin: Option<&Origin>) -> Self {
        let text =
            |origin: &Origin| format!("{} {} {}", origin.kind.as_str(), origin.key, origin.field);
        Self {
            what,
            origin: origin.map(text),
        }
    }
}

/// Compares two images. `leaving` are servers that the process has still, in maintenance.
pub fn changes(old: Image<'_>, new: Image<'_>, leaving: &Leaving) -> Change {
    if old.rendered == new.rendered {
        return Change::Nothing;
    }
    let (Some(before), Some(after)) = (main(old.rendered), main(new.rendered)) else {
        let cause = Cause::of("the main file is not text");
        return Change::Reload {
            causes: vec![cause],
        };
    };
    let mut causes = Vec::new();
    // The generation is a consequence of what else differs.
    let (before, after) = (
        unstamped(before, old.rendered),
        unstamped(after, new.rendered),
    );
    let (was, is) = (Config::parse(&before), Config::parse(&after));
    structure(&was, &is, old.plan, new.plan, &mut causes);
    let uses = Uses::of(&after);
    other_files(old.rendered, new.rendered, &uses, &mut causes);

    let certificates = lists::changes(&old.rendered.files, &new.rendered.files, &uses);
    causes.extend(certificates.reloads.into_iter().map(Cause::of));
    let mut commands = certificates.additions;
    let mut removals = certificates.removals;
    if causes.is_empty() {
        let servers = servers(&was, &is, new.plan, leaving);
        commands.extend(servers.additions);
        removals.extend(servers.removals);
        causes = servers.causes;
    }
    for (map, is_ordered) in &uses.maps {
        let text = |rendered: &'_ Rendered| {
            let file = rendered.files.get(map)?;
            str::from_utf8(&file.content).ok().map(str::to_owned)
        };
        if let (Some(before), Some(after)) = (text(old.rendered), text(new.rendered)) {
            commands.extend(maps::changes(map, &before, &after, *is_ordered));
        }
    }
    if causes.is_empty() && old.rendered.generation != new.rendered.generation {
        causes.push(Cause::of("another generation"));
    }
    by(commands, removals, causes)
}

/// By commands, those that take away last, or by a reload where anything needs it.
fn by(mut commands: Vec<Command>, removals: Vec<Command>, mut causes: Vec<Cause>) -> Change {
    if causes.is_empty() {
        commands.extend(removals);
        Change::Runtime(commands)
    } else {
        causes.truncate(MAX_CAUSES);
        Change::Reload { causes }
    }
}

/// Compares sections of which only servers may differ, as [`changes`] does with all of them.
pub fn server_changes(moved: &Moved, new: &EdgePlan, leaving: &Leaving) -> Change {
    let Moved { before, after, .. } = moved;
    if before == after {
        return Change::Nothing;
    }
    let (was, is) = (Config::parse(before), Config::parse(after));
    let Servers {
        additions,
        removals,
        causes,
    } = servers(&was, &is, new, leaving);
    by(additions, removals, causes)
}

fn main(rendered: &Rendered) -> Option<&str> {
    str::from_utf8(&rendered.files.get(&rendered.main)?.content).ok()
}

fn unstamped(text: &str, rendered: &Rendered) -> String {
    match &rendered.generation {
        Some(generation) => text.replace(generation.as_str(), ""),
        None => text.to_owned(),
    }
}

/// Files that no command changes.
fn other_files(old: &Rendered, new: &Rendered, uses: &Uses, causes: &mut Vec<Cause>) {
    for (name, file) in &new.files {
        let is_same = old
            .files
            .get(name)
            .is_some_and(|was| was.content == file.content);
        let has_commands = file.grammar == Grammar::Pem
            || uses.maps.contains_key(name)
            || uses.lists.contains(name);
        // A new file that the configuration names changes the configuration as well.
        if name != &new.main && !is_same && !has_commands && old.files.contains_key(name) {
            causes.push(Cause::of(format!("file {name} changed")));
        }
    }
}

fn structure(
    was: &Config<'_>,
    is: &Config<'_>,
    old: &EdgePlan,
    new: &EdgePlan,
    causes: &mut Vec<Cause>,
) {
    let by_name = |config: &Config<'_>| -> BTreeMap<(String, String), usize> {
        let name = |section: &Section<'_>| (section.kind.to_owned(), section.name.to_owned());
        let numbered = config.sections.iter().enumerate();
        numbered
            .map(|(index, section)| (name(section), index))
            .collect()
    };
    let (before, after) = (by_name(was), by_name(is));
    for ((kind, name), index) in &after {
        let Some(section) = is.sections.get(*index) else {
            continue;
        };
        let what = match before.get(&(kind.clone(), name.clone())) {
            None => format!("{kind} {name}: added"),
            Some(index) => match was.sections.get(*index) {
                Some(was) if was.lines == section.lines => continue,
                Some(was) => {
                    let words = differing_words(&was.lines, &section.lines);
                    format!("{kind} {name}: {words} changed")
                }
                None => continue,
            },
        };
        causes.push(Cause::by(what, origin_of(new, name)));
    }
    for (kind, name) in before.keys().filter(|key| !after.contains_key(*key)) {
        causes.push(Cause::by(
            format!("{kind} {name}: removed"),
            origin_of(old, name),
        ));
    }
    let order = |config: &Config<'_>| -> Vec<(String, String)> {
        let name = |section: &Section<'_>| (section.kind.to_owned(), section.name.to_owned());
        config.sections.iter().map(name).collect()
    };
    if causes.is_empty() && order(was) != order(is) {
        causes.push(Cause::of("another order of sections"));
    }
    if !causes.is_empty() && causes.iter().all(|cause| cause.origin.is_none()) {
        causes.extend(changed_hosts(old, new));
    }
}

/// The directives that differ, without their values.
fn differing_words(was: &[&str], is: &[&str]) -> String {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (was.iter().collect(), is.iter().collect());
    let words: BTreeSet<&str> = before
        .symmetric_difference(&after)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if words.is_empty() {
        return "the order".to_owned();
    }
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn origin_of<'a>(plan: &'a EdgePlan, name: &str) -> Option<&'a Origin> {
    Some(&plan.backends.get(name)?.origin)
}

/// Hosts whose rules differ, with the object of the first rule that does.
fn changed_hosts(old: &EdgePlan, new: &EdgePlan) -> Vec<Cause> {
    let hosts = |plan: &EdgePlan| -> BTreeMap<String, VirtualHost> {
        let of = |listener: &Listener| match listener {
            Listener::Http(http) => http.hosts.clone(),
            Listener::Tls(tls) => tls.http.hosts.clone(),
            Listener::Tcp(_) => BTreeMap::new(),
        };
        let named = plan.listeners.iter().flat_map(|(listen, listener)| {
            let name = move |host| format!("{}:{} {host}", listen.address, listen.port);
            of(listener)
                .into_iter()
                .map(move |(host, found)| (name(host), found))
        });
        named.collect()
    };
    let (before, after) = (hosts(old), hosts(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    let cause = |name: &String| {
        let origin = |hosts: &'_ BTreeMap<String, VirtualHost>| {
            hosts
                .get(name)
                .and_then(|host| host.rules.first())
                .map(|rule| rule.origin.clone())
        };
        let origin = origin(&after).or_else(|| origin(&before));
        Cause::by(format!("host {name}: changed"), origin.as_ref())
    };
    differing.take(MAX_CAUSES).map(cause).collect()
}
