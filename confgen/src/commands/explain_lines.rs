//! Where in the rendered files a decision stands, and which line of a template put it there.
//!
//! Only lines that name a host, a rule or a backend are shown: no key or password is on one.

use std::collections::BTreeSet;

use crate::edge::value::{HostMatch, PathMatch};
use crate::edge::{EdgePlan, HttpRule, Listen, Listener};
use crate::output::{Grammar, Rendered};
use crate::targets::{Renderer, Written};

/// A path in front of everything is on many lines; these show where to look.
const MAX_LINES: usize = 12;

/// A line of a rendered file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `FILE:LINE`.
    pub(super) at: String,
    /// The line.
    pub(super) text: String,
    /// `TEMPLATE:LINE`, where it is known.
    pub(super) template: Option<String>,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) struct Decision<'a> {
    pub(super) host: Option<&'a HostMatch>,
    pub(super) rule: Option<&'a HttpRule>,
    pub(super) backends: Vec<&'a str>,
}

/// The key by which a listener has a host's rule.
pub(super) fn host_of<'a>(
    plan: &'a EdgePlan,
    listen: Listen,
    rule: Option<&HttpRule>,
    asked: &str,
) -> Option<&'a HostMatch> {
    let (http, passed) = match plan.listeners.get(&listen)? {
        Listener::Http(http) => (http, None),
        Listener::Tls(tls) => (&tls.http, Some(&tls.passthrough)),
        Listener::Tcp(_) => return None,
    };
    if let Some(rule) = rule {
        let mut hosts = http.hosts.iter();
        let has = |rules: &[HttpRule]| rules.iter().any(|one| one.id == rule.id);
        return hosts.find(|(_, host)| has(&host.rules)).map(|(key, _)| key);
    }
    let mut hosts = passed.into_iter().flatten().map(|(key, _)| key);
    hosts.find(|key| key.to_string() == asked)
}

/// The lines of one output.
pub(super) fn lines(output: &Written, plan: &EdgePlan, decision: &Decision<'_>) -> Vec<Line> {
    let Ok((rendered, _)) = output.renderer.render(plan) else {
        return Vec::new();
    };
    let found = match &output.renderer {
        Renderer::Haproxy(_) => in_haproxy(&rendered, decision),
        Renderer::Nginx(_) => in_nginx(&rendered, decision),
        Renderer::Operator { .. } => in_operators(&rendered, decision),
    };
    let map = output.renderer.source_map(plan);
    let found = found.into_iter().take(MAX_LINES);
    let shown = found.map(|(file, number, text)| {
        let template = map.as_ref().filter(|_| file == rendered.main);
        let template = template.and_then(|(template, lines)| {
            let line = (*lines.get(number)?)?;
            Some(format!("template {template}:{line}"))
        });
        let path = output.directory.join(file);
        Line {
            at: format!("{}:{}", path.display(), number + 1),
            text: text.trim().to_owned(),
            template,
        }
    });
    shown.collect()
}

type Found<'a> = Vec<(&'a str, usize, String)>;

fn numbered(rendered: &Rendered) -> impl Iterator<Item = (&str, usize, String)> {
    let readable = rendered.files.iter();
    let readable = readable.filter(|(name, file)| {
        // Keys and lists of them are private files beside the main one.
        file.grammar != Grammar::Pem && (!file.is_private || **name == rendered.main)
    });
    readable.flat_map(|(name, file)| {
        let text = String::from_utf8_lossy(&file.content).into_owned();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let lines = lines.into_iter().enumerate();
        lines.map(move |(number, line)| (name.as_str(), number, line))
    })
}

