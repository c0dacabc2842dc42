//! What objects are told: the conditions of Gateway API, and the addresses of Ingresses. Pure;
//! `model_watch` writes it.

use std::net::IpAddr;
use std::sync::Arc;

use model::{Cluster, Condition, Kind, ListenerStatus, ObjectStatus, Status};

use super::convention::gateway::{Fault, OfGateway, OfListener, OfRoute, Outcome, Speech, read};
use super::convention::our_ingresses;
use super::plan::{EdgePlan, Listen, Listener};
use super::{EdgeConfig, GatewayConvention};

/// The status of every object that is ours, by the plan that serves them.
pub fn statuses(cluster: &Cluster, config: &EdgeConfig, plan: &EdgePlan) -> Vec<ObjectStatus> {
    let mut statuses = Vec::new();
    if let Some(convention) = &config.gateway {
        let outcome = read(cluster, convention, config);
        statuses.extend(of_gateway_api(&outcome, convention, plan));
    }
    if let Some(convention) = &config.ingress {
        let listens = config.listen.http.iter().chain(&config.listen.https);
        let addresses = told(listens.map(|listen| listen.address).collect());
        // Without an address of its own there is nothing to tell, nor to take back.
        if !addresses.is_empty() {
            let ours = our_ingresses(cluster, convention).map(|(key, _)| ObjectStatus {
                kind: Kind::Ingress,
                key: key.clone(),
                status: Status::LoadBalancer(addresses.clone()),
            });
            statuses.extend(ours);
        }
    }
    statuses
}

/// Addresses that clients can use.
fn told(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(|address| !address.is_unspecified());
    addresses.sort();
    addresses.dedup();
    addresses
}

fn of_gateway_api(
    outcome: &Outcome<'_>,
    convention: &GatewayConvention,
    plan: &EdgePlan,
) -> Vec<ObjectStatus> {
    let classes = outcome.classes.iter().map(|class| ObjectStatus {
        kind: Kind::GatewayClass,
        key: class.key.clone(),
        status: Status::Class(vec![condition(
            class.generation,
            "Accepted",
            "Accepted",
            Ok(()),
        )]),
    });
    let gateways = outcome.gateways.iter().map(|of| ObjectStatus {
        kind: Kind::Gateway,
        key: of.gateway.key.clone(),
        status: gateway(of, plan),
    });
    let routes = outcome.routes.iter().map(|of| ObjectStatus {
        kind: of.kind,
        key: of.key.clone(),
        status: route(of, &convention.controller),
    });
    classes.chain(gateways).chain(routes).collect()
}

/// A condition that holds for the reason `good`, or does not because of a fault.
fn condition(
    generation: i64,
    condition_type: &'static str,
    good: &'static str,
    found: Result<(), &Fault>,
) -> Condition {
    Condition {
        condition_type,
        is_true: found.is_ok(),
        reason: found.err().map_or(good, |fault| fault.reason),
        message: found
            .err()
            .map(|fault| fault.message.clone())
            .unwrap_or_default()
            .into(),
        generation,
    }
}

fn gateway(of: &OfGateway<'_>, plan: &EdgePlan) -> Status {
    let generation = of.gateway.generation;
    let ports: Vec<_> = of
        .listeners
        .iter()
        .map(|listener| port_fault(of, listener, plan))
        .collect();
    let each = of.listeners.iter().zip(&ports);
    let has_address = !of.addresses.is_empty();
    let is_programmed = |(listener, port): &(&OfListener<'_>, &Option<Fault>)| {
        listener.is_served() && port.is_none()
    };
    let served = each.clone().filter(is_programmed).count();
    let is_valid = served == of.listeners.len();
    let not_valid = Fault {
        reason: "ListenersNotValid",
        message: format!("{served} of {} listeners are served", of.listeners.len()),
    };
    let unsupported = of.address_fault.as_ref();
    let unsupported = unsupported.filter(|fault| fault.reason == "UnsupportedAddress");
    let mut accepted = condition(
        generation,
        "Accepted",
        "Accepted",
        match unsupported {
            Some(fault) => Err(fault),
            None if served == 0 && !is_valid => Err(&not_valid),
            None => Ok(()),
        },
    );
    if accepted.is_true && !is_valid {
        // Some are served: accepted, and why that is not all (specification of the reason).
        accepted.reason = not_valid.reason;
        accepted.message = not_valid.message.clone().into();
    }
    let nowhere = Fault {
        reason: "AddressNotAssigned",
        message: "no address of it is this edge's".to_owned(),
    };
    let invalid = Fault {
        reason: "Invalid",
        message: not_valid.message.clone(),
    };
    let programmed = match &of.address_fault {
        Some(fault) if fault.reason == "AddressNotUsable" => Err(fault),
        _ if of.addresses.is_empty() => Err(&nowhere),
        _ if served == 0 => Err(&invalid),
        _ => Ok(()),
    };
    let programmed = condition(generation, "Programmed", "Programmed", programmed);
    Status::Gateway {
        addresses: told(of.addresses.clone()),
        conditions: vec![accepted, programmed],
        listeners: each
            .map(|(of, port)| listener(of, port.as_ref(), has_address, generation))
            .collect(),
    }
}

