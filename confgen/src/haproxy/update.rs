//! A rendering after a change of servers alone, without rendering anything else. Pure.
//!
//! Endpoints change far more often than anything else does, and a rendering of ten thousand hosts
//! takes a good part of a second. Here only the sections of the changed backends are rendered, with
//! their proof, and put in place of what they were. The result is always that of
//! [`render`](super::render()); where that is not known, there is none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::Section;
use super::{BUILT_IN, Options, Sections, lower, shape, templates};
use crate::edge::value::Id;
use crate::edge::{Backend, EdgePlan};
use crate::output::Rendered;
use crate::render;

/// A rendering, and how it differs from the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// All of it.
    pub rendered: Rendered,
    /// How it differs.
    pub moved: Moved,
}

/// Sections of which nothing but servers differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Ids of the backends whose servers changed.
    pub backends: Vec<Id>,
    /// The sections that differ, as they were.
    pub before: String,
    /// The same sections.
    pub after: String,
}

/// What `live`, which was rendered of `old`, becomes with `new`. `None` where that takes a whole
/// rendering: more than servers changed, or a cookie names them.
pub fn update(
    live: &Rendered,
    old: &EdgePlan,
    new: &EdgePlan,
    options: &Options,
) -> Option<Update> {
    let changed = changed(old, new)?;
    let sections: Vec<Section> = changed
        .iter()
        .flat_map(|backend| lower::sections_of(new, options, backend))
        .collect();
    if sections.iter().any(|section| section.cookie.is_some()) {
        return None;
    }
    let file = live.files.get(&live.main)?;
    let text = std::str::from_utf8(&file.content).ok()?;
    // What is refused here is told by the whole rendering, with all that belongs to it.
    let lines = lines(new, &sections).ok()?;
    let Spliced {
        text,
        before,
        after,
    } = splice(text, &lines)?;
    let mut rendered = live.clone();
    if before != after {
        rendered
            .files
            .insert(live.main.clone(), BUILT_IN.file(text));
    }
    let backends = changed.iter().map(|backend| backend.id.clone()).collect();
    Some(Update {
        rendered,
        moved: Moved {
            backends,
            before,
            after,
        },
    })
}

/// The backends whose servers changed, where nothing else did.
fn changed<'a>(old: &EdgePlan, new: &'a EdgePlan) -> Option<Vec<&'a Arc<Backend>>> {
    let is_same = Arc::ptr_eq(&old.listeners, &new.listeners)
        && Arc::ptr_eq(&old.certificates, &new.certificates)
        && old.backends.len() == new.backends.len();
    if !is_same {
        return None;
    }
    let mut changed = Vec::new();
    for (was, is) in old.backends.values().zip(new.backends.values()) {
        if Arc::ptr_eq(was, is) {
            continue;
        }
        let alike = Backend {
            servers: is.servers.clone(),
            ..(**was).clone()
        };
        if alike != **is {
            return None;
        }
        changed.push(is);
    }
    Some(changed)
}

/// The lines of the servers of each section.
fn lines(plan: &EdgePlan, sections: &[Section]) -> Result<BTreeMap<String, String>, render::Error> {
    let (_, template) = templates()?;
    let text = template.proven(&Sections { backends: sections })?;
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut names = shape::Servers::new();
    let mut section = "";
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("backend ") {
            section = name.trim_end();
            found.insert(section.to_owned(), String::new());
        } else if let Some(server) = line.strip_prefix(SERVER) {
            found.entry(section.to_owned()).or_default().push_str(line);
            let name = server.split(' ').next().unwrap_or_default();
            let of = names.entry(Cow::Borrowed(section)).or_default();
            of.push(Cow::Borrowed(name));
        }
    }
    shape::check_servers(plan, &names).map_err(|error| BUILT_IN.refused(error))?;
    Ok(found)
}

const SECTION: &str = "\nbackend ";
const SERVER: &str = "    server ";

/// A text with other servers in some of its sections.
struct Spliced {
    text: String,
    before: String,
    after: String,
}

