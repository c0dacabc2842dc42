//! What a Service's own settings do, and the way from another proxy.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::harness::other_proxy::{self, Rule};
use tests::harness::{Agent, Flow, Traffic, eventually};
use tests::traffic::Report;

use crate::facts::Facts;
use crate::shop::{Shop, answered_by, service};

const WEB: &[&str] = &["web-1", "web-2", "web-3", "web-4"];
const HERE: &[&str] = &["web-1", "web-2"];
/// Those in the subnet of node1.
const NEAR: [&[&str]; 2] = [&["web-1", "web-2", "web-3"], &["dns-1"]];

/// Of a route that waits behind the agent's.
const OTHER_METRIC: u32 = 6000;

/// An address of no node.
fn external() -> IpAddr {
    IpAddr::from([203, 0, 113, 80])
}

/// Session affinity, traffic policy Local, direct server return, hairpin: one after the other on
/// `web`.
pub(crate) fn options(facts: &mut Facts, shop: &Shop) {
    facts.section("Settings of a Service");
    let node_port = |node| spread(Traffic::connect(shop.lab.address(node, false), 30080));
    facts.check(
        "sessionAffinity: a client keeps one backend through any node",
        || {
            change(shop, &[("sessionAffinity", json!("ClientIP"))], &[])?;
            let one = |report: &Report| report.is_clean() && report.backends.len() == 1;
            let first = until(shop, "client", &node_port("node1"), one)?;
            let second = shop.run("client", &node_port("node3"))?;
            ensure!(
                second.backends.keys().eq(first.backends.keys()),
                "{} through node1, {} through node3",
                first.spread(),
                second.spread()
            );
            Ok(format!("{} and {}", first.spread(), second.spread()))
        },
    );
    facts.check(
        "externalTrafficPolicy Local: the node's own pods see the client",
        || {
            change(shop, &[("externalTrafficPolicy", json!("Local"))], &[])?;
            let local = |report: &Report| answered_by(report, HERE).is_ok();
            let report = until(shop, "client", &node_port("node1"), local)?;
            seen_as_client(shop, &report)?;
            Ok(report.spread())
        },
    );
    facts.check(
        "direct return: pods of both subnets answer the client themselves",
        || {
            let spec = [
                ("type", json!("LoadBalancer")),
                ("externalTrafficPolicy", json!("Cluster")),
            ];
            change(shop, &spec, &[("fairlead.io/dsr", "true")])?;
            shop.lab.route_to(external(), "node1")?;
            let all = |report: &Report| answered_by(report, WEB).is_ok();
            let report = until(
                shop,
                "client",
                &spread(Traffic::connect(external(), 80)),
                all,
            )?;
            seen_as_client(shop, &report)?;
            Ok(format!("{}; seen as the client", report.spread()))
        },
    );
    facts.check(
        "hairpin: a pod reaches itself, and sees the Service's address",
        || {
            change(shop, &[], &[])?;
            let all = |report: &Report| answered_by(report, WEB).is_ok();
            let to = spread(Traffic::connect(service(10, false), 80));
            let from = shop.lab.place("web-1");
            let mut last = None;
            eventually("every pod answers", || {
                let report = Flow::run(from, &to)?;
                let good = all(&report) && report.seen_as.contains("10.96.0.10");
                last = Some(report);
                Ok(good.then_some(()))
            })?;
            let report = last.context("invariant: it ran")?;
            let seen: Vec<_> = report.seen_as.iter().map(String::as_str).collect();
            Ok(format!("seen as {}", seen.join(", ")))
        },
    );
}

fn seen_as_client(shop: &Shop, report: &Report) -> Result<()> {
    let client = shop.lab.address("client", false).to_string();
    ensure!(
        report.seen_as.iter().eq([&client]),
        "seen as {:?}, not as {client}",
        report.seen_as
    );
    Ok(())
}

fn until(
    shop: &Shop,
    from: &str,
    traffic: &Traffic,
    wanted: impl Fn(&Report) -> bool,
) -> Result<Report> {
    eventually("the change arrives", || {
        let report = shop.run(from, traffic)?;
        Ok(wanted(&report).then_some(report))
    })
}

/// Gives `web` these fields and annotations, in place of those it was given before.
fn change(shop: &Shop, spec: &[(&str, Value)], annotations: &[(&str, &str)]) -> Result<()> {
    shop.lab.manifests().edit("web.yaml", |documents| {
        let Some(web) = documents
            .iter_mut()
            .find(|document| document["kind"] == "Service")
        else {
            return;
        };
        let defaults = [
            ("type", json!("NodePort")),
            ("sessionAffinity", json!("None")),
            ("externalTrafficPolicy", json!("Cluster")),
        ];
        for (name, value) in defaults.iter().chain(spec) {
            web["spec"][name] = value.clone();
        }
        web["metadata"]["annotations"] = json!({});
        for (name, value) in annotations {
            web["metadata"]["annotations"][name] = json!(value);
        }
        web["status"] = json!({"loadBalancer": {"ingress": [{"ip": external()}]}});
    })
}