fn in_haproxy<'a>(rendered: &'a Rendered, decision: &Decision<'_>) -> Found<'a> {
    let rule = decision.rule.map(|rule| rule.id.as_str());
    let host = decision.host.map(|host| match host {
        HostMatch::Wildcard(suffix) => suffix.to_string(),
        HostMatch::Exact(_) | HostMatch::Regex(_) | HostMatch::Any => host.to_string(),
    });
    let backends: BTreeSet<&str> = decision.backends.iter().copied().collect();
    let is_about = |file: &str, line: &str| {
        let mut words = line.split_whitespace();
        if file == rendered.main {
            let first = words.next();
            let is_backend = first == Some("backend") || first == Some("use_backend");
            return words.any(|word| Some(word) == rule || (is_backend && backends.contains(word)));
        }
        let first = words.next();
        (host.is_some() && first == host.as_deref())
            || (rule.is_some() && (first == rule || words.any(|word| Some(word) == rule)))
    };
    let all = numbered(rendered);
    all.filter(|(file, _, line)| is_about(file, line)).collect()
}

/// The host's `server`, the rule's `location`s in it, whom they refuse, and where they pass requests to.
fn in_nginx<'a>(rendered: &'a Rendered, decision: &Decision<'_>) -> Found<'a> {
    let name = decision.host.map(|host| format!("server_name \"{host}\";"));
    let named = decision.rule.map(|rule| format!("@rule_{} ", rule.id));
    let paths: Vec<String> = match decision.rule.map(|rule| &rule.matches.path) {
        Some(PathMatch::Exact(path) | PathMatch::Bytes(path)) => vec![format!("\"{path}\" {{")],
        Some(PathMatch::Prefix(path)) => {
            let below = path.as_str().trim_end_matches('/');
            vec![format!("\"{below}\" {{"), format!("\"{below}/\" {{")]
        }
        Some(PathMatch::Regex(_)) | None => Vec::new(),
    };
    let mut found = Vec::new();
    let (mut is_host, mut is_rule) = (false, false);
    for (file, number, line) in numbered(rendered).filter(|(file, ..)| *file == rendered.main) {
        let text = line.trim();
        if text == "server {" {
            (is_host, is_rule) = (false, false);
        }
        let is_name = name.as_deref() == Some(text);
        is_host |= is_name;
        let is_location = text.starts_with("location ");
        if is_location {
            is_rule = named.as_ref().is_some_and(|name| text.contains(name))
                || paths.iter().any(|path| text.ends_with(path));
        }
        let is_pass = ["proxy_pass ", "grpc_pass ", "return "]
            .iter()
            .any(|word| text.starts_with(word));
        let is_refusal = text.ends_with("{ return 403; }");
        if is_name || (is_host && is_rule && (is_location || is_pass || is_refusal)) {
            found.push((file, number, line));
        }
    }
    found
}

