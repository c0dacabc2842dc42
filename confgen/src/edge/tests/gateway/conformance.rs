//! HTTPRoute as the conformance tests of Gateway API have it: manifests, and a table of requests.
//! The simulator answers, and HAProxy and nginx have to answer the same.
//! A request is `METHOD URL [header=value …]`; an answer is the backend, a status or a redirect.

mod both;

use std::fmt::Write as _;
use std::net::IpAddr;

use expect_test::{Expect, expect};

use super::{CLASS, convention, gateway, route, service};
use crate::edge::tests::cluster;
use crate::edge::{
    Action, Answer, EdgePlan, Filter, Forward, Listen, PathRewrite, Request, compile, simulate,
};

/// The answers to `requests`, a line each.
#[track_caller]
fn check(listeners: &str, routes: &[String], requests: &[&str], expected: Expect) {
    let backends = (1..=3).map(|number| service("infra", &format!("v{number}"), number));
    let yaml = [
        CLASS.to_owned(),
        backends.collect(),
        gateway("gw", listeners),
        routes.concat(),
    ];
    let plan = compile(&cluster(&yaml.concat()), &convention());
    let mut text = String::new();
    for request in requests {
        writeln!(text, "{request} => {}", ask(&plan, request)).unwrap();
    }
    for problem in plan.problems.iter() {
        writeln!(text, "! {problem}").unwrap();
    }
    text += &both::findings(&plan);
    expected.assert_eq(&text);
    both::check(&plan, requests);
}

fn ask(plan: &EdgePlan, request: &str) -> String {
    let mut words = request.split(' ');
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let headers: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
    let (host, rest) = url.split_at(url.find('/').unwrap());
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let query: Vec<_> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let (host, port) = host.split_once(':').unwrap_or((host, "80"));
    let request = Request {
        listen: Listen {
            address: "0.0.0.0".parse().unwrap(),
            port: port.parse().unwrap(),
        },
        host,
        path,
        method,
        headers: &headers,
        query: &query,
        source: IpAddr::from([192, 0, 2, 1]),
    };
    let (answer, rule) = simulate(plan, &request);
    let mut text = match answer {
        Answer::Forwarded(to) => backends(plan, to),
        Answer::PassedThrough(to) => format!("passed to {}", backends(plan, to)),
        Answer::Redirected(redirect) => {
            let scheme = redirect
                .to_https
                .map(|tls| if tls { "https" } else { "http" });
            let host = redirect.host.as_ref().map(ToString::to_string);
            let path = redirect.path.as_ref().map(rewritten);
            format!(
                "{} to {}://{}:{}{}",
                redirect.status,
                scheme.unwrap_or("same"),
                host.as_deref().unwrap_or("same"),
                redirect
                    .port
                    .map_or("-".to_owned(), |port| port.to_string()),
                path.as_deref().unwrap_or("/same"),
            )
        }
        other @ (Answer::NotListening | Answer::Closed | Answer::Status(_)) => {
            format!("{other:?}")
        }
    };
    for rule in rule
        .into_iter()
        .filter(|rule| !matches!(rule.action, Action::Respond(_)))
    {
        for filter in &rule.filters {
            match filter {
                Filter::RewritePath(path) => write!(text, ", path {}", rewritten(path)),
                Filter::RewriteHost(host) => write!(text, ", host {host}"),
                Filter::Mirror(id) => {
                    write!(
                        text,
                        ", mirrored to {}",
                        backends(plan, &Forward::to(id.clone()))
                    )
                }
                Filter::RequestHeader(change) => write!(text, ", request {change:?}"),
                Filter::ResponseHeader(change) => write!(text, ", response {change:?}"),
            }
            .unwrap();
        }
        let timeouts = &rule.timeouts;
        if let Some(request) = timeouts.request {
            write!(text, ", within {request:?}").unwrap();
        }
    }
    text
}

fn rewritten(path: &PathRewrite) -> String {
    match path {
        PathRewrite::Full(path) => path.to_string(),
        PathRewrite::Prefix(path) => format!("{path}…"),
    }
}

/// `v1`, or `v1*3 v2*1`; an empty backend is `nobody`.
fn backends(plan: &EdgePlan, to: &Forward) -> String {
    let of = |(id, weight): &(_, u32)| {
        let servers = &plan.backends[id].servers;
        let name = servers.first().map_or("nobody".to_owned(), |server| {
            format!(
                "v{}",
                server.address.to_string().rsplit('.').next().unwrap()
            )
        });
        if to.to.len() == 1 {
            name
        } else {
            format!("{name}*{weight}")
        }
    };
    to.to.iter().map(of).collect::<Vec<_>>().join(" ")
}

