//! What the packet is when it arrives.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_abi::service::{BACKEND_LOCAL, BackendV2, FRONTEND_DIRECT_RETURN};
use agent_abi::settings::SettingsV2;

use super::frontend::Found;
use super::pool::Members;
use super::source::{Hook, Translation, translation};
use super::{Explanation, Packet, Step, Topic, Verdict, endpoint, ip, socket, some_of};

/// Ports that translated sources get (`agent-ebpf`, `source`).
pub(super) const TRANSLATED_PORTS: &str = "a free port of 1024-29999";

/// Where a packet for one backend goes.
enum Landing {
    /// To the backend, from this source.
    Translated(Translation, &'static str),
    /// As it is to the backend's node.
    Tunnel(IpAddr),
}

/// The last steps and the result, for each backend that may be chosen.
pub(super) fn land(
    packet: &Packet,
    found: &Found<'_>,
    members: &Members,
    candidates: &[BackendV2],
    settings: &SettingsV2,
    mut steps: Vec<Step>,
) -> Explanation {
    let backends: Vec<String> = candidates
        .iter()
        .map(|backend| socket(&backend.address, backend.port).to_string())
        .collect();
    let from = endpoint(packet.client.address, packet.client.port);
    let becomes: Vec<String> = if members.at_connect {
        steps.push(Step::new(
            Topic::Source,
            "the socket",
            "connect is given the backend's address",
            "the connection is one to the backend itself: no packet is translated",
        ));
        // The kernel picks the source when the destination is the backend's already.
        let from = if packet.client.address.is_loopback() {
            "the node's address".to_owned()
        } else {
            from
        };
        let line = |backend: &String| format!("{from} -> {backend}");
        backends.iter().map(line).collect()
    } else {
        by_packet(packet, found, candidates, settings, &mut steps)
    };
    let result = match becomes.as_slice() {
        [only] => format!("{packet} becomes {only}"),
        several => format!("{packet} becomes one of: {}", some_of(several)),
    };
    Explanation {
        backends,
        ..Explanation::new(steps, Verdict::Balanced, result)
    }
}

fn by_packet(
    packet: &Packet,
    found: &Found<'_>,
    candidates: &[BackendV2],
    settings: &SettingsV2,
    steps: &mut Vec<Step>,
) -> Vec<String> {
    let source = packet.tuple().source;
    let landings: Vec<(&BackendV2, Landing)> = candidates
        .iter()
        .map(|backend| match tunnel(packet, found, backend) {
            Some(node) => (backend, Landing::Tunnel(node)),
            None => {
                let (becomes, why) =
                    translation(packet.client.hook, &source, found.value, backend, settings);
                (backend, Landing::Translated(becomes, why))
            }
        })
        .collect();
    let mut groups: BTreeMap<(Translation, &str), Vec<String>> = BTreeMap::new();
    for (backend, landing) in &landings {
        if let Landing::Translated(becomes, why) = landing {
            let to = socket(&backend.address, backend.port).to_string();
            groups.entry((*becomes, *why)).or_default().push(to);
        }
    }
    for ((becomes, why), backends) in groups {
        let what = match becomes {
            Translation::Keep => "kept".to_owned(),
            Translation::Hairpin => {
                format!("becomes the Service's, {}", packet.target.address.ip())
            }
            Translation::Node(node) => {
                format!("becomes the node's, {}, {TRANSLATED_PORTS}", ip(&node))
            }
        };
        let towards = format!("SETTINGS_V2, towards {}", some_of(&backends));
        steps.push(Step::new(Topic::Source, towards, why, what));
    }
    if found.has(FRONTEND_DIRECT_RETURN) {
        steps.push(direct(packet, &landings).because_of(found.object()));
    }
    landings
        .iter()
        .map(|(backend, landing)| line(packet, backend, landing))
        .collect()
}

/// The node to which a packet is sent as it is.
fn tunnel(packet: &Packet, found: &Found<'_>, backend: &BackendV2) -> Option<IpAddr> {
    let direct = found.has(FRONTEND_DIRECT_RETURN)
        && packet.client.hook == Hook::Uplink
        && backend.flags & BACKEND_LOCAL == 0
        && backend.node != [0; 16];
    direct.then(|| ip(&backend.node))
}

fn direct(packet: &Packet, landings: &[(&BackendV2, Landing)]) -> Step {
    let nodes: Vec<String> = landings
        .iter()
        .filter_map(|(backend, landing)| match landing {
            Landing::Tunnel(node) => Some(format!(
                "{} by {node}",
                socket(&backend.address, backend.port)
            )),
            Landing::Translated(..) => None,
        })
        .collect();
    let (what, follows) = match (packet.client.is_inside(), nodes.is_empty()) {
        (true, _) => (
            "asked for, but the client is on this node".to_owned(),
            "the reply passes this node, as always",
        ),
        (false, true) => (
            "asked for, but the backend is on this node, or its node's address is not known"
                .to_owned(),
            "the reply passes this node",
        ),
        (false, false) => (
            some_of(&nodes),
            "the packet goes there in a tunnel, as it is; the reply leaves from there",
        ),
    };
    Step::new(
        Topic::DirectReturn,
        "FRONTENDS_V2 and BACKENDS_V2",
        what,
        follows,
    )
}

fn line(packet: &Packet, backend: &BackendV2, landing: &Landing) -> String {
    let to = socket(&backend.address, backend.port);
    let port = packet.client.port;
    match landing {
        Landing::Tunnel(node) => format!("itself in a tunnel to {node}, for {to}"),
        Landing::Translated(Translation::Keep, _) => {
            format!("{} -> {to}", endpoint(packet.client.address, port))
        }
        Landing::Translated(Translation::Hairpin, _) => {
            format!("{} -> {to}", endpoint(packet.target.address.ip(), port))
        }
        Landing::Translated(Translation::Node(node), _) => {
            format!("{} ({TRANSLATED_PORTS}) -> {to}", ip(node))
        }
    }
}
