//! NodePort and LoadBalancer Services (kube2lb).
//!
//! Every port listens at the Service's load balancer address, or at the configured one. Mode `http`
//! serves the Service's names, `https` and `tls` pass hosts through by SNI, `tcp` passes the whole
//! port on, and any other word is for templates that look for it.

mod annotations;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{
    Cluster, Kind, NodeAddressType, ObjectKey, Problem, Protocol, Service, ServicePort, ServiceType,
};

use self::annotations::Annotated;
use super::{spoken, target};
use crate::edge::ServicesConvention;
use crate::edge::claim::{Claims, HttpClaim, Members, SniClaim, TcpClaim};
use crate::edge::members::for_clients;
use crate::edge::plan::{
    Access, Action, BackendProtocol, Balance, Forward, HttpRule, Listen, Origin, RequestMatch,
    ServiceInformation, Timeouts, Unknown,
};
use crate::edge::value::{HostMatch, Id, PathMatch};

const LEFT_OUT: &str = "the Service is left out";

/// What Services claim.
pub(super) fn claims(cluster: &Cluster, convention: &ServicesConvention) -> Claims {
    let mut claims = Claims::default();
    for (key, service) in cluster.services() {
        let is_exposed = matches!(
            service.service_type,
            ServiceType::NodePort | ServiceType::LoadBalancer
        );
        if !is_exposed {
            continue;
        }
        match address(service, convention) {
            Ok(address) => claims.service(convention, key, service, address),
            Err(problem) => claims.problems.push(*problem),
        }
    }
    claims
        .views
        .nodes
        .extend(for_clients(cluster).into_iter().filter_map(|(key, node)| {
            let mut addresses = node.addresses.iter();
            let internal = addresses.find(|at| at.address_type == NodeAddressType::InternalIp)?;
            Some((Arc::clone(&key.name), internal.address))
        }));
    claims
}

/// Where the Service listens, if it makes sense there.
fn address(service: &Service, convention: &ServicesConvention) -> Result<IpAddr, Box<Problem>> {
    let problem = |field: &str, message: String| {
        let key = service.key.clone();
        Box::new(Problem::new(Kind::Service, key, field, message, LEFT_OUT))
    };
    let (first, last) = convention.ephemeral_ports;
    for (index, port) in service.ports.iter().enumerate() {
        if (first..=last).contains(&port.port.get()) {
            let message = format!(
                "is {}, which the kernel gives to outgoing connections ({first} to {last}); \
                 choose another port, or change net.ipv4.ip_local_port_range",
                port.port
            );
            return Err(problem(&format!("spec.ports[{index}].port"), message));
        }
    }
    let edge = service.edge.as_ref();
    let own = edge.and_then(|edge| edge.load_balancer_ip.as_deref());
    let own = own.filter(|_| service.service_type == ServiceType::LoadBalancer);
    let Some(own) = own else {
        return Ok(convention.default_address);
    };
    let Ok(address) = own.parse() else {
        let message = format!("is {own:?}, not an IP address");
        return Err(problem("spec.loadBalancerIP", message));
    };
    match &convention.local_addresses {
        Some(local) if !local.contains(&address) => Err(problem(
            "spec.loadBalancerIP",
            format!(
                "is {address}, which this machine does not have; \
                 add it, or set net.ipv4.ip_nonlocal_bind"
            ),
        )),
        Some(_) | None => Ok(address),
    }
}