/// Loads rules as kube-proxy writes them on node1, and traffic through them, before any agent
/// runs.
pub(crate) fn begin_with_another_proxy(shop: &Shop) -> Result<Vec<Flow>> {
    let [web, dns] = NEAR;
    // Nothing leads to node3 before there is the overlay.
    shop.scale("web", web)?;
    shop.scale("dns", dns)?;
    other_route(shop, "add")?;
    other_proxy::load(shop.lab.place("node1"), &rules(shop, web, dns))?;
    hold(shop)
}

/// The other proxy goes once the agents run.
pub(crate) fn take_over(facts: &mut Facts, shop: &Shop, load: Vec<Flow>) {
    facts.check(
        "node1: the agent takes over that traffic, the rules are removed",
        || {
            let log = shop.agent("node1")?.log();
            let took_over = log.lines().any(|line| line.contains("took over"));
            ensure!(took_over, "the agent took nothing over");
            other_proxy::unload(shop.lab.place("node1"))?;
            other_route(shop, "del")?;
            let seen = clean(load);
            shop.scale("web", WEB)?;
            shop.scale("dns", &["dns-1", "dns-2"])?;
            seen
        },
    );
}

/// Removes the agent of node1 in favour of such rules, under load.
pub(crate) fn hand_back(facts: &mut Facts, shop: &mut Shop) {
    facts.section("Back to another proxy, under load");
    facts.check(
        "node1: another router's route, for when the agent's go",
        || {
            // With the overlay goes the way to node3.
            let [web, dns] = NEAR;
            shop.scale("web", web)?;
            shop.scale("dns", dns)?;
            for (traffic, pods) in [
                (Traffic::connect(service(10, false), 80), web),
                (Traffic::udp_fresh(service(13, false), 53), dns),
            ] {
                let near = |report: &Report| answered_by(report, pods).is_ok();
                until(shop, "shopper", &spread(traffic), near)?;
            }
            other_route(shop, "add")?;
            Ok(format!("metric {OTHER_METRIC}"))
        },
    );
    facts.check(
        "node1: kube-proxy's kind of rules take over from the agent",
        || {
            let load = hold(shop)?;
            let [web, dns] = NEAR;
            other_proxy::load(shop.lab.place("node1"), &rules(shop, web, dns))?;
            drop(shop.agents.remove("node1"));
            let answer = Agent::cleanup(&shop.lab, "node1", &[])?;
            ensure!(answer.code == Some(0), "{}", answer.error);
            let mut lines = answer.output.lines();
            let line = lines.find(|line| line.starts_with("handed back"));
            let said = line.unwrap_or("handed back nothing").to_owned();
            clean(load)?;
            Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
        },
    );
}

/// Adds or deletes what another router has on node1: the way to the pods of its subnet. The agent's
/// own route is preferred.
fn other_route(shop: &Shop, what: &str) -> Result<()> {
    let via = shop.lab.address("node2", false);
    let route = format!("route {what} 10.244.2.0/24 via {via} metric {OTHER_METRIC}\n");
    shop.lab.place("node1").namespace.ip(&route)
}

/// TCP connections that arrive as packets, and UDP flows.
fn hold(shop: &Shop) -> Result<Vec<Flow>> {
    let tcp = Traffic::hold(service(10, false), 80)
        .workers(20)
        .every_milliseconds(5);
    let udp = Traffic::udp(service(13, false), 53)
        .workers(5)
        .every_milliseconds(5);
    Ok(vec![
        Flow::start(&shop.uncovered(), &tcp)?,
        Flow::start(shop.lab.place("shopper"), &udp)?,
    ])
}

fn clean(load: Vec<Flow>) -> Result<String> {
    let mut exchanges = 0;
    for flow in load {
        let report = flow.stop()?;
        ensure!(
            report.is_clean(),
            "{} connections lost, {:?} of {}",
            report.lost_connections,
            report.errors,
            report.attempts
        );
        exchanges += report.answered;
    }
    Ok(format!(
        "0 of {exchanges} exchanges failed, 0 of 25 connections lost"
    ))
}

fn rules(shop: &Shop, web: &[&str], dns: &[&str]) -> Vec<Rule> {
    let of = |number, port, pods: &[&str], target| Rule {
        frontend: (service(number, false), port).into(),
        backends: pods
            .iter()
            .map(|pod| (shop.lab.address(pod, false), target).into())
            .collect(),
        masquerade: false,
    };
    vec![of(10, 80, web, 8080), of(13, 53, dns, 5353)]
}

fn spread(traffic: Traffic) -> Traffic {
    traffic
        .count(60)
        .every_milliseconds(0)
        .timeout_milliseconds(1000)
}
