//! From the file to settings.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{LabelSelector, ObjectKey, Requirement};

use super::file::{
    Cluster, Defaults, Endpoints, File, Gateway, HostClaim, Ingress, Listen, Pods, Services,
    Unknown,
};
use super::machine;
use super::outputs::{Apply, Template};
use super::settings::{ClusterSource, Outputs, Settings};
use crate::edge::value::{HeaderName, Hostname, UrlPath};
use crate::edge::{
    Balance, DefaultListeners, EdgeConfig, EndpointsConvention, GatewayConvention, HostClaimRule,
    IngressConvention, Listen as At, MissingKey, NameTemplate, PodsConvention, ServicesConvention,
    Unknown as Answer,
};
use crate::output::Grammar;

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
        let each = pods.iter().enumerate();
        let edge = EdgeConfig {
            defaults: self::defaults(defaults)?,
            endpoints: endpoints.as_ref().map(self::endpoints),
            services: services.as_ref().map(self::services).transpose()?,
            pods: each
                .map(|(index, pods)| self::pods(pods, index, &listeners))
                .collect::<Checked<_>>()?,
            ingress: ingress.as_ref().map(self::ingress),
            gateway: gateway.as_ref().map(self::gateway).transpose()?,
            host_claims: self::host_claims(host_claims)?,
            listen: listeners,
        };
        let at = status.listen.as_str();
        let status = (!at.is_empty())
            .then(|| at.parse::<SocketAddr>())
            .transpose();
        let status = status.map_err(|_| not_a_socket("status.listen", at))?;
        Ok(Settings {
            cluster: self::cluster(cluster)?,
            edge,
            outputs: Outputs {
                haproxy: haproxy.clone(),
                nginx: nginx.clone(),
                templates: self::templates(templates)?,
            },
            apply: self::apply(apply)?,
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

fn cluster(cluster: &Cluster) -> Checked<ClusterSource> {
    let Cluster {
        manifests,
        servers,
        kubeconfig,
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
            resync: resync.map(|period| period.0),
        }),
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

fn unknown(key: &str, of: &Unknown) -> Checked<Answer> {
    match of {
        Unknown::Status(status) if (100..=599).contains(status) => Ok(Answer::Status(*status)),
        Unknown::Word(word) if word == "close" => Ok(Answer::Close),
        Unknown::Status(_) | Unknown::Word(_) => Err(Mistake::at(
            key,
            "is neither \"close\" nor a status from 100 to 599",
        )),
    }
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

fn defaults(of: &Defaults) -> Checked<crate::edge::Defaults> {
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
        unknown_host: unknown("defaults.unknown_host", &of.unknown_host)?,
        unknown_path: unknown("defaults.unknown_path", &of.unknown_path)?,
        status_path: path.map_err(|what| Mistake::at("defaults.status_path", what))?,
        balance,
        connect_timeout: of.connect_timeout.0,
        server_timeout: of.server_timeout.0,
        client_timeout: of.client_timeout.0,
        max_body_bytes: of.max_body_bytes,
        certificate_secret: secret.transpose()?,
    })
}

fn endpoints(of: &Endpoints) -> EndpointsConvention {
    EndpointsConvention {
        domain_annotation: of.domain_annotation.as_str().into(),
        protocol_annotation: of.protocol_annotation.as_str().into(),
    }
}

fn services(of: &Services) -> Checked<ServicesConvention> {
    let templates = of.server_names.iter().enumerate().map(|(index, text)| {
        let key = format!("services.server_names[{index}]");
        NameTemplate::parse(text).map_err(|what| Mistake::at(key, format!("{text:?}: {what}")))
    });
    let nodes_as_servers = match of.servers.as_str() {
        "endpoints" => false,
        "nodes" => true,
        other => {
            let message = format!("is {other:?}, not endpoints or nodes");
            return Err(Mistake::at("services.servers", message));
        }
    };
    let ephemeral_ports = of.ephemeral_ports.unwrap_or_else(machine::ephemeral_ports);
    if ephemeral_ports.0 > ephemeral_ports.1 {
        return Err(Mistake::at(
            "services.ephemeral_ports",
            "has its last port before its first",
        ));
    }
    let takes_foreign = of
        .foreign_addresses
        .unwrap_or_else(machine::binds_foreign_addresses);
    Ok(ServicesConvention {
        server_name_templates: templates.collect::<Checked<_>>()?,
        domain: host("services.domain", &of.domain)?,
        default_address: address("services.default_address", &of.default_address)?,
        default_mode: header("services.default_mode", &of.default_mode)?,
        nodes_as_servers,
        ephemeral_ports,
        local_addresses: (!takes_foreign).then(machine::addresses),
    })
}

fn pods(of: &Pods, index: usize, listeners: &DefaultListeners) -> Checked<PodsConvention> {
    let key = |name: &str| format!("pods[{index}].{name}");
    let own = |name: &str, text: &Option<String>, of_all: &[At]| match text {
        Some(text) => listen(&key(name), text).map(Some),
        None => Ok(of_all.first().copied()),
    };
    let missing_key = match of.missing_key.as_str() {
        "refuse" => MissingKey::Refuse,
        "allow" => MissingKey::Allow,
        other => {
            let message = format!("is {other:?}, not refuse or allow");
            return Err(Mistake::at(key("missing_key"), message));
        }
    };
    if of.labels.is_empty() {
        let message = "is empty, which would select every pod and namespace";
        return Err(Mistake::at(key("labels"), message));
    }
    let labels = of.labels.iter().map(|(name, value)| {
        let value: Arc<str> = value.as_str().into();
        Requirement::In(name.as_str().into(), vec![value])
    });
    let http = own("http", &of.http, &listeners.http)?;
    Ok(PodsConvention {
        name: of.name.as_str().into(),
        selector: LabelSelector {
            requirements: labels.collect(),
        },
        hosts_annotation: of.hosts_annotation.as_str().into(),
        paths_annotation: of.paths_annotation.as_str().into(),
        secret_name: of.secret.as_str().into(),
        key_field: of.key_field.as_str().into(),
        key_header: header(&key("key_header"), &of.key_header)?,
        key_is_base64: of.key_base64,
        missing_key,
        health_checks: of.health_checks,
        http: http
            .ok_or_else(|| Mistake::at(key("http"), "is missing, and listen.http is empty"))?,
        https: own("https", &of.https, &listeners.https)?,
        unknown_path: match &of.unknown_path {
            Some(of) => unknown(&key("unknown_path"), of)?,
            None => Answer::Status(404),
        },
    })
}

fn ingress(of: &Ingress) -> IngressConvention {
    IngressConvention {
        controller: of.controller.as_str().into(),
        class_name: of.class.as_deref().map(Into::into),
        takes_classless: of.classless,
        annotation_prefix: of.annotation_prefix.as_str().into(),
    }
}

fn gateway(of: &Gateway) -> Checked<GatewayConvention> {
    let each = of.addresses.iter().enumerate();
    let addresses = each.map(|(index, text)| address(&format!("gateway.addresses[{index}]"), text));
    Ok(GatewayConvention {
        controller: of.controller.as_str().into(),
        addresses: addresses.collect::<Checked<_>>()?,
    })
}

fn host_claims(of: &[HostClaim]) -> Checked<Option<Vec<HostClaimRule>>> {
    let rule = |(index, of): (usize, &HostClaim)| {
        let each = of.suffixes.iter().enumerate();
        let suffixes = each.map(|(at, text)| {
            let text = text.strip_prefix("*.").unwrap_or(text);
            host(&format!("host_claims[{index}].suffixes[{at}]"), text)
        });
        Ok(HostClaimRule {
            namespaces: of.namespaces.as_str().into(),
            suffixes: suffixes.collect::<Checked<_>>()?,
            allows_unbounded: of.unbounded,
        })
    };
    let rules = of
        .iter()
        .enumerate()
        .map(rule)
        .collect::<Checked<Vec<_>>>()?;
    Ok((!rules.is_empty()).then_some(rules))
}

fn templates(of: &[Template]) -> Checked<Vec<(Template, Grammar)>> {
    let each = of.iter().enumerate();
    each.map(|(index, template)| {
        let key = |name: &str| format!("templates[{index}].{name}");
        let grammar = match template.grammar.as_str() {
            "haproxy" => Grammar::Haproxy,
            "nginx" => Grammar::Nginx,
            "keepalived" => Grammar::Keepalived,
            "map" => Grammar::Map,
            "json" => Grammar::Json,
            "plain" => Grammar::Plain,
            other => {
                let message =
                    format!("is {other:?}, not haproxy, nginx, keepalived, map, json or plain");
                return Err(Mistake::at(key("grammar"), message));
            }
        };
        if template.file.is_some() == template.directory.is_some() {
            let message = "and directory: exactly one of the two says where the template is";
            return Err(Mistake::at(key("file"), message));
        }
        if template.output.as_os_str().is_empty() {
            return Err(Mistake::at(
                key("output"),
                "is missing: the file that is written",
            ));
        }
        let mut others = of[..index].iter();
        if others.any(|other| other.output == template.output) {
            let message = format!("is {} a second time", template.output.display());
            return Err(Mistake::at(key("output"), message));
        }
        Ok((template.clone(), grammar))
    })
    .collect()
}

fn apply(of: &Apply) -> Checked<Apply> {
    if of.max_wait.0 < of.quiet.0 {
        let message = format!("is {}, less than apply.quiet ({})", of.max_wait, of.quiet);
        return Err(Mistake::at("apply.max_wait", message));
    }
    if of.max_shrink_percent > 100 {
        return Err(Mistake::at("apply.max_shrink_percent", "is more than 100"));
    }
    if !matches!(of.drift.as_str(), "repair" | "report") {
        let message = format!("is {:?}, not repair or report", of.drift);
        return Err(Mistake::at("apply.drift", message));
    }
    Ok(of.clone())
}
