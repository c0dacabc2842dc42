//! What is asked: `--from` and `--to` as people write them.
//!
//! Names are not looked up here; see `resolve`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use model::{ObjectKey, PortName};

/// What `--from` is, for those who wrote something else.
const FROM: &str =
    "NAMESPACE/POD or ADDRESS, with :PORT where one connection is meant; IPv6 as [ADDRESS]:PORT";
/// What `--to` is, for those who wrote something else.
const TO: &str =
    "NAMESPACE/SERVICE, with :PORT where it has several, or ADDRESS:PORT; IPv6 as [ADDRESS]:PORT";

/// `--from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Whose packets.
    pub peer: Peer,
    /// Source port; absent where any connection is meant.
    pub port: Option<NonZeroU16>,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A pod.
    Pod(ObjectKey),
    /// Whoever has the address.
    Address(IpAddr),
}

/// `--to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A Service, at its cluster IP.
    Service {
        /// Which.
        key: ObjectKey,
        /// Which of its ports; absent where it has one.
        port: Option<PortChoice>,
    },
    /// An address and port.
    Address(SocketAddr),
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortChoice {
    /// By its number.
    Number(NonZeroU16),
    /// By its name.
    Name(PortName),
}

/// An argument in no known form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct AskError {
    given: String,
    expected: &'static str,
}

impl FromStr for Sender {
    type Err = AskError;

    fn from_str(text: &str) -> Result<Self, AskError> {
        let refused = || AskError {
            given: text.to_owned(),
            expected: FROM,
        };
        if text.contains('/') {
            let (object, port) = with_port(text);
            let port = port.map(|port| port.parse().map_err(|_| refused()));
            return Ok(Self {
                peer: Peer::Pod(key(object).ok_or_else(refused)?),
                port: port.transpose()?,
            });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                peer: Peer::Address(address.ip().to_canonical()),
                port: Some(NonZeroU16::new(address.port()).ok_or_else(refused)?),
            });
        }
        let address: IpAddr = bare(text).parse().map_err(|_| refused())?;
        Ok(Self {
            peer: Peer::Address(address.to_canonical()),
            port: None,
        })
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.peer, self.port) {
            (Peer::Pod(key), Some(port)) => write!(f, "{key}:{port}"),
            (Peer::Pod(key), None) => key.fmt(f),
            (Peer::Address(address), Some(port)) => SocketAddr::new(*address, port.get()).fmt(f),
            (Peer::Address(address), None) => address.fmt(f),
        }
    }
}

impl FromStr for Destination {
    type Err = AskError;

    fn from_str(text: &str) -> Result<Self, AskError> {
        let refused = || AskError {
            given: text.to_owned(),
            expected: TO,
        };
        if !text.contains('/') {
            let address: SocketAddr = text.parse().map_err(|_| refused())?;
            if address.port() == 0 {
                return Err(refused());
            }
            let ip = address.ip().to_canonical();
            return Ok(Self::Address(SocketAddr::new(ip, address.port())));
        }
        let (object, port) = with_port(text);
        let port = port.map(|port| match port.parse() {
            Ok(number) => Ok(PortChoice::Number(number)),
            Err(_) if is_name(port) => Ok(PortChoice::Name(PortName::new(Some(port)))),
            Err(_) => Err(refused()),
        });
        Ok(Self::Service {
            key: key(object).ok_or_else(refused)?,
            port: port.transpose()?,
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Service { key, port: None } => key.fmt(f),
            Self::Service {
                key,
                port: Some(port),
            } => write!(f, "{key}:{port}"),
        }
    }
}

impl fmt::Display for PortChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

fn with_port(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((object, port)) => (object, Some(port)),
        None => (text, None),
    }
}

fn key(text: &str) -> Option<ObjectKey> {
    let (namespace, name) = text.split_once('/')?;
    (is_name(namespace) && is_name(name)).then(|| ObjectKey::new(namespace, name))
}

/// Letters, digits, `-` and `.`, of which names of objects and ports are made (RFC 1123).
fn is_name(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    text.bytes().all(fits) && text.bytes().any(|byte| byte != b'.' && byte != b'-')
}

fn bare(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::{Destination, Sender};

    #[test]
    fn what_is_understood_is_printed_as_it_was_asked() {
        for text in [
            "shop/cart",
            "shop/cart:4000",
            "10.244.1.5",
            "10.244.1.5:4000",
            "fd00::5",
            "[fd00::5]:4000",
        ] {
            assert_eq!(text.parse::<Sender>().unwrap().to_string(), text);
        }
        assert_eq!(
            "[fd00::5]".parse::<Sender>().unwrap().to_string(),
            "fd00::5"
        );
        assert_eq!(
            "::ffff:10.0.0.1".parse::<Sender>().unwrap().to_string(),
            "10.0.0.1"
        );
        for text in [
            "shop/web",
            "shop/web:80",
            "shop/web:http",
            "10.96.0.10:80",
            "[fd00:96::10]:80",
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_is() {
        for text in [
            "",
            "cart",
            "/cart",
            "shop/",
            "shop/cart:http",
            "10.0.0.1:0",
            "a/b/c",
            "10.0.0.300",
        ] {
            let error = text.parse::<Sender>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` is not NAMESPACE/POD")),
                "{error}"
            );
        }
        for text in [
            "",
            "web",
            "10.96.0.10",
            "10.96.0.10:0",
            "shop/web:",
            "shop/we b",
        ] {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` is not NAMESPACE/SERVICE")),
                "{error}"
            );
        }
    }
}
