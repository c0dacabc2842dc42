//! TLS with client certificates, all made by a CA of the server's own.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Whom the server's certificate names; as in a cluster, not every address it may have.
const SERVER_NAMES: [&str; 3] = ["127.0.0.1", "localhost", "kubernetes.default.svc"];

/// Certificates and keys.
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    ca_pem: String,
    client_pem: String,
    client_key_pem: String,
}

impl Tls {
    pub(super) fn new() -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(DnType::CommonName, "test CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let server_key = KeyPair::generate()?;
        let server = CertificateParams::new(SERVER_NAMES.map(str::to_owned))?
            .signed_by(&server_key, &issuer)?;
        let client_key = KeyPair::generate()?;
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, "test");
        let client = client.signed_by(&client_key, &issuer)?;

        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone())?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let key =
            PrivateKeyDer::try_from(server_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server.der().clone()], key)?;
        Ok(Self {
            config: Arc::new(config),
            ca_pem: ca_certificate.pem(),
            client_pem: client.pem(),
            client_key_pem: client_key.serialize_pem(),
        })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Writes `ca.pem`, `client.pem` and `client.key`.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        for (name, text) in [
            ("ca.pem", &self.ca_pem),
            ("client.pem", &self.client_pem),
            ("client.key", &self.client_key_pem),
        ] {
            std::fs::write(directory.join(name), text)?;
        }
        Ok(())
    }

    /// What a kubeconfig's `cluster` and `user` hold, in YAML's flow form.
    pub(super) fn kubeconfig(&self) -> (String, String) {
        let cluster = format!(", certificate-authority-data: {}", base64(&self.ca_pem));
        let user = format!(
            "client-certificate-data: {}, client-key-data: {}",
            base64(&self.client_pem),
            base64(&self.client_key_pem)
        );
        (cluster, user)
    }
}

/// Accepts TCP connections and does the handshake. One that fails it is dropped.
pub(super) struct Listener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener {
    pub(super) fn new(listener: TcpListener, acceptor: TlsAcceptor) -> Self {
        Self { listener, acceptor }
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, peer)) = self.listener.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for position in 0..4 {
            let sextet = bits >> (18 - 6 * position) & 63;
            let filler = position > chunk.len();
            encoded.push(if filler {
                '='
            } else {
                char::from(ALPHABET[sextet])
            });
        }
    }
    encoded
}
