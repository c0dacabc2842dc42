//! The ruleset of kube-proxy's nftables mode: a map from address, protocol and port to a chain of
//! the Service, in it `numgen random` into a verdict map of chains, one for each endpoint, which
//! translate.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::harness::Place;

use super::load;
use crate::workload::{CHANGED, POD_NETWORK, Service};

const NFT: [&str; 3] = ["nft", "-f", "-"];

/// Services that are loaded in one transaction. Of one transaction the time grows with the square: 10,000
/// take two minutes, 45,000 would take three quarters of an hour.
const AT_ONCE: usize = 10_000;
/// Services of a transaction where there are more.
const STEP: usize = 3000;

/// Loads the whole ruleset in a namespace that has none: in one transaction, as kube-proxy starts, or in
/// the many that are many times faster, for the sake of who waits.
pub(crate) fn load_all(place: &Place, services: &[Service]) -> Result<Duration> {
    let step = if services.len() > AT_ONCE {
        STEP
    } else {
        services.len().max(1)
    };
    let mut took = Duration::ZERO;
    for (index, some) in services.chunks(step).enumerate() {
        let base = if index == 0 { BASE } else { "" };
        took += load(place, &NFT, &format!("{base}{}", of(index * step, some)))?;
    }
    Ok(took)
}

/// Replaces the last endpoint of the Service numbered [`CHANGED`] as kube-proxy does: its chain flushed and filled in one transaction.
pub(crate) fn change(place: &Place, service: &Service, to: SocketAddrV4) -> Result<Duration> {
    let number = usize::try_from(CHANGED)?;
    let last = service.endpoints.last().context("no endpoint")?;
    let chain = endpoint_chain(number, service, *last);
    let text = format!(
        "flush chain ip kube-proxy {chain}\n{}",
        endpoint_rules(&chain, to)
    );
    load(place, &NFT, &text)
}

/// Removes it.
pub(crate) fn remove(place: &Place) -> Result<Duration> {
    load(place, &NFT, "delete table ip kube-proxy\n")
}

/// All that does not depend on the Services. The address in `nodeport-ips` is that of a lab's first
/// node.
const BASE: &str = "\
add table ip kube-proxy
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add set ip kube-proxy cluster-ips { type ipv4_addr; }
add set ip kube-proxy nodeport-ips { type ipv4_addr; }
add element ip kube-proxy nodeport-ips { 172.31.0.11 }
add chain ip kube-proxy mark-for-masquerade
add rule ip kube-proxy mark-for-masquerade meta mark set meta mark or 0x4000
add chain ip kube-proxy masquerading
add rule ip kube-proxy masquerading meta mark and 0x4000 == 0 return
add rule ip kube-proxy masquerading meta mark set meta mark xor 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add chain ip kube-proxy services
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add chain ip kube-proxy service-endpoints-check
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add chain ip kube-proxy firewall-check
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add chain ip kube-proxy cluster-ips-check
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add chain ip kube-proxy filter-prerouting { type filter hook prerouting priority -110; }
add rule ip kube-proxy filter-prerouting ct state new jump firewall-check
add chain ip kube-proxy filter-input { type filter hook input priority -110; }
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add chain ip kube-proxy filter-forward { type filter hook forward priority -110; }
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add chain ip kube-proxy filter-output { type filter hook output priority -110; }
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump firewall-check
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add rule ip kube-proxy nat-prerouting jump services
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add rule ip kube-proxy nat-output jump services
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
add rule ip kube-proxy nat-postrouting jump masquerading
";

/// What Services add, the first of which has the number `first`.
fn of(first: usize, services: &[Service]) -> String {
    let mut text = String::new();
    // Chains first: a rule may go only to a chain that is there.
    for (number, service) in (first..).zip(services) {
        let chain = |name: String| format!("add chain ip kube-proxy {name}\n");
        text += &chain(service_chain("service", number, service));
        if service.node_port.is_some() {
            text += &chain(service_chain("external", number, service));
        }
        for endpoint in &service.endpoints {
            text += &chain(endpoint_chain(number, service, *endpoint));
        }
    }
    for (number, service) in (first..).zip(services) {
        push(&mut text, number, service);
    }
    text
}

/// kube-proxy's names: a hash of eight characters, then the Service's port.
fn service_chain(kind: &str, number: usize, service: &Service) -> String {
    format!("{kind}-{number:08}-bench/{}/tcp/http", service.name)
}

fn endpoint_chain(number: usize, service: &Service, endpoint: SocketAddrV4) -> String {
    format!(
        "{}__{}/{}",
        service_chain("endpoint", number, service),
        endpoint.ip(),
        endpoint.port()
    )
}

fn endpoint_rules(chain: &str, endpoint: SocketAddrV4) -> String {
    format!(
        "add rule ip kube-proxy {chain} ip saddr {} jump mark-for-masquerade
add rule ip kube-proxy {chain} meta l4proto tcp dnat to {endpoint}
",
        endpoint.ip()
    )
}

fn push(text: &mut String, number: usize, service: &Service) {
    let chain = service_chain("service", number, service);
    let (ip, port) = (service.frontend.ip(), service.frontend.port());
    let verdicts: Vec<_> = service
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| {
            format!(
                "{index} : goto {}",
                endpoint_chain(number, service, *endpoint)
            )
        })
        .collect();
    *text += &format!(
        "add element ip kube-proxy cluster-ips {{ {ip} }}
add element ip kube-proxy service-ips {{ {ip} . tcp . {port} : goto {chain} }}
add rule ip kube-proxy {chain} ip daddr {ip} tcp dport {port} ip saddr != {POD_NETWORK} jump mark-for-masquerade
add rule ip kube-proxy {chain} numgen random mod {} vmap {{ {} }}
",
        verdicts.len(),
        verdicts.join(", ")
    );
    if let Some(node_port) = service.node_port {
        let external = service_chain("external", number, service);
        *text += &format!(
            "add element ip kube-proxy service-nodeports {{ tcp . {node_port} : goto {external} }}
add rule ip kube-proxy {external} jump mark-for-masquerade
add rule ip kube-proxy {external} goto {chain}
"
        );
    }
    for endpoint in &service.endpoints {
        *text += &endpoint_rules(&endpoint_chain(number, service, *endpoint), *endpoint);
    }
}