const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";

fn rules(name: &str, rules: &str) -> String {
    route("HTTPRoute", name, &format!("rules: [{rules}]"))
}

fn to(version: u8) -> String {
    format!("backendRefs: [{{name: v{version}, port: 8080}}]")
}

/// HTTPRouteSimpleSameNamespace, HTTPRouteMatching, HTTPRouteExactPathMatching
#[test]
fn paths_and_headers() {
    let matching = format!(
        "{{matches: [{{path: {{type: PathPrefix, value: /}}, headers: [{{name: Version, value: one}}]}}], {}}}, \
         {{matches: [{{path: {{type: PathPrefix, value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {}}}",
        to(1),
        to(2)
    );
    check(
        HTTP,
        &[rules("matching", &matching)],
        &[
            "GET a/ version=one",
            "GET a/v2 version=one",
            "GET a/v2",
            "GET a/v2/example",
            "GET a/ version=two",
            "GET a/v2example",
            "GET a/",
            "GET a/foo/v2/example",
        ],
        expect![[r#"
            GET a/ version=one => v1
            GET a/v2 version=one => v2
            GET a/v2 => v2
            GET a/v2/example => v2
            GET a/ version=two => v2
            GET a/v2example => Status(404)
            GET a/ => Status(404)
            GET a/foo/v2/example => Status(404)
        "#]],
    );
    let exact = format!(
        "{{matches: [{{path: {{type: Exact, value: /one}}}}], {}}}, {{matches: [{{path: {{type: Exact, value: /two}}}}], {}}}",
        to(1),
        to(2)
    );
    check(
        HTTP,
        &[rules("exact", &exact)],
        &[
            "GET a/one",
            "GET a/two",
            "GET a/one/",
            "GET a/one/example",
            "GET a/ONE",
            "GET a/",
        ],
        expect![[r#"
            GET a/one => v1
            GET a/two => v2
            GET a/one/ => Status(404)
            GET a/one/example => Status(404)
            GET a/ONE => Status(404)
            GET a/ => Status(404)
        "#]],
    );
}

/// HTTPRouteMatchingAcrossRoutes, and the order of creation and of rules
#[test]
fn rules_of_several_routes_are_one_list() {
    let part1 = route(
        "HTTPRoute",
        "part1",
        &format!(
            "hostnames: [example.com, example.net], rules: [\
             {{matches: [{{path: {{value: /}}}}, {{headers: [{{name: version, value: one}}]}}], {}}}]",
            to(1)
        ),
    );
    let part2 = route(
        "HTTPRoute",
        "part2",
        &format!(
            "hostnames: [example.com], rules: [\
             {{matches: [{{path: {{value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {}}}]",
            to(2)
        ),
    );
    // As old, and later in the alphabet; then older.
    let same = rules("zzz", &format!("{{{}}}", to(3)))
        .replace("spec: {", "spec: {hostnames: [example.net], ");
    let older = same.replace("2026-02", "2025-02");
    let requests = [
        "GET example.com/",
        "GET example.com/example version=one",
        "GET example.net/example version=one",
        "GET example.net/",
        "GET example.com/example version=two",
        "GET example.com/v2",
        "GET example.net/v2",
    ];
    check(
        HTTP,
        &[part1.clone(), part2.clone(), same],
        &requests,
        expect![[r#"
            GET example.com/ => v1
            GET example.com/example version=one => v1
            GET example.net/example version=one => v1
            GET example.net/ => v1
            GET example.com/example version=two => v2
            GET example.com/v2 => v2
            GET example.net/v2 => v1
        "#]],
    );
    check(
        HTTP,
        &[part1, part2, older],
        &requests[2..4],
        expect![[r#"
            GET example.net/example version=one => v1
            GET example.net/ => v3
        "#]],
    );
    // The third rule is before the eleventh, and `/same/` is `/same`.
    let many: Vec<_> = (0..12)
        .map(|index| {
            let path = if index == 2 || index == 10 {
                if index == 2 { "/same" } else { "/same/" }.to_owned()
            } else {
                format!("/p{index}")
            };
            let version = if index == 2 { 1 } else { 2 };
            format!(
                "{{matches: [{{path: {{value: {path}}}}}], {}}}",
                to(version)
            )
        })
        .collect();
    check(
        HTTP,
        &[rules("many", &many.join(", "))],
        &["GET a/same"],
        expect![[r#"
            GET a/same => v1
        "#]],
    );
}

/// HTTPRouteMethodMatching, HTTPRouteQueryParamMatching, HTTPRoutePathMatchOrder, HTTPRouteHeaderMatching
#[test]
fn methods_parameters_and_precedence() {
    let each = format!(
        "{{matches: [{{method: POST}}], {}}}, {{matches: [{{method: GET}}], {}}}, \
         {{matches: [{{path: {{value: /path1}}, method: GET}}], {}}}, \
         {{matches: [{{method: PUT, headers: [{{name: version, value: one}}]}}], {}}}",
        to(1),
        to(2),
        to(1),
        to(2)
    );
    check(
        HTTP,
        &[rules("methods", &each)],
        &[
            "POST a/",
            "GET a/",
            "HEAD a/",
            "GET a/path1",
            "PUT a/ version=one",
            "PUT a/",
        ],
        expect![[r#"
            POST a/ => v1
            GET a/ => v2
            HEAD a/ => Status(404)
            GET a/path1 => v1
            PUT a/ version=one => v2
            PUT a/ => Status(404)
        "#]],
    );
    let each = format!(
        "{{matches: [{{queryParams: [{{name: Animal, value: whale}}]}}], {}}}, \
         {{matches: [{{queryParams: [{{name: Animal, value: dolphin}}, {{name: color, value: blue}}]}}], {}}}, \
         {{matches: [{{queryParams: [{{type: RegularExpression, name: Animal, value: 'dol.*'}}]}}], {}}}",
        to(1),
        to(2),
        to(3)
    );
    check(
        HTTP,
        &[rules("query", &each)],
        &[
            "GET a/?Animal=whale",
            "GET a/?animal=whale",
            "GET a/?Animal=dolphin&color=blue",
            "GET a/?Animal=dolphin",
            "GET a/?Animal=mydolphin",
            "GET a/",
        ],
        expect![[r#"
            GET a/?Animal=whale => v1
            GET a/?animal=whale => Status(404)
            GET a/?Animal=dolphin&color=blue => v2
            GET a/?Animal=dolphin => v3
            GET a/?Animal=mydolphin => Status(404)
            GET a/ => Status(404)
            nginx: HTTPRoute infra/query: spec.rules[2] nginx cannot match an expression over a decoded parameter; the rule takes no request
        "#]],
    );
    let each = format!(
        "{{matches: [{{path: {{type: Exact, value: /match/exact}}}}], {}}}, \
         {{matches: [{{path: {{value: /match/}}}}], {}}}, \
         {{matches: [{{path: {{value: /match/prefix}}}}, {{path: {{type: RegularExpression, value: '/re/[0-9]+'}}}}], {}}}",
        to(3),
        to(2),
        to(1)
    );
    check(
        HTTP,
        &[rules("order", &each)],
        &[
            "GET a/match/exact/one",
            "GET a/match/exact",
            "GET a/match",
            "GET a/match/prefix/one",
            "GET a/match/any",
            "GET a/re/7",
            "GET a/re/x",
        ],
        expect![[r#"
            GET a/match/exact/one => v2
            GET a/match/exact => v3
            GET a/match => v2
            GET a/match/prefix/one => v1
            GET a/match/any => v2
            GET a/re/7 => v1
            GET a/re/x => Status(404)
        "#]],
    );
}

/// HTTPRouteListenerHostnameMatching, HTTPRouteHostnameIntersection, GatewayHTTPListenerIsolation
#[test]
fn the_closest_listener_has_the_host() {
    let listeners = "{name: empty, port: 80, protocol: HTTP}, \
        {name: wild, port: 80, protocol: HTTP, hostname: '*.example.com'}, \
        {name: foo-wild, port: 80, protocol: HTTP, hostname: '*.foo.example.com'}, \
        {name: abc, port: 80, protocol: HTTP, hostname: abc.foo.example.com}";
    let at = |name: &str, listener: &str, path: &str| {
        route(
            "HTTPRoute",
            name,
            &format!(
                "parentRefs: [{{name: gw, sectionName: {listener}}}], \
                 rules: [{{matches: [{{path: {{value: {path}}}}}], {}}}]",
                to(1)
            ),
        )
    };
    let routes = [
        at("empty", "empty", "/empty"),
        at("wild", "wild", "/wild"),
        at("foo-wild", "foo-wild", "/foo-wild"),
    ];
    check(
        listeners,
        &routes,
        &[
            "GET bar.com/empty",
            "GET bar.com/wild",
            "GET bar.example.com/wild",
            "GET bar.example.com/empty",
            "GET bar.foo.example.com/foo-wild",
            "GET bar.foo.example.com/wild",
            // No route, and nobody else's.
            "GET abc.foo.example.com/foo-wild",
            "GET abc.foo.example.com/empty",
        ],
        expect![[r#"
            GET bar.com/empty => v1
            GET bar.com/wild => Status(404)
            GET bar.example.com/wild => v1
            GET bar.example.com/empty => Status(404)
            GET bar.foo.example.com/foo-wild => v1
            GET bar.foo.example.com/wild => Status(404)
            GET abc.foo.example.com/foo-wild => Status(404)
            GET abc.foo.example.com/empty => Status(404)
        "#]],
    );
    // A route of the wide listener that names the close one's host does not get it.
    let thief =
        at("wild", "wild", "/wild").replace("rules:", "hostnames: [abc.foo.example.com], rules:");
    check(
        listeners,
        &[thief],
        &["GET abc.foo.example.com/wild"],
        expect![[r#"
            GET abc.foo.example.com/wild => Status(404)
        "#]],
    );
}

/// HTTPRouteRedirectHostAndStatus, -Scheme, -Port, -Path
#[test]
fn redirects() {
    let redirect = |path: &str, fields: &str| {
        format!(
            "{{matches: [{{path: {{value: {path}}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{fields}}}}}]}}"
        )
    };
    let each = [
        redirect("/host", "hostname: example.org"),
        redirect("/status", "hostname: example.org, statusCode: 301"),
        redirect("/scheme", "scheme: https"),
        redirect("/port", "port: 8083"),
        redirect(
            "/prefix",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}",
        ),
        redirect(
            "/full",
            "path: {type: ReplaceFullPath, replaceFullPath: /new}, statusCode: 308",
        ),
    ];
    let listeners = format!("{HTTP}, {{name: other, port: 8080, protocol: HTTP}}");
    check(
        &listeners,
        &[rules("redirects", &each.join(", "))],
        &[
            "GET a/host",
            "GET a:8080/host",
            "GET a/status",
            "GET a/scheme",
            "GET a:8080/scheme",
            "GET a/port",
            "GET a/prefix/x",
            "GET a/full/x",
        ],
        expect![[r#"
            GET a/host => 302 to same://example.org:-/same
            GET a:8080/host => 302 to same://example.org:8080/same
            GET a/status => 301 to same://example.org:-/same
            GET a/scheme => 302 to https://same:-/same
            GET a:8080/scheme => 302 to https://same:-/same
            GET a/port => 302 to same://same:8083/same
            GET a/prefix/x => 302 to same://same:-/new…
            GET a/full/x => 308 to same://same:-/new
        "#]],
    );
}

/// HTTPRouteRequestHeaderModifier, HTTPRouteResponseHeaderModifier, HTTPRouteRewriteHost,
/// HTTPRouteRewritePath, HTTPRouteRequestMirror, HTTPRouteTimeout
#[test]
fn filters_and_timeouts() {
    let rule = |path: &str, filters: &str, rest: &str| {
        format!(
            "{{matches: [{{path: {{value: {path}}}}}], filters: [{filters}], {}{rest}}}",
            to(1)
        )
    };
    let each = [
        rule(
            "/request",
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: a}], add: [{name: X-Add, value: b}], remove: [X-Remove]}}",
            "",
        ),
        rule(
            "/response",
            "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Set, value: a}]}}",
            "",
        ),
        rule(
            "/rewrite",
            "{type: URLRewrite, urlRewrite: {hostname: one.example.org, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}",
            "",
        ),
        rule(
            "/mirror",
            "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}}}, {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 8080}}}",
            "",
        ),
        rule(
            "/timeout",
            "",
            ", timeouts: {request: 500ms, backendRequest: 300ms}",
        ),
        rule("/none", "", ", timeouts: {request: 0s}"),
        // One backend: its filters are the rule's.
        "{matches: [{path: {value: /backend}}], backendRefs: [{name: v1, port: 8080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}]}]}".to_owned(),
    ];
    check(
        HTTP,
        &[rules("filters", &each.join(", "))],
        &[
            "GET a/request",
            "GET a/response",
            "GET a/rewrite/x",
            "GET a/mirror",
            "GET a/timeout",
            "GET a/none",
            "GET a/backend",
        ],
        expect![[r#"
            GET a/request => v1, request Set(HeaderName("x-set"), HeaderValue("a")), request Add(HeaderName("x-add"), HeaderValue("b")), request Remove(HeaderName("x-remove"))
            GET a/response => v1, response Set(HeaderName("x-set"), HeaderValue("a"))
            GET a/rewrite/x => v1, host one.example.org, path /…
            GET a/mirror => v1, mirrored to v2, mirrored to v3
            GET a/timeout => v1, within 300ms
            GET a/none => v1
            GET a/backend => v1, request Remove(HeaderName("a"))
            haproxy: HTTPRoute infra/filters: spec.rules[4] HAProxy has no time limit for a whole answer; the limit applies between two bytes of it
            haproxy: HTTPRoute infra/filters: spec.rules[3] a filter asks for a copy of requests, which HAProxy cannot make; requests are served without the copy
            haproxy: HTTPRoute infra/filters: spec.rules[3] a filter asks for a copy of requests, which HAProxy cannot make; requests are served without the copy
            nginx: HTTPRoute infra/filters: spec.rules[4] nginx has no time limit for a whole answer; the limit applies between two bytes of it
        "#]],
    );
}

/// What cannot be done answers 500, and the other rules are served.
#[test]
fn filters_that_are_not_known_are_not_left_out() {
    let each = [
        format!("{{matches: [{{path: {{value: /ext}}}}], filters: [{{type: ExtensionRef, extensionRef: {{group: a, kind: b, name: c}}}}], {}}}", to(1)),
        format!("{{matches: [{{path: {{value: /share}}}}], filters: [{{type: RequestMirror, requestMirror: {{percent: 5, backendRef: {{name: v2, port: 8080}}}}}}], {}}}", to(1)),
        format!("{{matches: [{{path: {{value: /nowhere}}}}], filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: none, port: 8080}}}}}}], {}}}", to(1)),
        "{matches: [{path: {value: /one-of}}], backendRefs: [{name: v1, port: 8080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}]}, {name: v2, port: 8080}]}".to_owned(),
        format!("{{matches: [{{path: {{value: '/a;b'}}}}], {}}}", to(1)),
    ];
    check(
        HTTP,
        &[rules("filters", &each.join(", "))],
        &[
            "GET a/ext",
            "GET a/share",
            "GET a/nowhere",
            "GET a/one-of",
            "GET a/a;b",
        ],
        expect![[r#"
            GET a/ext => Status(500)
            GET a/share => Status(500)
            GET a/nowhere => v1
            GET a/one-of => Status(500)
            GET a/a;b => Status(404)
            ! HTTPRoute infra/filters: spec.rules Service infra/none is not there (BackendNotFound); its share of requests is not served
            ! HTTPRoute infra/filters: spec.rules spec.rules[0].filters: "ExtensionRef" is not done (UnsupportedValue); what it is about is not served
        "#]],
    );
}

/// HTTPRouteWeight, HTTPRouteInvalidNonExistentBackendRef, HTTPRouteInvalidBackendRefUnknownKind,
/// HTTPRouteInvalidCrossNamespaceBackendRef
#[test]
fn weights_and_backends_that_are_not_there() {
    let each = [
        "{matches: [{path: {value: /weights}}], backendRefs: [{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}, {name: v3, port: 8080, weight: 0}]}",
        "{matches: [{path: {value: /missing}}], backendRefs: [{name: none, port: 8080}]}",
        "{matches: [{path: {value: /port}}], backendRefs: [{name: v1, port: 81}]}",
        "{matches: [{path: {value: /kind}}], backendRefs: [{kind: NonExistent, group: x, name: v1, port: 8080}]}",
        "{matches: [{path: {value: /elsewhere}}], backendRefs: [{name: v1, namespace: shop, port: 8080}]}",
        "{matches: [{path: {value: /nobody}}], backendRefs: [{name: v1, port: 8080, weight: 0}]}",
        "{matches: [{path: {value: /no-refs}}]}",
        "{matches: [{path: {value: /some}}], backendRefs: [{name: v1, port: 8080, weight: 3}, {name: none, port: 8080}]}",
        "{matches: [{path: {value: /twice}}], backendRefs: [{name: v1, port: 8080, weight: 3}, {name: v1, port: 8080, weight: 2}]}",
    ];
    check(
        HTTP,
        &[rules("weights", &each.join(", "))],
        &[
            "GET a/weights",
            "GET a/missing",
            "GET a/port",
            "GET a/kind",
            "GET a/elsewhere",
            "GET a/nobody",
            "GET a/no-refs",
            "GET a/some",
            "GET a/twice",
        ],
        expect![[r#"
            GET a/weights => v1*70 v2*30 v3*0
            GET a/missing => Status(500)
            GET a/port => Status(500)
            GET a/kind => Status(500)
            GET a/elsewhere => Status(500)
            GET a/nobody => Status(500)
            GET a/no-refs => Status(500)
            GET a/some => v1*3 nobody*1
            GET a/twice => v1
            ! HTTPRoute infra/weights: spec.rules Service infra/none is not there (BackendNotFound); its share of requests is not served
        "#]],
    );
}
