//! What the edge answers to a request, by the plan alone.
//!
//! The third opinion beside HAProxy and nginx: tests send the same requests to all three. People
//! ask it through `explain`.

use std::net::IpAddr;

use super::plan::{
    Access, Action, EdgePlan, Forward, HttpListener, HttpRule, Listen, Listener, Redirect,
    RequestMatch, Unknown, ValueMatch, VirtualHost,
};
use super::value::{ApiKey, HeaderValue, HostMatch, Hostname, Id};

/// A request as a proxy sees it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where it comes in.
    pub listen: Listen,
    /// `Host`, without its port.
    pub host: &'a str,
    /// Path, without the query.
    pub path: &'a str,
    /// Method.
    pub method: &'a str,
    /// Headers, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// Query parameters, decoded.
    pub query: &'a [(&'a str, &'a str)],
    /// The client's address.
    pub source: IpAddr,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Nothing listens there.
    NotListening,
    /// The connection is closed without an answer.
    Closed,
    /// This status, without asking a backend.
    Status(u16),
    /// A backend's answer: one of these, by weight.
    Forwarded(&'a Forward),
    /// The client is sent elsewhere.
    Redirected(&'a Redirect),
    /// The bytes go on to a backend as they are.
    PassedThrough(&'a Forward),
}

/// The answer, and the rule that decided.
pub fn simulate<'a>(
    plan: &'a EdgePlan,
    request: &Request<'_>,
) -> (Answer<'a>, Option<&'a HttpRule>) {
    let Some(listener) = plan.listeners.get(&request.listen) else {
        return (Answer::NotListening, None);
    };
    match listener {
        Listener::Tcp(tcp) => (Answer::PassedThrough(&tcp.forward), None),
        Listener::Http(http) => at(plan, http, false, request),
        Listener::Tls(tls) => {
            let host = Hostname::parse(request.host).ok();
            let passed = host
                .as_ref()
                .and_then(|host| closest(tls.passthrough.iter(), host));
            let ended = host
                .as_ref()
                .and_then(|host| closest(tls.http.hosts.iter(), host));
            match (passed, ended) {
                // The closer of the two matches, as everywhere.
                (Some((by, route)), ended) if ended.is_none_or(|(of, _)| by < of) => {
                    (Answer::PassedThrough(&route.forward), None)
                }
                _ => at(plan, &tls.http, true, request),
            }
        }
    }
}

/// The host of a listener that takes a name.
fn closest<'a, T>(
    hosts: impl Iterator<Item = (&'a HostMatch, T)>,
    name: &Hostname,
) -> Option<(&'a HostMatch, T)> {
    let takes = hosts.filter(|(host, _)| host.takes(name));
    takes.min_by_key(|(host, _)| *host)
}

fn at<'a>(
    plan: &'a EdgePlan,
    http: &'a HttpListener,
    is_tls: bool,
    request: &Request<'_>,
) -> (Answer<'a>, Option<&'a HttpRule>) {
    let host = Hostname::parse(request.host).ok();
    let host = host.and_then(|host| closest(http.hosts.iter(), &host));
    let Some((_, host)) = host.or_else(|| http.hosts.get_key_value(&HostMatch::Any)) else {
        let is_status = http.status_path.as_ref();
        if is_status.is_some_and(|path| path.as_str() == request.path) {
            return (Answer::Status(200), None);
        }
        return (unknown(plan, &http.unknown_host), None);
    };
    if is_tls && !plan.can_end_tls(host) {
        return (Answer::Closed, None);
    }
    in_host(plan, host, request)
}

fn in_host<'a>(
    plan: &'a EdgePlan,
    host: &'a VirtualHost,
    request: &Request<'_>,
) -> (Answer<'a>, Option<&'a HttpRule>) {
    let rule = host.rules.iter().find(|rule| takes(&rule.matches, request));
    let Some(rule) = rule else {
        return (unknown(plan, &host.unknown_path), None);
    };
    let answer = match refusal(&rule.access, request) {
        Some(status) => Answer::Status(status),
        None => match &rule.action {
            Action::Forward(to) => forwarded(plan, to),
            Action::Redirect(redirect) => Answer::Redirected(redirect),
            Action::Respond(status) => Answer::Status(*status),
        },
    };
    (answer, Some(rule))
}

fn unknown<'a>(plan: &EdgePlan, unknown: &'a Unknown) -> Answer<'a> {
    match unknown {
        Unknown::Close => Answer::Closed,
        Unknown::Status(status) => Answer::Status(*status),
        Unknown::Forward(to) => forwarded(plan, to),
    }
}

/// Backends without a server answer 503, and where there is no backend at all, 500 (Gateway API).
fn forwarded<'a>(plan: &EdgePlan, to: &'a Forward) -> Answer<'a> {
    let has_servers = |id: &Id| {
        let backend = plan.backends.get(id);
        backend.is_some_and(|backend| !backend.servers.is_empty())
    };
    let mut asked = to.to.iter().filter(|(_, weight)| *weight > 0);
    if to.to.iter().all(|(_, weight)| *weight == 0) {
        Answer::Status(500)
    } else if asked.any(|(id, _)| has_servers(id)) {
        Answer::Forwarded(to)
    } else {
        Answer::Status(503)
    }
}

fn takes(matches: &RequestMatch, request: &Request<'_>) -> bool {
    let RequestMatch {
        path,
        method,
        headers,
        query,
    } = matches;
    path.takes(request.path)
        && method
            .as_ref()
            .is_none_or(|method| method.as_str() == request.method)
        && headers.iter().all(|(name, value)| {
            let mut there = request.headers.iter();
            there.any(|(of, is)| *of == name.as_str() && fits(value, is))
        })
        && query.iter().all(|(name, value)| {
            let mut there = request.query.iter();
            there.any(|(of, is)| *of == name.as_str() && fits(value, is))
        })
}

fn fits(wanted: &ValueMatch, is: &str) -> bool {
    match wanted {
        ValueMatch::Exact(value) => value.as_str() == is,
        ValueMatch::Regex(regex) => {
            regex::Regex::new(regex.as_str()).is_ok_and(|regex| regex.is_match(is))
        }
        ValueMatch::Present => true,
    }
}

/// The status that a request gets which may not pass.
fn refusal(access: &Access, request: &Request<'_>) -> Option<u16> {
    let Access {
        api_key,
        allowed_sources,
        denied_sources,
        basic_users,
    } = access;
    let header = |name: &str| {
        let mut there = request.headers.iter();
        there.find(|(of, _)| *of == name).map(|(_, is)| *is)
    };
    let is_in = |networks: &[ipnet::IpNet]| {
        networks
            .iter()
            .any(|network| network.contains(&request.source))
    };
    if is_in(denied_sources) || (!allowed_sources.is_empty() && !is_in(allowed_sources)) {
        return Some(403);
    }
    if let Some((name, key)) = api_key {
        let given = header(name.as_str()).map(str::as_bytes);
        if given.is_none() || given != key.as_ref().map(ApiKey::reveal) {
            return Some(403);
        }
    }
    // Whether a password fits its hash is not simulated: only that none is given.
    let users = basic_users.as_ref().map(Vec::as_slice);
    let refuses = |users: &[(HeaderValue, HeaderValue)]| {
        users.is_empty() || header("authorization").is_none()
    };
    users.is_some_and(refuses).then_some(401)
}
