//! HTTPRoute, TLSRoute and TCPRoute.

use std::sync::Arc;
use std::time::Duration;

use super::{GROUP, generation, object_ref, text_or};
use crate::k8s::read::{Field, Reader};
use crate::{
    HeaderModifier, HttpPath, HttpRedirect, HttpRoute, HttpRouteFilter, HttpRouteMatch,
    HttpRouteRule, HttpValueMatch, ParentRef, PathModifier, RouteBackend, StreamRoute,
};

const NO_ROUTE: &str = "the route is left out";
const NO_PARENT: &str = "the route is not attached there";
const NO_RULE: &str = "this rule is not served, the others are";
const NO_MATCH: &str = "what it would match is not served";
const NO_BACKEND: &str = "this backend gets nothing";
const NO_FILTER: &str = "requests of the rule are answered with 500";

/// More is no weight of the API.
const MAX_WEIGHT: u64 = 1_000_000;

pub(in crate::k8s) fn http(reader: &Reader<'_>) -> Option<HttpRoute> {
    let spec = reader.section("spec");
    let rules = reader.mappings(&spec, "rules", NO_RULE);
    let rules = rules.iter().enumerate();
    Some(HttpRoute {
        key: reader.key.clone(),
        created_unix_seconds: reader.created(),
        generation: generation(reader),
        parents: parents(reader, &spec),
        hostnames: hostnames(reader, &spec)?,
        rules: rules
            .filter_map(|(index, entry)| rule(reader, index, entry))
            .collect(),
    })
}

pub(in crate::k8s) fn stream(reader: &Reader<'_>) -> Option<StreamRoute> {
    let spec = reader.section("spec");
    let rules = reader.mappings(&spec, "rules", NO_RULE);
    let first = rules.first();
    Some(StreamRoute {
        key: reader.key.clone(),
        created_unix_seconds: reader.created(),
        generation: generation(reader),
        parents: parents(reader, &spec),
        hostnames: hostnames(reader, &spec)?,
        backends: first.map_or_else(Vec::new, |rule| backends(reader, rule)),
    })
}

fn parents(reader: &Reader<'_>, spec: &Field<'_>) -> Vec<ParentRef> {
    let entries = reader.mappings(spec, "parentRefs", NO_PARENT);
    let parent = |entry: &Field<'_>| {
        let section_name = match entry.get("sectionName").filter(|field| field.value != "") {
            Some(field) => Some(reader.text(&field, NO_PARENT)?.into()),
            None => None,
        };
        let port = match entry.get("port") {
            Some(field) => Some(reader.port(&field, NO_PARENT)?),
            None => None,
        };
        Some(ParentRef {
            target: object_ref(reader, entry, (GROUP, "Gateway"))?,
            section_name,
            port,
        })
    };
    entries.iter().filter_map(parent).collect()
}

/// `None` where one cannot be read: without it the list could be empty, which is every host.
fn hostnames(reader: &Reader<'_>, spec: &Field<'_>) -> Option<Vec<Arc<str>>> {
    let entries = reader.try_list(spec, "hostnames", NO_ROUTE)?;
    let text = |field: &Field<'_>| reader.text(field, NO_ROUTE).map(Into::into);
    entries.iter().map(text).collect()
}

fn rule(reader: &Reader<'_>, index: usize, entry: &Field<'_>) -> Option<HttpRouteRule> {
    let matches = reader.try_list(entry, "matches", NO_RULE)?;
    let matches = if matches.is_empty() {
        vec![HttpRouteMatch {
            path: HttpPath::Prefix("/".into()),
            headers: Vec::new(),
            query: Vec::new(),
            method: None,
        }]
    } else {
        // A match without a part that cannot be read would take more requests.
        let each = matches.iter().filter_map(|entry| matched(reader, entry));
        let each: Vec<_> = each.collect();
        if each.is_empty() {
            return None;
        }
        each
    };
    for name in ["retry", "sessionPersistence"] {
        if let Some(field) = entry.get(name) {
            let effect = "the rule is served without it";
            reader.problem(&field.path, "is not done by edges", effect);
        }
    }
    let timeouts = match entry.get("timeouts") {
        Some(field) => reader.mapping(&field, NO_TIMEOUT).map(|()| field),
        None => None,
    };
    let timeout = |name| timeouts.as_ref().and_then(|of| duration(reader, of, name));
    Some(HttpRouteRule {
        index,
        matches,
        filters: filters(reader, entry),
        backends: backends(reader, entry),
        request_timeout: timeout("request"),
        backend_timeout: timeout("backendRequest"),
    })
}

const NO_TIMEOUT: &str = "the default holds";

fn duration(reader: &Reader<'_>, timeouts: &Field<'_>, name: &str) -> Option<Duration> {
    let field = timeouts.get(name)?;
    let expected = "a duration as in 10s or 1m30s";
    reader.parse(&field, expected, NO_TIMEOUT, |value| {
        parse_duration(value.as_str()?)
    })
}

