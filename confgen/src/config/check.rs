//! From the file to settings.

mod cluster;
mod conventions;
mod outputs;
mod unknown;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use model::ObjectKey;

use self::unknown::{Fallbacks, unknown};
use super::file::{Defaults, File, Listen};
use super::settings::{Outputs, Settings};
use crate::edge::value::{HeaderName, Hostname, UrlPath};
use crate::edge::{Balance, DefaultListeners, EdgeConfig, Listen as At, Outside};

/// What is wrong with the file: which key, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// TOML, or a key that is not known.
    #[error("{0}")]
    Toml(String),
    /// A value that makes no sense.
    #[error("{key} {message}")]
    Value {
        /// As in `services.domain`.
        key: String,
        /// What was found and what was expected.
        message: String,
    },
}

impl Mistake {
    pub(super) fn of_toml(error: &toml::de::Error) -> Self {
        Self::Toml(error.to_string().trim_end().to_owned())
    }

    pub(super) fn at(key: impl Into<String>, message: impl ToString) -> Self {
        Self::Value {
            key: key.into(),
            message: message.to_string(),
        }
    }
}

type Checked<T> = Result<T, Mistake>;

impl File {
    /// Checks every key.
    ///
    /// # Errors
    /// [`Mistake`] at the first that makes no sense.
    pub fn check(&self) -> Checked<Settings> {
        let Self {
            cluster,
            listen,
            defaults,
            endpoints,
            services,
            pods,
            ingress,
            gateway,
            host_claims,
            haproxy,
            nginx,
            templates,
            apply,
            status,
        } = self;
        let listeners = listeners(listen)?;
        let is_any_on = endpoints.is_some()
            || services.is_some()
            || !pods.is_empty()
            || ingress.is_some()
            || gateway.is_some();
        if !is_any_on {
            let message = "no convention is on: add [endpoints], [services], [[pods]], [ingress] or [gateway]";
            return Err(Mistake::Toml(message.to_owned()));
        }
        let (certificate, certificate_files) = unknown::certificate_files(listen)?.unzip();
        let mut fallbacks = Fallbacks::new();
        let each = pods.iter().enumerate();
        let edge = EdgeConfig {
            defaults: self::defaults(defaults, &mut fallbacks)?,
            endpoints: endpoints.as_ref().map(conventions::endpoints),
            services: services.as_ref().map(conventions::services).transpose()?,
            pods: each
                .map(|(index, pods)| conventions::pods(pods, index, &listeners, &mut fallbacks))
                .collect::<Checked<_>>()?,
            ingress: ingress.as_ref().map(conventions::ingress),
            gateway: gateway.as_ref().map(conventions::gateway).transpose()?,
            host_claims: conventions::host_claims(host_claims)?,
            listen: listeners,
            outside: Outside {
                fallbacks,
                certificate,
            },
        };
        let at = status.listen.as_str();
        let status = (!at.is_empty())
            .then(|| at.parse::<SocketAddr>())
            .transpose();
        let status = status.map_err(|_| not_a_socket("status.listen", at))?;
        Ok(Settings {
            cluster: cluster::check(cluster)?,
            edge,
            certificate_files,
            outputs: Outputs {
                haproxy: haproxy.clone(),
                nginx: nginx.clone(),
                templates: outputs::templates(templates)?,
            },
            apply: outputs::apply(apply)?,
            status,
            lease: lease(&self.status.lease)?,
        })
    }
}

fn lease(text: &str) -> Checked<Option<ObjectKey>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.split_once('/') {
        Some((namespace, name)) if !name.contains('/') => Ok(Some(ObjectKey::new(namespace, name))),
        Some(_) | None => {
            let message = format!("is {text:?}, not NAMESPACE/NAME");
            Err(Mistake::at("status.lease", message))
        }
    }
}

fn not_a_socket(key: impl Into<String>, text: &str) -> Mistake {
    let message = format!("is {text:?}, not ADDRESS:PORT as in 0.0.0.0:80 or [::]:80");
    Mistake::at(key, message)
}

fn listen(key: &str, text: &str) -> Checked<At> {
    let socket: SocketAddr = text.parse().map_err(|_| not_a_socket(key, text))?;
    let port = NonZeroU16::new(socket.port()).ok_or_else(|| not_a_socket(key, text))?;
    Ok(At {
        address: socket.ip(),
        port,
    })
}

fn listeners(of: &Listen) -> Checked<DefaultListeners> {
    let all = |key: &str, texts: &[String]| {
        let each = texts.iter().enumerate();
        each.map(|(index, text)| listen(&format!("listen.{key}[{index}]"), text))
            .collect::<Checked<Vec<_>>>()
    };
    let listeners = DefaultListeners {
        http: all("http", &of.http)?,
        https: all("https", &of.https)?,
        proxy_protocol: all("proxy_protocol", &of.proxy_protocol)?,
    };
    if let Some(at) = listeners
        .http
        .iter()
        .find(|at| listeners.https.contains(at))
    {
        let message = format!(
            "has port {} as http has; a port speaks one of the two",
            at.port
        );
        return Err(Mistake::at("listen.https", message));
    }
    Ok(listeners)
}

fn host(key: &str, text: &str) -> Checked<Hostname> {
    Hostname::parse(text).map_err(|what| Mistake::at(key, format!("{what}")))
}

fn header(key: &str, text: &str) -> Checked<HeaderName> {
    HeaderName::parse(text).map_err(|what| Mistake::at(key, format!("{what}")))
}

fn address(key: &str, text: &str) -> Checked<IpAddr> {
    let mistake = || Mistake::at(key, format!("is {text:?}, not an IP address"));
    text.parse().map_err(|_| mistake())
}

fn defaults(of: &Defaults, fallbacks: &mut Fallbacks) -> Checked<crate::edge::Defaults> {
    let balance = match of.balance.as_str() {
        "roundrobin" => Balance::RoundRobin,
        "leastconn" => Balance::LeastConnections,
        "source" => Balance::Source,
        other => {
            let message = format!("is {other:?}, not roundrobin, leastconn or source");
            return Err(Mistake::at("defaults.balance", message));
        }
    };
    let path = of.status_path.as_deref().map(UrlPath::parse).transpose();
    let secret = of.certificate.as_deref().map(|text| {
        let key = text.split_once('/').filter(|(_, name)| !name.contains('/'));
        let message = format!("is {text:?}, not NAMESPACE/NAME");
        key.map(|(namespace, name)| ObjectKey::new(namespace, name))
            .ok_or_else(|| Mistake::at("defaults.certificate", message))
    });
    Ok(crate::edge::Defaults {
        unknown_host: unknown("defaults.unknown_host", &of.unknown_host, fallbacks)?,
        unknown_path: unknown("defaults.unknown_path", &of.unknown_path, fallbacks)?,
        status_path: path.map_err(|what| Mistake::at("defaults.status_path", what))?,
        balance,
        connect_timeout: of.connect_timeout.0,
        server_timeout: of.server_timeout.0,
        client_timeout: of.client_timeout.0,
        max_body_bytes: of.max_body_bytes,
        certificate_secret: secret.transpose()?,
    })
}
