//! Which rule of which listener takes a request.

use expect_test::expect;

use super::super::route;
use super::{HTTP, check, rules, to};

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
