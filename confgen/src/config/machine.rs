//! What this machine says of ports and addresses.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `net.ipv4.ip_local_port_range`; the kernel's default where it cannot be read.
pub(super) fn ephemeral_ports() -> (u16, u16) {
    let read = || {
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut ports = text.split_whitespace().map(|port| port.parse().ok());
        Some((ports.next()??, ports.next()??))
    };
    read().unwrap_or((32768, 60999))
}

/// `net.ipv4.ip_nonlocal_bind`.
pub(super) fn binds_foreign_addresses() -> bool {
    let read = fs::read_to_string("/proc/sys/net/ipv4/ip_nonlocal_bind");
    read.is_ok_and(|text| text.trim() == "1")
}

/// Addresses of this machine's interfaces, of both families.
pub(super) fn addresses() -> Vec<IpAddr> {
    let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let v4 = in_trie(&v4).into_iter().map(IpAddr::V4);
    v4.chain(in_table(&v6).map(IpAddr::V6)).collect()
}

/// Addresses of the kernel's tree of IPv4 routes: a line with one, then a line that says `LOCAL`.
fn in_trie(text: &str) -> BTreeSet<Ipv4Addr> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let address = pair[0].strip_prefix("|-- ")?.parse().ok()?;
        (pair[1] == "/32 host LOCAL").then_some(address)
    });
    pairs.collect()
}

/// Addresses of the kernel's table of IPv6 addresses: 32 digits at the beginning of each line.
fn in_table(text: &str) -> impl Iterator<Item = Ipv6Addr> {
    text.lines().filter_map(|line| {
        let digits = line.get(..32)?;
        u128::from_str_radix(digits, 16)
            .ok()
            .map(Ipv6Addr::from_bits)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    #[test]
    fn every_machine_has_its_loopback_addresses() {
        let addresses = super::addresses();
        assert!(
            addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)),
            "{addresses:?}"
        );
        let text = "fe80000000000000021122fffe334455 02 40 20 80 eth0\n";
        let read: Vec<Ipv6Addr> = super::in_table(text).collect();
        assert_eq!(
            read,
            ["fe80::211:22ff:fe33:4455".parse::<Ipv6Addr>().unwrap()]
        );
    }
}
