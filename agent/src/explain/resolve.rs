//! From names to addresses and ports.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use model::{ClusterIps, IpFamily, Protocol, Service, ServicePort, ServiceType};

use super::ask::{Destination, Peer, PortChoice};
use super::client::{self, Client};
use super::{ExplainError, Explanation, Facts, Question, Step, Target, Topic, Verdict};

/// What a question is about.
pub(super) enum Resolved {
    /// A packet.
    Packet { client: Client, target: Target },
    /// A Service without an address of its own.
    NotBalanced(Explanation),
}

/// Finds the addresses and ports of a question.
pub(super) fn resolve(question: &Question, facts: &Facts<'_>) -> Result<Resolved, ExplainError> {
    let own = client::addresses(&question.from, facts)?;
    let (offered, port, protocol) = match &question.to {
        Destination::Address(address) => (
            vec![address.ip()],
            address.port(),
            question.protocol.unwrap_or(Protocol::Tcp),
        ),
        Destination::Service { key, port } => {
            let service = facts.cluster.service(key);
            let service = service.ok_or_else(|| ExplainError::UnknownService(key.clone()))?;
            let addresses = match (&service.cluster_ips, without_address(service)) {
                (ClusterIps::Assigned(addresses), None) => addresses.clone(),
                (_, why) => return Ok(not_balanced(service, why.unwrap_or_default())),
            };
            let (port, protocol) = port_of(service, port.as_ref(), question.protocol)?;
            (addresses, port.get(), protocol)
        }
    };
    let pair = offered.iter().find_map(|to| {
        let of_family = |from: &&IpAddr| IpFamily::of(**from) == IpFamily::of(*to);
        Some((*own.iter().find(of_family)?, *to))
    });
    let (from, to) = pair.ok_or_else(|| match &question.from.peer {
        Peer::Pod(key) => ExplainError::PodWithoutAddress(key.clone()),
        Peer::Address(_) => ExplainError::Families {
            from: question.from.to_string(),
            to: question.to.to_string(),
        },
    })?;
    Ok(Resolved::Packet {
        client: client::at(from, &question.from, facts),
        target: Target {
            address: SocketAddr::new(to, port),
            protocol,
        },
    })
}

/// Why a Service has no address to balance.
pub(super) fn without_address(service: &Service) -> Option<&'static str> {
    if service.service_type == ServiceType::ExternalName {
        return Some("is of type ExternalName: DNS answers with another name");
    }
    match service.cluster_ips {
        ClusterIps::Headless => Some("is headless: DNS answers with the endpoints' own addresses"),
        ClusterIps::Pending => Some("has no cluster IP yet"),
        ClusterIps::Assigned(_) => None,
    }
}

fn not_balanced(service: &Service, why: &str) -> Resolved {
    let object = format!("Service {}", service.key);
    let step = Step::new(
        Topic::Service,
        &object,
        format!("it {why}"),
        "there is no address to balance",
    );
    Resolved::NotBalanced(Explanation::new(
        vec![step.because_of(Some(&object))],
        Verdict::Untouched,
        format!("{object} {why}; nothing is balanced"),
    ))
}

/// A port's number and protocol. A number that is none of the Service's is taken as it is: the
/// tables say what becomes of it.
fn port_of(
    service: &Service,
    wanted: Option<&PortChoice>,
    protocol: Option<Protocol>,
) -> Result<(NonZeroU16, Protocol), ExplainError> {
    let fits = |port: &&ServicePort| {
        protocol.is_none_or(|protocol| port.protocol == protocol)
            && match wanted {
                None => true,
                Some(PortChoice::Number(number)) => port.port == *number,
                Some(PortChoice::Name(name)) => port.name == *name,
            }
    };
    let mut fitting = service.ports.iter().filter(fits);
    match (fitting.next(), fitting.next(), wanted) {
        (Some(port), None, _) | (Some(port), Some(_), Some(PortChoice::Name(_))) => {
            Ok((port.port, port.protocol))
        }
        (Some(_), Some(_), Some(PortChoice::Number(number))) => Ok((*number, Protocol::Tcp)),
        (None, _, Some(PortChoice::Number(number))) => {
            Ok((*number, protocol.unwrap_or(Protocol::Tcp)))
        }
        (Some(_), Some(_), None) | (None, _, _) => Err(ExplainError::WhichPort {
            service: service.key.clone(),
            ports: ports(service),
        }),
    }
}

fn ports(service: &Service) -> String {
    let named = |port: &ServicePort| format!("{} ({}/{})", port.name, port.port, port.protocol);
    let ports: Vec<String> = service.ports.iter().map(named).collect();
    ports.join(", ")
}
