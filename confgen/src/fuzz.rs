//! Arbitrary texts in every place that a tenant writes. For tests.
//!
//! Rendering proves its own shape, so a plan that renders has it; these tests show that no text
//! makes rendering fail, that the proof is no formality, and that the real proxies agree.

use proptest::prelude::*;

use crate::edge::value::{
    ApiKey, HeaderName, HeaderValue, HostMatch, HostRegex, Hostname, Id, Method, PathMatch,
    PathRegex, UrlPath,
};
use crate::edge::{
    Action, Backend, BackendProtocol, BackendTls, EdgePlan, Filter, Forward, HeaderChange,
    HealthCheck, Listener, PathRewrite, Probe, Redirect, RequestMatch, StickyCookie, Unknown,
    ValueMatch,
};
use crate::{haproxy, nginx, proxies, samples};

/// Texts that grammars read, between ordinary ones.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z0-9]{1,4}",
        "[ -~]{1,6}",
        Just("if".to_owned()),
        Just("include".to_owned()),
        Just("default".to_owned()),
        Just("-f".to_owned()),
        Just("}".to_owned()),
        Just("\n".to_owned()),
        Just(";".to_owned()),
        Just("%[env(HOME)]".to_owned()),
        Just("${host}".to_owned()),
        Just("$host".to_owned()),
        Just("\\".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("#".to_owned()),
        Just("é".to_owned()),
        Just("%41".to_owned()),
        Just("%20".to_owned()),
        Just("%24".to_owned()),
        Just(".".to_owned()),
        Just("/".to_owned()),
        Just("-".to_owned()),
        Just("_".to_owned()),
        Just("(?<x>a)".to_owned()),
    ];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

/// Values of a type among the texts that its constructor takes.
fn value<T: std::fmt::Debug, E>(
    parse: fn(&str) -> Result<T, E>,
    otherwise: &'static str,
) -> impl Strategy<Value = T> {
    text().prop_map(move |text| {
        let value = parse(&text).or_else(|_| parse(otherwise));
        value.unwrap_or_else(|_| panic!("{otherwise}"))
    })
}

fn header() -> impl Strategy<Value = HeaderName> {
    value(HeaderName::parse, "x-header")
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    value(HeaderValue::parse, "value")
}

fn path() -> impl Strategy<Value = UrlPath> {
    text().prop_map(|text| UrlPath::parse(&format!("/{text}")).unwrap_or_else(|_| UrlPath::root()))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        path().prop_map(PathMatch::Exact),
        path().prop_map(PathMatch::Prefix),
        path().prop_map(PathMatch::Bytes),
        text().prop_map(|text| {
            let regex = PathRegex::parse(&format!("/{text}"));
            PathMatch::Regex(regex.unwrap_or_else(|_| PathRegex::parse("/a").expect("a path")))
        }),
    ]
}

fn host_match() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        value(Hostname::parse, "a.example").prop_map(HostMatch::Exact),
        value(Hostname::parse, "b.example").prop_map(HostMatch::Wildcard),
        value(HostRegex::parse, "c.example").prop_map(HostMatch::Regex),
        Just(HostMatch::Any),
    ]
}

