//! Matches, filters and who is let in.

use std::time::Duration;

use super::*;

/// Every kind of host and path match, and conditions.
pub(crate) fn matching() -> EdgePlan {
    let mut canary = prefix("/cart");
    canary.headers.push((
        header("x-canary"),
        ValueMatch::Exact(value("it's; } {100%} \\ \"$host")),
    ));
    canary.query.push((header("debug"), ValueMatch::Present));
    let mut posts = prefix("/cart");
    posts.method = Some(Method::parse("POST").expect("a method"));
    posts.headers.push((
        header("accept"),
        ValueMatch::Regex(value("json|} ; \\d{2}")),
    ));
    posts
        .query
        .push((header("q"), ValueMatch::Exact(value("a b&c"))));
    let regex = PathRegex::parse("/v[0-9]+/(users|carts)$").expect("an expression");
    let shop = site(vec![
        rule("canary", canary),
        rule("posts", posts),
        rule(
            "exact",
            RequestMatch::path(PathMatch::Exact(path("/cart/total"))),
        ),
        rule("bytes", RequestMatch::path(PathMatch::Bytes(path("/img-")))),
        rule("regex", RequestMatch::path(PathMatch::Regex(regex))),
        rule("cart", prefix("/cart")),
    ]);
    let regex = HostRegex::parse(r"shop[0-9]+\.example\.com").expect("an expression");
    let other = |name: &str| site(vec![rule(name, prefix("/"))]);
    let hosts = vec![
        (host("shop.example.com"), shop),
        (host("*.example.com"), other("wild")),
        (host("*.deep.a.b.c.example.com"), other("deep")),
        (HostMatch::Regex(regex), other("expression")),
        (host("2001:db8::1"), other("address")),
    ];
    plan(
        vec![(listen("::", 8080), Listener::Http(http(hosts)))],
        vec![web()],
    )
}

/// Everything that a rule can do on the way.
pub(crate) fn filtering() -> EdgePlan {
    let mut all = rule("all", prefix("/a"));
    all.filters = vec![
        Filter::RequestHeader(HeaderChange::Set(
            header("x-set"),
            value("100% 'of' \"it\" \\ $host"),
        )),
        Filter::RequestHeader(HeaderChange::Add(header("x-add"), value("}"))),
        Filter::RequestHeader(HeaderChange::Remove(header("x-remove"))),
        Filter::ResponseHeader(HeaderChange::Set(header("x-set"), value("if { always }"))),
        Filter::ResponseHeader(HeaderChange::Add(header("x-add"), value("-f"))),
        Filter::ResponseHeader(HeaderChange::Remove(header("server"))),
        Filter::RewriteHost(name("inner.example.com")),
        Filter::RewritePath(PathRewrite::Prefix(path("/b.c"))),
        Filter::Mirror(id("other")),
    ];
    all.timeouts = Timeouts {
        connect: None,
        server: Some(Duration::from_secs(3)),
        request: Some(Duration::from_secs(5)),
    };
    all.max_body_bytes = Some(1024);
    let mut split = rule("split", prefix("/split"));
    split.action = Action::Forward(Forward {
        to: vec![(id("web"), 3), (id("other"), 1), (id("none"), 0)],
    });
    split.filters = vec![Filter::RewritePath(PathRewrite::Full(path("/")))];
    let mut secure = rule("secure", prefix("/secure"));
    secure.action = Action::Redirect(Redirect {
        to_https: Some(true),
        host: None,
        port: None,
        path: Some(PathRewrite::Prefix(path("/"))),
        status: 308,
    });
    let mut moved = rule("moved", RequestMatch::path(PathMatch::Exact(path("/old"))));
    moved.action = Action::Redirect(Redirect {
        to_https: None,
        host: Some(name("new.example.com")),
        port: Some(port(8443)),
        path: Some(PathRewrite::Full(path("/new"))),
        status: 301,
    });
    let mut gone = rule("gone", prefix("/gone"));
    gone.action = Action::Respond(410);
    let mut nobody = rule("nobody", prefix("/nobody"));
    nobody.action = Action::Forward(Forward::default());
    let shop = site(vec![all, split, secure, moved, gone, nobody]);
    plan(
        vec![(
            listen("0.0.0.0", 80),
            Listener::Http(http(vec![(host("shop.example.com"), shop)])),
        )],
        vec![
            web(),
            backend("other", vec![server("other-1", "10.0.1.1", 80)]),
        ],
    )
}

/// Who may use rules.
pub(crate) fn access() -> EdgePlan {
    let network = |text: &str| text.parse().expect("a network");
    let key = |text: &[u8]| ApiKey::new(text).expect("a key");
    let mut open = rule("open", prefix("/open"));
    open.access.api_key = Some((header("x-routing-api-key"), Some(key(b"a key; with \"}"))));
    open.access.allowed_sources = vec![network("10.0.0.0/8"), network("2001:db8::/32")];
    open.access.denied_sources = vec![network("10.9.0.0/16")];
    let mut closed = rule("closed", prefix("/closed"));
    closed.access.api_key = Some((header("x-routing-api-key"), None));
    let mut users = rule("users", prefix("/users"));
    users.access.basic_users = Some(vec![
        (value("ann"), value("$6$salt$hash/with.chars")),
        (value("bob smith"), value("$6$salt$hash")),
        (value("eve"), value("plain")),
    ]);
    let mut none = rule("none", prefix("/none"));
    none.access.basic_users = Some(Vec::new());
    none.action = Action::Respond(200);
    let shop = site(vec![open, closed, users, none]);
    plan(
        vec![(
            listen("0.0.0.0", 80),
            Listener::Http(http(vec![(host("shop.example.com"), shop)])),
        )],
        vec![web()],
    )
}
