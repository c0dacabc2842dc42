//! The tables of conventions, and who may claim which hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{LabelSelector, Requirement};

use super::unknown::{Fallbacks, unknown};
use super::{Checked, Mistake, address, header, host, listen};
use crate::config::file::{Endpoints, Gateway, HostClaim, Ingress, Pods, Services};
use crate::config::machine;
use crate::edge::{
    DefaultListeners, EndpointsConvention, GatewayConvention, HostClaimRule, IngressConvention,
    Listen as At, MissingKey, NameTemplate, PodsConvention, ServicesConvention, Unknown as Answer,
};

pub(super) fn endpoints(of: &Endpoints) -> EndpointsConvention {
    EndpointsConvention {
        domain_annotation: of.domain_annotation.as_str().into(),
        protocol_annotation: of.protocol_annotation.as_str().into(),
    }
}

pub(super) fn services(of: &Services) -> Checked<ServicesConvention> {
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

pub(super) fn pods(
    of: &Pods,
    index: usize,
    listeners: &DefaultListeners,
    fallbacks: &mut Fallbacks,
) -> Checked<PodsConvention> {
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
    let http = own("http", &of.http, &listeners.http)?;
    Ok(PodsConvention {
        name: of.name.as_str().into(),
        selector: selector(of, &key)?,
        hosts_annotation: of.hosts_annotation.as_str().into(),
        paths_annotation: of.paths_annotation.as_str().into(),
        secret_name: of.secret.as_str().into(),
        key_field: of.key_field.as_str().into(),
        key_header: header(&key("key_header"), &of.key_header)?,
        key_is_base64: of.key_base64,
        missing_key,
        health_checks: of.health_checks,
        sends_proxy_protocol: of.send_proxy_protocol,
        redirects_to_tls: of.redirect_to_tls,
        http: http
            .ok_or_else(|| Mistake::at(key("http"), "is missing, and listen.http is empty"))?,
        https: own("https", &of.https, &listeners.https)?,
        unknown_path: match &of.unknown_path {
            Some(of) => unknown(&key("unknown_path"), of, fallbacks)?,
            None => Answer::Status(404),
        },
    })
}

/// What pods and namespaces must have.
fn selector(of: &Pods, key: &impl Fn(&str) -> String) -> Checked<LabelSelector> {
    let mut selector = match &of.selector {
        Some(text) => {
            let parsed = LabelSelector::parse(text);
            parsed.map_err(|what| Mistake::at(key("selector"), what))?
        }
        None => LabelSelector::default(),
    };
    let routable = BTreeMap::from([(Pods::ROUTABLE.to_owned(), "true".to_owned())]);
    let default = of.selector.is_none().then_some(&routable);
    let labels = of.labels.as_ref().or(default).into_iter().flatten();
    selector.requirements.extend(labels.map(|(name, value)| {
        let value: Arc<str> = value.as_str().into();
        Requirement::In(name.as_str().into(), vec![value])
    }));
    if selector.requirements.is_empty() {
        let message = "is empty, which would select every pod and namespace";
        return Err(Mistake::at(key("labels"), message));
    }
    Ok(selector)
}

pub(super) fn ingress(of: &Ingress) -> IngressConvention {
    IngressConvention {
        controller: of.controller.as_str().into(),
        class_name: of.class.as_deref().map(Into::into),
        takes_classless: of.classless,
        annotation_prefix: of.annotation_prefix.as_str().into(),
    }
}

pub(super) fn gateway(of: &Gateway) -> Checked<GatewayConvention> {
    let each = of.addresses.iter().enumerate();
    let addresses = each.map(|(index, text)| address(&format!("gateway.addresses[{index}]"), text));
    Ok(GatewayConvention {
        controller: of.controller.as_str().into(),
        addresses: addresses.collect::<Checked<_>>()?,
    })
}

pub(super) fn host_claims(of: &[HostClaim]) -> Checked<Option<Vec<HostClaimRule>>> {
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
