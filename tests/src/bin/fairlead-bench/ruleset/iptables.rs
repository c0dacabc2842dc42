//! The ruleset of kube-proxy's iptables mode: `KUBE-SERVICES` has a rule for each Service, whose
//! chain throws dice among chains of its endpoints, which translate. Every new connection walks
//! `KUBE-SERVICES` until its rule, and to its end where it is for a node port.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use tests::harness::Place;

use super::load;
use crate::workload::{POD_NETWORK, Service};

/// Which of the kernel's two implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// `iptables-legacy-restore`: 5,000 Services load in 1.6 s, where the other takes 31 s
    Legacy,
    /// `iptables-nft-restore`, what Debian's `iptables-restore` is
    Nft,
}

impl Variant {
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Legacy => "iptables-legacy-restore",
            Self::Nft => "iptables-nft-restore",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        })
    }
}

/// Loads the whole ruleset in a namespace that has none.
pub(crate) fn load_all(place: &Place, variant: Variant, services: &[Service]) -> Result<Duration> {
    let program = [variant.program(), "--noflush"];
    load(place, &program, &whole(services))
}

const FILTER: &str = r#"*filter
:KUBE-FORWARD - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"#;

const NAT_CHAINS: &str = "*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";

const NAT_RULES: &str = r#"-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
"#;

const NODE_PORTS: &str = r#"-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"#;

fn whole(services: &[Service]) -> String {
    let mut chains = format!("{FILTER}{NAT_CHAINS}");
    let mut rules = NAT_RULES.to_owned();
    for (number, service) in services.iter().enumerate() {
        declare(&mut chains, number, service);
        push(&mut rules, number, service);
    }
    chains + &rules + NODE_PORTS
}

/// kube-proxy names chains by hashes of this length.
fn chain(kind: &str, number: usize) -> String {
    format!("KUBE-{kind}-{number:016}")
}

fn endpoint_chain(service: usize, endpoint: usize) -> String {
    // No Service of the bench has a hundred endpoints.
    chain("SEP", service * 100 + endpoint)
}

fn declare(chains: &mut String, number: usize, service: &Service) {
    *chains += &format!(":{} - [0:0]\n", chain("SVC", number));
    if service.node_port.is_some() {
        *chains += &format!(":{} - [0:0]\n", chain("EXT", number));
    }
    for endpoint in 0..service.endpoints.len() {
        *chains += &format!(":{} - [0:0]\n", endpoint_chain(number, endpoint));
    }
}

fn push(rules: &mut String, number: usize, service: &Service) {
    let svc = chain("SVC", number);
    let port = format!("bench/{}:http", service.name);
    let (ip, frontend) = (service.frontend.ip(), service.frontend.port());
    let cluster = format!(
        r#"-m comment --comment "{port} cluster IP" -m tcp -p tcp -d {ip} --dport {frontend}"#
    );
    *rules += &format!("-A KUBE-SERVICES {cluster} -j {svc}\n");
    *rules += &format!("-A {svc} {cluster} ! -s {POD_NETWORK} -j KUBE-MARK-MASQ\n");
    if let Some(node_port) = service.node_port {
        let ext = chain("EXT", number);
        *rules += &format!(
            r#"-A KUBE-NODEPORTS -m comment --comment "{port}" -m tcp -p tcp --dport {node_port} -j {ext}
-A {ext} -m comment --comment "masquerade traffic for {port} external destinations" -j KUBE-MARK-MASQ
-A {ext} -j {svc}
"#
        );
    }
    let count = service.endpoints.len();
    for (index, endpoint) in service.endpoints.iter().enumerate() {
        let sep = endpoint_chain(number, index);
        let dice = match count - index {
            1 => String::new(),
            left => format!(
                " -m statistic --mode random --probability {:.10}",
                1.0 / f64::from(u32::try_from(left).unwrap_or(u32::MAX))
            ),
        };
        *rules += &format!(
            r#"-A {svc} -m comment --comment "{port} -> {endpoint}"{dice} -j {sep}
-A {sep} -m comment --comment "{port}" -s {} -j KUBE-MARK-MASQ
-A {sep} -m comment --comment "{port}" -m tcp -p tcp -j DNAT --to-destination {endpoint}
"#,
            endpoint.ip()
        );
    }
}
