//! `gateway.networking.k8s.io`: GatewayClass, Gateway, ReferenceGrant, BackendTLSPolicy, and the
//! ConfigMaps that hold authorities. Routes are in [`route`].

pub(super) mod route;

use std::sync::Arc;

use serde_json::Value;

use super::read::{Field, Reader};
use super::selector::selector;
use crate::{
    AllowedRoutes, BackendTlsPolicy, ConfigMap, Gateway, GatewayAddress, GatewayClass,
    GatewayListener, GrantTo, ListenerTls, ObjectRef, ReferenceGrant, RouteNamespaces,
};

const GROUP: &str = "gateway.networking.k8s.io";
const NO_LISTENER: &str = "this listener is not served, the others are";
const NO_REFERENCE: &str = "this reference leads nowhere";
const NO_GRANT: &str = "this entry grants nothing";

/// A class without a controller is nobody's.
pub(super) fn class(reader: &Reader<'_>) -> GatewayClass {
    let effect = "Gateways of this class are nobody's";
    let controller = reader.required(&reader.section("spec"), "controllerName", effect);
    let controller = controller.and_then(|field| reader.text(&field, effect));
    GatewayClass {
        key: reader.key.clone(),
        generation: generation(reader),
        controller: controller.unwrap_or_default().into(),
    }
}

pub(super) fn gateway(reader: &Reader<'_>) -> Option<Gateway> {
    let effect = "the Gateway is left out";
    let spec = reader.section("spec");
    let nobodys = "the Gateway is nobody's";
    let class = reader.required(&spec, "gatewayClassName", nobodys);
    let class = class.and_then(|field| reader.text(&field, nobodys));
    let listeners = reader.mappings(&spec, "listeners", NO_LISTENER);
    let listeners = listeners.iter().enumerate();
    Some(Gateway {
        key: reader.key.clone(),
        created_unix_seconds: reader.created(),
        generation: generation(reader),
        class_name: class.unwrap_or_default().into(),
        // An address that cannot be read is not the same as none: all of them would be listened on.
        addresses: reader
            .try_list(&spec, "addresses", effect)?
            .iter()
            .map(|entry| address(reader, entry, effect))
            .collect::<Option<_>>()?,
        listeners: listeners
            .filter_map(|(index, entry)| listener(reader, index, entry))
            .collect(),
        validates_clients: spec.get("tls").is_some_and(|tls| {
            let read = reader.mapping(&tls, "no listener that ends TLS is served");
            read.is_none() || tls.get("frontend").is_some()
        }),
    })
}

fn address(reader: &Reader<'_>, entry: &Field<'_>, effect: &str) -> Option<GatewayAddress> {
    reader.mapping(entry, effect)?;
    let kind = match entry.get("type") {
        Some(field) => reader.text(&field, effect)?,
        None => "IPAddress",
    };
    if kind != "IPAddress" {
        return Some(GatewayAddress::Other(kind.into()));
    }
    // Without a value any address will do.
    let Some(value) = entry.get("value") else {
        return Some(GatewayAddress::Other("IPAddress without a value".into()));
    };
    reader.address(&value, effect).map(GatewayAddress::Ip)
}

fn listener(reader: &Reader<'_>, index: usize, entry: &Field<'_>) -> Option<GatewayListener> {
    let name = reader.required(entry, "name", NO_LISTENER)?;
    let port = reader.required(entry, "port", NO_LISTENER)?;
    let protocol = reader.required(entry, "protocol", NO_LISTENER)?;
    let hostname = match entry.get("hostname").filter(|field| field.value != "") {
        // Never for every host because this one cannot be read.
        Some(field) => Some(reader.text(&field, NO_LISTENER)?.into()),
        None => None,
    };
    let tls = match entry.get("tls") {
        Some(field) => Some(listener_tls(reader, &field)?),
        None => None,
    };
    Some(GatewayListener {
        index,
        name: reader.text(&name, NO_LISTENER)?.into(),
        hostname,
        port: reader.port(&port, NO_LISTENER)?,
        protocol: reader.text(&protocol, NO_LISTENER)?.into(),
        tls,
        allowed: allowed(reader, entry),
    })
}

