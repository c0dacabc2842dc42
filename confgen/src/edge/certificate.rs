//! Certificates and keys of Secrets.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair,
};
use x509_parser::pem::Pem as PemBlock;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::plan::{Certificate, Origin};
use super::value::{Id, Pem};

/// Why TLS material cannot be used, in words that follow the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No certificate in it.
    #[error("holds no certificate in PEM")]
    NoCertificate,
    /// No private key in it, or one of a sort that proxies here do not take.
    #[error("holds no private key in PEM (RSA, ECDSA P-256 or P-384, Ed25519)")]
    NoKey,
    /// The key is another one's.
    #[error("holds a key that is not the certificate's")]
    KeyOfAnother,
}

/// A certificate with its key, checked to belong together; its name is the hash of both.
///
/// # Errors
/// [`Unusable`] where proxies would refuse it.
pub fn with_key(chain: &[u8], key: &[u8], origin: Origin) -> Result<(Id, Certificate), Unusable> {
    let (expires, public) = leaf(chain)?;
    let pair = public_of(key).ok_or(Unusable::NoKey)?;
    if pair != public {
        return Err(Unusable::KeyOfAnother);
    }
    Ok(named(chain, Some(key), expires, origin))
}

/// Authorities that clients' or servers' certificates are checked by.
///
/// # Errors
/// [`Unusable`] where there is none.
pub fn authorities(chain: &[u8], origin: Origin) -> Result<(Id, Certificate), Unusable> {
    let (expires, _) = leaf(chain)?;
    Ok(named(chain, None, expires, origin))
}

fn named(chain: &[u8], key: Option<&[u8]>, expires: i64, origin: Origin) -> (Id, Certificate) {
    let pem = |bytes: &[u8]| Pem::new(bytes.into());
    let certificate = Certificate {
        chain: pem(chain),
        key: key.map(pem),
        expires_unix_seconds: expires,
        origin,
    };
    (
        Id::of_content("tls", &[chain, key.unwrap_or_default()]),
        certificate,
    )
}

/// When the first certificate of a chain ends, and its public key. Every certificate must parse: a proxy
/// refuses the whole file otherwise.
pub(crate) fn leaf(chain: &[u8]) -> Result<(i64, Vec<u8>), Unusable> {
    let mut first = None;
    for block in PemBlock::iter_from_buffer(chain) {
        let block = block.map_err(|_| Unusable::NoCertificate)?;
        if block.label != "CERTIFICATE" {
            continue;
        }
        let (_, certificate) =
            X509Certificate::from_der(&block.contents).map_err(|_| Unusable::NoCertificate)?;
        first.get_or_insert_with(|| {
            let public = certificate.public_key().subject_public_key.data.to_vec();
            (certificate.validity().not_after.timestamp(), public)
        });
    }
    first.ok_or(Unusable::NoCertificate)
}

/// The public key of a private one, as certificates write it.
pub(crate) fn public_of(key: &[u8]) -> Option<Vec<u8>> {
    let random = ring::rand::SystemRandom::new();
    let blocks = PemBlock::iter_from_buffer(key).filter_map(Result::ok);
    for PemBlock { label, contents } in blocks {
        let rsa = || match label.as_str() {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&contents),
            _ => RsaKeyPair::from_pkcs8(&contents),
        };
        if !label.ends_with("PRIVATE KEY") {
            continue;
        }
        if let Ok(pair) = rsa() {
            return Some(pair.public_key().as_ref().to_vec());
        }
        for curve in [
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &ECDSA_P384_SHA384_ASN1_SIGNING,
        ] {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve, &contents, &random) {
                return Some(pair.public_key().as_ref().to_vec());
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&contents) {
            return Some(pair.public_key().as_ref().to_vec());
        }
    }
    None
}
