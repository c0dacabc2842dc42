//! Network policy: applied under traffic, told of, tried out, and in force without an agent.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::harness::{Flow, Place, Traffic, eventually};
use tests::traffic::Report;

use crate::facts::Facts;
use crate::outage::no_operations;
use crate::shop::{Shop, service};
use crate::told::{ask, find_flow, show, summary};

/// The policies of `examples/policy`, and the file of the lab that they go to.
const ONLY_SHOPPER: &str = "web-only-shopper.yaml";
const AUDIT: &str = "web-only-shopper-audit.yaml";
const QUARANTINE: &str = "web-quarantine.yaml";

/// Connections at a time of a look: with four pods at random, all but one in 10^5 looks ask each.
const AT_A_TIME: usize = 40;
/// Long connections of each client.
const LONG: usize = 8;
/// How long a look waits for an answer that may never come.
const PATIENCE_MILLISECONDS: u64 = 250;
/// How long a client that is allowed may wait on a busy machine.
const ALLOWED_MILLISECONDS: u64 = 5000;
/// The metric of what the audited policy would have dropped.
const AUDITED: &str = r#"fairlead_policy_verdicts_total{kind="NetworkPolicy",namespace="shop",policy="web-only-shopper",direction="ingress",verdict="audited"}"#;
/// Short connections that are made while no agent runs.
const CONNECTIONS_WITHOUT_AGENT: u64 = 100;

/// Applies the policies one after the other, and takes them away.
pub(crate) fn policy(facts: &mut Facts, shop: &mut Shop, policies: &Path) {
    facts.section("NetworkPolicy: from now on, only the shopper may reach web");
    if !under_traffic(facts, shop, policies) {
        return;
    }
    told(facts, shop);
    explained(facts, shop);
    facts.section("A NetworkPolicy tried out before it is in force");
    audited(facts, shop, policies);
    what_if(facts, shop, policies);
    facts.section("ClusterNetworkPolicy: the Admin tier decides before any NetworkPolicy");
    quarantined(facts, shop, policies);
    facts.section("Policy outlives the agent, and goes when it is deleted");
    without_agent(facts, shop);
    deleted(facts, shop);
}

/// Puts a policy where the agents see it.
fn apply(policies: &Path, shop: &Shop, file: &str, to: &str) -> Result<()> {
    let path = policies.join(file);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    shop.lab.manifests().write_text(to, &text)
}

fn under_traffic(facts: &mut Facts, shop: &Shop, policies: &Path) -> bool {
    let mut load = None;
    facts.check("before it: shopper and api-1 both reach web", || {
        load = Some(start_load(shop)?);
        Ok(format!("{LONG} long connections each"))
    });
    let Some((allowed, forbidden)) = load else {
        return false;
    };
    facts.check(
        "it is applied: nothing new of api-1 reaches web's pods",
        || {
            let begun = Instant::now();
            apply(policies, shop, ONLY_SHOPPER, ONLY_SHOPPER)?;
            let (_, closed) = until(&api(shop), is_closed)?;
            Ok(format!(
                "closed on every node after {} ms",
                closed.duration_since(begun).as_millis()
            ))
        },
    );
    facts.check("api-1: its long connections are cut", || {
        let report = forbidden.stop()?;
        let lost = report.lost_connections;
        ensure!(lost == LONG as u64, "{lost} of {LONG}");
        Ok(format!("{lost} of {LONG} cut"))
    });
    facts.check("the shopper: it loses nothing meanwhile", || {
        let mut exchanges = 0;
        for flow in allowed {
            let report = flow.stop()?;
            clean(&report)?;
            exchanges += report.attempts;
        }
        Ok(format!(
            "0 of {exchanges} exchanges failed, 0 of {LONG} long connections lost"
        ))
    });
    true
}

fn told(facts: &mut Facts, shop: &Shop) {
    let asked = ["--verdict", "drop", "--service", "shop/web"];
    facts.check("flows: the drop names pods, Service and policy", || {
        let flow = find_flow(shop, &asked, "NetworkPolicy", "shop/web-only-shopper")?;
        Ok(summary(&flow))
    });
    show(
        shop,
        &[
            "flows",
            "--verdict",
            "drop",
            "--service",
            "shop/web",
            "--last",
            "1",
        ],
        2,
    );
}