fn listener_tls(reader: &Reader<'_>, field: &Field<'_>) -> Option<ListenerTls> {
    reader.mapping(field, NO_LISTENER)?;
    let is_passthrough = match field.get("mode") {
        None => false,
        Some(mode) => {
            let expected = "Terminate or Passthrough";
            reader.parse(&mode, expected, NO_LISTENER, |value| {
                match value.as_str()? {
                    "Terminate" => Some(false),
                    "Passthrough" => Some(true),
                    _ => None,
                }
            })?
        }
    };
    let certificates = reader.mappings(field, "certificateRefs", NO_REFERENCE);
    Some(ListenerTls {
        is_passthrough,
        certificates: certificates
            .iter()
            .filter_map(|entry| object_ref(reader, entry, ("", "Secret")))
            .collect(),
        validates_clients: field.get("frontendValidation").is_some(),
    })
}

/// What cannot be read allows nothing.
fn allowed(reader: &Reader<'_>, entry: &Field<'_>) -> AllowedRoutes {
    let effect = "no route is allowed";
    let none = AllowedRoutes {
        namespaces: RouteNamespaces::None,
        kinds: Vec::new(),
    };
    let Some(field) = entry.get("allowedRoutes") else {
        return AllowedRoutes {
            namespaces: RouteNamespaces::Same,
            ..none
        };
    };
    let read = || {
        reader.mapping(&field, effect)?;
        let kinds = reader.try_list(&field, "kinds", effect)?;
        let kinds = kinds.iter().map(|entry| {
            reader.mapping(entry, effect)?;
            let kind = reader.required(entry, "kind", effect)?;
            let group = text_or(reader, entry, "group", GROUP, effect)?;
            Some((group, reader.text(&kind, effect)?.into()))
        });
        let kinds = kinds.collect::<Option<_>>()?;
        let namespaces = namespaces(reader, &field, effect)?;
        Some(AllowedRoutes { namespaces, kinds })
    };
    read().unwrap_or(none)
}

fn namespaces(reader: &Reader<'_>, field: &Field<'_>, effect: &str) -> Option<RouteNamespaces> {
    let Some(field) = field.get("namespaces") else {
        return Some(RouteNamespaces::Same);
    };
    reader.mapping(&field, effect)?;
    let Some(from) = field.get("from") else {
        return Some(RouteNamespaces::Same);
    };
    match from.value.as_str() {
        Some("Same") => Some(RouteNamespaces::Same),
        Some("All") => Some(RouteNamespaces::All),
        Some("None") => Some(RouteNamespaces::None),
        Some("Selector") => {
            let labels = reader.required(&field, "selector", effect)?;
            selector(reader, &labels, effect).map(RouteNamespaces::Selector)
        }
        _ => reader.parse(&from, "All, Same, Selector or None", effect, |_| None),
    }
}

pub(super) fn grant(reader: &Reader<'_>) -> ReferenceGrant {
    let spec = reader.section("spec");
    let required = |entry: &Field<'_>, name| {
        let field = reader.required(entry, name, NO_GRANT)?;
        Some(Arc::from(reader.text(&field, NO_GRANT)?))
    };
    let from = reader.mappings(&spec, "from", NO_GRANT);
    let to = reader.mappings(&spec, "to", NO_GRANT);
    ReferenceGrant {
        key: reader.key.clone(),
        from: from
            .iter()
            .filter_map(|entry| {
                let group = text_or(reader, entry, "group", "", NO_GRANT)?;
                Some((
                    group,
                    required(entry, "kind")?,
                    required(entry, "namespace")?,
                ))
            })
            .collect(),
        to: to
            .iter()
            .filter_map(|entry| {
                let group = text_or(reader, entry, "group", "", NO_GRANT)?;
                // A name that cannot be read is not every name.
                let name = match entry.get("name").filter(|field| field.value != "") {
                    Some(field) => Some(reader.text(&field, NO_GRANT)?.into()),
                    None => None,
                };
                Some(GrantTo {
                    group,
                    kind: required(entry, "kind")?,
                    name,
                })
            })
            .collect(),
    }
}