/// Puts lines of servers in place of those that sections have. Sections that are not there have no
/// rule that leads to them.
fn splice(text: &str, lines: &BTreeMap<String, String>) -> Option<Spliced> {
    let mut spliced = Spliced {
        text: String::with_capacity(text.len() + 4096),
        before: String::new(),
        after: String::new(),
    };
    let mut kept = 0;
    for (at, _) in text.match_indices(SECTION) {
        let start = at + 1;
        let name = text.get(at + SECTION.len()..)?.lines().next()?;
        let Some(servers) = lines.get(name) else {
            continue;
        };
        // A section ends with a blank line, and with its servers.
        let section = text.get(start..)?;
        let section = section.get(..section.find("\n\n")? + 1)?;
        let of_servers = section
            .find("\n    server ")
            .map_or(section.len(), |at| at + 1);
        let (others, was) = section.split_at(of_servers);
        if !was.lines().all(|line| line.starts_with(SERVER)) {
            return None;
        }
        if was == servers {
            continue;
        }
        spliced.text += text.get(kept..start)?;
        spliced.text += others;
        spliced.text += servers;
        kept = start + section.len();
        spliced.before += section;
        spliced.after += others;
        spliced.after += servers;
    }
    spliced.text += text.get(kept..)?;
    Some(spliced)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::update;
    use crate::apply::partly::with_servers_of;
    use crate::edge::value::Id;
    use crate::edge::{Backend, EdgePlan, Server, ServerState};
    use crate::haproxy::runtime::{Change, Image, Leaving, changes, server_changes};
    use crate::haproxy::{Options, render};
    use crate::samples;

    fn rendered(plan: &EdgePlan) -> crate::output::Rendered {
        let rendering = render(plan, &Options::default());
        rendering.unwrap_or_else(|error| panic!("{error}")).rendered
    }

    fn servers() -> impl Strategy<Value = Vec<Server>> {
        let server = (1..6_u8, 0..3_u16, any::<bool>());
        proptest::collection::vec(server, 0..4).prop_map(|found| {
            let mut servers: Vec<Server> = found
                .into_iter()
                .map(|(last, weight, is_draining)| {
                    let address = format!("10.0.0.{last}");
                    let mut server = samples::server(&format!("s{last}"), &address, 80);
                    server.weight = weight;
                    if is_draining {
                        server.state = ServerState::Draining;
                    }
                    server
                })
                .collect();
            servers.sort_by(|a, b| a.name.cmp(&b.name));
            servers.dedup_by(|a, b| a.name == b.name);
            servers
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Any sequence of changes of servers is rendered as all of it anew, and the commands are
        /// those of two whole renderings.
        #[test]
        fn what_is_updated_is_what_is_rendered_in_full(
            sample in 0..samples::all().len(),
            steps in proptest::collection::vec(
                proptest::collection::vec((any::<prop::sample::Index>(), servers()), 1..4),
                1..5,
            ),
        ) {
            let (_, mut plan) = samples::all().swap_remove(sample);
            let mut live = rendered(&plan);
            for step in steps {
                let mut next = plan.clone();
                for (index, servers) in step {
                    if plan.backends.is_empty() {
                        continue;
                    }
                    let id = index.get(&plan.backends.keys().collect::<Vec<_>>()).to_owned().clone();
                    let changed = Backend { servers, ..(*next.backends[&id]).clone() };
                    next.backends.insert(id, changed.into());
                }
                let whole = rendered(&next);
                let has_cookie = |id| plan.backends[id].sticky.is_some();
                match update(&live, &plan, &next, &Options::default()) {
                    None => {
                        // What is made anew counts as changed, though it be equal.
                        let is_new = |id: &&Id| {
                            !Arc::ptr_eq(&plan.backends[*id], &next.backends[*id])
                        };
                        let mut changed = plan.backends.keys().filter(is_new);
                        prop_assert!(changed.any(has_cookie));
                    }
                    Some(found) => {
                        prop_assert_eq!(&found.rendered, &whole);
                        let image = |plan, rendered| Image { plan, rendered };
                        let leaving = Leaving::default();
                        let all = changes(image(&plan, &live), image(&next, &whole), &leaving);
                        let some = server_changes(&found.moved, &next, &leaving);
                        prop_assert_eq!(some, all);
                    }
                }
                (plan, live) = (next, whole);
            }
        }
    }

    #[test]
    fn what_is_more_than_servers_is_not_updated() {
        let plan = samples::plain();
        let live = rendered(&plan);
        let check = |next: EdgePlan, is_known: bool| {
            let found = update(&live, &plan, &next, &Options::default());
            assert_eq!(found.is_some(), is_known);
        };
        check(plan.clone(), true);
        let mut other = samples::web();
        other.sends_proxy_protocol = true;
        let mut next = plan.clone();
        next.backends.insert(other.id.clone(), other.into());
        check(next, false);
        let mut next = plan.clone();
        next.listeners = samples::matching().listeners;
        check(next, false);
        let mut next = plan.clone();
        next.backends.clear();
        check(next, false);
    }

    #[test]
    fn endpoints_that_go_before_a_reload_are_an_update() {
        let plan = samples::plain();
        let live = rendered(&plan);
        let mut next = samples::matching();
        let id = plan.backends.keys().next().expect("a backend").clone();
        let mut moved = (*plan.backends[&id]).clone();
        moved.sends_proxy_protocol = true;
        moved.servers = vec![samples::server("s9", "10.0.0.9", 80)];
        next.backends.insert(id, moved.into());
        assert_eq!(update(&live, &plan, &next, &Options::default()), None);
        let partly = with_servers_of(&plan, &next).expect("other servers");
        let found = update(&live, &plan, &partly, &Options::default()).expect("an update");
        assert_eq!(found.rendered, rendered(&partly));
        assert!(found.moved.after.contains("10.0.0.9"), "{found:?}");
        // What is live then is gone on from in the same way.
        let again = with_servers_of(&partly, &plan).expect("other servers");
        let back = update(&found.rendered, &partly, &again, &Options::default());
        assert_eq!(back.expect("an update").rendered, live);
    }

    #[test]
    fn an_empty_change_has_no_commands() {
        let plan = samples::plain();
        let live = rendered(&plan);
        let found = update(&live, &plan, &plan, &Options::default()).expect("an update");
        let change = server_changes(&found.moved, &plan, &Leaving::default());
        assert_eq!(change, Change::Nothing);
        assert_eq!(found.rendered, live);
    }
}