/// Another convention, or an older Gateway, has the port for another protocol.
fn port_fault(of: &OfGateway<'_>, listener: &OfListener<'_>, plan: &EdgePlan) -> Option<Fault> {
    let speech = listener.speech.filter(|_| listener.is_served())?;
    let is_taken = |listen: Listen| match (plan.listeners.get(&listen), speech) {
        (None, _)
        | (Some(Listener::Http(_)), Speech::Http)
        | (Some(Listener::Tls(_)), Speech::Https | Speech::Passthrough)
        | (Some(Listener::Tcp(_)), Speech::Tcp) => false,
        (Some(_), _) => true,
    };
    let port = listener.listener.port;
    of.listens(listener).any(is_taken).then(|| Fault {
        reason: "PortUnavailable",
        message: format!("port {port} speaks another protocol, by an older claim"),
    })
}

fn listener(
    of: &OfListener<'_>,
    port: Option<&Fault>,
    has_address: bool,
    generation: i64,
) -> ListenerStatus {
    let conflict = of.conflict.as_ref();
    let accepted = match (&of.accepted, conflict, port) {
        (Err(fault), ..) | (_, Some(fault), _) | (_, _, Some(fault)) => Err(fault),
        _ => Ok(()),
    };
    let not_served = Fault {
        reason: "Invalid",
        message: "it is not served; see the other conditions and the Gateway's".to_owned(),
    };
    let programmed = if of.is_served() && port.is_none() && has_address {
        Ok(())
    } else {
        Err(&not_served)
    };
    let conflicted = Condition {
        is_true: conflict.is_some(),
        ..condition(
            generation,
            "Conflicted",
            "NoConflicts",
            conflict.map_or(Ok(()), Err),
        )
    };
    ListenerStatus {
        name: Arc::clone(&of.listener.name),
        kinds: of.kinds.clone(),
        attached: of.attached,
        conditions: vec![
            condition(generation, "Accepted", "Accepted", accepted),
            condition(generation, "Programmed", "Programmed", programmed),
            condition(
                generation,
                "ResolvedRefs",
                "ResolvedRefs",
                of.resolved.as_ref().err().map_or(Ok(()), Err),
            ),
            conflicted,
        ],
    }
}

fn route(of: &OfRoute<'_>, controller: &Arc<str>) -> Status {
    let parents = of.parents.iter().map(|(parent, accepted)| {
        let unsupported = of.unsupported.as_ref();
        let none_served = unsupported.filter(|(_, is_all)| *is_all);
        let accepted = match (accepted, none_served) {
            (Err(fault), _) | (Ok(()), Some((fault, _))) => Err(fault),
            (Ok(()), None) => Ok(()),
        };
        let resolved = of.unresolved.as_ref().map_or(Ok(()), Err);
        let mut conditions = vec![
            condition(of.generation, "Accepted", "Accepted", accepted),
            condition(of.generation, "ResolvedRefs", "ResolvedRefs", resolved),
        ];
        if let Some((fault, false)) = unsupported {
            conditions.push(Condition {
                is_true: true,
                ..condition(of.generation, "PartiallyInvalid", "", Err(fault))
            });
        }
        ((*parent).clone(), conditions)
    });
    Status::Route {
        controller: Arc::clone(controller),
        parents: parents.collect(),
    }
}
