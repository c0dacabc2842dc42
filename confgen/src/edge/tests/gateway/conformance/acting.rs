//! What a rule does with its requests: redirects, filters, timeouts, weights.

use expect_test::expect;

use super::{HTTP, check, rules, to};

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