/// A policy that cannot be read in full is kept with what lacks in `others`: dropped, its Service
/// would be spoken to in clear text.
pub(super) fn backend_tls(reader: &Reader<'_>) -> BackendTlsPolicy {
    let effect = "the Service is not spoken to";
    let spec = reader.section("spec");
    let targets = reader.mappings(&spec, "targetRefs", "this target has no policy");
    let targets = targets.iter().filter_map(|entry| {
        let target = object_ref(reader, entry, ("", "Service"))?;
        let section = match entry.get("sectionName") {
            // The whole Service, where the port cannot be read.
            Some(field) => reader.text(&field, effect).map(Into::into),
            None => None,
        };
        Some((target, section))
    });
    let targets = targets.collect();
    let mut others: Vec<Arc<str>> = Vec::new();
    let validation = reader.section_of(&spec, "validation", effect);
    let hostname = validation.as_ref().and_then(|validation| {
        let field = reader.required(validation, "hostname", effect)?;
        reader.text(&field, effect)
    });
    let mut authorities = Vec::new();
    match &validation {
        None => others.push("validation".into()),
        Some(validation) => {
            let entries = reader.mappings(validation, "caCertificateRefs", effect);
            authorities.extend(
                entries
                    .iter()
                    .filter_map(|entry| object_ref(reader, entry, ("", "ConfigMap"))),
            );
            for name in ["wellKnownCACertificates", "subjectAltNames"] {
                if let Some(field) = validation.get(name) {
                    let well_known = field.value.as_str().is_some();
                    if !well_known && !field.value.is_array() {
                        reader.problem(&field.path, "cannot be read", effect);
                    }
                    others.push(name.into());
                }
            }
        }
    }
    BackendTlsPolicy {
        key: reader.key.clone(),
        created_unix_seconds: reader.created(),
        generation: generation(reader),
        targets,
        hostname: hostname.unwrap_or_default().into(),
        authorities,
        others,
    }
}

/// ConfigMaps without authorities are of no use here, and most are.
pub(super) fn config_map(reader: &Reader<'_>) -> Option<ConfigMap> {
    let effect = "it holds no authorities";
    let data = reader.section_of(&reader.root(), "data", effect)?;
    let authorities = data.get("ca.crt")?;
    Some(ConfigMap {
        key: reader.key.clone(),
        authorities: reader.text(&authorities, effect)?.into(),
    })
}

fn generation(reader: &Reader<'_>) -> i64 {
    let Some(field) = reader.section("metadata").get("generation") else {
        return 0;
    };
    let effect = "status tells no generation";
    let parsed = reader.parse(&field, "a number", effect, Value::as_i64);
    parsed.unwrap_or_default()
}

/// A member that is text; `default` where it is absent, `None` where it cannot be read.
fn text_or(
    reader: &Reader<'_>,
    entry: &Field<'_>,
    name: &str,
    default: &str,
    effect: &str,
) -> Option<Arc<str>> {
    match entry.get(name) {
        Some(field) => reader.text(&field, effect).map(Into::into),
        None => Some(default.into()),
    }
}

/// A reference whose group and kind have defaults.
fn object_ref(
    reader: &Reader<'_>,
    entry: &Field<'_>,
    (group, kind): (&str, &str),
) -> Option<ObjectRef> {
    let name = reader.required(entry, "name", NO_REFERENCE)?;
    let namespace = match entry.get("namespace").filter(|field| field.value != "") {
        // Not the object's own namespace because another one cannot be read.
        Some(field) => Some(reader.text(&field, NO_REFERENCE)?.into()),
        None => None,
    };
    Some(ObjectRef {
        group: text_or(reader, entry, "group", group, NO_REFERENCE)?,
        kind: text_or(reader, entry, "kind", kind, NO_REFERENCE)?,
        namespace,
        name: reader.text(&name, NO_REFERENCE)?.into(),
    })
}
