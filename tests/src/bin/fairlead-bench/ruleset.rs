//! The comparator: the same Services as an nftables ruleset of the shape kube-proxy writes in its
//! nftables mode: a map from address, protocol and port to a chain of the Service, in it
//! `numgen random` into a verdict map of chains, one for each endpoint, which translate.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::harness::Place;

use crate::workload::{CHANGED, ENDPOINTS, endpoint_ip, other_ip, service_ip};

/// Loads the whole ruleset in an empty namespace.
pub(crate) fn load(place: &Place, services: u32) -> Result<Duration> {
    nft(place, &whole(services))
}

/// Replaces one endpoint as kube-proxy does: its chains flushed and filled in one transaction.
pub(crate) fn change(place: &Place, round: u32) -> Result<Duration> {
    let last = ENDPOINTS - 1;
    nft(
        place,
        &format!(
            "flush chain ip bench endpoint-{CHANGED}-{last}\nadd rule ip bench endpoint-{CHANGED}-{last} {}\n",
            translation(other_ip(round))
        ),
    )
}

/// Removes it.
pub(crate) fn remove(place: &Place) -> Result<Duration> {
    nft(place, "delete table ip bench\n")
}

fn whole(services: u32) -> String {
    let mut text = "\
add table ip bench
add map ip bench service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add chain ip bench mark-for-masquerade
add rule ip bench mark-for-masquerade meta mark set meta mark or 0x4000
add chain ip bench services
add rule ip bench services ip daddr . meta l4proto . th dport vmap @service-ips
add chain ip bench nat-prerouting { type nat hook prerouting priority dstnat; }
add rule ip bench nat-prerouting jump services
add chain ip bench nat-output { type nat hook output priority -100; }
add rule ip bench nat-output jump services
"
    .to_owned();
    for service in 0..services {
        push(
            &mut text,
            format_args!("add chain ip bench service-{service}\n"),
        );
        for endpoint in 0..ENDPOINTS {
            push(
                &mut text,
                format_args!("add chain ip bench endpoint-{service}-{endpoint}\n"),
            );
        }
    }
    for service in 0..services {
        let verdicts: Vec<_> = (0..ENDPOINTS)
            .map(|endpoint| format!("{endpoint} : goto endpoint-{service}-{endpoint}"))
            .collect();
        push(
            &mut text,
            format_args!(
                "add rule ip bench service-{service} ip daddr {} tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
add rule ip bench service-{service} numgen random mod {ENDPOINTS} vmap {{ {} }}
add element ip bench service-ips {{ {} . tcp . 80 : goto service-{service} }}
",
                service_ip(service),
                verdicts.join(", "),
                service_ip(service)
            ),
        );
        for endpoint in 0..ENDPOINTS {
            let address = endpoint_ip(service, endpoint);
            push(
                &mut text,
                format_args!(
                    "add rule ip bench endpoint-{service}-{endpoint} ip saddr {address} jump mark-for-masquerade
add rule ip bench endpoint-{service}-{endpoint} {}
",
                    translation(address)
                ),
            );
        }
    }
    text
}

fn translation(address: std::net::Ipv4Addr) -> String {
    format!("meta l4proto tcp dnat to {address}:8080")
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _written = text.write_fmt(line);
}

/// Runs `nft -f -` in the place's network namespace; how long it took.
fn nft(place: &Place, text: &str) -> Result<Duration> {
    let mut command = place.command("nft");
    let begun = Instant::now();
    let mut child = command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft cannot be run; install nftables")?;
    child
        .stdin
        .take()
        .context("invariant: standard input is piped")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "nft: {}",
        error.lines().next().unwrap_or_default()
    );
    Ok(begun.elapsed())
}
