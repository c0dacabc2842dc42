//! What a request gets that nothing takes, and what TLS clients see that ask for nobody here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;

use model::Kind;

use super::{Checked, Mistake};
use crate::config::file::{Listen, Unknown};
use crate::config::settings::CertificateFiles;
use crate::edge::value::{Hostname, Id};
use crate::edge::{Certificate, Fallback, Forward, Origin, Unknown as Answer, certificate};

/// Fallbacks that were named so far.
pub(super) type Fallbacks = BTreeMap<Id, Fallback>;

pub(super) fn unknown(key: &str, of: &Unknown, fallbacks: &mut Fallbacks) -> Checked<Answer> {
    match of {
        Unknown::Status(status) if (100..=599).contains(status) => Ok(Answer::Status(*status)),
        Unknown::Word(word) if word == "close" => Ok(Answer::Close),
        Unknown::Word(url) if url.contains("://") => {
            let fallback = fallback(key, url).map_err(|message| Mistake::at(key, message))?;
            let id = fallback.id();
            fallbacks.entry(id.clone()).or_insert(fallback);
            Ok(Answer::Forward(Forward::to(id)))
        }
        Unknown::Status(_) | Unknown::Word(_) => Err(Mistake::at(
            key,
            "is neither \"close\", nor a status from 100 to 599, nor a URL",
        )),
    }
}

fn fallback(key: &str, url: &str) -> Result<Fallback, String> {
    let not = || format!("is {url:?}, not SCHEME://HOST or SCHEME://HOST:PORT, of http or https");
    let (is_tls, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) | None => return Err(not()),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!(
            "is {url:?}, with a path; requests are passed on with their own, so leave it out"
        ));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(not)?;
            let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
            (is_v6.then_some(host).ok_or_else(not)?, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| not())?,
        None if port.is_empty() => {
            if is_tls {
                443
            } else {
                80
            }
        }
        None => return Err(not()),
    };
    let host = Hostname::parse(host).map_err(|_| not())?;
    let addresses = host.as_str().parse::<IpAddr>().into_iter().collect();
    Ok(Fallback {
        is_tls,
        host,
        port: NonZeroU16::new(port).ok_or_else(not)?,
        addresses,
        key: key.into(),
    })
}

/// The certificate of unknown hosts, and where it is read again.
pub(super) type OfUnknownHosts = (Arc<(Id, Certificate)>, CertificateFiles);

pub(super) fn certificate_files(of: &Listen) -> Checked<Option<OfUnknownHosts>> {
    let (certificate, key) = match (&of.certificate, &of.key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (Some(_), None) => return Err(Mistake::at("listen.certificate", "is without listen.key")),
        (None, Some(_)) => return Err(Mistake::at("listen.key", "is without listen.certificate")),
    };
    let files = CertificateFiles { certificate, key };
    let read = files.read()?;
    Ok(Some((Arc::new(read), files)))
}

impl CertificateFiles {
    /// The certificate and key as they are now.
    ///
    /// # Errors
    /// [`Mistake`] where they cannot be read, or are none.
    pub fn read(&self) -> Checked<(Id, Certificate)> {
        let bytes = |key: &str, path: &Path| {
            let error = |error| Mistake::at(key, format!("{}: {error}", path.display()));
            std::fs::read(path).map_err(error)
        };
        let chain = bytes("listen.certificate", &self.certificate)?;
        let key = bytes("listen.key", &self.key)?;
        let origin = Origin::of_configuration(Kind::Secret, "listen.certificate".into());
        certificate::with_key(&chain, &key, origin).map_err(|what| {
            let key = if what == certificate::Unusable::NoCertificate {
                "listen.certificate"
            } else {
                "listen.key"
            };
            Mistake::at(key, what)
        })
    }
}
