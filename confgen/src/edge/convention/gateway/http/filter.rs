//! Filters of a rule. One that cannot be done makes the rule answer 500 (specification of
//! `filters`): without it, requests would mean something else.

use model::{
    HeaderModifier, HttpRedirect, HttpRouteFilter, HttpRouteRule, PathModifier, RouteBackend,
};

use crate::edge::plan::{Filter, HeaderChange, PathRewrite, Redirect};
use crate::edge::value::{HeaderName, HeaderValue, Hostname, Id, Invalid, PathMatch, UrlPath};

/// What filters come to.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) filters: Vec<Filter>,
    pub(super) redirect: Option<Redirect>,
}

/// The filters of a rule for requests of `path`; mirrors whose backend is not there are left out,
/// as the specification has it.
pub(super) fn changes(
    rule: &HttpRouteRule,
    path: &PathMatch,
    mut mirror: impl FnMut(&RouteBackend) -> Result<Id, ()>,
) -> Result<Changes, String> {
    let mut changes = Changes::default();
    let of_backends = match rule.backends.as_slice() {
        // All requests go to the one backend, so its filters are the rule's.
        [only] => only.filters.as_slice(),
        several if several.iter().any(|backend| !backend.filters.is_empty()) => {
            return Err("filters of one of several backends are not done".to_owned());
        }
        _ => &[],
    };
    for filter in rule.filters.iter().chain(of_backends) {
        match filter {
            HttpRouteFilter::RequestHeaders(headers) => {
                let each = header_changes(headers).map_err(|what| what.to_string())?;
                changes
                    .filters
                    .extend(each.into_iter().map(Filter::RequestHeader));
            }
            HttpRouteFilter::ResponseHeaders(headers) => {
                let each = header_changes(headers).map_err(|what| what.to_string())?;
                changes
                    .filters
                    .extend(each.into_iter().map(Filter::ResponseHeader));
            }
            HttpRouteFilter::Redirect(redirect) => {
                changes.redirect = Some(redirected(redirect, path)?);
            }
            HttpRouteFilter::Rewrite { hostname, path: to } => {
                if let Some(host) = hostname {
                    let host = Hostname::parse(host).map_err(|what| what.to_string())?;
                    changes.filters.push(Filter::RewriteHost(host));
                }
                if let Some(to) = to {
                    let to = rewrite(to, path)?;
                    changes.filters.push(Filter::RewritePath(to));
                }
            }
            HttpRouteFilter::Mirror(backend) => {
                changes
                    .filters
                    .extend(mirror(backend).ok().map(Filter::Mirror));
            }
            HttpRouteFilter::Unknown(kind) => return Err(format!("{kind:?} is not done")),
        }
    }
    Ok(changes)
}

fn header_changes(headers: &HeaderModifier) -> Result<Vec<HeaderChange>, Invalid> {
    let HeaderModifier { set, add, remove } = headers;
    let pair = |(name, value): &(std::sync::Arc<str>, std::sync::Arc<str>)| {
        Ok((HeaderName::parse(name)?, HeaderValue::parse(value)?))
    };
    let mut changes = Vec::new();
    for entry in set {
        let (name, value) = pair(entry)?;
        changes.push(HeaderChange::Set(name, value));
    }
    for entry in add {
        let (name, value) = pair(entry)?;
        changes.push(HeaderChange::Add(name, value));
    }
    for name in remove {
        changes.push(HeaderChange::Remove(HeaderName::parse(name)?));
    }
    Ok(changes)
}

fn redirected(redirect: &HttpRedirect, path: &PathMatch) -> Result<Redirect, String> {
    let HttpRedirect {
        to_https,
        hostname,
        path: to,
        port,
        status,
    } = redirect;
    let host = hostname.as_deref().map(Hostname::parse).transpose();
    Ok(Redirect {
        to_https: *to_https,
        host: host.map_err(|what| what.to_string())?,
        port: *port,
        path: to.as_ref().map(|to| rewrite(to, path)).transpose()?,
        status: *status,
    })
}

fn rewrite(to: &PathModifier, path: &PathMatch) -> Result<PathRewrite, String> {
    let parsed = |text: &str| {
        let text = if text.is_empty() { "/" } else { text };
        UrlPath::parse(text).map_err(|what| what.to_string())
    };
    match (to, path) {
        (PathModifier::Full(to), _) => parsed(to).map(PathRewrite::Full),
        (PathModifier::Prefix(to), PathMatch::Prefix(_)) => parsed(to).map(PathRewrite::Prefix),
        (PathModifier::Prefix(_), _) => {
            Err("ReplacePrefixMatch needs a path of type PathPrefix".to_owned())
        }
    }
}