impl Claims {
    fn service(
        &mut self,
        convention: &ServicesConvention,
        key: &ObjectKey,
        service: &Service,
        address: IpAddr,
    ) {
        let annotated = Annotated::read(service, &mut self.problems);
        for (index, port) in service.ports.iter().enumerate() {
            let listen = Listen {
                address,
                port: port.port,
            };
            let origin = Origin {
                created_unix_seconds: service.created_unix_seconds,
                key: key.clone(),
                kind: Kind::Service,
                field: format!("spec.ports[{index}]").into(),
            };
            let number = port.port.to_string();
            let protocol = port.protocol.to_string();
            let id = Id::of(&["service", &key.namespace, &key.name, &number, &protocol]);
            let mode = annotated.mode(port, &convention.default_mode);
            let made = annotations::names(convention, service, port, &mode, &mut self.problems);
            let information = ServiceInformation {
                key: key.clone(),
                listen,
                mode,
                protocol: port.protocol,
                node_port: port.node_port,
                names: [made, annotated.external.clone()].concat(),
                external: annotated.external.clone(),
                timeout: annotated.timeout(port),
                backend: id,
            };
            self.port(convention, service, port, information, &origin);
        }
    }

    fn port(
        &mut self,
        convention: &ServicesConvention,
        service: &Service,
        port: &ServicePort,
        information: ServiceInformation,
        origin: &Origin,
    ) {
        let mode = information.mode.as_str();
        let speaks = if mode == "http" {
            BackendProtocol::Http
        } else {
            BackendProtocol::Tcp
        };
        let id = &information.backend;
        let Some(members) = members(convention, origin, port, information.node_port) else {
            let message = "is absent, though nodes are the servers";
            let field = format!("{}.nodePort", origin.field);
            let effect = "this port is not served, the others are";
            let problem = Problem::new(Kind::Service, origin.key.clone(), field, message, effect);
            self.problems.push(problem);
            return;
        };
        let balance = Balance::LeastConnections;
        let mut spec = target::backend(id.clone(), speaks, balance, origin.clone(), members);
        spec.backend.timeouts.server = information.timeout;
        spoken::put_of(&mut spec, service, Some(&port.name), &mut self.problems);
        self.backends.insert(id.clone(), spec);
        let forward = Forward::to(id.clone());
        let listen = information.listen;
        let owner = &origin.key.namespace;
        match mode {
            _ if port.protocol != Protocol::Tcp => {
                let message = format!(
                    "is {}, which the edge serves through templates only",
                    port.protocol
                );
                let field = format!("{}.protocol", origin.field);
                let effect = "this port is not served, the others are";
                let problem =
                    Problem::new(Kind::Service, origin.key.clone(), field, message, effect);
                self.problems.push(problem);
            }
            "http" => self
                .http
                .extend(information.names.iter().map(|host| HttpClaim {
                    listen,
                    owner: Arc::clone(owner),
                    is_tls: false,
                    host: host.clone(),
                    rule: rule(id, host, forward.clone(), origin),
                    unknown_path: Unknown::Status(404),
                })),
            "https" | "tls" => self
                .sni
                .extend(information.names.iter().map(|host| SniClaim {
                    listen,
                    owner: Arc::clone(owner),
                    host: host.clone(),
                    forward: forward.clone(),
                    origin: origin.clone(),
                })),
            "tcp" => self.tcp.push(TcpClaim {
                listen,
                forward,
                origin: origin.clone(),
            }),
            _ => {}
        }
        self.views.services.push(information);
    }
}

fn members(
    convention: &ServicesConvention,
    origin: &Origin,
    port: &ServicePort,
    node_port: Option<NonZeroU16>,
) -> Option<Members> {
    if convention.nodes_as_servers {
        return Some(Members::Nodes {
            node_port: node_port?,
        });
    }
    Some(Members::Endpoints {
        service: origin.key.clone(),
        port: Some(port.name.clone()),
    })
}

fn rule(id: &Id, host: &HostMatch, forward: Forward, origin: &Origin) -> HttpRule {
    HttpRule {
        id: Id::of(&[id.as_str(), &host.to_string()]),
        matches: RequestMatch::path(PathMatch::all()),
        access: Access::default(),
        filters: Vec::new(),
        action: Action::Forward(forward),
        timeouts: Timeouts::default(),
        max_body_bytes: None,
        origin: origin.clone(),
    }
}
