//! Many Services, as numbers and as manifests. The rulesets are made of the same numbers.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use serde_json::json;
use tests::harness::{AgentOptions, Manifests};

/// Endpoints of each Service.
pub(crate) const ENDPOINTS: u32 = 5;
/// Networks of the lab's pods.
pub(crate) const POD_NETWORK: &str = "10.244.0.0/16";
/// Services in one file, as `kubectl get -o yaml` of a namespace might give.
const SERVICES_A_FILE: usize = 100;
/// File of the Service that the bench changes, alone in it.
const CHANGED_FILE: &str = "changed.yaml";
/// Number of that Service.
pub(crate) const CHANGED: u32 = 0;

/// An agent that enforces no policies, as those that it is compared with.
pub(crate) fn proxy_alone() -> AgentOptions {
    AgentOptions::flags(&["--run-firewall=false"])
}

/// A Service with one TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) frontend: SocketAddrV4,
    pub(crate) node_port: Option<u16>,
    /// An external address, whose clients the backends' nodes answer themselves.
    pub(crate) direct_return: Option<Ipv4Addr>,
    /// Whether clients keep their endpoints by consistent hashing.
    pub(crate) hashed: bool,
    pub(crate) endpoints: Vec<SocketAddrV4>,
}

impl Service {
    /// One of many, with cluster IP in 10.96.0.0/16 and endpoints in 10.128.0.0/9 that are no pods
    /// of the lab.
    fn numbered(number: u32, endpoints: u32) -> Self {
        let endpoint = |index| Ipv4Addr::from_bits(0x0a80_0000 + 1 + number * endpoints + index);
        Self {
            name: format!("service-{number}"),
            frontend: SocketAddrV4::new(Ipv4Addr::from_bits(0x0a60_0000 + 1 + number), 80),
            node_port: None,
            direct_return: None,
            hashed: false,
            endpoints: (0..endpoints)
                .map(|index| SocketAddrV4::new(endpoint(index), 8080))
                .collect(),
        }
    }
}

/// `count` Services of `endpoints` endpoints each.
pub(crate) fn services(count: u32, endpoints: u32) -> Vec<Service> {
    (0..count)
        .map(|number| Service::numbered(number, endpoints))
        .collect()
}

/// Another address for the last endpoint of the Service that is changed.
pub(crate) fn other(round: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x0af0_0000 + 1 + round), 8080)
}

/// Writes Services with their endpoints.
pub(crate) fn write(manifests: &Manifests, services: &[Service]) -> Result<()> {
    for (number, services) in services.chunks(SERVICES_A_FILE).enumerate() {
        let texts: Vec<_> = services.iter().map(text).collect();
        manifests.write_text(&format!("services-{number:05}.yaml"), &texts.concat())?;
    }
    Ok(())
}

/// The one that is changed.
pub(crate) fn changed() -> Service {
    Service::numbered(CHANGED, ENDPOINTS)
}

/// Writes the one that is changed, with another last endpoint where one is given.
pub(crate) fn write_changed(
    manifests: &Manifests,
    mut service: Service,
    last: Option<SocketAddrV4>,
) -> Result<()> {
    if let (Some(endpoint), Some(last)) = (service.endpoints.last_mut(), last) {
        *endpoint = last;
    }
    manifests.write_text(CHANGED_FILE, &text(&service))
}

/// Both objects as JSON, which is YAML, on a line each: what an API server sends is no YAML either.
fn text(service: &Service) -> String {
    let Service {
        name,
        frontend,
        node_port,
        direct_return,
        hashed,
        endpoints,
    } = service;
    let target = endpoints
        .first()
        .map_or(frontend.port(), SocketAddrV4::port);
    let mut port = json!({
        "name": "http",
        "protocol": "TCP",
        "port": frontend.port(),
        "targetPort": target,
    });
    if let Some(number) = node_port {
        port["nodePort"] = json!(number);
    }
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "addresses": [endpoint.ip()],
                "nodeName": "node2",
                "conditions": {"ready": true},
            })
        })
        .collect();
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {
            "type": node_port.map_or("ClusterIP", |_| "NodePort"),
            "clusterIP": frontend.ip(),
            "clusterIPs": [frontend.ip()],
            "ports": [port],
        },
    });
    if let Some(external) = direct_return {
        service["spec"]["externalIPs"] = json!([external]);
        service["metadata"]["annotations"] = json!({"fairlead.io/dsr": "true"});
    }
    if *hashed {
        service["metadata"]["annotations"] = json!({"fairlead.io/scheduler": "mh"});
    }
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-x7x2b"),
            "namespace": "bench",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": target}],
        "endpoints": endpoints,
    });
    format!("---\n{service}\n---\n{slice}\n")
}
