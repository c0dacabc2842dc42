//! A proxy of the other kind: rules of the kernel's own translation, as kube-proxy writes them.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Place;

/// An address and port that it balances, for TCP and UDP.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What clients use.
    pub frontend: SocketAddr,
    /// Targets, of the same family.
    pub backends: Vec<SocketAddr>,
    /// Whether the source becomes the node's address.
    pub masquerade: bool,
}

/// Loads the rules on a node, in place of those it has.
pub fn load(node: &Place, rules: &[Rule]) -> Result<()> {
    nft(node, &format!("{}{}", FLUSH, ruleset(rules)))
}

/// Removes the rules of a node.
pub fn unload(node: &Place) -> Result<()> {
    nft(node, FLUSH)
}

/// A table that is there can be deleted; one that was just added is.
const FLUSH: &str = "add table ip other-proxy
delete table ip other-proxy
add table ip6 other-proxy
delete table ip6 other-proxy
";

fn ruleset(rules: &[Rule]) -> String {
    let mut text = String::new();
    for (family, v6) in [("ip", false), ("ip6", true)] {
        let (mut chains, mut services) = (String::new(), String::new());
        let of_family = rules.iter().filter(|rule| rule.frontend.is_ipv6() == v6);
        for (number, rule) in of_family.enumerate() {
            let mut map = Vec::new();
            for (index, backend) in rule.backends.iter().enumerate() {
                let chain = format!("endpoint-{number}-{index}");
                chains += &format!(
                    "chain {chain} {{ meta l4proto tcp dnat to {backend}; meta l4proto udp dnat to {backend}; }}\n"
                );
                map.push(format!("{index} : goto {chain}"));
            }
            let mark = if rule.masquerade {
                "meta mark set meta mark or 0x4000; "
            } else {
                ""
            };
            chains += &format!(
                "chain service-{number} {{ {mark}numgen random mod {} vmap {{ {} }}; }}\n",
                map.len(),
                map.join(", ")
            );
            let (address, port): (IpAddr, u16) = (rule.frontend.ip(), rule.frontend.port());
            services += &format!(
                "{family} daddr {address} meta l4proto {{ tcp, udp }} th dport {port} goto service-{number}\n"
            );
        }
        text += &format!(
            "table {family} other-proxy {{
{chains}chain services {{
{services}}}
chain prerouting {{ type nat hook prerouting priority -100; jump services; }}
chain output {{ type nat hook output priority -100; jump services; }}
chain postrouting {{ type nat hook postrouting priority 100; meta mark & 0x4000 != 0 masquerade; }}
}}\n"
        );
    }
    text
}

fn nft(node: &Place, text: &str) -> Result<()> {
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", node.namespace.path().display()))
        .args(["nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("nft cannot be started")?;
    let mut input = child.stdin.take().context("invariant: a piped input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "nft refuses:\n{text}");
    Ok(())
}
