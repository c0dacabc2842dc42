//! Traffic while nothing fails.

use std::time::Instant;

use anyhow::{Result, ensure};
use tests::harness::{Flow, Place, Traffic, eventually};
use tests::traffic::Report;

use crate::facts::Facts;
use crate::shop::{Shop, answered_by, microseconds, service};

pub(crate) const WEB: &[&str] = &["web-1", "web-2", "web-3", "web-4"];
pub(crate) const API: &[&str] = &["api-1", "api-2", "api-3"];
const DNS: &[&str] = &["dns-1", "dns-2"];

/// Exchanges of a spread: with four backends, all but one in 10^7 runs see each of them.
const EXCHANGES: u64 = 60;
/// Connections, 10 ms apart, that a change has to outlive.
const CONNECTIONS_AFTER: u64 = 60;
/// A reject is an answer, not a time-out: a SYN that is sent again costs a second.
const AT_ONCE_MICROSECONDS: u64 = 500_000;

pub(crate) fn cluster_ips(facts: &mut Facts, shop: &Shop) {
    facts.section("ClusterIP, from pods and from nodes");
    for (family, v6) in [("IPv4", false), ("IPv6", true)] {
        let tcp = |number, port| spread(Traffic::connect(service(number, v6), port));
        let udp = |number, port| spread(Traffic::udp_fresh(service(number, v6), port));
        let cases = [
            ("web: TCP from a pod of node1", "shopper", tcp(10, 80), WEB),
            ("web: TCP from node2 itself", "node2", tcp(10, 80), WEB),
            (
                "web: TCP from one of its own pods",
                "web-1",
                tcp(10, 80),
                WEB,
            ),
            (
                "api: TCP to its first port, from a pod of node3",
                "web-4",
                tcp(11, 80),
                API,
            ),
            (
                "api: TCP to its second port, from a pod of node3",
                "web-4",
                tcp(11, 9090),
                API,
            ),
            (
                "db: TCP to the one replica, from a pod of node1",
                "api-1",
                tcp(12, 5432),
                &["db-1"][..],
            ),
            ("dns: UDP from a pod of node1", "shopper", udp(13, 53), DNS),
            ("dns: UDP from a pod of node2", "web-3", udp(13, 53), DNS),
            ("dns: UDP from node1 itself", "node1", udp(13, 53), DNS),
            ("dns: TCP from a pod of node1", "shopper", tcp(13, 53), DNS),
        ];
        for (tried, from, traffic, pods) in cases {
            facts.check(&format!("{family} {tried}"), || {
                answered_by(&shop.run(from, &traffic)?, pods)
            });
        }
        facts.check(
            &format!("{family} web: TCP balanced packet by packet"),
            || answered_by(&Flow::run(&shop.uncovered(), &tcp(10, 80))?, WEB),
        );
    }
}

pub(crate) fn node_ports(facts: &mut Facts, shop: &Shop) {
    facts.section("NodePort, from outside the cluster");
    for (family, v6) in [("IPv4", false), ("IPv6", true)] {
        let client = shop.lab.address("client", v6).to_string();
        let cases = [
            (
                "web: TCP to node1, which runs two of its pods",
                "node1",
                30080,
                true,
                WEB,
            ),
            (
                "web: TCP to node3, which runs one",
                "node3",
                30080,
                true,
                WEB,
            ),
            (
                "dns: UDP to node1, which runs none of its pods",
                "node1",
                30053,
                false,
                DNS,
            ),
            (
                "dns: UDP to node2, which runs one",
                "node2",
                30053,
                false,
                DNS,
            ),
            ("dns: TCP to node1", "node1", 30053, true, DNS),
        ];
        for (tried, node, port, tcp, pods) in cases {
            let to = shop.lab.address(node, v6);
            let traffic = if tcp {
                Traffic::connect(to, port)
            } else {
                Traffic::udp_fresh(to, port)
            };
            facts.check(&format!("{family} {tried}"), || {
                let report = shop.run("client", &spread(traffic))?;
                answered_by(&report, pods)
            });
        }
        facts.check(
            &format!("{family} web: pods of the node asked see the client itself"),
            || {
                let to = shop.lab.address("node1", v6);
                let report = shop.run("client", &spread(Traffic::connect(to, 30080)))?;
                let expected = [client.clone(), to.to_string()];
                ensure!(
                    report.seen_as.iter().all(|seen| expected.contains(seen))
                        && report.seen_as.contains(&client),
                    "seen as {:?}",
                    report.seen_as
                );
                Ok(format!("{client}; pods elsewhere see {to}"))
            },
        );
    }
}

