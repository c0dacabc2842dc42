//! What is changed of requests and answers on their way.

use super::paths::path;
use crate::edge::value::Id;
use crate::edge::{BackendProtocol, Filter, HeaderChange, HttpRule};
use crate::nginx::lower::Lowering;
use crate::nginx::lower::conditions::header_variable;
use crate::nginx::view::{Addition, Body, RequestHeader, ResponseHeader, StandardHeader};
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
    pub(super) fn filters(&mut self, rule: &HttpRule, body: &mut Body) {
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
