//! Looks up what the configuration names outside the cluster: host names, and a certificate's files.
//!
//! ```text
//! names, files ─ look up, again and again ─► edge::Outside ─► the next plan
//! ```
//!
//! Names are not left to the proxies: nginx does not start while one of them has no address, and it
//! never asks again. Here a name without an address is a backend without servers, and a new address
//! is a change of servers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::CertificateFiles;
use crate::edge::Outside;

/// Shorter than most names' time to live, so that one that moves is followed as well as by others.
pub const AGAIN: Duration = Duration::from_secs(30);
/// A name server that was not there at start may be soon.
const SOON: Duration = Duration::from_secs(2);
/// A start does not wait longer than this for name servers that do not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Puts the addresses of names in place of those that are known. A name that cannot be looked up
/// keeps its addresses; whether each could.
pub async fn look_up(outside: &mut Outside) -> bool {
    let names = outside.fallbacks.values_mut().filter(|it| it.is_name());
    let mut all = true;
    for fallback in names {
        let name = (fallback.host.as_str(), fallback.port.get());
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(name)).await;
        match found.map_err(std::io::Error::from).flatten() {
            Ok(found) => fallback.addresses = addresses(found.map(|at| at.ip())),
            Err(error) => {
                let (key, name, known) = (&*fallback.key, name.0, fallback.addresses.len());
                tracing::warn!(key, name, known, %error, "a name has no address; it is asked again");
                all = false;
            }
        }
    }
    all
}

/// In an order of their own: name servers turn it with every answer.
fn addresses(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = found.collect();
    found.sort();
    found.dedup();
    found
}

/// Follows names and files until `cancel`, and tells what became of them.
///
/// # Errors
/// None: what cannot be read stays as it was.
pub async fn follow(
    mut outside: Outside,
    files: Option<CertificateFiles>,
    again: Duration,
    told: mpsc::Sender<Outside>,
    cancel: CancellationToken,
) -> Result<()> {
    let has_names = outside.fallbacks.values().any(|it| it.is_name());
    if !has_names && files.is_none() {
        return Ok(());
    }
    let mut wait = SOON.min(again);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        let mut next = outside.clone();
        // At a start everything may come late; later a failure is somebody else's long one.
        let is_known = look_up(&mut next).await;
        wait = if is_known {
            again
        } else {
            (wait * 2).min(again)
        };
        if let Some(files) = &files {
            match files.read() {
                Ok(read) if outside.certificate.as_deref() == Some(&read) => {}
                Ok(read) => next.certificate = Some(Arc::new(read)),
                Err(error) => {
                    tracing::warn!(%error, "the certificate of unknown hosts stays as it was");
                }
            }
        }
        if next != outside {
            let addresses: BTreeMap<_, _> = next
                .fallbacks
                .values()
                .map(|it| (it.host.to_string(), it.addresses.clone()))
                .collect();
            tracing::info!(?addresses, "what is outside the cluster changed");
            outside = next.clone();
            if told.send(next).await.is_err() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::{follow, look_up};
    use crate::config::{CertificateFiles, parse};
    use crate::edge::Outside;

    #[tokio::test]
    async fn a_name_without_an_address_keeps_what_it_had() {
        let text = "[endpoints]\n[defaults]\nunknown_host = 'http://localhost:81'\nunknown_path = 'http://nobody.invalid'\n";
        let mut outside = parse(text).unwrap().edge.outside;
        assert!(!look_up(&mut outside).await);
        let known = |outside: &Outside| -> Vec<_> {
            let each = outside.fallbacks.values();
            let mut all: Vec<_> = each
                .map(|it| {
                    format!(
                        "{} {:?}",
                        it.host,
                        it.addresses.iter().any(|at| at.is_loopback())
                    )
                })
                .collect();
            all.sort();
            all
        };
        assert_eq!(known(&outside), ["localhost true", "nobody.invalid false"]);
        for fallback in outside.fallbacks.values_mut() {
            fallback.addresses = vec!["127.0.0.9".parse().unwrap()];
        }
        assert!(!look_up(&mut outside).await);
        let kept = outside.fallbacks.values();
        let kept =
            kept.filter(|it| it.addresses == ["127.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
        let kept: Vec<_> = kept.map(|it| it.host.as_str()).collect();
        assert_eq!(kept, ["nobody.invalid"]);
    }

    #[tokio::test]
    async fn a_certificate_that_is_renewed_is_read_again_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: directory.path().join("crt"),
            key: directory.path().join("key"),
        };
        let renew = || {
            let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
            std::fs::write(&files.certificate, made.cert.pem()).unwrap();
            std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        };
        renew();
        let outside = Outside {
            certificate: Some(Arc::new(files.read().unwrap())),
            ..Outside::default()
        };
        let (told, mut heard) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let again = Duration::from_millis(5);
        let following = follow(outside, Some(files.clone()), again, told, cancel.clone());
        let following = tokio::spawn(following);
        let mut next = async |ms| {
            let patience = Duration::from_millis(ms);
            tokio::time::timeout(patience, heard.recv()).await
        };
        assert!(next(100).await.is_err(), "nothing changed");
        std::fs::write(&files.certificate, "broken").unwrap();
        assert!(next(100).await.is_err(), "what is broken is not taken");
        renew();
        let told = next(10_000).await.unwrap().unwrap().certificate;
        assert_eq!(told.as_deref(), files.read().ok().as_ref());
        cancel.cancel();
        following.await.unwrap().unwrap();
    }
}
