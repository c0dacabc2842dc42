//! TLSRoutes and TCPRoutes to claims.

use std::sync::Arc;

use model::{Kind, StreamRoute};

use super::attach::Served;
use super::backend::{Asker, Backends, Forwarded};
use super::{Findings, Outcome};
use crate::edge::claim::{SniClaim, TcpClaim};
use crate::edge::plan::{Origin, Timeouts};

/// Claims what a route asks for where it is attached.
pub(super) fn serve(
    outcome: &mut Outcome<'_>,
    backends: &mut Backends<'_>,
    kind: Kind,
    route: &StreamRoute,
    served: &[Served],
) -> Findings {
    let origin = Origin {
        created_unix_seconds: route.created_unix_seconds,
        key: route.key.clone(),
        kind,
        field: "spec.rules[0]".into(),
    };
    let asker = Asker {
        kind: kind.as_str(),
        origin: &origin,
        is_stream: true,
        timeouts: Timeouts::default(),
    };
    let Forwarded { to, fault } = backends.forward(&asker, &route.backends);
    let forward = to.unwrap_or_default();
    for Served { at, hosts } in served {
        let gateway = &outcome.gateways[at.0];
        for listen in gateway.listens(&gateway.listeners[at.1]) {
            if kind == Kind::TcpRoute {
                outcome.claims.tcp.push(TcpClaim {
                    listen,
                    forward: forward.clone(),
                    origin: origin.clone(),
                });
                continue;
            }
            let of_hosts = hosts.iter().map(|host| SniClaim {
                listen,
                owner: Arc::clone(&gateway.gateway.key.namespace),
                host: host.clone(),
                forward: forward.clone(),
                origin: origin.clone(),
            });
            outcome.claims.sni.extend(of_hosts);
        }
    }
    Findings {
        unresolved: fault,
        unsupported: None,
        is_any_served: true,
    }
}