/// GEP-2257: up to four numbers of up to five digits, each with h, m, s or ms.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis: u64 = 0;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits).filter(|_| digits <= 5)?.parse().ok()?;
        let behind = &rest[digits..];
        let unit = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let factor = match &behind[..unit] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        millis += number * factor;
        rest = &behind[unit..];
        if rest.is_empty() {
            return Some(Duration::from_millis(millis));
        }
    }
    None
}

fn matched(reader: &Reader<'_>, entry: &Field<'_>) -> Option<HttpRouteMatch> {
    reader.mapping(entry, NO_MATCH)?;
    let values = |name| {
        let entries = reader.try_list(entry, name, NO_MATCH)?;
        let each = entries.iter().map(|entry| value_match(reader, entry));
        each.collect::<Option<Vec<_>>>()
    };
    let method = match entry.get("method").filter(|field| field.value != "") {
        Some(field) => Some(reader.text(&field, NO_MATCH)?.into()),
        None => None,
    };
    Some(HttpRouteMatch {
        path: path(reader, entry)?,
        headers: values("headers")?,
        query: values("queryParams")?,
        method,
    })
}

fn path(reader: &Reader<'_>, entry: &Field<'_>) -> Option<HttpPath> {
    let Some(field) = entry.get("path") else {
        return Some(HttpPath::Prefix("/".into()));
    };
    reader.mapping(&field, NO_MATCH)?;
    let value = text_or(reader, &field, "value", "/", NO_MATCH)?;
    let Some(kind) = field.get("type") else {
        return Some(HttpPath::Prefix(value));
    };
    let expected = "Exact, PathPrefix or RegularExpression";
    reader.parse(&kind, expected, NO_MATCH, |kind| match kind.as_str()? {
        "Exact" => Some(HttpPath::Exact(value)),
        "PathPrefix" => Some(HttpPath::Prefix(value)),
        "RegularExpression" => Some(HttpPath::Regex(value)),
        _ => None,
    })
}

fn value_match(reader: &Reader<'_>, entry: &Field<'_>) -> Option<HttpValueMatch> {
    reader.mapping(entry, NO_MATCH)?;
    let name = reader.required(entry, "name", NO_MATCH)?;
    let value = reader.required(entry, "value", NO_MATCH)?;
    let is_regex = match entry.get("type") {
        None => false,
        Some(field) => {
            let expected = "Exact or RegularExpression";
            reader.parse(&field, expected, NO_MATCH, |value| {
                match value.as_str()? {
                    "Exact" => Some(false),
                    "RegularExpression" => Some(true),
                    _ => None,
                }
            })?
        }
    };
    Some(HttpValueMatch {
        name: reader.text(&name, NO_MATCH)?.into(),
        value: reader.text(&value, NO_MATCH)?.into(),
        is_regex,
    })
}

fn backends(reader: &Reader<'_>, rule: &Field<'_>) -> Vec<RouteBackend> {
    let entries = reader.mappings(rule, "backendRefs", NO_BACKEND);
    let each = entries.iter().enumerate();
    each.filter_map(|(index, entry)| backend(reader, index, entry))
        .collect()
}

fn backend(reader: &Reader<'_>, index: usize, entry: &Field<'_>) -> Option<RouteBackend> {
    let port = match entry.get("port") {
        Some(field) => Some(reader.port(&field, NO_BACKEND)?),
        None => None,
    };
    let weight = match entry.get("weight") {
        None => 1,
        Some(field) => {
            let expected = "a weight from 0 to 1000000";
            reader.parse(&field, expected, NO_BACKEND, |value| {
                let weight = value.as_u64().filter(|weight| *weight <= MAX_WEIGHT)?;
                u32::try_from(weight).ok()
            })?
        }
    };
    Some(RouteBackend {
        index,
        target: object_ref(reader, entry, ("", "Service"))?,
        port,
        weight,
        filters: filters(reader, entry),
    })
}

/// A filter that cannot be read stays as one that is not known: the rule must not be served as if
/// it had none.
fn filters(reader: &Reader<'_>, entry: &Field<'_>) -> Vec<HttpRouteFilter> {
    let Some(entries) = reader.try_list(entry, "filters", NO_FILTER) else {
        return vec![HttpRouteFilter::Unknown("filters".into())];
    };
    let each = entries.iter().map(|entry| {
        let kind = entry.get("type").and_then(|kind| kind.value.as_str());
        filter(reader, entry)
            .unwrap_or_else(|| HttpRouteFilter::Unknown(kind.unwrap_or_default().into()))
    });
    each.collect()
}

