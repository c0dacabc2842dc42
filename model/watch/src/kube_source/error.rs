//! Why the API server cannot be used as a source at all. Everything else is retried.

use std::path::PathBuf;

/// An unusable configuration, or a bug.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither flags nor a Pod's ServiceAccount say where the API server is.
    #[error(
        "no API server is configured and this is not a Pod (KUBERNETES_SERVICE_HOST is not set); \
         set --kubeconfig FILE, --master URL or --manifests DIR"
    )]
    NotConfigured,
    /// The Pod's ServiceAccount is not usable.
    #[error(
        "the ServiceAccount of this Pod (/var/run/secrets/kubernetes.io/serviceaccount) is not usable; \
         set automountServiceAccountToken: true, or --kubeconfig FILE"
    )]
    ServiceAccount(#[source] kube::config::InClusterError),
    /// `--kubeconfig` cannot be read or parsed.
    #[error("--kubeconfig {}: not a readable kubeconfig; check path, owner and YAML", path.display())]
    KubeconfigUnreadable {
        /// The file.
        path: PathBuf,
        /// What the file lacks.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// `--kubeconfig` lacks the context, cluster or user, or its certificates.
    #[error(
        "--kubeconfig {}: {} does not name a usable cluster and user; \
         see `kubectl config view --kubeconfig FILE`",
        path.display(),
        context.as_deref().map_or_else(|| "its current-context".to_owned(), |name| format!("context {name}"))
    )]
    KubeconfigContext {
        /// The file.
        path: PathBuf,
        /// The context asked for.
        context: Option<String>,
        /// What is missing.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// A `--master` is not a URL.
    #[error(
        "--master {url}: not a URL of an API server; expected https://HOST:PORT or http://HOST:PORT"
    )]
    MasterUrl {
        /// As given.
        url: String,
    },
    /// The client cannot be made, mostly because of certificates or keys.
    #[error("API server {url}: the credentials or certificates given for it are not usable")]
    Client {
        /// The server.
        url: String,
        /// What is wrong with them.
        #[source]
        source: Box<kube::Error>,
    },
    /// A file of [`super::CredentialFiles`] cannot be read.
    #[error("{role} {}: cannot be read; check path and owner", path.display())]
    CredentialUnreadable {
        /// What it is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of [`super::CredentialFiles`] does not hold what it should.
    #[error("{role} {}: not PEM with a {block}", path.display())]
    CredentialContent {
        /// What it is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// The PEM block expected.
        block: &'static str,
        /// What was found.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The files of [`super::CredentialFiles`] are well formed, and TLS cannot use them.
    #[error("{files}: TLS cannot use what they hold")]
    Credentials {
        /// Which.
        files: String,
        /// What TLS says.
        #[source]
        source: Box<kube::Error>,
    },
    /// A bug: the task of a kind panicked.
    #[error("the task that follows a kind of objects panicked; this is a bug, restart the process")]
    TaskPanicked(#[source] tokio::task::JoinError),
}