fn explained(facts: &mut Facts, shop: &Shop) {
    for (from, expected) in [
        (
            "shop/shopper",
            "rule 0 of NetworkPolicy shop/web-only-shopper decides",
        ),
        (
            "shop/api-1",
            "NetworkPolicy shop/web-only-shopper isolates the pod, and no rule allows it",
        ),
    ] {
        facts.check(&format!("explain --from {from} --to shop/web"), || {
            let answer = ask(shop, &["explain", "--from", from, "--to", "shop/web"])?;
            ensure!(answer.output.contains(expected), "{}", answer.output);
            Ok(expected.to_owned())
        });
    }
}

fn audited(facts: &mut Facts, shop: &Shop, policies: &Path) {
    facts.check(
        "annotated fairlead.io/policy-mode: audit, api-1 passes again",
        || {
            apply(policies, shop, AUDIT, ONLY_SHOPPER)?;
            let (report, _) = until(&api(shop), Report::is_clean)?;
            Ok(format!("{} of {}", report.answered, report.attempts))
        },
    );
    facts.check("flows and metrics: what it would have dropped", || {
        let asked = ["--verdict", "audit", "--pod", "shop/api-1"];
        let flow = find_flow(shop, &asked, "NetworkPolicy", "shop/web-only-shopper")?;
        let count = eventually("the metric counts", || {
            Ok(shop
                .agent("node1")?
                .metric(AUDITED)?
                .filter(|count| *count > 0.0))
        })?;
        Ok(format!("{count} on node1: {}", summary(&flow)))
    });
}

fn what_if(facts: &mut Facts, shop: &Shop, policies: &Path) {
    let file = policies.join(ONLY_SHOPPER);
    let file = file.display().to_string();
    facts.check(
        "policy what-if FILE: whom the policy, enforced, would cut",
        || {
            let told = ["policy", "what-if", &file, "--output", "json"];
            let answer = shop.agent("node1")?.ask(&told)?;
            ensure!(answer.code == Some(3), "{answer:?}");
            let told: Value = serde_json::from_str(&answer.output)?;
            let cut = told["cut"].as_array().context("no list of what is cut")?;
            let clients: BTreeSet<_> = cut
                .iter()
                .filter_map(|row| row["peer_object"].as_str().or(row["peer"].as_str()))
                .collect();
            ensure!(
                clients.contains("Pod shop/api-1") && !clients.contains("Pod shop/shopper"),
                "{clients:?}"
            );
            let clients: Vec<_> = clients.into_iter().collect();
            Ok(format!("exit status 3; {}", clients.join(", ")))
        },
    );
    show(shop, &["policy", "what-if", &file], 5);
}

fn quarantined(facts: &mut Facts, shop: &Shop, policies: &Path) {
    let shopper = shop.lab.place("shopper");
    facts.check(
        "the NetworkPolicy enforced again: open to the shopper alone",
        || {
            apply(policies, shop, ONLY_SHOPPER, ONLY_SHOPPER)?;
            until(&api(shop), is_closed)?;
            let report = look(shopper, ALLOWED_MILLISECONDS)?;
            clean(&report)?;
            Ok(format!(
                "shopper {} of {}, api-1 none",
                report.answered, report.attempts
            ))
        },
    );
    facts.check("its Deny beats the NetworkPolicy's allow", || {
        apply(policies, shop, QUARANTINE, QUARANTINE)?;
        until(shopper, is_closed)?;
        let asked = ["--verdict", "drop", "--pod", "shop/shopper"];
        let flow = find_flow(shop, &asked, "ClusterNetworkPolicy", "web-quarantine")?;
        ensure!(flow["policy"]["rule"] == 0, "{flow}");
        Ok(summary(&flow))
    });
    show(
        shop,
        &[
            "flows",
            "--verdict",
            "drop",
            "--pod",
            "shop/shopper",
            "--last",
            "1",
        ],
        2,
    );
    facts.check("it is deleted: the shopper is back", || {
        shop.lab.manifests().remove(QUARANTINE)?;
        let (report, _) = until(shopper, Report::is_clean)?;
        Ok(format!("{} of {}", report.answered, report.attempts))
    });
}

