//! HTTPRoutes to rules.

mod filter;

use std::sync::Arc;
use std::time::Duration;

use model::{HttpPath, HttpRoute, HttpRouteMatch, HttpRouteRule, HttpValueMatch, Kind};

use self::filter::Changes;
use super::attach::Served;
use super::backend::{Asker, Backends, Forwarded};
use super::{Fault, Findings, Outcome, Speech, shown};
use crate::edge::EdgeConfig;
use crate::edge::plan::{Access, Action, HttpRule, Origin, RequestMatch, Timeouts, ValueMatch};
use crate::edge::value::{
    HeaderName, HeaderValue, HostMatch, Id, Invalid, Method, PathMatch, PathRegex, UrlPath,
};

/// Claims what a route asks for where it is attached, and says what of it cannot be had.
pub(super) fn serve(
    outcome: &mut Outcome<'_>,
    backends: &mut Backends<'_>,
    config: &EdgeConfig,
    route: &HttpRoute,
    served: &[Served],
) -> Findings {
    let mut findings = Findings::default();
    for rule in &route.rules {
        let of = OfRule {
            route,
            rule,
            config,
        };
        let parts = of.parts(backends, &mut findings);
        findings.is_any_served |= parts.iter().any(|part| part.is_whole);
        for served in served {
            for part in &parts {
                for host in &served.hosts {
                    of.claim(outcome, served.at, host, part);
                }
            }
        }
    }
    findings
}

struct OfRule<'a> {
    route: &'a HttpRoute,
    rule: &'a HttpRouteRule,
    config: &'a EdgeConfig,
}

/// One match of a rule, and what becomes of its requests.
struct Part {
    index: usize,
    matches: RequestMatch,
    changes: Changes,
    action: Action,
    /// Nothing of it is left out.
    is_whole: bool,
}

impl OfRule<'_> {
    fn origin(&self) -> Origin {
        Origin {
            created_unix_seconds: self.route.created_unix_seconds,
            key: self.route.key.clone(),
            kind: Kind::HttpRoute,
            field: format!("spec.rules[{}]", self.rule.index).into(),
        }
    }

    fn timeouts(&self) -> Timeouts {
        let HttpRouteRule {
            request_timeout,
            backend_timeout,
            ..
        } = self.rule;
        let some = |timeout: &Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
        let (request, backend) = (some(request_timeout), some(backend_timeout));
        Timeouts {
            connect: None,
            server: backend,
            // Nothing is tried twice, so the one attempt is the whole.
            request: request.into_iter().chain(backend).min(),
        }
    }

    fn parts(&self, backends: &mut Backends<'_>, findings: &mut Findings) -> Vec<Part> {
        let origin = self.origin();
        let asker = Asker {
            kind: "HTTPRoute",
            origin: &origin,
            is_stream: false,
            timeouts: self.timeouts(),
        };
        let Forwarded { to, fault } = backends.forward(&asker, &self.rule.backends);
        let forward = to.map_or(Action::Respond(500), Action::Forward);
        let mut parts = Vec::new();
        for (index, entry) in self.rule.matches.iter().enumerate() {
            let matches = match matches(entry) {
                Ok(matches) => matches,
                Err(what) => {
                    let message = format!("{}.matches[{index}] {what}", origin.field);
                    findings
                        .unsupported
                        .get_or_insert(Fault::new("UnsupportedValue", message));
                    continue;
                }
            };
            let changes = filter::changes(self.rule, &matches.path, |backend| {
                let found = backends.one(&asker, backend);
                found.map_err(|fault| {
                    findings.unresolved.get_or_insert(fault);
                })
            });
            let (changes, action, is_whole) = match changes {
                Ok(changes) => {
                    let action = changes.redirect.clone().map(Action::Redirect);
                    let action = action.unwrap_or_else(|| forward.clone());
                    (changes, action, true)
                }
                Err(what) => {
                    let message = format!("{}.filters: {what}", origin.field);
                    findings
                        .unsupported
                        .get_or_insert(Fault::new("UnsupportedValue", message));
                    (Changes::default(), Action::Respond(500), false)
                }
            };
            if let (None, Some(fault)) = (&changes.redirect, &fault) {
                findings.unresolved.get_or_insert(fault.clone());
            }
            parts.push(Part {
                index,
                matches,
                changes,
                action,
                is_whole,
            });
        }
        parts
    }

    fn claim(&self, outcome: &mut Outcome<'_>, at: (usize, usize), host: &HostMatch, part: &Part) {
        let gateway = &outcome.gateways[at.0];
        let listener = &gateway.listeners[at.1];
        let (speech, port) = (listener.speech, listener.listener.port);
        let mut action = part.action.clone();
        if let Action::Redirect(redirect) = &mut action {
            // Clients are sent to the listener's port, unless it goes without saying.
            let is_usual = match speech {
                Some(Speech::Https) => port.get() == 443,
                _ => port.get() == 80,
            };
            if redirect.to_https.is_none() && redirect.port.is_none() && !is_usual {
                redirect.port = Some(port);
            }
        }
        let (rule_index, index) = (self.rule.index.to_string(), part.index.to_string());
        let text = host.to_string();
        let owner = Arc::clone(&gateway.gateway.key.namespace);
        let key = &self.route.key;
        outcome.claim(at, host, |listen| HttpRule {
            id: Id::of(&[
                "gateway",
                &key.namespace,
                &key.name,
                &rule_index,
                &index,
                &text,
                &shown(listen),
                &owner,
            ]),
            matches: part.matches.clone(),
            access: Access::default(),
            filters: part.changes.filters.clone(),
            action: action.clone(),
            timeouts: self.timeouts(),
            max_body_bytes: self.config.defaults.max_body_bytes,
            origin: self.origin(),
        });
    }
}

fn matches(entry: &HttpRouteMatch) -> Result<RequestMatch, Invalid> {
    let path = match &entry.path {
        HttpPath::Exact(path) => PathMatch::Exact(UrlPath::parse(path)?),
        // `/a/` is `/a` (specification of PathPrefix), and two that are equal must be seen as such.
        HttpPath::Prefix(path) => match path.trim_end_matches('/') {
            "" => PathMatch::all(),
            path => PathMatch::Prefix(UrlPath::parse(path)?),
        },
        HttpPath::Regex(path) => PathMatch::Regex(PathRegex::parse(path)?),
    };
    Ok(RequestMatch {
        path,
        method: entry.method.as_deref().map(Method::parse).transpose()?,
        headers: values(&entry.headers, HeaderName::parse)?,
        query: values(&entry.query, HeaderName::of_parameter)?,
    })
}

/// Of several entries with one name the first counts (specification of `headers`).
fn values(
    entries: &[HttpValueMatch],
    name: fn(&str) -> Result<HeaderName, Invalid>,
) -> Result<Vec<(HeaderName, ValueMatch)>, Invalid> {
    let mut values: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for entry in entries {
        let name = name(&entry.name)?;
        if values.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let value = if entry.is_regex {
            // The whole value: an expression for `a` does not let `banana` in.
            let anchored = format!("^(?:{})$", entry.value);
            if crate::edge::value::expression::check(&anchored).is_err() {
                return Err(Invalid::new(&entry.value, "not an expression"));
            }
            ValueMatch::Regex(HeaderValue::parse(&anchored)?)
        } else {
            ValueMatch::Exact(HeaderValue::parse(&entry.value)?)
        };
        values.push((name, value));
    }
    // Equal matches are seen as such, whatever their order.
    values.sort();
    Ok(values)
}
