//! `networking.k8s.io/v1`: Ingress and IngressClass.

use super::edge;
use super::read::{Field, Reader};
use crate::{
    Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, IngressTls, PathType,
    PortName, ServicePortRef,
};

const NOT_SERVED: &str = "this path is not served, the others are";
const NO_RULE: &str = "this rule is not served, the others are";
const NO_TLS: &str = "these hosts have no certificate";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

pub(super) fn ingress(reader: &Reader<'_>) -> Ingress {
    let spec = reader.section("spec");
    let class = spec.get("ingressClassName");
    let class = class.and_then(|field| reader.text(&field, "the Ingress names no class"));
    let effect = "requests that no rule takes are not served";
    let default = reader.section_of(&spec, "defaultBackend", effect);
    Ingress {
        key: reader.key.clone(),
        created_unix_seconds: reader.created(),
        annotations: edge::annotations(reader),
        class_name: class.map(Into::into),
        default_backend: default.and_then(|field| backend(reader, &field, effect)),
        tls: reader
            .mappings(&spec, "tls", NO_TLS)
            .iter()
            .map(|entry| tls(reader, entry))
            .collect(),
        rules: reader
            .mappings(&spec, "rules", NO_RULE)
            .iter()
            .filter_map(|entry| rule(reader, entry))
            .collect(),
    }
}

fn tls(reader: &Reader<'_>, entry: &Field<'_>) -> IngressTls {
    let hosts = reader.list(entry, "hosts", NO_TLS);
    let hosts = hosts.iter().filter_map(|field| reader.text(field, NO_TLS));
    let secret = entry.get("secretName").filter(|field| field.value != "");
    let secret = secret.and_then(|field| reader.text(&field, NO_TLS));
    IngressTls {
        hosts: hosts.map(Into::into).collect(),
        secret: secret.map(Into::into),
    }
}

fn rule(reader: &Reader<'_>, entry: &Field<'_>) -> Option<IngressRule> {
    let host = match entry.get("host").filter(|field| field.value != "") {
        // Never for every host because this one cannot be read.
        Some(field) => Some(reader.text(&field, NO_RULE)?.into()),
        None => None,
    };
    let http = reader.section_of(entry, "http", NO_RULE)?;
    let paths = reader.mappings(&http, "paths", NOT_SERVED);
    let paths = paths.iter().enumerate();
    Some(IngressRule {
        host,
        paths: paths
            .filter_map(|(index, entry)| path(reader, index, entry))
            .collect(),
    })
}

fn path(reader: &Reader<'_>, index: usize, entry: &Field<'_>) -> Option<IngressPath> {
    let path = match entry.get("path").filter(|field| field.value != "") {
        Some(field) => reader.text(&field, NOT_SERVED)?,
        None => "/",
    };
    let field = reader.required(entry, "pathType", NOT_SERVED)?;
    let expected = "Exact, Prefix or ImplementationSpecific";
    let path_type = reader.parse(&field, expected, NOT_SERVED, |value| {
        match value.as_str()? {
            "Exact" => Some(PathType::Exact),
            "Prefix" => Some(PathType::Prefix),
            "ImplementationSpecific" => Some(PathType::ImplementationSpecific),
            _ => None,
        }
    })?;
    let target = reader.required(entry, "backend", NOT_SERVED)?;
    Some(IngressPath {
        index,
        path: path.into(),
        path_type,
        backend: backend(reader, &target, NOT_SERVED)?,
    })
}

/// A backend that is a Service; others (`resource`) nobody here serves.
fn backend(reader: &Reader<'_>, field: &Field<'_>, effect: &str) -> Option<IngressBackend> {
    reader.mapping(field, effect)?;
    let service = reader.required(field, "service", effect)?;
    reader.mapping(&service, effect)?;
    let name = reader.required(&service, "name", effect)?;
    let port = reader.required(&service, "port", effect)?;
    reader.mapping(&port, effect)?;
    // 0 stands for "none" in objects that went through a Go client.
    let port = match port.get("number").filter(|field| field.value != 0) {
        Some(number) => ServicePortRef::Number(reader.port(&number, effect)?),
        None => {
            let name = reader.required(&port, "name", effect)?;
            ServicePortRef::Name(PortName::new(Some(reader.text(&name, effect)?)))
        }
    };
    Some(IngressBackend {
        service: reader.text(&name, effect)?.into(),
        port,
    })
}

/// A class without a controller is nobody's.
pub(super) fn class(reader: &Reader<'_>) -> IngressClass {
    let effect = "Ingresses of this class are nobody's";
    let controller = reader.required(&reader.section("spec"), "controller", effect);
    let controller = controller.and_then(|field| reader.text(&field, effect));
    let default = reader.annotation(DEFAULT_CLASS, "it is not the default class");
    IngressClass {
        key: reader.key.clone(),
        controller: controller.unwrap_or_default().into(),
        is_default: default.is_some_and(|field| field.value == "true"),
    }
}