/// Nothing is known of an operator's file but what it says.
fn in_operators<'a>(rendered: &'a Rendered, decision: &Decision<'_>) -> Found<'a> {
    let Some(host) = decision.host.map(ToString::to_string) else {
        return Vec::new();
    };
    let all = numbered(rendered);
    all.filter(|(_, _, line)| line.contains(&host)).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Decision, host_of, lines};
    use crate::edge::{Answer, Request, simulate};
    use crate::targets::{Renderer, Written};
    use crate::{haproxy, nginx, samples};

    #[track_caller]
    fn check(renderer: Renderer, path: &str, expected: &Expect) {
        let plan = samples::all()
            .into_iter()
            .find(|(name, _)| *name == "access")
            .map(|(_, plan)| plan)
            .unwrap();
        let listen = *plan.listeners.keys().next().unwrap();
        let request = Request {
            listen,
            host: "shop.example.com",
            path,
            method: "GET",
            headers: &[("x-routing-api-key", "k3y")],
            query: &[],
            source: [10, 1, 1, 1].into(),
        };
        let (answer, rule) = simulate(&plan, &request);
        let backends = match &answer {
            Answer::Forwarded(to) => to.to.iter().map(|(id, _)| id.as_str()).collect(),
            Answer::NotListening
            | Answer::Closed
            | Answer::Status(_)
            | Answer::Redirected(_)
            | Answer::PassedThrough(_) => Vec::new(),
        };
        let decision = Decision {
            host: host_of(&plan, listen, rule, request.host),
            rule,
            backends,
        };
        let output = Written {
            name: "x".to_owned(),
            directory: "/etc/x".into(),
            renderer,
        };
        let found = lines(&output, &plan, &decision).into_iter().map(|line| {
            let template = line.template.unwrap_or_default();
            format!("{} | {} | {template}\n", line.at, line.text)
        });
        expected.assert_eq(&found.collect::<String>());
    }

    #[test]
    fn a_decision_is_found_in_haproxys_files() {
        let renderer = Renderer::Haproxy(haproxy::Options::default());
        check(
            renderer,
            "/open",
            &expect![[r#"
                /etc/x/haproxy.cfg:76 | http-request deny deny_status 403 if { var(txn.rule) -m str open_7652ee894978 } { src -f lists/sources_ed2c579e95167896.lst } | template haproxy.cfg:193
                /etc/x/haproxy.cfg:77 | http-request deny deny_status 403 if { var(txn.rule) -m str open_7652ee894978 } !{ src -f lists/sources_dd3b6a74f444a736.lst } | template haproxy.cfg:196
                /etc/x/haproxy.cfg:78 | http-request deny deny_status 403 if { var(txn.rule) -m str open_7652ee894978 } !{ req.fhdr('x-routing-api-key'),sha2(256),hex -m str -f lists/keys_c7385b0dc30dc983.lst } | template haproxy.cfg:199
                /etc/x/maps/http_0_0_0_0_80_31e0c6f89bbb.exact.map:1 | shop.example.com site_http_0_0_0_0_80_31e0c6f89bbb_shop_e_861194e7673d | 
                /etc/x/maps/paths.map:3 | site_http_0_0_0_0_80_31e0c6f89bbb_shop_e_861194e7673d/open open_7652ee894978 | 
                /etc/x/maps/prefixes.map:3 | site_http_0_0_0_0_80_31e0c6f89bbb_shop_e_861194e7673d/open/ open_7652ee894978 | 
                /etc/x/maps/rules.map:3 | open_7652ee894978 web_cd7dafb18aa0 | 
            "#]],
        );
    }

    #[test]
    fn a_decision_is_found_in_nginxs_file() {
        let renderer = Renderer::Nginx(nginx::Options::default());
        check(
            renderer,
            "/open",
            &expect![[r#"
                /etc/x/nginx.conf:119 | server_name "shop.example.com"; | template nginx.conf:251
                /etc/x/nginx.conf:129 | location = "/open" { | template nginx.conf:280
                /etc/x/nginx.conf:130 | if ($from_10_9_0_0_16_8adb8ab2a8fc) { return 403; } | template nginx.conf:17
                /etc/x/nginx.conf:131 | if ($from_10_0_0_0_8_2001_db8___32_8739d4bd1481 = 0) { return 403; } | template nginx.conf:20
                /etc/x/nginx.conf:134 | if ($secure_link != 1) { return 403; } | template nginx.conf:25
                /etc/x/nginx.conf:135 | proxy_pass http://web_cd7dafb18aa0; | template nginx.conf:74
                /etc/x/nginx.conf:151 | location ^~ "/open/" { | template nginx.conf:280
                /etc/x/nginx.conf:152 | if ($from_10_9_0_0_16_8adb8ab2a8fc) { return 403; } | template nginx.conf:17
                /etc/x/nginx.conf:153 | if ($from_10_0_0_0_8_2001_db8___32_8739d4bd1481 = 0) { return 403; } | template nginx.conf:20
                /etc/x/nginx.conf:156 | if ($secure_link != 1) { return 403; } | template nginx.conf:25
                /etc/x/nginx.conf:157 | proxy_pass http://web_cd7dafb18aa0; | template nginx.conf:74
            "#]],
        );
    }
}
