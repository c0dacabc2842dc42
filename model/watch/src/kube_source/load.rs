//! From [`Options`] to one client for each API server.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::servers::Server;
use super::{Error, Options, learned};

impl Options {
    /// Reads configuration and credentials and makes the clients, without a connection yet. To be
    /// called inside a tokio runtime.
    pub(crate) async fn load(&self) -> Result<Vec<Server>, Error> {
        let Self {
            master,
            kubeconfig,
            context,
            credentials,
            learned,
            config_sync_period: _,
            pods_of_node: _,
            detail: _,
            timing,
        } = self;
        let base = match kubeconfig {
            Some(path) => Some(from_kubeconfig(path, context.clone()).await?),
            None if credentials.is_some() => None,
            None if in_pod() => Some(Config::incluster().map_err(Error::ServiceAccount)?),
            None => None,
        };
        let mut configs = match (base, master.as_slice()) {
            (None, []) => return Err(Error::NotConfigured),
            (Some(base), []) => vec![base],
            (base, urls) => urls
                .iter()
                .map(|url| at(base.as_ref(), url, kubeconfig.is_some()))
                .collect::<Result<_, _>>()?,
        };
        if let Some(files) = credentials {
            for config in &mut configs {
                files.put_into(config)?;
            }
        }
        configs.extend(learned::configs(&configs, learned));
        configs
            .into_iter()
            .map(|config| client(config, timing.connect))
            .collect()
    }
}

fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

async fn from_kubeconfig(path: &Path, context: Option<String>) -> Result<Config, Error> {
    let kubeconfig = Kubeconfig::read_from(path).map_err(|source| Error::KubeconfigUnreadable {
        path: path.to_owned(),
        source,
    })?;
    let has_proxy = kubeconfig
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.is_some());
    let options = KubeConfigOptions {
        context: context.clone(),
        cluster: None,
        user: None,
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|source| Error::KubeconfigContext {
            path: path.to_owned(),
            context,
            source,
        })?;
    // kube takes HTTPS_PROXY from the environment here, and only here. A node's API server is not
    // reached through the proxy that its downloads use; one that is, is in the kubeconfig.
    if !has_proxy {
        config.proxy_url = None;
    }
    Ok(config)
}

/// The configuration `base` with another server.
fn at(base: Option<&Config>, url: &str, from_kubeconfig: bool) -> Result<Config, Error> {
    let invalid = || Error::MasterUrl {
        url: url.to_owned(),
    };
    let scheme = url.split_once("://").ok_or_else(invalid)?.0;
    if scheme != "http" && scheme != "https" {
        return Err(invalid());
    }
    let parsed = url.parse().map_err(|_| invalid())?;
    // A ServiceAccount's token is not sent in clear text merely because --master says http.
    let base = base.filter(|_| from_kubeconfig || scheme == "https");
    Ok(match base {
        Some(base) => {
            let mut config = base.clone();
            config.cluster_url = parsed;
            config
        }
        None => Config::new(parsed),
    })
}

fn client(mut config: Config, connect: Duration) -> Result<Server, Error> {
    config.connect_timeout = Some(connect);
    // Retries, their pauses and the choice of the server are `follow`'s.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    match Client::try_from(config) {
        Ok(client) => Ok(Server {
            url: url.trim_end_matches('/').to_owned(),
            client,
        }),
        Err(source) => Err(Error::Client {
            url,
            source: Box::new(source),
        }),
    }
}
