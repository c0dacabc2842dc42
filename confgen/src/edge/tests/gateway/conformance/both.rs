//! HAProxy and nginx, asked what the simulator was asked.

use std::fmt::Write as _;
use std::sync::Arc;

use super::ask;
use crate::edge::{EdgePlan, Listen};
use crate::{live, proxies};

/// Starts both with the plan; each has to answer what the simulator says.
#[track_caller]
pub(super) fn check(plan: &EdgePlan, requests: &[&str]) {
    // Other ports are the simulator's alone.
    let requests = requests.iter().filter(|request| !request.contains(':'));
    live::in_haproxy(
        |port, _| running(plan, port),
        |port| {
            requests
                .clone()
                .for_each(|request| check_live(plan, port, request))
        },
    );
    // Told above: nginx does not match expressions over parameters.
    let requests = requests.filter(|request| **request != "GET a/?Animal=dolphin");
    live::in_nginx(
        |port, _| running(plan, port),
        |port| requests.for_each(|request| check_live(plan, port, request)),
    );
}

/// What proxies cannot do of it, by their own word; they must take the rest.
#[track_caller]
pub(super) fn findings(plan: &EdgePlan) -> String {
    let haproxy = crate::haproxy::render(plan, &crate::haproxy::Options::default()).unwrap();
    let nginx = crate::nginx::render(plan, &proxies::nginx_options()).unwrap();
    assert_eq!(proxies::haproxy_objections(&haproxy.rendered), None);
    assert_eq!(proxies::nginx_objections(&nginx.rendered), None);
    let mut text = String::new();
    for (name, rendering) in [("haproxy", haproxy), ("nginx", nginx)] {
        for problem in &rendering.problems {
            writeln!(text, "{name}: {problem}").unwrap();
        }
    }
    text
}

/// The plan with its port 80 at another one, and servers that say who they are.
fn running(plan: &EdgePlan, port: u16) -> EdgePlan {
    let mut plan = plan.clone();
    let at = |listen: &Listen| Listen {
        address: "127.0.0.1".parse().unwrap(),
        port: listen.port.get().max(port).try_into().unwrap(),
    };
    let listeners = plan.listeners.iter();
    let listeners = listeners.filter(|(listen, _)| listen.port.get() == 80);
    let listeners = listeners.map(|(listen, of)| (at(listen), of.clone()));
    plan.listeners = Arc::new(listeners.collect());
    for backend in plan.backends.values_mut() {
        for server in &mut Arc::make_mut(backend).servers {
            let name = match server.address.to_string().as_str() {
                "10.0.0.1" => "v1",
                "10.0.0.2" => "v2",
                _ => "v3",
            };
            server.address = "127.0.0.1".parse().unwrap();
            server.port = live::echo(name).try_into().unwrap();
        }
    }
    plan
}

/// A proxy answers what the simulator says.
#[track_caller]
fn check_live(plan: &EdgePlan, port: u16, request: &str) {
    let mut words = request.split(' ');
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let (host, path) = url.split_at(url.find('/').unwrap());
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    let answer = live::ask(port, &(text + "\r\n"));
    let mut words = answer.split(' ');
    let (status, server) = (words.next().unwrap(), words.next().unwrap_or_default());
    let expected = ask(plan, request);
    let decided = expected.split(',').next().unwrap();
    let fits = match decided.strip_prefix("Status(") {
        Some(code) => code.trim_end_matches(')') == status,
        None if decided.contains(" to ") => decided.starts_with(status),
        None => decided.split(' ').any(|backend| {
            let (name, weight) = backend.split_once('*').unwrap_or((backend, "1"));
            weight != "0" && (name == server || (name == "nobody" && status == "503"))
        }),
    };
    assert!(fits, "{request}: {answer:?}, not {expected}");
}
