//! What is done with a rule's requests.

use super::Lowering;
use super::conditions::header_variable;
use super::upstream::FAILED;
use crate::edge::value::{Id, PathMatch};
use crate::edge::{
    Access, Action, Backend, BackendProtocol, Filter, Forward, HeaderChange, HttpRule, PathRewrite,
    Redirect, Timeouts, Unknown,
};
use crate::nginx::view::{
    Addition, Body, Condition, RedirectPath, RedirectTo, RequestHeader, ResponseHeader, Rewrite,
    Sources, Split, StandardHeader, Tls,
};
use crate::render::host_text;

/// Headers of our own, and where their values come from.
const STANDARD: [(&str, &str, bool); 7] = [
    ("Host", "http_host", true),
    ("X-Forwarded-For", "proxy_add_x_forwarded_for", true),
    ("X-Forwarded-Proto", "scheme", true),
    ("X-Forwarded-Host", "http_host", true),
    ("X-Forwarded-Port", "fairlead_port", true),
    // HTTP/2 has neither.
    ("Upgrade", "http_upgrade", false),
    ("Connection", "fairlead_connection", false),
];

impl Lowering<'_> {
    pub(super) fn body(&mut self, rule: &HttpRule, port: &str) -> Body {
        let mut body = match &rule.action {
            Action::Forward(forward) => self.forward(forward, &rule.timeouts, Some(rule)),
            Action::Redirect(redirect) => self.redirect(redirect, rule, port),
            Action::Respond(status) => answering(*status),
        };
        body.max_body_bytes = rule.max_body_bytes;
        self.access(&rule.access, rule, &mut body);
        self.filters(rule, &mut body);
        if rule.timeouts.request.is_some() {
            self.problem(
                &rule.origin,
                "nginx has no time limit for a whole answer",
                "the limit applies between two bytes of it",
            );
        }
        if body.pass.is_none() && body.users.is_some() {
            // `return` comes before nginx asks who it is; a named location comes after.
            body.named_answer = Some(format!("answer_{}", rule.id));
        }
        body
    }

    pub(super) fn unknown(&mut self, unknown: &Unknown) -> Body {
        match unknown {
            Unknown::Close => answering(444),
            Unknown::Status(status) => answering(*status),
            Unknown::Forward(forward) => self.forward(forward, &Timeouts::default(), None),
        }
    }

    fn forward(&mut self, forward: &Forward, timeouts: &Timeouts, rule: Option<&HttpRule>) -> Body {
        let mut shares = self.shares(forward);
        let Some((first, _)) = shares.first().copied() else {
            return answering(500);
        };
        let spoken = |backend: Option<&Backend>| backend.map(|backend| backend.protocol.clone());
        let count = shares.len();
        shares.retain(|(backend, _)| spoken(*backend) == spoken(first));
        if let Some(rule) = rule.filter(|_| shares.len() < count) {
            self.problem(
                &rule.origin,
                "nginx speaks one protocol to all backends of a rule",
                "those that speak another than the first get nothing",
            );
        }
        let mut names = Vec::new();
        for (backend, weight) in shares {
            let name = match backend {
                Some(backend) => self.upstream(backend, false),
                None => FAILED.to_owned(),
            };
            names.push((name, weight));
        }
        let mut body = match self.passing(first, timeouts) {
            Ok(body) => body,
            Err(message) => {
                if let Some(backend) = first {
                    let effect = "its requests are answered 503";
                    self.problem_of_backend(&backend.id, &backend.origin, message, effect);
                }
                return answering(503);
            }
        };
        body.is_split = names.len() > 1;
        body.pass = match names.as_slice() {
            [(only, _)] => Some(only.clone()),
            _ => {
                let (name, parts) = Self::parts(&names);
                let split = Split {
                    name: name.clone(),
                    parts,
                };
                self.splits.insert(name.clone(), split);
                Some(name)
            }
        };
        body
    }

    fn passing(
        &mut self,
        backend: Option<&Backend>,
        rule: &Timeouts,
    ) -> Result<Body, &'static str> {
        let of_backend = backend
            .map(|backend| backend.timeouts.clone())
            .unwrap_or_default();
        let shorter = |times: &Timeouts| times.server.into_iter().chain(times.request).min();
        let read = shorter(rule).or_else(|| shorter(&of_backend));
        let connect = rule.connect.or(of_backend.connect);
        let mut body = Body {
            module: "proxy",
            scheme: "http",
            connect_ms: connect.map(|limit| limit.as_millis()),
            read_ms: read.map(|limit| limit.as_millis()),
            ..Body::default()
        };
        match backend.map(|backend| &backend.protocol) {
            None | Some(BackendProtocol::Http | BackendProtocol::Tcp) => {}
            Some(BackendProtocol::H2c) => {
                body.module = "grpc";
                body.scheme = "grpc";
            }
            Some(BackendProtocol::Https(tls)) => {
                body.scheme = "https";
                let plan = self.plan;
                let authorities = match &tls.authorities {
                    None => None,
                    Some(id) => {
                        let known = plan.certificates.get(id);
                        let known = known.ok_or("the authorities of its servers are missing")?;
                        Some(self.files.add_authorities(id, known))
                    }
                };
                body.tls = Some(Tls {
                    name: tls.server_name.as_ref().map(ToString::to_string),
                    authorities,
                });
            }
        }
        Ok(body)
    }

    fn redirect(&mut self, redirect: &Redirect, rule: &HttpRule, port: &str) -> Body {
        let scheme = redirect
            .to_https
            .map(|yes| if yes { "https" } else { "http" });
        let given = redirect.port.map(std::num::NonZeroU16::get);
        let is_default = matches!(
            (scheme, given),
            (Some("https"), Some(443)) | (Some("http"), Some(80))
        );
        let kept = if scheme.is_none() {
            port.parse().ok()
        } else {
            None
        };
        let mut to = RedirectTo {
            scheme,
            host: redirect.host.as_ref().map(host_text),
            port: given
                .filter(|_| !is_default)
                .or(kept.filter(|_| given.is_none())),
            path: None,
            path_variable: None,
            status: redirect.status,
        };
        match &redirect.path {
            None => {}
            Some(PathRewrite::Full(path)) => to.path = Some(path.to_string()),
            Some(PathRewrite::Prefix(path)) => match prefix(&rule.matches.path, "[^?]*") {
                None => to.path = Some(path.to_string()),
                Some(beginning) => {
                    let (pattern, path) = beginning.replaced(path.as_str());
                    let name = format!("redirect_{}", rule.id);
                    let redirect = RedirectPath {
                        name: name.clone(),
                        pattern: format!("{pattern}(\\?.*)?$"),
                        path,
                    };
                    self.redirects.insert(name.clone(), redirect);
                    to.path_variable = Some(name);
                }
            },
        }
        Body {
            redirect: Some(to),
            ..Body::default()
        }
    }

    fn access(&mut self, access: &Access, rule: &HttpRule, body: &mut Body) {
        let Access {
            api_key,
            allowed_sources,
            denied_sources,
            basic_users,
        } = access;
        let mut sources = |networks: &[ipnet::IpNet]| {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            let name = Id::of(&["from", &networks.join(" ")]).to_string();
            let set = Sources {
                name: name.clone(),
                networks,
            };
            self.sources.insert(name.clone(), set);
            name
        };
        body.denied = (!denied_sources.is_empty()).then(|| sources(denied_sources));
        body.allowed = (!allowed_sources.is_empty()).then(|| sources(allowed_sources));
        if let Some((header, keys)) = api_key {
            let usable = |key: &&crate::edge::value::ApiKey| {
                std::str::from_utf8(key.reveal())
                    .is_ok_and(|text| !text.chars().any(char::is_control))
            };
            let patterns: Vec<String> = keys
                .iter()
                .filter(usable)
                .map(|key| {
                    format!(
                        "~^{}$",
                        regex::escape(&String::from_utf8_lossy(key.reveal()))
                    )
                })
                .collect();
            if patterns.len() < keys.len() {
                let message = "a key has bytes that no header has";
                self.problem(&rule.origin, message, "the key lets nobody in");
            }
            match header_variable(header) {
                Ok(source) if !patterns.is_empty() => {
                    let name = format!("key_{}", rule.id);
                    let condition = Condition {
                        name: name.clone(),
                        source,
                        patterns,
                        found: 1,
                        otherwise: 0,
                    };
                    self.conditions.insert(name.clone(), condition);
                    body.key = Some(name);
                }
                Ok(_) => body.is_closed = true,
                Err(message) => {
                    self.problem(&rule.origin, message, "nobody is let in");
                    body.is_closed = true;
                }
            }
        }
        if let Some(users) = basic_users {
            let is_name = |name: &str| !name.contains(':') && !name.starts_with('#');
            let lines: Vec<String> = users
                .iter()
                .filter(|(name, hash)| {
                    is_name(name.as_str()) && hash.as_str().starts_with(['$', '{'])
                })
                .map(|(name, hash)| format!("{}:{}", name.as_str(), hash.as_str()))
                .collect();
            if lines.len() < users.len() {
                let message = "the name or the hash of a user is none that nginx reads";
                self.problem(&rule.origin, message, "the user is not let in");
            }
            body.users = Some(self.files.add_list("users", &lines, true));
        }
    }

    fn filters(&mut self, rule: &HttpRule, body: &mut Body) {
        for filter in &rule.filters {
            match filter {
                Filter::RequestHeader(change) => self.request_header(change, rule, body),
                Filter::ResponseHeader(HeaderChange::Set(name, value)) => {
                    body.added.retain(|header| header.name != name.as_str());
                    body.hidden.push(name.to_string());
                    body.added.push(ResponseHeader {
                        name: name.to_string(),
                        value: value.as_str().to_owned(),
                    });
                }
                Filter::ResponseHeader(HeaderChange::Add(name, value)) => {
                    body.added.push(ResponseHeader {
                        name: name.to_string(),
                        value: value.as_str().to_owned(),
                    });
                }
                Filter::ResponseHeader(HeaderChange::Remove(name)) => {
                    body.added.retain(|header| header.name != name.as_str());
                    body.hidden.push(name.to_string());
                }
                Filter::RewriteHost(host) => set(body, "host", Some(host_text(host)), None),
                Filter::RewritePath(rewrite) => {
                    body.rewrite = Some(path(rewrite, &rule.matches.path));
                }
                Filter::Mirror(backend) => match self.plan.backends.get(backend) {
                    Some(backend) if backend.protocol == BackendProtocol::Http => {
                        let name = self.upstream(backend, false);
                        body.mirrors.push(name);
                    }
                    Some(_) | None => self.problem(
                        &rule.origin,
                        "a copy of requests can go to a backend of plain HTTP alone",
                        "requests are served without the copy",
                    ),
                },
            }
        }
        body.hidden.sort();
        body.hidden.dedup();
        let is_grpc = body.module == "grpc";
        if !body.headers.is_empty() {
            let is_ours = |name: &str| {
                !body
                    .headers
                    .iter()
                    .any(|header| header.name.eq_ignore_ascii_case(name))
            };
            body.standard = STANDARD
                .iter()
                .filter(|(name, _, with_grpc)| is_ours(name) && (*with_grpc || !is_grpc))
                .map(|(name, variable, _)| StandardHeader { name, variable })
                .collect();
        }
    }

    fn request_header(&mut self, change: &HeaderChange, rule: &HttpRule, body: &mut Body) {
        match change {
            HeaderChange::Set(name, value) => {
                set(body, name.as_str(), Some(value.as_str().to_owned()), None);
            }
            HeaderChange::Remove(name) => set(body, name.as_str(), None, None),
            HeaderChange::Add(name, value) => {
                let known = body.headers.iter_mut();
                let known = known.filter(|header| header.name == name.as_str());
                if let Some(text) = known.filter_map(|header| header.value.as_mut()).last() {
                    text.push_str(&format!(", {}", value.as_str()));
                    return;
                }
                match header_variable(name) {
                    Ok(source) => {
                        let variable = Id::of(&["with", &source, value.as_str()]).to_string();
                        let addition = Addition {
                            name: variable.clone(),
                            source,
                            value: value.as_str().to_owned(),
                        };
                        self.additions.insert(variable.clone(), addition);
                        set(body, name.as_str(), None, Some(variable));
                    }
                    Err(message) => {
                        self.problem(&rule.origin, message, "the header is not added");
                    }
                }
            }
        }
    }
}

