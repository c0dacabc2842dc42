//! HTTPRoute as the conformance tests of Gateway API have it: manifests, and a table of requests.
//! The simulator answers, and HAProxy and nginx have to answer the same.
//! A request is `METHOD URL [header=value …]`; an answer is the backend, a status or a redirect.

mod acting;
mod both;
mod matching;

use std::fmt::Write as _;
use std::net::IpAddr;

use expect_test::Expect;

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
