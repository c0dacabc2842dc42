//! What the agent of node1 tells of flows, and how people see it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::harness::{Answer, eventually};

use crate::shop::Shop;

/// Asks the agent of node1.
pub(crate) fn ask(shop: &Shop, arguments: &[&str]) -> Result<Answer> {
    let answer = shop.agent("node1")?.ask(arguments)?;
    ensure!(
        answer.code == Some(0),
        "exit {:?}: {}",
        answer.code,
        answer.error.trim()
    );
    Ok(answer)
}

/// The newest of the flows of node1 that this policy decided; client and pod have their names.
pub(crate) fn find_flow(shop: &Shop, asked: &[&str], kind: &str, name: &str) -> Result<Value> {
    let asked = [&["flows", "-o", "json"], asked].concat();
    eventually("the flow is told", || {
        let output = ask(shop, &asked)?.output;
        let flows: Vec<Value> = output
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let found = flows.into_iter().rev().find(|flow| {
            let policy = &flow["policy"];
            let pods = ["source", "destination"].map(|end| flow[end]["pod"].is_string());
            policy["kind"] == kind && policy["name"] == name && pods == [true, true]
        });
        Ok(Some(found.with_context(|| {
            format!("{kind} {name} is not in {output}")
        })?))
    })
}

/// `shop/api-1 -> shop/web-1, Service shop/web, NetworkPolicy shop/web-only-shopper`
pub(crate) fn summary(flow: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut line = format!(
        "{} -> {}",
        text(&flow["source"]["pod"]),
        text(&flow["destination"]["pod"])
    );
    if flow["service"].is_object() {
        line += &format!(", Service {}", text(&flow["service"]["name"]));
    }
    let policy = &flow["policy"];
    line += &format!(", {} {}", text(&policy["kind"]), text(&policy["name"]));
    if policy["rule"].is_u64() {
        line += &format!(" rule {}", policy["rule"]);
    }
    line
}

/// Prints a command and the first lines of what it says.
pub(crate) fn show(shop: &Shop, arguments: &[&str], lines: usize) {
    let Ok(answer) = shop.agent("node1").and_then(|agent| agent.ask(arguments)) else {
        return;
    };
    let arguments = arguments.join(" ");
    anstream::println!("\n      $ fairlead-agent {arguments}");
    for line in answer.output.lines().take(lines) {
        anstream::println!("      {line}");
    }
    anstream::println!();
}
