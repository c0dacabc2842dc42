//! `v1/Pod`, `v1/Namespace`, `v1/Secret`, `v1/Endpoints`.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::edge;
use super::read::{Field, Reader};
use crate::{EndpointsAnnotations, HostPort, Namespace, Pod, PodUid, PortName, Protocol, Secret};

const UNKNOWN_ADDRESS: &str = "no policy knows the pod by this address";
const UNNAMED: &str = "the port cannot be referred to by its name";
const UNREADABLE: &str = "the value is left out";
const UNLABELLED: &str = "no selector can find it";

pub(super) fn pod(reader: &Reader<'_>) -> Pod {
    let (spec, status) = (reader.section("spec"), reader.section("status"));
    let mut fields: Vec<_> = reader
        .mappings(&status, "podIPs", UNKNOWN_ADDRESS)
        .iter()
        .filter_map(|entry| entry.get("ip"))
        .collect();
    if fields.is_empty() {
        fields.extend(status.get("podIP").filter(|field| field.value != ""));
    }
    let host_network = reader.flag(&spec, "hostNetwork", "its addresses count as its own");
    let phase = status
        .get("phase")
        .and_then(|field| reader.text(&field, "the pod counts as running"));
    Pod {
        key: reader.key.clone(),
        uid: uid(reader),
        labels: reader.strings(&reader.section("metadata"), "labels", UNLABELLED),
        node_name: spec
            .get("nodeName")
            .and_then(|field| reader.text(&field, "the pod counts as unscheduled"))
            .map(Into::into),
        host_network: host_network.unwrap_or(false),
        addresses: fields
            .iter()
            .filter_map(|field| reader.address(field, UNKNOWN_ADDRESS))
            .collect(),
        finished: matches!(phase, Some("Succeeded" | "Failed")),
        ports: ports(reader, &spec),
        host_ports: host_ports(reader, &spec),
        created_unix_seconds: reader.created(),
        edge: None,
    }
}

fn uid(reader: &Reader<'_>) -> Option<PodUid> {
    let of_a_file = reader
        .annotation("kubernetes.io/config.hash", "its processes are not known")
        .and_then(|field| field.value.as_str());
    PodUid::parse(of_a_file.or(reader.uid())?)
}

/// Those that run as long as the pod: sidecars are among the `initContainers` (KEP-753).
fn containers<'a>(reader: &Reader<'a>, spec: &Field<'a>) -> Vec<Field<'a>> {
    let mut containers = reader.mappings(spec, "containers", UNNAMED);
    let first = reader.mappings(spec, "initContainers", UNNAMED);
    let is_sidecar = |container: &Field<'_>| {
        container
            .get("restartPolicy")
            .is_some_and(|field| field.value == "Always")
    };
    containers.extend(first.into_iter().filter(is_sidecar));
    containers
}

fn host_ports(reader: &Reader<'_>, spec: &Field<'_>) -> Vec<HostPort> {
    const NOT_SERVED: &str = "the host port is not served";
    let containers = containers(reader, spec);
    let ports = containers
        .iter()
        .flat_map(|container| reader.mappings(container, "ports", UNNAMED));
    let host_port = |entry: Field<'_>| {
        // 0 stands for "none" in objects that went through a Go client.
        let host_port = entry.get("hostPort").filter(|field| field.value != 0)?;
        let host_ip = match entry.get("hostIP").filter(|field| field.value != "") {
            Some(field) => Some(reader.address(&field, NOT_SERVED)?),
            None => None,
        };
        let container_port = reader.required(&entry, "containerPort", NOT_SERVED)?;
        Some(HostPort {
            protocol: reader.protocol(&entry, NOT_SERVED)?,
            host_port: reader.port(&host_port, NOT_SERVED)?,
            container_port: reader.port(&container_port, NOT_SERVED)?,
            host_ip: host_ip.filter(|address| !address.is_unspecified()),
        })
    };
    ports.filter_map(host_port).collect()
}

fn ports(reader: &Reader<'_>, spec: &Field<'_>) -> Vec<(PortName, Protocol, NonZeroU16)> {
    let mut ports = Vec::new();
    for entry in containers(reader, spec)
        .iter()
        .flat_map(|container| reader.mappings(container, "ports", UNNAMED))
    {
        let name = entry.get("name");
        let Some(name) = name.and_then(|field| reader.text(&field, UNNAMED)) else {
            continue;
        };
        let number = entry
            .get("containerPort")
            .and_then(|field| reader.port(&field, UNNAMED));
        if let (Some(protocol), Some(number)) = (reader.protocol(&entry, UNNAMED), number) {
            ports.push((PortName::new(Some(name)), protocol, number));
        }
    }
    ports
}

pub(super) fn namespace(reader: &Reader<'_>) -> Namespace {
    let mut labels = reader.strings(&reader.section("metadata"), "labels", UNLABELLED);
    // API servers set it; a manifest need not.
    let name = labels.entry("kubernetes.io/metadata.name".into());
    name.or_insert_with(|| Arc::clone(&reader.key.name));
    Namespace {
        key: reader.key.clone(),
        labels,
        annotations: None,
        created_unix_seconds: reader.created(),
    }
}

pub(super) fn secret(reader: &Reader<'_>) -> Secret {
    let root = reader.root();
    let secret_type = root
        .get("type")
        .and_then(|field| reader.text(&field, "it counts as Opaque"));
    let mut data = BTreeMap::new();
    // A manifest may give values as they are; the API server lets these win.
    for (name, is_encoded) in [("data", true), ("stringData", false)] {
        let members = reader.members(&root, name, UNREADABLE);
        for (key, field) in members.into_iter().flatten() {
            if let Some(bytes) = secret_bytes(reader, &field, is_encoded) {
                data.insert(key.into(), bytes);
            }
        }
    }
    Secret {
        key: reader.key.clone(),
        secret_type: secret_type.unwrap_or("Opaque").into(),
        data,
    }
}

fn secret_bytes(reader: &Reader<'_>, field: &Field<'_>, is_encoded: bool) -> Option<Arc<[u8]>> {
    let text = reader.text(field, UNREADABLE)?;
    if !is_encoded {
        return Some(text.as_bytes().into());
    }
    match BASE64_STANDARD.decode(text) {
        Ok(bytes) => Some(bytes.into()),
        Err(_) => {
            reader.problem(&field.path, "is not base64", UNREADABLE);
            None
        }
    }
}

pub(super) fn endpoints(reader: &Reader<'_>) -> EndpointsAnnotations {
    EndpointsAnnotations {
        key: reader.key.clone(),
        annotations: edge::annotations(reader),
        created_unix_seconds: reader.created(),
    }
}