fn value_match() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        header_value().prop_map(ValueMatch::Exact),
        header_value().prop_map(ValueMatch::Regex),
        Just(ValueMatch::Present),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let change = || {
        prop_oneof![
            (header(), header_value()).prop_map(|(name, value)| HeaderChange::Set(name, value)),
            (header(), header_value()).prop_map(|(name, value)| HeaderChange::Add(name, value)),
            header().prop_map(HeaderChange::Remove),
        ]
    };
    prop_oneof![
        change().prop_map(Filter::RequestHeader),
        change().prop_map(Filter::ResponseHeader),
        value(Hostname::parse, "a.example").prop_map(Filter::RewriteHost),
        path().prop_map(|path| Filter::RewritePath(PathRewrite::Full(path))),
        path().prop_map(|path| Filter::RewritePath(PathRewrite::Prefix(path))),
        Just(Filter::Mirror(samples::id("web"))),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Forward(Forward::to(samples::id("web")))),
        Just(Action::Forward(Forward {
            to: vec![
                (samples::id("web"), 1),
                (samples::id("other"), 7),
                (samples::id("none"), 1)
            ],
        })),
        (any::<u16>()).prop_map(Action::Respond),
        (value(Hostname::parse, "a.example"), path(), any::<bool>()).prop_map(
            |(host, path, to_https)| {
                Action::Redirect(Redirect {
                    to_https: to_https.then_some(true),
                    host: Some(host),
                    port: None,
                    path: Some(PathRewrite::Prefix(path)),
                    status: 302,
                })
            }
        ),
    ]
}

prop_compose! {
    fn rule()(
        path in path_match(),
        method in proptest::option::of(value(Method::parse, "GET")),
        headers in proptest::collection::vec((header(), value_match()), 0..3),
        query in proptest::collection::vec((header(), value_match()), 0..2),
        filters in proptest::collection::vec(filter(), 0..4),
        action in action(),
        key in proptest::option::of((header(), text())),
        user in proptest::option::of((header_value(), header_value())),
        id in text(),
    ) -> crate::edge::HttpRule {
        let mut rule = samples::rule(&id, RequestMatch { path, method, headers, query });
        rule.filters = filters;
        rule.action = action;
        rule.access.api_key = key.map(|(header, key)| {
            (header, ApiKey::new(key.as_bytes()))
        });
        rule.access.basic_users = user.map(|user| vec![user]);
        rule
    }
}

prop_compose! {
    fn plan()(
        hosts in proptest::collection::vec(
            (host_match(), proptest::collection::vec(rule(), 0..4)),
            1..4,
        ),
        cookie in proptest::option::of(header()),
        probe in path(),
        probed in value(Hostname::parse, "a.example"),
        inner in value(Hostname::parse, "a.example"),
        is_tls in any::<bool>(),
        status in path(),
        unknown in prop_oneof![
            Just(Unknown::Close),
            any::<u16>().prop_map(Unknown::Status),
            Just(Unknown::Forward(Forward::to(samples::id("web")))),
        ],
    ) -> EdgePlan {
        let mut count = 0;
        let hosts = hosts.into_iter().map(|(host, mut rules)| {
            for rule in &mut rules {
                // Identifiers are unique in a plan.
                count += 1;
                rule.id = Id::of(&[rule.id.as_str(), &count.to_string()]);
            }
            (host, samples::site(rules))
        });
        let mut listener = samples::http(hosts.collect());
        listener.status_path = Some(status);
        listener.unknown_host = unknown;
        let mut other = samples::web();
        other.id = samples::id("other");
        if is_tls {
            other.protocol = BackendProtocol::Https(BackendTls {
                server_name: Some(inner),
                authorities: None,
            });
        }
        let web = Backend {
            sticky: cookie.map(|name| StickyCookie { name, max_age: None }),
            health: Some(HealthCheck {
                probe: Probe::Http { path: probe, host: Some(probed), is_tls },
                port: None,
                interval: std::time::Duration::from_secs(1),
                timeout: std::time::Duration::from_secs(1),
                rise: 0,
                fall: 0,
            }),
            ..samples::web()
        };
        samples::plan(
            vec![(samples::listen("127.0.0.1", 80), Listener::Http(listener))],
            vec![web, other],
        )
    }
}

proptest! {
    // Each case starts two processes.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_changes_the_shape_and_the_proxies_take_whatever_is_rendered(plan in plan()) {
        let rendered = haproxy::render(&plan, &haproxy::Options::default())
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(proxies::haproxy_objections(&rendered.rendered), None);
        let rendered = nginx::render(&plan, &proxies::nginx_options())
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(proxies::nginx_objections(&rendered.rendered), None);
    }
}
