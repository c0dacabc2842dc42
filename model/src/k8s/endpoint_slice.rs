//! `discovery.k8s.io/v1/EndpointSlice`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::read::{Field, Reader, tight};
use crate::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, Hints, IpFamily, ObjectKey,
    Placement, PortName,
};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const NO_PORT: &str = "the slice's endpoints do not serve this port";
const NO_TRAFFIC: &str = "this endpoint gets no traffic";

/// `None` for slices of names (FQDN), which are nothing to a proxy.
pub(super) fn reduce(reader: &Reader<'_>) -> Option<EndpointSlice> {
    let root = reader.root();
    let left_out = "the slice is left out";
    let Some(field) = root.get("addressType") else {
        reader.problem("addressType", "is missing", left_out);
        return None;
    };
    let family = match reader.text(&field, left_out)? {
        "IPv4" => IpFamily::V4,
        "IPv6" => IpFamily::V6,
        "FQDN" => return None,
        other => {
            reader.problem(
                &field.path,
                format!("is `{other}`, not IPv4, IPv6 or FQDN"),
                left_out,
            );
            return None;
        }
    };
    let mut shared = BTreeSet::new();
    Some(EndpointSlice {
        key: reader.key.clone(),
        service: reader
            .label(SERVICE_NAME_LABEL, "the slice belongs to no Service")
            .map(|name| ObjectKey::new(&reader.key.namespace, name)),
        family,
        ports: tight(
            reader
                .mappings(&root, "ports", NO_PORT)
                .iter()
                .filter_map(|entry| port(reader, entry)),
        ),
        endpoints: tight(
            reader
                .mappings(&root, "endpoints", NO_TRAFFIC)
                .iter()
                .flat_map(|entry| endpoints(reader, entry, family, &mut shared)),
        ),
        triggered_unix_micros: reader
            .annotation(TRIGGER_TIME, "its latency is not known")
            .and_then(|field| reader.time(&field, "its latency is not known"))
            .map(jiff::Timestamp::as_microsecond),
    })
}

fn port(reader: &Reader<'_>, entry: &Field<'_>) -> Option<EndpointPort> {
    let name = match entry.get("name") {
        None => PortName::default(),
        Some(field) => PortName::new(Some(reader.text(&field, NO_PORT)?)),
    };
    let protocol = reader.protocol(entry, NO_PORT)?;
    let port = match entry.get("port") {
        None => None,
        Some(field) => Some(reader.port(&field, NO_PORT)?),
    };
    Some(EndpointPort {
        name,
        protocol,
        port,
    })
}

fn placement(reader: &Reader<'_>, entry: &Field<'_>) -> Placement {
    let text = |name: &str, effect| -> Option<Arc<str>> {
        let text = reader.text(&entry.get(name)?, effect)?;
        Some(text.into())
    };
    Placement {
        node_name: text("nodeName", "the endpoint counts as remote"),
        zone: text("zone", "the endpoint counts as in no zone"),
        hints: hints(reader, entry),
    }
}

fn hints(reader: &Reader<'_>, entry: &Field<'_>) -> Option<Hints> {
    let effect = "the endpoint counts as meant for nobody in particular";
    let hints = reader.section_of(entry, "hints", effect)?;
    let names = |name| -> Vec<Arc<str>> {
        let entries = reader.mappings(&hints, name, effect);
        let names = entries
            .iter()
            .filter_map(|entry| reader.text(&reader.required(entry, "name", effect)?, effect));
        names.map(Into::into).collect()
    };
    let hints = Hints {
        zones: names("forZones"),
        nodes: names("forNodes"),
    };
    (hints != Hints::default()).then_some(hints)
}

fn endpoints(
    reader: &Reader<'_>,
    entry: &Field<'_>,
    family: IpFamily,
    shared: &mut BTreeSet<Arc<Placement>>,
) -> Vec<Endpoint> {
    let given = reader.section_of(entry, "conditions", "the defaults hold");
    let flag = |name: &str| reader.flag(given.as_ref()?, name, "its default holds");
    let ready = flag("ready").unwrap_or(true);
    let conditions = EndpointConditions {
        ready,
        serving: flag("serving").unwrap_or(ready),
        terminating: flag("terminating").unwrap_or(false),
    };
    let placement = placement(reader, entry);
    let known = shared.get(&placement).map(Arc::clone);
    let placement = known.unwrap_or_else(|| {
        let placement = Arc::new(placement);
        shared.insert(Arc::clone(&placement));
        placement
    });
    let addresses = reader.list(entry, "addresses", NO_TRAFFIC);
    let addresses = addresses.into_iter().filter_map(|field| {
        let address = reader.address(&field, NO_TRAFFIC)?;
        if !is_usable(address, family) {
            reader.problem(
                &field.path,
                format!("is {address}, which is no endpoint's in this slice"),
                NO_TRAFFIC,
            );
            return None;
        }
        Some(Endpoint {
            address,
            conditions,
            placement: Arc::clone(&placement),
        })
    });
    addresses.collect()
}

fn is_usable(address: IpAddr, family: IpFamily) -> bool {
    let reachable = !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
    reachable && IpFamily::of(address) == family
}
