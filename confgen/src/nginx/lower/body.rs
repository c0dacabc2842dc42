//! What is done with a rule's requests.

mod access;
mod filters;
mod paths;

use self::paths::prefix;
use super::Lowering;
use super::upstream::FAILED;
use crate::edge::{
    Action, Backend, BackendProtocol, Forward, HttpRule, PathRewrite, Redirect, Timeouts, Unknown,
};
use crate::nginx::view::{Body, RedirectPath, RedirectTo, Split, Tls};
use crate::render::host_text;

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
}

/// An answer of nginx's own. 444 closes the connection.
pub(super) fn answering(status: u16) -> Body {
    let is_status = status == 444 || (200..600).contains(&status);
    Body {
        respond: Some(if is_status { status } else { 500 }),
        ..Body::default()
    }
}
