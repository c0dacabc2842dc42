//! The annotations of kube2lb, and the names that its templates make.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Annotations, Kind, Problem, Service, ServicePort};
use serde::de::DeserializeOwned;

use crate::edge::ServicesConvention;
use crate::edge::name_template::Variables;
use crate::edge::value::{HeaderName, HostMatch, HostRegex};

const EXTERNAL_DOMAINS: &str = "kube2lb/external-domains";
const PORT_MODE: &str = "kube2lb/port-mode";
const BACKEND_TIMEOUT: &str = "kube2lb/backend-timeout";

/// What a Service's annotations say.
#[derive(Debug, Default)]
pub(super) struct Annotated {
    pub(super) external: Vec<HostMatch>,
    modes: BTreeMap<String, HeaderName>,
    /// In milliseconds.
    timeouts: BTreeMap<String, u64>,
}

impl Annotated {
    pub(super) fn read(service: &Service, problems: &mut Vec<Problem>) -> Self {
        let none = Annotations::new();
        let annotations = service
            .edge
            .as_ref()
            .map_or(&none, |edge| &edge.annotations);
        let mut problem = |annotation: &str, message: String, effect: &str| {
            let field = format!("metadata.annotations.{annotation}");
            let key = service.key.clone();
            problems.push(Problem::new(Kind::Service, key, field, message, effect));
        };
        let mut read = Self::default();
        let domains = annotations.get(EXTERNAL_DOMAINS).map_or("", AsRef::as_ref);
        for domain in split(domains) {
            let parsed = match domain.strip_prefix('~') {
                Some(regex) => HostRegex::parse(regex).map(HostMatch::Regex),
                None => HostMatch::parse(domain),
            };
            match parsed {
                Ok(host) if !read.external.contains(&host) => read.external.push(host),
                Ok(_) => {}
                Err(what) => {
                    problem(
                        EXTERNAL_DOMAINS,
                        what.to_string(),
                        "this domain is not served",
                    );
                }
            }
        }
        if let Some(text) = annotations.get(PORT_MODE) {
            let modes: BTreeMap<String, String> = json(text).unwrap_or_else(|message| {
                problem(PORT_MODE, message, "every port has the default mode");
                BTreeMap::new()
            });
            for (port, mode) in modes {
                match HeaderName::parse(&mode) {
                    Ok(mode) => drop(read.modes.insert(port, mode)),
                    Err(what) => {
                        let effect = "this port has the default mode";
                        problem(PORT_MODE, what.to_string(), effect);
                    }
                }
            }
        }
        if let Some(text) = annotations.get(BACKEND_TIMEOUT) {
            read.timeouts = json(text).unwrap_or_else(|message| {
                problem(
                    BACKEND_TIMEOUT,
                    message,
                    "every port has the default timeout",
                );
                BTreeMap::new()
            });
        }
        let modes = read.modes.keys().map(|port| (PORT_MODE, port));
        let timeouts = read.timeouts.keys().map(|port| (BACKEND_TIMEOUT, port));
        for (annotation, port) in modes.chain(timeouts) {
            let mut ports = service.ports.iter();
            if !ports.any(|of| of.name.to_string() == *port) {
                let message = format!("names the port {port:?}, which the Service has not");
                problem(annotation, message, "nothing comes of it");
            }
        }
        read
    }

    pub(super) fn mode(&self, port: &ServicePort, default: &HeaderName) -> HeaderName {
        self.modes
            .get(&port.name.to_string())
            .unwrap_or(default)
            .clone()
    }

    /// 0 is none, as in the original.
    pub(super) fn timeout(&self, port: &ServicePort) -> Option<Duration> {
        let milliseconds = self.timeouts.get(&port.name.to_string())?;
        (*milliseconds > 0).then(|| Duration::from_millis(*milliseconds))
    }
}

/// At commas, but for those within an expression's braces, brackets and parentheses, which the
/// original splits too; blanks around and empty parts are left out.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    let parts = text.split(move |c| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("is not the JSON it should be: {error}"))
}

/// The names that the configured templates make of a port.
pub(super) fn names(
    convention: &ServicesConvention,
    service: &Service,
    port: &ServicePort,
    mode: &HeaderName,
    problems: &mut Vec<Problem>,
) -> Vec<HostMatch> {
    let variables = Variables {
        service: &service.key,
        domain: &convention.domain,
        port,
        mode,
    };
    let mut names = Vec::new();
    for template in &convention.server_name_templates {
        let name = template.fill(&variables);
        match HostMatch::parse(&name) {
            Ok(name) if !names.contains(&name) => names.push(name),
            Ok(_) => {}
            Err(what) => problems.push(Problem::new(
                Kind::Service,
                service.key.clone(),
                "metadata.name",
                format!("in the server name template \"{template}\": {what}"),
                "this name is not served",
            )),
        }
    }
    names
}
