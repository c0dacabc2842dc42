//! Listeners for HTTP, in clear text or with TLS that ends here.

use std::collections::{BTreeMap, BTreeSet};

use super::Lowering;
use crate::edge::value::{HeaderName, HeaderValue, HostMatch, Id, PathMatch};
use crate::edge::{Action, HttpListener, HttpRule, Listen, Unknown, ValueMatch, VirtualHost};
use crate::haproxy::view::{
    Choice, Condition, HttpFrontend, Processing, Section, Split, Termination,
};
use crate::route::{Candidates, Routes};

impl<'a> Lowering<'a> {
    pub(super) fn http(
        &mut self,
        listen: Listen,
        listener: &'a HttpListener,
        tls: Option<Termination>,
    ) -> HttpFrontend {
        let kind = if tls.is_some() { "https" } else { "http" };
        let name = Id::of_listener(kind, listen);
        let maps = format!("maps/{name}");
        let mut choices = Vec::new();
        let mut targets = BTreeSet::new();
        let mut sites = Vec::new();
        for (host, site) in &listener.hosts {
            let id = Id::of(&["site", &name, &host.to_string()]).to_string();
            if tls.is_some() && !self.plan.can_end_tls(site) {
                let closed = self.unknown(&Unknown::Close);
                self.rules.insert(id.clone(), closed);
            } else {
                self.site(&id, site, &mut choices, &mut targets);
            }
            sites.push((host, id));
        }
        let any = sites.iter().find(|(host, _)| **host == HostMatch::Any);
        let any_site = any.map(|(_, id)| id.clone());
        let wildcard_labels = self.add_host_maps(&maps, &sites);
        let unknown = self.unknown(&listener.unknown_host);
        let mut frontend = HttpFrontend {
            address: listen.to_string(),
            is_v6_only: listen.address.is_ipv6(),
            accepts_proxy: listener.accepts_proxy_protocol,
            loopback: None,
            scheme: if tls.is_some() { "https" } else { "http" },
            port: match (tls.is_some(), listen.port.get()) {
                (true, 443) | (false, 80) => None,
                (_, port) => Some(port),
            },
            tls,
            maps,
            wildcard_labels,
            status_path: listener.status_path.as_ref().map(ToString::to_string),
            any_site,
            choices,
            splits: Vec::new(),
            unknown: unknown.clone(),
            name,
        };
        if self.splits.contains_key(&unknown) {
            // A split has lines of its own, which only what a map gives reaches.
            let id = Id::of(&["unknown", &frontend.name]).to_string();
            self.rules.insert(id.clone(), unknown.clone());
            frontend.any_site.get_or_insert(id);
            targets.insert(unknown);
            frontend.unknown = self.status(500);
        }
        frontend.splits = self.splits_among(&targets);
        frontend
    }

    pub(super) fn splits_among(&self, targets: &BTreeSet<String>) -> Vec<Split> {
        let splits = targets.iter().filter_map(|name| self.splits.get(name));
        splits.cloned().collect()
    }

    fn site(
        &mut self,
        site: &str,
        host: &'a VirtualHost,
        choices: &mut Vec<Choice>,
        targets: &mut BTreeSet<String>,
    ) {
        for rule in &host.rules {
            let target = self.rule(rule);
            self.rules.insert(rule.id.to_string(), target.clone());
            targets.insert(target);
        }
        let unknown = self.unknown(&host.unknown_path);
        targets.insert(unknown.clone());
        self.rules.insert(site.to_owned(), unknown.clone());

        let routes = Routes::of(host, &mut self.problems);
        let mut groups = BTreeMap::new();
        let Routes {
            exact,
            prefix,
            otherwise,
        } = routes;
        for (path, candidates) in exact {
            let entry = self.entry(site, host, &candidates, &unknown, &mut groups);
            self.paths.insert(format!("{site}{path}"), entry);
        }
        for (path, candidates) in prefix {
            let entry = self.entry(site, host, &candidates, &unknown, &mut groups);
            self.prefixes.insert(format!("{site}{path}"), entry);
        }
        // A path that no table has: the site is the entry.
        if !otherwise.conditional.is_empty() {
            groups.insert(site.to_owned(), otherwise);
        }
        for (group, candidates) in groups {
            for index in candidates.conditional {
                if let Some(rule) = host.rules.get(index) {
                    choices.extend(self.choice(&group, rule));
                }
            }
        }
    }

