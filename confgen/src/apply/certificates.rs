//! What is to be told about certificates, and the last one that could be used. Pure.
//!
//! That a key is its certificate's, and that a chain parses, is checked where Secrets are read
//! (`edge::certificate`). A Secret that is broken later does not take its hosts off TLS:
//! [`LastValid`] has what it held before.

mod last_valid;
mod report;

pub use last_valid::{LastValid, Material, Materials};
pub use report::{Told, problems, report};

use std::net::IpAddr;
use std::time::Duration;

use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem as PemBlock;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::edge::Certificate;
use crate::edge::value::HostMatch;

/// Something to tell about a certificate that is used all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Clients refuse it.
    #[error("ended at {0} (seconds since 1970)")]
    Expired(i64),
    /// Clients will soon.
    #[error("ends at {0} (seconds since 1970)")]
    ExpiresSoon(i64),
    /// Clients refuse it for this host.
    #[error("has no subjectAltName for {0}")]
    NotForHost(HostMatch),
}

/// What is to be told about a certificate of a host.
pub fn findings(
    certificate: &Certificate,
    host: &HostMatch,
    now_unix_seconds: i64,
    warn_before: Duration,
) -> Vec<Finding> {
    let end = certificate.expires_unix_seconds;
    let soon = i64::try_from(warn_before.as_secs()).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    if end <= now_unix_seconds {
        found.push(Finding::Expired(end));
    } else if end <= now_unix_seconds.saturating_add(soon) {
        found.push(Finding::ExpiresSoon(end));
    }
    // Any host and expressions over hosts are too many to look each up.
    let name = match host {
        HostMatch::Exact(name) => name.as_str().to_owned(),
        HostMatch::Wildcard(suffix) => format!("*.{suffix}"),
        HostMatch::Regex(_) | HostMatch::Any => return found,
    };
    if !is_for(certificate.chain.reveal(), &name) {
        found.push(Finding::NotForHost(host.clone()));
    }
    found
}

/// Whether the first certificate of a chain is for a host (RFC 9525 §6.3: a wildcard is the whole
/// first label and stands for one).
fn is_for(chain: &[u8], host: &str) -> bool {
    let mut blocks = PemBlock::iter_from_buffer(chain).filter_map(Result::ok);
    let Some(leaf) = blocks.find(|block| block.label == "CERTIFICATE") else {
        return false;
    };
    let Ok((_, leaf)) = X509Certificate::from_der(&leaf.contents) else {
        return false;
    };
    let Ok(Some(names)) = leaf.subject_alternative_name() else {
        return false;
    };
    let address: Option<IpAddr> = host.parse().ok();
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => {
            let name = name.to_ascii_lowercase();
            let below = name.strip_prefix("*.");
            let parent = host.split_once('.').map(|(_, parent)| parent);
            name == host || (below.is_some() && below == parent)
        }
        GeneralName::IPAddress(bytes) => match address {
            Some(IpAddr::V4(address)) => *bytes == address.octets(),
            Some(IpAddr::V6(address)) => *bytes == address.octets(),
            None => false,
        },
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{Kind, ObjectKey};

    use super::{Finding, findings};
    use crate::edge::certificate::with_key;
    use crate::edge::value::{HostMatch, Id};
    use crate::edge::{Certificate, Origin};

    pub(super) fn certificate(names: &[&str]) -> (Id, Certificate) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let origin = Origin {
            created_unix_seconds: 0,
            key: ObjectKey::new("shop", "tls"),
            kind: Kind::Secret,
            field: "data".into(),
        };
        let key = made.signing_key.serialize_pem();
        with_key(made.cert.pem().as_bytes(), key.as_bytes(), origin).unwrap()
    }

    #[test]
    fn a_certificate_is_for_its_hosts() {
        let (_, certificate) = certificate(&["shop.example", "*.shop.example", "10.0.0.1"]);
        for (host, is_for) in [
            ("shop.example", true),
            ("a.shop.example", true),
            ("*.shop.example", true),
            ("10.0.0.1", true),
            ("a.b.shop.example", false),
            ("other.example", false),
            ("10.0.0.2", false),
            ("*", true),
        ] {
            let host = HostMatch::parse(host).unwrap();
            let found = findings(&certificate, &host, 0, Duration::ZERO);
            assert_eq!(found.is_empty(), is_for, "{host}: {found:?}");
        }
    }

    #[test]
    fn its_end_is_told_before_it_comes() {
        let (_, mut certificate) = certificate(&["shop.example"]);
        certificate.expires_unix_seconds = 1000;
        let host = HostMatch::parse("shop.example").unwrap();
        let found = |now| findings(&certificate, &host, now, Duration::from_secs(100));
        assert_eq!(found(899), []);
        assert_eq!(found(900), [Finding::ExpiresSoon(1000)]);
        assert_eq!(found(1000), [Finding::Expired(1000)]);
    }
}
