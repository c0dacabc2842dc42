//! Pod routes, for status and metrics.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::page::{Labels, Page};
use super::report::{RouteRow, Routing};
use crate::cni::install::Installed;
use crate::desired::route::{
    Encapsulation, NextHop, Overlay, OverlayUse, RouterOptions, Routes, Way,
};
use crate::route::keeper::Kept;

/// What is wanted and what is kept of it.
pub(super) fn report(
    wanted: Option<(Arc<Routes>, RouterOptions)>,
    kept: &Kept,
    cni: Option<Installed>,
) -> Routing {
    let ago = kept
        .at
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    let mut routing = Routing {
        in_kernel: kept.routes,
        seconds_ago: ago.map(|ago| ago.as_secs_f64()),
        applies_total: kept.applies_total,
        failed_total: kept.failed_total,
        operations_total: kept.operations_total,
        repaired_total: kept.repaired_total,
        failures: kept.failures.iter().map(|(_, why)| why.clone()).collect(),
        ..Routing::default()
    };
    if let Some(Installed { state, error }) = cni {
        routing.cni = Some(state);
        routing.cni_error = error;
    }
    let Some((routes, options)) = wanted else {
        return routing;
    };
    routing.pod_networks = routes.own.iter().map(ToString::to_string).collect();
    routing.pod_mtu = routes.mtu;
    routing.overlay = routes.overlay.as_ref().map(overlay);
    let rows = routes.to.iter().map(|(network, route)| {
        let (way, why) = match &route.way {
            Way::Direct(hops) => {
                let each = |text: fn(&NextHop) -> String| {
                    let texts: Vec<_> = hops.iter().map(text).collect();
                    texts.join(", ")
                };
                (
                    format!("direct, via {}", each(|hop| hop.gateway.to_string())),
                    each(|hop| format!("{} is in {}", hop.gateway, hop.network.trunc())),
                )
            }
            Way::Overlay { peer, .. } => {
                let why = match options.overlay {
                    OverlayUse::Full => "--overlay-type full".to_owned(),
                    OverlayUse::Subnet | OverlayUse::Off => {
                        format!("{peer} is in no network of this node")
                    }
                };
                (format!("overlay, to {peer}"), why)
            }
        };
        let mut failures = kept.failures.iter();
        let failed = failures.find(|(of, _)| *of == Some(*network));
        RouteRow {
            network: network.to_string(),
            node: route.node.to_string(),
            way,
            why,
            error: failed.map(|(_, why)| why.clone()),
        }
    });
    routing.routes = rows.collect();
    routing
}

fn overlay(overlay: &Overlay) -> String {
    let Overlay {
        encapsulation,
        local,
        mtu,
        peers,
    } = overlay;
    let what = match encapsulation {
        Encapsulation::Vxlan { vni, port } => format!("VXLAN {vni} on UDP port {port}"),
        Encapsulation::IpIp => "IPIP".to_owned(),
    };
    format!("{what} at {local}, MTU {mtu}, to {} nodes", peers.size())
}

/// As metrics.
pub(super) fn write(routing: &Routing, page: &mut Page<'_>) -> fmt::Result {
    page.gauge(
        "fairlead_routes",
        "Routes to pods of other nodes in the kernel",
        routing.in_kernel,
    )?;
    page.gauge(
        "fairlead_routes_not_applied",
        "Routes, and what they need, that are not as they should be",
        routing.failures.len(),
    )?;
    page.gauges(
        "fairlead_routes_last_apply_age_seconds",
        "Since pod routes were last applied",
        routing.seconds_ago.map(|ago| (Labels::new(), ago)),
    )?;
    for (name, help, value) in [
        (
            "fairlead_route_operations",
            "Writes to the kernel's routes since the start",
            routing.operations_total,
        ),
        (
            "fairlead_route_repairs",
            "Writes that mended what somebody else had changed of pod routes",
            routing.repaired_total,
        ),
        (
            "fairlead_route_apply_failures",
            "Applies of pod routes that failed in whole or in part",
            routing.failed_total,
        ),
    ] {
        page.counters(name, help, [(Labels::new(), value)])?;
    }
    Ok(())
}
