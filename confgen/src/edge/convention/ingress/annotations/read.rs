//! Values of annotations.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model::{Ingress, Problem};

use crate::edge::IngressConvention;
use crate::edge::plan::{BackendProtocol, PathRewrite, Redirect};
use crate::edge::value::{Hostname, UrlPath};

pub(super) const IGNORED: &str = "the Ingress is served without it";

/// Read together with the annotation that they belong to.
pub(super) const ELSEWHERE: [&str; 14] = [
    "auth-type",
    "auth-secret",
    "auth-realm",
    "auth-tls-verify-client",
    "auth-tls-verify-depth",
    "canary",
    "canary-weight",
    "canary-by-header",
    "canary-by-header-value",
    "affinity",
    "session-cookie-name",
    "session-cookie-max-age",
    "permanent-redirect-code",
    "temporal-redirect-code",
];

/// Annotations of one Ingress under the convention's prefix.
pub(super) struct Reader<'a> {
    convention: &'a IngressConvention,
    ingress: &'a Ingress,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        convention: &'a IngressConvention,
        ingress: &'a Ingress,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        Self {
            convention,
            ingress,
            problems,
        }
    }

    pub(super) fn namespace(&self) -> Arc<str> {
        Arc::clone(&self.ingress.key.namespace)
    }

    /// Names without the prefix, and values.
    pub(super) fn annotations(&self) -> Vec<(String, String)> {
        let all = self.ingress.annotations.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(&*self.convention.annotation_prefix)?;
            Some((name.strip_prefix('/')?.to_owned(), value.to_string()))
        });
        all.collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        let name = format!("{}/{name}", self.convention.annotation_prefix);
        let value = self.ingress.annotations.get(name.as_str())?;
        Some(value.to_string())
    }

    pub(super) fn problem(&mut self, name: &str, message: impl Into<String>, effect: &str) {
        let field = super::field(self.convention, name);
        self.problems
            .push(super::problem(self.ingress, field, message, effect));
    }

    pub(super) fn checked<T>(&mut self, name: &str, read: Result<T, impl Display>) -> Option<T> {
        read.map_err(|what| self.problem(name, what.to_string(), IGNORED))
            .ok()
    }

    fn parsed<T: FromStr>(&mut self, name: &str, value: &str, expected: &str) -> Option<T> {
        let parsed = value.trim().parse().ok();
        if parsed.is_none() {
            self.problem(name, format!("is {value:?}, not {expected}"), IGNORED);
        }
        parsed
    }

    pub(super) fn flag(&mut self, name: &str, value: &str) -> bool {
        self.parsed(name, value, "true or false").unwrap_or(false)
    }

    pub(super) fn number(&mut self, name: &str) -> Option<u16> {
        let value = self.get(name)?;
        self.parsed(name, &value, "a number")
    }

    pub(super) fn seconds(&mut self, name: &str, value: &str) -> Option<Duration> {
        let seconds = value.strip_suffix('s').unwrap_or(value);
        self.parsed(name, seconds, "a number of seconds")
            .map(Duration::from_secs)
    }

    /// nginx's sizes; 0 is any.
    pub(super) fn size(&mut self, name: &str, value: &str) -> Option<u64> {
        let lower = value.trim().to_ascii_lowercase();
        let (digits, shift) = match lower.as_bytes().last() {
            Some(b'k') => (&lower[..lower.len() - 1], 10),
            Some(b'm') => (&lower[..lower.len() - 1], 20),
            Some(b'g') => (&lower[..lower.len() - 1], 30),
            Some(_) | None => (lower.as_str(), 0),
        };
        let number: u64 = self.parsed(name, digits, "a size as in 8m")?;
        number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
    }

    /// Networks between commas; `None` for each part that is none, of which `effect` comes.
    pub(super) fn networks(&mut self, name: &str, value: &str, effect: &str) -> Vec<Option<IpNet>> {
        let parts = value
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let network = |part: &str| {
            let address = part.parse::<IpAddr>().map(IpNet::from);
            part.parse().or(address).ok()
        };
        let mut found = Vec::new();
        for part in parts {
            let network = network(part);
            if network.is_none() {
                self.problem(name, format!("has {part:?}, which is no network"), effect);
            }
            found.push(network);
        }
        found
    }

    pub(super) fn protocol(&mut self, name: &str, value: &str) -> Option<BackendProtocol> {
        match value.to_ascii_uppercase().as_str() {
            "HTTP" | "AUTO_HTTP" => Some(BackendProtocol::Http),
            "HTTPS" => Some(super::unverified()),
            "GRPC" => Some(BackendProtocol::H2c),
            _ => {
                self.problem(
                    name,
                    format!("is {value:?}, not HTTP, HTTPS or GRPC"),
                    IGNORED,
                );
                None
            }
        }
    }

    pub(super) fn redirect_to_path(&mut self, name: &str, value: &str) -> Option<Redirect> {
        let path = self.checked(name, UrlPath::parse(value))?;
        Some(Redirect {
            to_https: None,
            host: None,
            port: None,
            path: Some(PathRewrite::Full(path)),
            status: 302,
        })
    }

    pub(super) fn redirect_to_url(
        &mut self,
        name: &str,
        value: &str,
        status: u16,
    ) -> Option<Redirect> {
        let read = || {
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Err(format!("has the status {status}, which redirects nobody"));
            }
            let expected = || format!("is {value:?}, not a URL of scheme, host and path");
            let (scheme, rest) = value.split_once("://").ok_or_else(expected)?;
            let to_https = match scheme {
                "http" => false,
                "https" => true,
                _ => return Err(expected()),
            };
            let (authority, path) = match rest.find('/') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().map_err(|_| expected())?)),
                None => (authority, None),
            };
            let path = (!path.is_empty()).then(|| UrlPath::parse(path)).transpose();
            Ok(Redirect {
                to_https: Some(to_https),
                host: Some(Hostname::parse(host).map_err(|what| what.to_string())?),
                port,
                path: path
                    .map_err(|what| what.to_string())?
                    .map(PathRewrite::Full),
                status,
            })
        };
        let read = read();
        self.checked(name, read)
    }
}