    /// What an entry of the paths' maps says: the rule itself, or a group that is asked.
    fn entry(
        &mut self,
        site: &str,
        host: &VirtualHost,
        candidates: &Candidates,
        unknown: &str,
        groups: &mut BTreeMap<String, Candidates>,
    ) -> String {
        let rest = candidates.rest.and_then(|index| host.rules.get(index));
        let rest = rest.map(|rule| rule.id.to_string());
        match (candidates.conditional.as_slice(), rest) {
            ([], Some(rule)) => rule,
            ([], None) => site.to_owned(),
            (asked, rest) => {
                let group = Id::of(&["group", site, &format!("{asked:?} {rest:?}")]).to_string();
                if groups.insert(group.clone(), candidates.clone()).is_none() {
                    match rest {
                        Some(rule) => self.rest.insert(group.clone(), rule),
                        None => self.rules.insert(group.clone(), unknown.to_owned()),
                    };
                }
                group
            }
        }
    }

    fn choice(&mut self, group: &str, rule: &HttpRule) -> Option<Choice> {
        let mut conditions = Vec::new();
        if let PathMatch::Regex(regex) = &rule.matches.path {
            conditions.push(Condition {
                kind: "path",
                regex: regex.anchored(),
                ..Condition::default()
            });
        }
        if let Some(method) = &rule.matches.method {
            conditions.push(Condition {
                kind: "method",
                method: method.as_str().to_owned(),
                ..Condition::default()
            });
        }
        for (kind, values) in [
            ("header", &rule.matches.headers),
            ("query", &rule.matches.query),
        ] {
            for (name, value) in values {
                match self.value_condition(kind, name, value) {
                    Ok(condition) => conditions.push(condition),
                    Err(message) => {
                        self.problem(&rule.origin, message, "the rule takes no request");
                        return None;
                    }
                }
            }
        }
        Some(Choice {
            group: group.to_owned(),
            rule: rule.id.to_string(),
            conditions,
        })
    }

    fn value_condition(
        &mut self,
        kind: &'static str,
        name: &HeaderName,
        value: &ValueMatch,
    ) -> Result<Condition, String> {
        let mut condition = Condition {
            kind,
            name: name.to_string(),
            ..Condition::default()
        };
        match value {
            ValueMatch::Present => {}
            ValueMatch::Exact(value) if value.as_str().is_empty() => condition.is_empty = true,
            // In hexadecimal no value can be a word of the grammar.
            ValueMatch::Exact(value) => condition.hex = Some(hex(value)),
            ValueMatch::Regex(value) => {
                crate::edge::value::expression::check(value.as_str())?;
                let line = format!("(?:{})", value.as_str());
                condition.list = Some(self.files.add_list("regex", &[line], false));
            }
        }
        Ok(condition)
    }

    /// The name of what a rule leads to.
    fn rule(&mut self, rule: &'a HttpRule) -> String {
        let processing = self.processing(rule);
        match &rule.action {
            Action::Forward(forward) => self.forward(forward, super::Mode::Http, &processing),
            Action::Redirect(_) | Action::Respond(_) => {
                let name = rule.id.to_string();
                let processing = Processing {
                    rule: None,
                    ..processing
                };
                self.answers
                    .insert(name.clone(), Section::answering(&name, processing));
                name
            }
        }
    }
}

/// As HAProxy's `hex` writes it.
fn hex(value: &HeaderValue) -> String {
    let bytes = value.as_str().bytes();
    bytes.map(|byte| format!("{byte:02X}")).collect()
}
