//! Configurations for the addresses that an earlier run has learned. Pure.
//!
//! A configured URL may lead through the Service of the API server, which nobody balances yet when
//! the agent starts. The addresses behind it work without; their certificate is judged by a name,
//! since it need not list them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use kube::config::Config;

/// The name by which every API server's certificate can be known.
/// <https://kubernetes.io/docs/setup/best-practices/certificates/#all-certificates>
const ANY_SERVER: &str = "kubernetes.default.svc";

/// One configuration for each address that `configured` does not name already.
pub(super) fn configs(configured: &[Config], addresses: &[SocketAddr]) -> Vec<Config> {
    let Some(first) = configured.first() else {
        return Vec::new();
    };
    let mut known: BTreeSet<SocketAddr> = configured.iter().filter_map(address_of).collect();
    addresses
        .iter()
        .filter(|address| known.insert(**address))
        .filter_map(|address| at(first, *address))
        .collect()
}

fn at(configured: &Config, address: SocketAddr) -> Option<Config> {
    let scheme = configured.cluster_url.scheme_str()?;
    let mut config = configured.clone();
    // A path, as of a gateway to many clusters, means nothing to the API server itself.
    config.cluster_url = format!("{scheme}://{address}/").parse().ok()?;
    // An explicit name is how the configuration knows the server, wherever that is.
    if config.tls_server_name.is_none() {
        config.tls_server_name = Some(server_name(configured));
    }
    Some(config)
}

/// The name that a certificate has to bear.
fn server_name(configured: &Config) -> String {
    match host(configured) {
        Some(host) if host.parse::<IpAddr>().is_err() => host.to_owned(),
        _ => ANY_SERVER.to_owned(),
    }
}

/// Where a URL with an address leads.
fn address_of(config: &Config) -> Option<SocketAddr> {
    let url = &config.cluster_url;
    let implied = if url.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    let address: IpAddr = host(config)?.parse().ok()?;
    Some(SocketAddr::new(address, url.port_u16().unwrap_or(implied)))
}

/// The host of the URL, an IPv6 address without its brackets.
fn host(config: &Config) -> Option<&str> {
    let host = config.cluster_url.host()?;
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    Some(bare.unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        Config::new(url.parse().unwrap())
    }

    /// URL and name of what `addresses` become.
    fn learned(configured: &[Config], addresses: &[&str]) -> Vec<(String, String)> {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        configs(configured, &addresses)
            .into_iter()
            .map(|config| {
                let name = config.tls_server_name.unwrap_or_default();
                (config.cluster_url.to_string(), name)
            })
            .collect()
    }

    #[test]
    fn a_name_is_kept_and_an_address_becomes_the_name_of_every_api_server() {
        let cases = [
            ("https://api.example:6443/", "https", "api.example"),
            ("https://10.96.0.1:443/", "https", ANY_SERVER),
            ("https://[fd00::1]/", "https", ANY_SERVER),
            ("http://10.96.0.1:8080/", "http", ANY_SERVER),
            (
                "https://gateway.example/clusters/a",
                "https",
                "gateway.example",
            ),
        ];
        for (url, scheme, name) in cases {
            assert_eq!(
                learned(&[config(url)], &["192.0.2.1:6443", "[2001:db8::1]:6443"]),
                [
                    (format!("{scheme}://192.0.2.1:6443/"), name.to_owned()),
                    (format!("{scheme}://[2001:db8::1]:6443/"), name.to_owned()),
                ],
                "{url}"
            );
        }
    }

    #[test]
    fn an_explicit_name_is_kept() {
        let mut given = config("https://api.example");
        given.tls_server_name = Some("other.example".into());
        let learned = learned(&[given], &["192.0.2.1:6443"]);
        assert_eq!(learned[0].1, "other.example");
    }

    #[test]
    fn what_is_configured_already_is_not_asked_twice() {
        let configured = [
            config("https://api.example:6443"),
            config("https://192.0.2.1"),
            config("https://[2001:db8::1]:6443"),
        ];
        let addresses = [
            "192.0.2.1:443",
            "[2001:db8::1]:6443",
            "192.0.2.2:6443",
            "192.0.2.2:6443",
        ];
        let urls: Vec<_> = learned(&configured, &addresses)
            .into_iter()
            .map(|(url, _)| url)
            .collect();
        assert_eq!(urls, ["https://192.0.2.2:6443/"]);
        assert_eq!(learned(&[], &addresses), []);
    }
}