pub(crate) fn rejects(facts: &mut Facts, shop: &Shop) {
    facts.section("A Service without endpoints refuses at once");
    for (family, v6) in [("IPv4", false), ("IPv6", true)] {
        let to = service(14, v6);
        let tcp = Traffic::connect(to, 80).count(3);
        let udp = Traffic::udp_fresh(to, 80).count(3);
        let cases: [(&str, &Place, &Traffic); 5] = [
            ("search: TCP from a pod", shop.lab.place("shopper"), &tcp),
            (
                "search: TCP balanced packet by packet",
                &shop.uncovered(),
                &tcp,
            ),
            (
                "search: TCP from node1 itself",
                shop.lab.place("node1"),
                &tcp,
            ),
            ("search: UDP from a pod", shop.lab.place("shopper"), &udp),
            (
                "search: UDP from node1 itself",
                shop.lab.place("node1"),
                &udp,
            ),
        ];
        for (tried, from, traffic) in cases {
            facts.check(&format!("{family} {tried}"), || {
                refused_at_once(&Flow::run(from, traffic)?)
            });
        }
    }
}

fn refused_at_once(report: &Report) -> Result<String> {
    let refused = report.errors.get("refused").copied().unwrap_or(0);
    ensure!(
        refused == report.attempts,
        "{} answered, {:?}",
        report.answered,
        report.errors
    );
    let slowest = report.latency.slowest_microseconds;
    ensure!(
        slowest < AT_ONCE_MICROSECONDS,
        "refused, but only after {}",
        microseconds(slowest)
    );
    Ok(format!(
        "connection refused after {}",
        microseconds(slowest)
    ))
}

pub(crate) fn scaling(facts: &mut Facts, shop: &Shop) {
    facts.section("Scaling web by editing its manifest, under load");
    for (tried, pods) in [("four pods to one", &WEB[..1]), ("one pod to four", WEB)] {
        facts.check(tried, || {
            let from = shop.lab.place("shopper");
            let load = [
                Flow::start(
                    from,
                    &Traffic::connect(service(10, false), 80)
                        .workers(2)
                        .every_milliseconds(2),
                )?,
                Flow::start(
                    &shop.uncovered(),
                    &Traffic::connect(service(10, true), 80).every_milliseconds(2),
                )?,
                Flow::start(
                    shop.lab.place("client"),
                    &Traffic::connect(shop.lab.address("node2", false), 30080)
                        .every_milliseconds(2),
                )?,
            ];
            let begun = Instant::now();
            shop.scale("web", pods)?;
            let probe = spread(Traffic::connect(service(10, false), 80));
            eventually("the change arrives", || {
                let report = shop.run("web-3", &probe)?;
                Ok(answered_by(&report, pods).is_ok().then_some(()))
            })?;
            let took = begun.elapsed();
            // The load goes on for a while with the new endpoints.
            let after = Traffic::connect(service(10, true), 80).count(CONNECTIONS_AFTER);
            answered_by(&shop.run("web-3", &after)?, pods)?;
            let mut attempts = 0;
            for flow in load {
                let report = flow.stop()?;
                ensure!(
                    report.is_clean(),
                    "{:?} of {}",
                    report.errors,
                    report.attempts
                );
                attempts += report.attempts;
            }
            Ok(format!(
                "0 of {attempts} new connections failed; in force after {} ms",
                took.as_millis()
            ))
        });
    }
}

pub(crate) fn views(facts: &mut Facts, shop: &Shop) {
    facts.section("What the agent of node1 shows");
    let mut text = String::new();
    for arguments in [&["status"][..], &["services"], &["services", "shop/web"]] {
        facts.check(&format!("fairlead-agent {}", arguments.join(" ")), || {
            let answer = shop.agent("node1")?.ask(arguments)?;
            ensure!(
                answer.code == Some(0),
                "exit {:?}: {}",
                answer.code,
                answer.error.trim()
            );
            text += &format!(
                "\n$ fairlead-agent {}\n{}",
                arguments.join(" "),
                answer.output
            );
            Ok(format!("{} lines", answer.output.lines().count()))
        });
    }
    anstream::println!("{text}");
}

pub(crate) fn spread(traffic: Traffic) -> Traffic {
    traffic
        .count(EXCHANGES)
        .every_milliseconds(0)
        .timeout_milliseconds(1000)
}
