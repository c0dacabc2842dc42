//! The JSON of dispatcher's annotations.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use model::{Annotations, Kind, Namespace, Pod, PodEdge, Problem};
use serde::Deserialize;
use serde_json::Value;

use crate::edge::PodsConvention;
use crate::edge::value::{Hostname, UrlPath};

const NO_HOST: &str = "this host is not served";
const NO_PATH: &str = "this path is not served by the pod";

/// What a namespace says of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostOptions {
    pub(super) tls: Option<TlsFields>,
}

/// Fields of the routing Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsFields {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) client_authorities: Option<String>,
}

/// What a pod serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodPath {
    pub(super) place: Place,
    pub(super) port: NonZeroU16,
    pub(super) target: Option<UrlPath>,
    pub(super) weight: u16,
    /// Where in the annotation.
    index: usize,
}

/// Where a namespace serves something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) base: UrlPath,
    /// Without one, on every host of the namespace that says nothing else of the path.
    pub(super) host: Option<Hostname>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}")?;
        }
        write!(f, "{}", self.base)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    ssl: Option<RawTls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTls {
    certificate: RawValue,
    certificate_key: RawValue,
    client_certificate: Option<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawValue {
    value_from: RawSource,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSource {
    secret_key_ref: RawReference,
}

#[derive(Deserialize)]
struct RawReference {
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPath {
    base_path: String,
    /// The original has no word for it: all paths are on all hosts there.
    host: Option<String>,
    /// A string in the original; a number is taken too.
    container_port: Value,
    target_path: Option<String>,
    weight: Option<Value>,
}

/// The hosts of a namespace. One that makes no sense is left out alone.
pub(super) fn hosts(
    namespace: &Namespace,
    convention: &PodsConvention,
    problems: &mut Vec<Problem>,
) -> BTreeMap<Hostname, HostOptions> {
    let annotation = &convention.hosts_annotation;
    let none = Annotations::new();
    let annotations = namespace.annotations.as_deref().unwrap_or(&none);
    let mut hosts = BTreeMap::new();
    let Some(text) = annotations.get(annotation) else {
        return hosts;
    };
    let mut problem = |at: &str, message: String, effect: &str| {
        let field = format!("metadata.annotations.{annotation}{at}");
        let key = namespace.key.clone();
        problems.push(Problem::new(Kind::Namespace, key, field, message, effect));
    };
    let raw: BTreeMap<String, Value> = match serde_json::from_str(text) {
        Ok(raw) => raw,
        Err(error) => {
            let message = format!("is not a JSON object of hosts: {error}");
            problem("", message, "no host of the namespace is served");
            return hosts;
        }
    };
    for (name, options) in raw {
        let at = format!("[{name:?}]");
        let host = match Hostname::parse(&name) {
            Ok(host) => host,
            Err(what) => {
                problem(&at, what.to_string(), NO_HOST);
                continue;
            }
        };
        match serde_json::from_value::<RawHost>(options) {
            Ok(RawHost { ssl }) => {
                let tls = ssl.map(RawTls::fields);
                hosts.insert(host, HostOptions { tls });
            }
            // Never without the TLS that was asked for.
            Err(error) => problem(&at, format!("makes no sense: {error}"), NO_HOST),
        }
    }
    hosts
}

impl RawTls {
    fn fields(self) -> TlsFields {
        let key = |value: RawValue| value.value_from.secret_key_ref.key;
        TlsFields {
            certificate: key(self.certificate),
            key: key(self.certificate_key),
            client_authorities: self.client_certificate.map(key),
        }
    }
}

/// The paths of a pod. One that makes no sense is left out alone.
pub(super) fn paths(
    pod: &Pod,
    edge: &PodEdge,
    hosts: &BTreeMap<Hostname, HostOptions>,
    convention: &PodsConvention,
    problems: &mut Vec<Problem>,
) -> Vec<PodPath> {
    let annotation = &convention.paths_annotation;
    let Some(text) = edge.annotations.get(annotation) else {
        return Vec::new();
    };
    let mut problem = |at: String, message: String, effect: &str| {
        let field = format!("metadata.annotations.{annotation}{at}");
        problems.push(Problem::new(
            Kind::Pod,
            pod.key.clone(),
            field,
            message,
            effect,
        ));
    };
    let entries: Vec<Value> = match serde_json::from_str(text) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("is not a JSON list of paths: {error}");
            problem(String::new(), message, "the pod serves no path");
            return Vec::new();
        }
    };
    let mut paths: Vec<PodPath> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        match path(entry, index, edge, hosts) {
            Ok(path) if paths.iter().any(|known| known.place == path.place) => {
                let message = format!("has {} a second time", path.place);
                problem(format!("[{index}]"), message, NO_PATH);
            }
            Ok(path) => paths.push(path),
            Err((field, message)) => problem(format!("[{index}]{field}"), message, NO_PATH),
        }
    }
    paths
}

fn path(
    entry: Value,
    index: usize,
    edge: &PodEdge,
    hosts: &BTreeMap<Hostname, HostOptions>,
) -> Result<PodPath, (&'static str, String)> {
    let raw: RawPath =
        serde_json::from_value(entry).map_err(|error| ("", format!("makes no sense: {error}")))?;
    let url = |field, text: &str| UrlPath::parse(text).map_err(|what| (field, what.to_string()));
    let number = |value: &Value| match value {
        Value::String(text) => text.parse::<u64>().ok(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.as_u64()
        }
    };
    let host = raw.host.as_deref().map(|text| {
        let found = Hostname::parse(text).ok();
        let found = found.filter(|host| hosts.contains_key(host));
        found.ok_or_else(|| {
            (
                ".host",
                format!("is {text:?}, which is no host of the namespace"),
            )
        })
    });
    let port = number(&raw.container_port)
        .and_then(|port| u16::try_from(port).ok())
        .and_then(NonZeroU16::new)
        .ok_or_else(|| {
            let message = format!("is {}, not a port from 1 to 65535", raw.container_port);
            (".containerPort", message)
        })?;
    if !edge.ports.iter().any(|declared| declared.port == port) {
        let message = format!("is {port}, which no container of the pod declares");
        return Err((".containerPort", message));
    }
    let weight = raw.weight.as_ref().map_or(Some(1), number);
    let weight = weight.filter(|weight| (1..=256).contains(weight));
    let weight = weight.and_then(|weight| u16::try_from(weight).ok());
    let target = raw.target_path.as_deref().filter(|path| !path.is_empty());
    Ok(PodPath {
        place: Place {
            base: url(".basePath", &raw.base_path)?,
            host: host.transpose()?,
        },
        port,
        target: target.map(|path| url(".targetPath", path)).transpose()?,
        weight: weight.ok_or_else(|| (".weight", "is not a number from 1 to 256".to_owned()))?,
        index,
    })
}

/// A pod wants another target than an older one of the same path.
pub(super) fn other_target(pod: &Pod, convention: &PodsConvention, path: &PodPath) -> Problem {
    let annotation = &convention.paths_annotation;
    Problem::new(
        Kind::Pod,
        pod.key.clone(),
        format!(
            "metadata.annotations.{annotation}[{}].targetPath",
            path.index
        ),
        format!(
            "differs from that of an older pod which serves {}",
            path.place
        ),
        "the older one's holds",
    )
    .because(model::Reason::Conflict)
}
