//! What only edge proxies read of Services, Pods and Namespaces.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::read::{Field, Reader};
use crate::{
    Annotations, ContainerPort, PodEdge, PodProbe, PortName, ProbeAction, ProbePort, ServiceEdge,
};

const IGNORED: &str = "the annotation is ignored";
const UNDECLARED: &str = "the port counts as not declared";
const UNCHECKED: &str = "the probe is not taken as a health check";

/// Written by kubectl, as long as the object itself, and of no use here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn annotations(reader: &Reader<'_>) -> Annotations {
    let metadata = reader.section("metadata");
    let mut annotations = reader.strings(&metadata, "annotations", IGNORED);
    annotations.remove(LAST_APPLIED);
    annotations
}

pub(super) fn service(reader: &Reader<'_>) -> ServiceEdge {
    let address = reader.section("spec").get("loadBalancerIP");
    let address = address.filter(|field| field.value != "");
    let status = reader.section("status");
    let balancer = reader.section_of(&status, "loadBalancer", "it is taken as absent");
    let ingress = balancer.iter().flat_map(|balancer| {
        let effect = "this address is not told";
        let entries = reader.mappings(balancer, "ingress", effect);
        let ips = entries.into_iter().filter_map(|entry| entry.get("ip"));
        ips.filter_map(|field| reader.address(&field, effect))
            .collect::<Vec<_>>()
    });
    ServiceEdge {
        annotations: annotations(reader),
        load_balancer_ip: address
            .and_then(|field| reader.text(&field, "the Service has no address of its own"))
            .map(Into::into),
        ingress_ips: ingress.collect(),
        app_protocols: app_protocols(reader),
    }
}

fn app_protocols(reader: &Reader<'_>) -> BTreeMap<PortName, Arc<str>> {
    let effect = "the port's protocol is taken as not told";
    let ports = reader.mappings(&reader.section("spec"), "ports", effect);
    let told = ports.iter().filter_map(|entry| {
        let protocol = reader.text(&entry.get("appProtocol")?, effect)?;
        let name = match entry.get("name") {
            Some(name) => Some(reader.text(&name, effect)?),
            None => None,
        };
        Some((PortName::new(name), protocol.into()))
    });
    told.collect()
}

pub(super) fn pod(reader: &Reader<'_>) -> PodEdge {
    let (metadata, spec) = (reader.section("metadata"), reader.section("spec"));
    let status = reader.section("status");
    let is_running = status
        .get("phase")
        .is_some_and(|phase| phase.value == "Running");
    let conditions = reader.mappings(&status, "conditions", "the pod counts as not ready");
    let is = |condition: &Field<'_>, name, value| {
        condition
            .get(name)
            .is_some_and(|field| field.value == value)
    };
    let containers = reader.mappings(&spec, "containers", UNDECLARED);
    PodEdge {
        annotations: annotations(reader),
        is_running,
        is_ready: conditions
            .iter()
            .any(|condition| is(condition, "type", "Ready") && is(condition, "status", "True")),
        is_terminating: metadata.get("deletionTimestamp").is_some(),
        ports: containers
            .iter()
            .flat_map(|container| ports(reader, container))
            .collect(),
    }
}

fn ports(reader: &Reader<'_>, container: &Field<'_>) -> Vec<ContainerPort> {
    let probe = ["readinessProbe", "livenessProbe"]
        .iter()
        .find_map(|name| reader.section_of(container, name, UNCHECKED));
    let probe = probe.and_then(|field| self::probe(reader, &field));
    let entries = reader.mappings(container, "ports", UNDECLARED);
    let port = |entry: &Field<'_>| {
        let number = entry.get("containerPort")?;
        Some(ContainerPort {
            port: reader.port(&number, UNDECLARED)?,
            protocol: reader.protocol(entry, UNDECLARED)?,
            probe: probe.clone(),
        })
    };
    entries.iter().filter_map(port).collect()
}

/// Numbers that are absent have the API's defaults.
fn probe(reader: &Reader<'_>, field: &Field<'_>) -> Option<PodProbe> {
    let number = |name, default: u32| match field.get(name) {
        None => Some(default),
        Some(field) => reader.parse(&field, "a number from 1", UNCHECKED, |value: &Value| {
            u32::try_from(value.as_u64()?)
                .ok()
                .filter(|number| *number > 0)
        }),
    };
    let seconds = |number: u32| Duration::from_secs(number.into());
    Some(PodProbe {
        action: action(reader, field)?,
        period: seconds(number("periodSeconds", 10)?),
        timeout: seconds(number("timeoutSeconds", 1)?),
        successes: number("successThreshold", 1)?,
        failures: number("failureThreshold", 3)?,
    })
}

fn action(reader: &Reader<'_>, field: &Field<'_>) -> Option<ProbeAction> {
    if let Some(get) = reader.section_of(field, "httpGet", UNCHECKED) {
        let path = get.get("path").filter(|path| path.value != "");
        let path = match path {
            Some(path) => reader.text(&path, UNCHECKED)?.into(),
            None => "/".into(),
        };
        return Some(ProbeAction::Http {
            path,
            port: port(reader, &get)?,
            is_tls: get
                .get("scheme")
                .is_some_and(|scheme| scheme.value == "HTTPS"),
        });
    }
    let tcp = reader.section_of(field, "tcpSocket", UNCHECKED);
    Some(match tcp {
        Some(tcp) => ProbeAction::Tcp(port(reader, &tcp)?),
        None => ProbeAction::Other,
    })
}

fn port(reader: &Reader<'_>, action: &Field<'_>) -> Option<ProbePort> {
    let field = reader.required(action, "port", UNCHECKED)?;
    reader.parse(&field, "a port's number or name", UNCHECKED, |value| {
        if let Some(name) = value.as_str() {
            return Some(ProbePort::Name(PortName::new(Some(name))));
        }
        let number = NonZeroU16::new(u16::try_from(value.as_u64()?).ok()?)?;
        Some(ProbePort::Number(number))
    })
}