fn filter(reader: &Reader<'_>, entry: &Field<'_>) -> Option<HttpRouteFilter> {
    reader.mapping(entry, NO_FILTER)?;
    let kind = reader.required(entry, "type", NO_FILTER)?;
    let section = |name| {
        let field = reader.required(entry, name, NO_FILTER)?;
        reader.mapping(&field, NO_FILTER).map(|()| field)
    };
    Some(match reader.text(&kind, NO_FILTER)? {
        "RequestHeaderModifier" => {
            let field = section("requestHeaderModifier")?;
            HttpRouteFilter::RequestHeaders(headers(reader, &field)?)
        }
        "ResponseHeaderModifier" => {
            let field = section("responseHeaderModifier")?;
            HttpRouteFilter::ResponseHeaders(headers(reader, &field)?)
        }
        "RequestRedirect" => {
            HttpRouteFilter::Redirect(redirect(reader, &section("requestRedirect")?)?)
        }
        "URLRewrite" => {
            let field = section("urlRewrite")?;
            HttpRouteFilter::Rewrite {
                hostname: hostname(reader, &field)?,
                path: path_modifier(reader, &field)?,
            }
        }
        "RequestMirror" => {
            let field = section("requestMirror")?;
            // A share of the requests is not all of them.
            if field.get("percent").is_some() || field.get("fraction").is_some() {
                return Some(HttpRouteFilter::Unknown("RequestMirror of a share".into()));
            }
            let target = reader.required(&field, "backendRef", NO_FILTER)?;
            reader.mapping(&target, NO_FILTER)?;
            HttpRouteFilter::Mirror(backend(reader, 0, &target)?)
        }
        other => HttpRouteFilter::Unknown(other.into()),
    })
}

fn headers(reader: &Reader<'_>, field: &Field<'_>) -> Option<HeaderModifier> {
    let pairs = |name| {
        let entries = reader.try_list(field, name, NO_FILTER)?;
        let each = entries.iter().map(|entry| {
            reader.mapping(entry, NO_FILTER)?;
            let name = reader.required(entry, "name", NO_FILTER)?;
            let value = reader.required(entry, "value", NO_FILTER)?;
            let name = reader.text(&name, NO_FILTER)?;
            Some((name.into(), reader.text(&value, NO_FILTER)?.into()))
        });
        each.collect::<Option<Vec<(Arc<str>, Arc<str>)>>>()
    };
    let remove = reader.try_list(field, "remove", NO_FILTER)?;
    let remove = remove.iter().map(|field| reader.text(field, NO_FILTER));
    Some(HeaderModifier {
        set: pairs("set")?,
        add: pairs("add")?,
        remove: remove
            .map(|name| name.map(Into::into))
            .collect::<Option<_>>()?,
    })
}

fn redirect(reader: &Reader<'_>, field: &Field<'_>) -> Option<HttpRedirect> {
    let to_https =
        match field.get("scheme") {
            None => None,
            Some(scheme) => Some(reader.parse(&scheme, "http or https", NO_FILTER, |value| {
                match value.as_str()? {
                    "http" => Some(false),
                    "https" => Some(true),
                    _ => None,
                }
            })?),
        };
    let port = match field.get("port") {
        None => None,
        Some(port) => Some(reader.port(&port, NO_FILTER)?),
    };
    let status = match field.get("statusCode") {
        None => 302,
        Some(status) => {
            let expected = "301, 302, 303, 307 or 308";
            reader.parse(&status, expected, NO_FILTER, |value| {
                let status = u16::try_from(value.as_u64()?).ok()?;
                matches!(status, 301 | 302 | 303 | 307 | 308).then_some(status)
            })?
        }
    };
    Some(HttpRedirect {
        to_https,
        hostname: hostname(reader, field)?,
        path: path_modifier(reader, field)?,
        port,
        status,
    })
}

/// `Some(None)` where there is none.
#[expect(clippy::option_option, reason = "absent, or not to be read")]
fn hostname(reader: &Reader<'_>, field: &Field<'_>) -> Option<Option<Arc<str>>> {
    match field.get("hostname").filter(|field| field.value != "") {
        Some(field) => Some(Some(reader.text(&field, NO_FILTER)?.into())),
        None => Some(None),
    }
}

/// `Some(None)` where there is none.
#[expect(clippy::option_option, reason = "absent, or not to be read")]
fn path_modifier(reader: &Reader<'_>, field: &Field<'_>) -> Option<Option<PathModifier>> {
    let Some(field) = field.get("path") else {
        return Some(None);
    };
    reader.mapping(&field, NO_FILTER)?;
    let kind = reader.required(&field, "type", NO_FILTER)?;
    let value = |name| text_or(reader, &field, name, "/", NO_FILTER);
    Some(Some(match kind.value.as_str() {
        Some("ReplaceFullPath") => PathModifier::Full(value("replaceFullPath")?),
        Some("ReplacePrefixMatch") => PathModifier::Prefix(value("replacePrefixMatch")?),
        _ => {
            let expected = "ReplaceFullPath or ReplacePrefixMatch";
            return reader.parse(&kind, expected, NO_FILTER, |_| None);
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_duration;

    #[test]
    fn durations_are_those_of_the_api() {
        for (text, millis) in [
            ("10s", Some(10_000)),
            ("0s", Some(0)),
            ("1h30m", Some(5_400_000)),
            ("1m500ms", Some(60_500)),
            ("", None),
            ("10", None),
            ("1.5s", None),
            ("-1s", None),
            ("100000s", None),
            ("1h1h1h1h1h", None),
            ("1d", None),
        ] {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }
}
