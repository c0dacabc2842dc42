//! Services of a test, in a few words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::PodSpec;

/// Namespace of objects that name none.
const NAMESPACE: &str = "lab";

/// A Service with its endpoints.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    namespace: String,
    name: String,
    number: u8,
    ports: Vec<Value>,
    target_ports: Vec<Value>,
    has_node_port: bool,
    endpoints: Vec<(String, Condition)>,
    extra: Vec<(&'static str, String, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Ready,
    Terminating,
    NotReady,
}

impl ServiceSpec {
    /// A Service with the cluster IPs 10.96.0.`number` and fd00:96::`number`.
    pub fn new(name: &str, number: u8) -> Self {
        Self {
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
            number,
            ports: Vec::new(),
            target_ports: Vec::new(),
            has_node_port: false,
            endpoints: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// In another namespace than the others.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// A TCP port.
    #[must_use]
    pub fn tcp(self, port: u16, target: u16) -> Self {
        self.port("TCP", port, target, None)
    }

    /// A UDP port.
    #[must_use]
    pub fn udp(self, port: u16, target: u16) -> Self {
        self.port("UDP", port, target, None)
    }

    /// A TCP and a UDP port, both on a node port as well.
    #[must_use]
    pub fn both_on_nodes(self, port: u16, target: u16, node_port: u16) -> Self {
        self.port("TCP", port, target, Some(node_port))
            .port("UDP", port, target, Some(node_port))
    }

    /// An SCTP port, on a node port as well.
    #[must_use]
    pub fn sctp_on_nodes(self, port: u16, target: u16, node_port: u16) -> Self {
        self.port("SCTP", port, target, Some(node_port))
    }

    /// Replaces the endpoints: names of pods, all ready.
    #[must_use]
    pub fn endpoints(mut self, pods: &[&str]) -> Self {
        self.endpoints = pods
            .iter()
            .map(|pod| ((*pod).to_owned(), Condition::Ready))
            .collect();
        self
    }

    /// Adds an endpoint that is being deleted and still answers.
    #[must_use]
    pub fn terminating(mut self, pod: &str) -> Self {
        self.endpoints
            .push((pod.to_owned(), Condition::Terminating));
        self
    }

    /// Adds an endpoint that is not ready.
    #[must_use]
    pub fn not_ready(mut self, pod: &str) -> Self {
        self.endpoints.push((pod.to_owned(), Condition::NotReady));
        self
    }

    /// A field of `spec`, in place of what it would be.
    #[must_use]
    pub fn spec(self, name: &str, value: impl Into<Value>) -> Self {
        self.with("/spec", name, value.into())
    }

    /// An annotation of the Service and of its EndpointSlices.
    #[must_use]
    pub fn annotation(self, name: &str, value: &str) -> Self {
        self.with("/metadata/annotations", name, value.into())
    }

    /// A Service of type LoadBalancer with these addresses.
    #[must_use]
    pub fn load_balancer(self, addresses: &[IpAddr]) -> Self {
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        self.spec("type", "LoadBalancer").with(
            "/status",
            "loadBalancer",
            json!({"ingress": ingress}),
        )
    }

    fn with(mut self, section: &'static str, name: &str, value: Value) -> Self {
        self.extra.push((section, name.to_owned(), value));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster IP of a family.
    pub fn ip(&self, v6: bool) -> IpAddr {
        if v6 {
            Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, self.number.into()).into()
        } else {
            Ipv4Addr::new(10, 96, 0, self.number).into()
        }
    }

    /// Name of its file.
    pub fn file(&self) -> String {
        format!("{}.yaml", self.name)
    }

    fn port(mut self, protocol: &str, port: u16, target: u16, node_port: Option<u16>) -> Self {
        let name = format!("{}-{port}", protocol.to_lowercase());
        let mut of_service =
            json!({"name": name, "protocol": protocol, "port": port, "targetPort": target});
        if let Some(node_port) = node_port {
            of_service["nodePort"] = node_port.into();
            self.has_node_port = true;
        }
        self.ports.push(of_service);
        self.target_ports
            .push(json!({"name": name, "protocol": protocol, "port": target}));
        self
    }

    /// The Service and an EndpointSlice for each family.
    pub(super) fn documents<'a>(
        &self,
        find: impl Fn(&str) -> Option<&'a PodSpec>,
    ) -> Result<Vec<Value>> {
        let Self {
            namespace,
            name,
            ports,
            target_ports,
            has_node_port,
            endpoints,
            extra,
            ..
        } = self;
        let mut documents = vec![json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "annotations": {}},
            "status": {},
            "spec": {
                "type": if *has_node_port { "NodePort" } else { "ClusterIP" },
                "clusterIP": self.ip(false),
                "clusterIPs": [self.ip(false), self.ip(true)],
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "ports": ports,
            },
        })];
        for (section, name, value) in extra {
            if let Some(Value::Object(members)) = documents[0].pointer_mut(section) {
                members.insert(name.clone(), value.clone());
            }
        }
        let annotations = documents[0]["metadata"]["annotations"].clone();
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let mut entries = Vec::new();
            for (pod, condition) in endpoints {
                let spec = find(pod)
                    .with_context(|| format!("service {name}: the lab has no pod {pod}"))?;
                entries.extend(endpoint(spec, *condition, v6));
            }
            documents.push(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-{}", family.to_lowercase()),
                    "namespace": namespace,
                    "annotations": annotations,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": family,
                "ports": target_ports,
                "endpoints": entries,
            }));
        }
        Ok(documents)
    }
}

fn endpoint(pod: &PodSpec, condition: Condition, v6: bool) -> Option<Value> {
    let address = pod
        .addresses
        .iter()
        .find(|address| address.is_ipv6() == v6)?;
    Some(json!({
        "addresses": [address],
        "nodeName": pod.node,
        "conditions": {
            "ready": condition == Condition::Ready,
            "serving": condition != Condition::NotReady,
            "terminating": condition == Condition::Terminating,
        },
    }))
}
