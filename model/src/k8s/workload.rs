//! `v1/Pod`, `v1/Namespace`, `v1/Secret`, `v1/Endpoints`.

use std::num::NonZeroU16;

use super::read::Reader;
use crate::{EndpointsAnnotations, Namespace, ObjectKey, Pod, PortName, Protocol, Secret};

pub(super) fn pod(reader: &Reader<'_>) -> Pod {
    let (spec, status) = (reader.section("spec"), reader.section("status"));
    let mut fields: Vec<_> = status
        .list("podIPs")
        .iter()
        .filter_map(|entry| entry.get("ip"))
        .collect();
    if fields.is_empty() {
        fields.extend(status.get("podIP").filter(|field| field.value != ""));
    }
    let phase = status.get("phase");
    Pod {
        key: reader.key.clone(),
        labels: reader.strings(&reader.section("metadata"), "labels"),
        node_name: spec
            .get("nodeName")
            .and_then(|field| reader.text(&field, "the pod counts as unscheduled"))
            .map(Into::into),
        host_network: spec
            .get("hostNetwork")
            .is_some_and(|field| field.value == true),
        addresses: fields
            .iter()
            .filter_map(|field| reader.address(field, "it is ignored"))
            .collect(),
        finished: phase.is_some_and(|field| field.value == "Succeeded" || field.value == "Failed"),
        ports: ports(reader),
    }
}

fn ports(reader: &Reader<'_>) -> Vec<(PortName, Protocol, NonZeroU16)> {
    let effect = "the port cannot be referred to by its name";
    let mut ports = Vec::new();
    for entry in reader
        .section("spec")
        .list("containers")
        .iter()
        .flat_map(|container| container.list("ports"))
    {
        let Some(name) = entry
            .get("name")
            .and_then(|field| reader.text(&field, effect))
        else {
            continue;
        };
        let number = entry
            .get("containerPort")
            .and_then(|field| reader.port(&field, effect));
        if let (Some(protocol), Some(number)) = (reader.protocol(&entry, effect), number) {
            ports.push((PortName::new(Some(name)), protocol, number));
        }
    }
    ports
}

pub(super) fn namespace(reader: &Reader<'_>) -> Namespace {
    let labels = reader.strings(&reader.section("metadata"), "labels");
    Namespace {
        key: ObjectKey::cluster_scoped(&reader.key.name),
        labels,
    }
}

pub(super) fn secret(reader: &Reader<'_>) -> Secret {
    let root = reader.root();
    let secret_type = root
        .get("type")
        .and_then(|field| reader.text(&field, "it counts as Opaque"));
    Secret {
        key: reader.key.clone(),
        secret_type: secret_type.unwrap_or("Opaque").into(),
        data: reader.strings(&root, "data"),
    }
}

pub(super) fn endpoints(reader: &Reader<'_>) -> EndpointsAnnotations {
    let annotations = reader.strings(&reader.section("metadata"), "annotations");
    EndpointsAnnotations {
        key: reader.key.clone(),
        annotations,
    }
}
