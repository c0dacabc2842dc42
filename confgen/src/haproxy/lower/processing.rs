//! What is done with a rule's requests on their way.

use super::Lowering;
use crate::edge::value::PathMatch;
use crate::edge::{Access, Action, Filter, HeaderChange, HttpRule, Origin, PathRewrite, Redirect};
use crate::haproxy::view::{KeyCheck, Processing, RedirectTo, Step, User, Userlist};
use crate::output::Grammar;
use crate::render::{bare, host_text, sha256_hex};

impl Lowering<'_> {
    pub(super) fn processing(&mut self, rule: &HttpRule) -> Processing {
        let mut processing = Processing {
            rule: Some(rule.id.to_string()),
            max_body_bytes: rule.max_body_bytes,
            server_ms: rule
                .timeouts
                .server
                .into_iter()
                .chain(rule.timeouts.request)
                .min()
                .map(|limit| limit.as_millis()),
            ..Processing::default()
        };
        self.access(&rule.access, rule, &mut processing);
        for filter in &rule.filters {
            match filter {
                Filter::RequestHeader(change) => {
                    processing.steps.push(header("http-request", change));
                }
                Filter::ResponseHeader(change) => {
                    processing.steps.push(header("http-response", change));
                }
                Filter::RewriteHost(host) => processing.steps.push(Step {
                    of: "http-request",
                    what: "set-header",
                    name: "host".to_owned(),
                    value: host_text(host),
                    ..Step::default()
                }),
                Filter::RewritePath(rewrite) => {
                    processing.steps.push(path(rewrite, &rule.matches.path));
                }
                Filter::Mirror(_) => self.problem(
                    &rule.origin,
                    "a filter asks for a copy of requests, which HAProxy cannot make",
                    "requests are served without the copy",
                ),
            }
        }
        self.told_limits(rule);
        match &rule.action {
            Action::Forward(_) => {}
            Action::Redirect(redirect) => {
                if let Some(rewrite) = &redirect.path {
                    processing.steps.push(path(rewrite, &rule.matches.path));
                }
                processing.redirect = Some(redirect_to(redirect));
            }
            Action::Respond(status) => {
                let is_possible = (200..600).contains(status);
                processing.respond = Some(if is_possible { *status } else { 500 });
                if !is_possible {
                    let message = format!("HAProxy cannot answer {status}");
                    self.problem(&rule.origin, message, "requests are answered 500");
                }
            }
        }
        processing
    }

    fn told_limits(&mut self, rule: &HttpRule) {
        if rule.timeouts.request.is_some() {
            self.problem(
                &rule.origin,
                "HAProxy has no time limit for a whole answer",
                "the limit applies between two bytes of it",
            );
        }
        if rule.timeouts.connect.is_some() {
            self.problem(
                &rule.origin,
                "HAProxy has a time limit for connecting by backend, not by rule",
                "the backend's own limit applies",
            );
        }
    }

    fn access(&mut self, access: &Access, rule: &HttpRule, processing: &mut Processing) {
        let Access {
            api_key,
            allowed_sources,
            denied_sources,
            basic_users,
        } = access;
        let lines = |networks: &[ipnet::IpNet]| -> Vec<String> {
            networks.iter().map(ToString::to_string).collect()
        };
        if !denied_sources.is_empty() {
            let list = self
                .files
                .add_list("sources", &lines(denied_sources), false);
            processing.denied = Some(list);
        }
        if !allowed_sources.is_empty() {
            let list = self
                .files
                .add_list("sources", &lines(allowed_sources), false);
            processing.allowed = Some(list);
        }
        if let Some((header, key)) = api_key {
            // Compared by its hash: any bytes fit, and no key is in any file.
            let list = key.as_ref().map(|key| {
                let hash = sha256_hex(key.reveal()).to_ascii_uppercase();
                self.files.add_list("keys", &[hash], true)
            });
            processing.key = Some(KeyCheck {
                header: header.to_string(),
                list,
            });
        }
        if let Some(users) = basic_users {
            let name = format!("users_{}", rule.id);
            let users = users.iter();
            let users = users
                .filter_map(|(name, hash)| self.user(&rule.origin, name.as_str(), hash.as_str()));
            let users = users.collect();
            self.userlists.push(Userlist {
                name: name.clone(),
                users,
            });
            processing.users = Some(name);
        }
    }

    fn user(&mut self, origin: &Origin, name: &str, hash: &str) -> Option<User> {
        // What crypt(3) reads; Apache's own `$apr1$` and nginx's `{SHA}` are not among them.
        let is_crypt = hash.starts_with('$') && !hash.starts_with("$apr1$");
        let is_word = bare(Grammar::Haproxy, name).is_ok();
        if is_crypt && is_word {
            return Some(User {
                name: name.to_owned(),
                hash: hash.to_owned(),
            });
        }
        let what = if is_word { "password's hash" } else { "name" };
        self.problem(
            origin,
            format!("the {what} of a user is none that HAProxy reads"),
            "the user is not let in",
        );
        None
    }
}

fn header(of: &'static str, change: &HeaderChange) -> Step {
    let (what, name, value) = match change {
        HeaderChange::Set(name, value) => ("set-header", name, value.as_str()),
        HeaderChange::Add(name, value) => ("add-header", name, value.as_str()),
        HeaderChange::Remove(name) => ("del-header", name, ""),
    };
    Step {
        of,
        what,
        name: name.to_string(),
        value: value.to_owned(),
        ..Step::default()
    }
}

fn path(rewrite: &PathRewrite, matched: &PathMatch) -> Step {
    let (new, beginning) = match rewrite {
        PathRewrite::Full(path) => (path, None),
        PathRewrite::Prefix(path) => (path, prefix_regex(matched)),
    };
    let Some((pattern, is_by_segments)) = beginning else {
        return Step {
            of: "http-request",
            what: "set-path",
            value: new.to_string(),
            ..Step::default()
        };
    };
    let new = match is_by_segments {
        true => new.as_str().trim_end_matches('/'),
        false => new.as_str(),
    };
    // `/a` becomes `/` where nothing else is left of it.
    let (pattern, value) = match new.is_empty() {
        true => (format!("^{pattern}/?(.*)$"), r"/\1".to_owned()),
        false if is_by_segments => (format!("^{pattern}(/.*)?$"), format!(r"{new}\1")),
        false => (format!("^{pattern}(.*)$"), format!(r"{new}\1")),
    };
    Step {
        of: "http-request",
        what: "replace-path",
        pattern,
        value,
        ..Step::default()
    }
}

/// The beginning that a rewrite replaces; `None` is the whole path.
fn prefix_regex(matched: &PathMatch) -> Option<(String, bool)> {
    match matched {
        PathMatch::Prefix(path) => Some((regex::escape(path.as_str().trim_end_matches('/')), true)),
        PathMatch::Bytes(path) => Some((regex::escape(path.as_str()), false)),
        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
    }
}

fn redirect_to(redirect: &Redirect) -> RedirectTo {
    let scheme = redirect
        .to_https
        .map(|yes| if yes { "https" } else { "http" });
    let port = redirect.port.map(std::num::NonZeroU16::get);
    let is_default = matches!(
        (scheme, port),
        (Some("https"), Some(443)) | (Some("http"), Some(80))
    );
    RedirectTo {
        scheme,
        host: redirect.host.as_ref().map(host_text),
        port: port.filter(|_| !is_default),
        keeps_port: redirect.to_https.is_none(),
        status: redirect.status,
    }
}
