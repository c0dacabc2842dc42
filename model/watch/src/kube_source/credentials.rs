//! Certificates and a key that are named one by one, in place of a kubeconfig's.

use std::fs;
use std::path::{Path, PathBuf};

use kube::client::ConfigExt as _;
use kube::config::Config;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;

/// Files by which API server and client know each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// Who the client is; without it, nobody.
    pub client: Option<ClientCertificate>,
    /// By what the API server is known.
    pub trust: Trust,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM: the certificate, then what leads to its CA.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Which certificates of an API server are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the CAs of this machine.
    #[default]
    System,
    /// Those of the CAs in a PEM file.
    File(PathBuf),
    /// Any: whoever is on the way can be the API server.
    Anything,
}

impl CredentialFiles {
    /// Puts the files' content into `config`, checked as far as it can be without a connection.
    pub(super) fn put_into(&self, config: &mut Config) -> Result<(), Error> {
        let Self { client, trust } = self;
        match trust {
            Trust::System => {}
            Trust::Anything => config.accept_invalid_certs = true,
            Trust::File(path) => {
                config.root_cert = Some(certificates("certificate authority", path)?);
                usable(config).map_err(|source| Error::Credentials {
                    files: format!("certificate authority {}", path.display()),
                    source: Box::new(source),
                })?;
            }
        }
        let Some(ClientCertificate { certificate, key }) = client else {
            return Ok(());
        };
        certificates("client certificate", certificate)?;
        private_key("client key", key)?;
        config.auth_info.client_certificate = Some(certificate.display().to_string());
        config.auth_info.client_key = Some(key.display().to_string());
        usable(config).map_err(|source| Error::Credentials {
            files: format!(
                "client certificate {} and client key {}",
                certificate.display(),
                key.display()
            ),
            source: Box::new(source),
        })
    }
}

/// Whether TLS takes what `config` has by now.
fn usable(config: &Config) -> kube::Result<()> {
    config.rustls_client_config().map(drop)
}

fn read(role: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::CredentialUnreadable {
        role,
        path: path.to_owned(),
        source,
    })
}

fn certificates(role: &'static str, path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let text = read(role, path)?;
    let content = |source| Error::CredentialContent {
        role,
        path: path.to_owned(),
        block: "CERTIFICATE",
        source,
    };
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(content)?;
    if all.is_empty() {
        return Err(content(pem::Error::NoItemsFound));
    }
    Ok(all.iter().map(|one| one.as_ref().to_vec()).collect())
}

fn private_key(role: &'static str, path: &Path) -> Result<(), Error> {
    let text = read(role, path)?;
    let key = PrivateKeyDer::from_pem_slice(&text);
    key.map(drop).map_err(|source| Error::CredentialContent {
        role,
        path: path.to_owned(),
        block: "PRIVATE KEY",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        directory: tempfile::TempDir,
    }

    impl Files {
        /// A client's certificate and key, another's key, and files that hold something else.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let files = Self { directory };
            let of = |name: &str| {
                let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
                (made.cert.pem(), made.signing_key.serialize_pem())
            };
            let (certificate, key) = of("client");
            files.write("cert", &certificate);
            files.write("key", &key);
            files.write("other.key", &of("other").1);
            files.write("empty", "");
            let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
            files.write("garbage", garbage);
            files
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        /// What is said of a client certificate, its key, and a CA.
        fn said(&self, certificate: &str, key: &str, ca: &str) -> String {
            let files = CredentialFiles {
                client: Some(ClientCertificate {
                    certificate: self.path(certificate),
                    key: self.path(key),
                }),
                trust: Trust::File(self.path(ca)),
            };
            let mut config = Config::new("https://api.example/".parse().unwrap());
            match files.put_into(&mut config) {
                Ok(()) => "in order".to_owned(),
                Err(error) => crate::kube_source::causes(&error)
                    .replace(&format!("{}/", self.directory.path().display()), ""),
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_path_and_role() {
        let files = Files::new();
        assert_eq!(files.said("cert", "key", "cert"), "in order");
        for (certificate, key, ca, parts) in [
            (
                "none",
                "key",
                "cert",
                ["client certificate none", "No such file"],
            ),
            ("cert", "none", "cert", ["client key none", "No such file"]),
            (
                "cert",
                "key",
                "none",
                ["certificate authority none", "No such file"],
            ),
            (
                "empty",
                "key",
                "cert",
                ["client certificate empty", "CERTIFICATE"],
            ),
            ("cert", "cert", "cert", ["client key cert", "PRIVATE KEY"]),
            (
                "cert",
                "key",
                "key",
                ["certificate authority key", "CERTIFICATE"],
            ),
            (
                "cert",
                "key",
                "garbage",
                ["certificate authority garbage", "root certificate"],
            ),
            (
                "cert",
                "other.key",
                "cert",
                ["client certificate cert and client key other.key", "key"],
            ),
        ] {
            let said = files.said(certificate, key, ca);
            assert!(
                parts.iter().all(|part| said.contains(part)),
                "{certificate} {key} {ca}: {said}"
            );
        }
    }
}