fn without_agent(facts: &mut Facts, shop: &mut Shop) {
    facts.check(
        "kill -9 of node1's agent: still open to the shopper",
        || {
            if let Some(agent) = shop.agents.get_mut("node1") {
                agent.process().kill()?;
            }
            let traffic = Traffic::connect(service(10, false), 80)
                .count(CONNECTIONS_WITHOUT_AGENT)
                .every_milliseconds(2);
            let report = shop.run("shopper", &traffic)?;
            clean(&report)?;
            Ok(format!(
                "{} of {} answered",
                report.answered, report.attempts
            ))
        },
    );
    facts.check("still closed to api-1", || {
        let report = look(&api(shop), PATIENCE_MILLISECONDS)?;
        ensure!(is_closed(&report), "{} answered", report.answered);
        Ok(format!("0 of {} answered", report.attempts))
    });
    facts.check("the agent starts again and changes nothing", || {
        let agent = shop.start("node1")?;
        let seen = no_operations(&agent);
        shop.agents.insert("node1".to_owned(), agent);
        seen
    });
    facts.check("still closed to api-1 once it is ready", || {
        let report = look(&api(shop), PATIENCE_MILLISECONDS)?;
        ensure!(is_closed(&report), "{} answered", report.answered);
        Ok(format!("0 of {} answered", report.attempts))
    });
}

fn deleted(facts: &mut Facts, shop: &Shop) {
    facts.check("the NetworkPolicy is deleted: everybody is back", || {
        shop.lab.manifests().remove(ONLY_SHOPPER)?;
        let (report, _) = until(&api(shop), Report::is_clean)?;
        clean(&look(shop.lab.place("shopper"), ALLOWED_MILLISECONDS)?)?;
        Ok(format!("api-1 {}", report.spread()))
    });
}

/// Many short connections to `web` at a time.
fn look(from: &Place, timeout_milliseconds: u64) -> Result<Report> {
    let traffic = Traffic::connect(service(10, false), 80)
        .workers(AT_A_TIME)
        .count(1)
        .timeout_milliseconds(timeout_milliseconds);
    Flow::run(from, &traffic)
}

/// The client that the policy does not name. Its TCP arrives as packets, so that a drop can name
/// the Service as well.
fn api(shop: &Shop) -> Place {
    shop.uncovered()
}

/// Looks until `wanted` likes what is seen; answers with that look and when it began.
fn until(from: &Place, wanted: impl Fn(&Report) -> bool) -> Result<(Report, Instant)> {
    eventually("the change arrives", || {
        let begun = Instant::now();
        let report = look(from, PATIENCE_MILLISECONDS)?;
        ensure!(
            wanted(&report),
            "{} of {} answered, {:?}",
            report.answered,
            report.attempts,
            report.errors
        );
        Ok(Some((report, begun)))
    })
}

/// Nothing is answered, and nobody says why.
fn is_closed(report: &Report) -> bool {
    report.answered == 0 && report.errors.keys().all(|error| error.contains("timeout"))
}

fn clean(report: &Report) -> Result<()> {
    ensure!(
        report.is_clean(),
        "{} connections lost, {:?} of {}",
        report.lost_connections,
        report.errors,
        report.attempts
    );
    Ok(())
}

/// Long and short connections of the shopper, and long ones of `api-1`.
fn start_load(shop: &Shop) -> Result<(Vec<Flow>, Flow)> {
    let shopper = shop.lab.place("shopper");
    let long = |v6| Traffic::hold(service(10, v6), 80).every_milliseconds(5);
    let allowed = vec![
        Flow::start(shopper, &long(false).workers(LONG))?,
        Flow::start(
            shopper,
            &Traffic::connect(service(10, true), 80).every_milliseconds(3),
        )?,
    ];
    let forbidden = long(false)
        .workers(LONG)
        .timeout_milliseconds(PATIENCE_MILLISECONDS);
    Ok((allowed, Flow::start(&shop.uncovered(), &forbidden)?))
}
