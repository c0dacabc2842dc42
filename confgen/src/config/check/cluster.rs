//! `[cluster]`: one place that objects come from, and one kind of credentials.

use std::path::PathBuf;

use model_watch::kube_source::{ClientCertificate, CredentialFiles, Trust};

use super::{Checked, Mistake};
use crate::config::file::Cluster;
use crate::config::settings::ClusterSource;

pub(super) fn check(cluster: &Cluster) -> Checked<ClusterSource> {
    let credentials = credentials(cluster)?;
    let Cluster {
        manifests,
        servers,
        kubeconfig,
        client_certificate: _,
        client_key: _,
        certificate_authority: _,
        insecure_skip_tls_verify: _,
        resync,
    } = cluster;
    match manifests {
        Some(_) if !servers.is_empty() || kubeconfig.is_some() => {
            let message = "excludes servers and kubeconfig: objects come from one place";
            Err(Mistake::at("cluster.manifests", message))
        }
        Some(directory) => Ok(ClusterSource::Manifests(directory.clone())),
        None => Ok(ClusterSource::Kube {
            servers: servers.clone(),
            kubeconfig: kubeconfig.clone(),
            credentials,
            resync: resync.map(|period| period.0),
        }),
    }
}

fn credentials(of: &Cluster) -> Checked<Option<CredentialFiles>> {
    let mistake = |key: &str, message: &str| Err(Mistake::at(format!("cluster.{key}"), message));
    let client = match (&of.client_certificate, &of.client_key) {
        (Some(certificate), Some(key)) => Some(ClientCertificate {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        (None, None) => None,
        (Some(_), None) => {
            return mistake("client_certificate", "is without cluster.client_key");
        }
        (None, Some(_)) => {
            return mistake("client_key", "is without cluster.client_certificate");
        }
    };
    let trust = match (&of.certificate_authority, of.insecure_skip_tls_verify) {
        (Some(_), true) => {
            let message = "contradicts cluster.insecure_skip_tls_verify = true: remove one of them";
            return mistake("certificate_authority", message);
        }
        (Some(path), false) => Trust::File(path.clone()),
        (None, true) => Trust::Anything,
        (None, false) => Trust::System,
    };
    let files = CredentialFiles { client, trust };
    if files == CredentialFiles::default() {
        return Ok(None);
    }
    let given: [(&str, Option<&PathBuf>); 2] = [
        ("client_certificate", of.client_certificate.as_ref()),
        ("certificate_authority", of.certificate_authority.as_ref()),
    ];
    let key = given.iter().find(|(_, path)| path.is_some());
    let key = key.map_or("insecure_skip_tls_verify", |(key, _)| key);
    if of.kubeconfig.is_some() {
        return mistake(key, "excludes cluster.kubeconfig, which says it itself");
    }
    if of.servers.is_empty() {
        let message = "is for cluster.servers, of which there are none";
        return mistake(key, message);
    }
    Ok(Some(files))
}
