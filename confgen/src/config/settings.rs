//! What the file comes to, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::ObjectKey;
use model::k8s::Detail;
use model_watch::Source;
use model_watch::kube_source::{self, CredentialFiles};

use super::outputs::{Apply, Haproxy, Nginx, Template};
use crate::edge::EdgeConfig;
use crate::output::Grammar;

/// Everything that was said.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where objects come from.
    pub cluster: ClusterSource,
    /// What the plan is compiled by.
    pub edge: EdgeConfig,
    /// Where the certificate of unknown hosts is read again.
    pub certificate_files: Option<CertificateFiles>,
    /// What is written, of which kind; checked as far as it can be without the files.
    pub outputs: Outputs,
    /// How changes are applied.
    pub apply: Apply,
    /// Where health, readiness, metrics and status are served.
    pub status: Option<SocketAddr>,
    /// The Lease whose holder writes the status of objects.
    pub lease: Option<ObjectKey>,
}

/// A certificate outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file of the chain, the leaf first.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// What is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// A whole configuration of HAProxy.
    pub haproxy: Option<Haproxy>,
    /// A whole configuration of nginx.
    pub nginx: Option<Nginx>,
    /// Files made by the operator's own templates.
    pub templates: Vec<(Template, Grammar)>,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterSource {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// API servers.
    Kube {
        /// URLs, tried in order.
        servers: Vec<String>,
        /// Credentials.
        kubeconfig: Option<PathBuf>,
        /// Credentials named file by file.
        credentials: Option<CredentialFiles>,
        /// How often a kind is listed whose watch is refused.
        resync: Option<Duration>,
    },
}

impl ClusterSource {
    /// As `model-watch` takes it.
    pub fn source(&self) -> Source {
        match self {
            Self::Manifests(directory) => Source::Manifests {
                directory: directory.clone(),
                detail: Detail::Edge,
            },
            Self::Kube {
                servers,
                kubeconfig,
                credentials,
                resync,
            } => {
                let mut options = kube_source::Options {
                    master: servers.clone(),
                    kubeconfig: kubeconfig.clone(),
                    credentials: credentials.clone().map(Box::new),
                    detail: Detail::Edge,
                    ..Default::default()
                };
                if let Some(resync) = resync {
                    options.config_sync_period = *resync;
                }
                Source::Kube(options)
            }
        }
    }
}