fn set(body: &mut Body, name: &str, value: Option<String>, variable: Option<String>) {
    body.headers.retain(|header| header.name != name);
    body.headers.push(RequestHeader {
        name: name.to_owned(),
        value,
        variable,
    });
}

/// An answer of nginx's own. 444 closes the connection.
pub(super) fn answering(status: u16) -> Body {
    let is_status = status == 444 || (200..600).contains(&status);
    Body {
        respond: Some(if is_status { status } else { 500 }),
        ..Body::default()
    }
}

fn path(rewrite: &PathRewrite, matched: &PathMatch) -> Rewrite {
    let (new, beginning) = match rewrite {
        PathRewrite::Full(path) => (path, None),
        PathRewrite::Prefix(path) => (path, prefix(matched, ".*")),
    };
    match beginning {
        None => Rewrite {
            pattern: "^".to_owned(),
            path: new.to_string(),
            keeps_rest: false,
        },
        Some(beginning) => {
            let (pattern, path) = beginning.replaced(new.as_str());
            Rewrite {
                pattern: format!("{pattern}$"),
                path,
                keeps_rest: true,
            }
        }
    }
}

/// The beginning of paths that a rewrite replaces.
struct Beginning {
    escaped: String,
    is_by_segments: bool,
    rest: &'static str,
}

/// `None` where the whole path is replaced.
fn prefix(matched: &PathMatch, rest: &'static str) -> Option<Beginning> {
    let (path, is_by_segments) = match matched {
        PathMatch::Prefix(path) => (path.as_str().trim_end_matches('/'), true),
        PathMatch::Bytes(path) => (path.as_str(), false),
        PathMatch::Exact(_) | PathMatch::Regex(_) => return None,
    };
    Some(Beginning {
        escaped: regex::escape(path),
        is_by_segments,
        rest,
    })
}

impl Beginning {
    /// The expression, whose group is the rest, and what goes before the rest.
    fn replaced(&self, new: &str) -> (String, String) {
        let Self {
            escaped,
            is_by_segments,
            rest,
        } = self;
        let new = match is_by_segments {
            true => new.trim_end_matches('/'),
            false => new,
        };
        // `/a` becomes `/` where nothing else is left of it.
        match (new.is_empty(), is_by_segments) {
            (true, _) => (format!("^{escaped}/?({rest})"), "/".to_owned()),
            (false, true) => (format!("^{escaped}(/{rest})?"), new.to_owned()),
            (false, false) => (format!("^{escaped}({rest})"), new.to_owned()),
        }
    }
}
