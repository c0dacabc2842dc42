//! `fairlead-confgen explain HOST [PATH]`: which object answers, who lost, and why.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use serde_json::{Value, json};

use super::explain_lines::{Decision, Line, host_of, lines};
use super::model::{Output, print};
use super::settings::Common;
use crate::edge::{
    Answer, EdgePlan, Forward, HttpRule, Listen, Listener, Origin, Request, ServerState, simulate,
};
use crate::targets::{Written, written};

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    common: Common,
    /// Host of the request
    host: String,
    /// Path of the request
    #[arg(default_value = "/")]
    path: String,
    /// Method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// Header of the request, NAME=VALUE; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Address of the client
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from: IpAddr,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, value) = pair.ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

impl Explain {
    pub(super) async fn run(self) -> Result<()> {
        let (settings, plan) = self.common.plan().await?;
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let parameters = query.split('&').filter_map(|part| part.split_once('='));
        let parameters: Vec<_> = parameters.collect();
        let headers = self.headers.iter();
        let headers: Vec<_> = headers.map(|(name, value)| (&**name, &**value)).collect();
        let asked = plan.listeners.keys().map(|listen| {
            let request = Request {
                listen: *listen,
                host: &self.host,
                path,
                method: &self.method,
                headers: &headers,
                query: &parameters,
                source: self.from,
            };
            let (answer, rule) = simulate(&plan, &request);
            (*listen, answer, rule)
        });
        let asked: Vec<_> = asked.collect();
        let outputs = written(&settings)?;
        let lines = |asked: &Asked<'_>| lines_of(&outputs, &plan, &self.host, asked);
        let lines: Vec<_> = asked.iter().map(lines).collect();
        let text = match self.output {
            Output::Table => table(&plan, &self.host, &asked, &lines),
            Output::Json => format!("{:#}\n", json(&plan, &self.host, &asked, &lines)),
        };
        print(&text)
    }
}

type Asked<'a> = (Listen, Answer<'a>, Option<&'a HttpRule>);

/// Where the outputs have the decision.
fn lines_of(outputs: &[Written], plan: &EdgePlan, host: &str, asked: &Asked<'_>) -> Vec<Line> {
    let (listen, answer, rule) = asked;
    let backends = match answer {
        Answer::Forwarded(to) | Answer::PassedThrough(to) => {
            to.to.iter().map(|(id, _)| id.as_str()).collect()
        }
        Answer::NotListening | Answer::Closed | Answer::Status(_) | Answer::Redirected(_) => {
            Vec::new()
        }
    };
    let decision = Decision {
        host: host_of(plan, *listen, *rule, host),
        rule: *rule,
        backends,
    };
    if decision.host.is_none() && decision.backends.is_empty() {
        return Vec::new();
    }
    let found = outputs.iter().map(|output| lines(output, plan, &decision));
    found.flatten().collect()
}

fn speech(plan: &EdgePlan, listen: Listen) -> &'static str {
    match plan.listeners.get(&listen) {
        Some(Listener::Http(_)) => "http",
        Some(Listener::Tls(_)) => "https",
        Some(Listener::Tcp(_)) | None => "tcp",
    }
}

fn object(origin: &Origin) -> String {
    format!("{} {} {}", origin.kind, origin.key, origin.field)
}

fn table(plan: &EdgePlan, host: &str, asked: &[Asked<'_>], lines: &[Vec<Line>]) -> String {
    let mut text = String::new();
    for ((listen, answer, rule), lines) in asked.iter().zip(lines) {
        let Listen { address, port } = listen;
        let speech = speech(plan, *listen);
        line(
            &mut text,
            &format!("{speech} {address} port {port}"),
            &said(answer),
        );
        if let Some(rule) = rule {
            line(&mut text, "  because of", &object(&rule.origin));
            line(
                &mut text,
                "  by",
                &format!("{} (rule {})", rule.matches.path, rule.id),
            );
        }
        if let Answer::Forwarded(to) | Answer::PassedThrough(to) = answer {
            for server in servers(plan, to) {
                line(&mut text, "  server", &server);
            }
        }
        for Line {
            at,
            text: rendered,
            template,
        } in lines
        {
            let template = template.as_ref().map(|template| format!(" ({template})"));
            let at = format!("{at}{}", template.unwrap_or_default());
            line(&mut text, "  rendered at", &at);
            line(&mut text, "", &format!("  {rendered}"));
        }
    }
    for loss in losses(plan, host) {
        line(&mut text, "lost", &loss);
    }
    for problem in plan
        .problems
        .iter()
        .filter(|problem| problem.to_string().contains(host))
    {
        line(&mut text, "problem", &problem.to_string());
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name:<24}{value}").expect("writing to a string cannot fail");
}

fn said(answer: &Answer<'_>) -> String {
    match answer {
        Answer::NotListening => "nothing listens".to_owned(),
        Answer::Closed => "closed without an answer: no object claims the host".to_owned(),
        Answer::Status(status) => format!("answers {status}"),
        Answer::Forwarded(_) => "forwarded".to_owned(),
        Answer::Redirected(redirect) => format!("redirects with {}", redirect.status),
        Answer::PassedThrough(_) => "passed through".to_owned(),
    }
}

fn servers(plan: &EdgePlan, to: &Forward) -> Vec<String> {
    let of = |(id, weight): &(crate::edge::value::Id, u32)| {
        let backend = plan.backends.get(id);
        let servers = backend.into_iter().flat_map(|backend| &backend.servers);
        let servers = servers.map(move |server| {
            let state = match server.state {
                ServerState::Active => "",
                ServerState::Draining => ", ends",
            };
            let address = std::net::SocketAddr::new(server.address, server.port.get());
            format!(
                "{address} weight {}{state} (backend {id}, share {weight})",
                server.weight
            )
        });
        servers.collect::<Vec<_>>()
    };
    to.to.iter().flat_map(of).collect()
}

fn losses(plan: &EdgePlan, host: &str) -> Vec<String> {
    let about = plan.losses.iter().filter(|loss| loss.about.contains(host));
    let said = about.map(|loss| {
        let why = &loss.cause;
        format!("{} wanted {}: {why}", object(&loss.origin), loss.about)
    });
    said.collect()
}

fn json(plan: &EdgePlan, host: &str, asked: &[Asked<'_>], lines: &[Vec<Line>]) -> Value {
    let answers = asked
        .iter()
        .zip(lines)
        .map(|((listen, answer, rule), lines)| {
            let forward = match answer {
                Answer::Forwarded(to) | Answer::PassedThrough(to) => servers(plan, to),
                Answer::NotListening
                | Answer::Closed
                | Answer::Status(_)
                | Answer::Redirected(_) => Vec::new(),
            };
            json!({
                "address": listen.address,
                "port": listen.port,
                "speaks": speech(plan, *listen),
                "answer": said(answer),
                "rule": rule.map(|rule| json!({
                    "id": rule.id.as_str(),
                    "path": rule.matches.path.to_string(),
                    "object": object(&rule.origin),
                })),
                "servers": forward,
                "rendered": lines.iter().map(|line| json!({
                    "at": line.at,
                    "text": line.text,
                    "template": line.template,
                })).collect::<Vec<_>>(),
            })
        });
    json!({
        "host": host,
        "answers": answers.collect::<Vec<_>>(),
        "losses": losses(plan, host),
    })
}
