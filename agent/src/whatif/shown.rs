//! Names for addresses, and the answer as a table.

use std::collections::HashMap;
use std::net::IpAddr;

use model::{Cluster, Direction, Kind};

use super::Flow;
use super::answer::{Answer, FlowRow};
use crate::control::table::section;
use crate::desired::policy::{PolicyTables, Traffic};

/// Who is at an address.
pub(super) struct Names<'a> {
    tables: &'a PolicyTables,
    known: HashMap<IpAddr, String>,
}

impl<'a> Names<'a> {
    pub(super) fn of(cluster: &Cluster, tables: &'a PolicyTables) -> Self {
        let mut known = HashMap::new();
        let pods = cluster
            .pods()
            .filter(|(_, pod)| !pod.finished && !pod.host_network);
        for (key, pod) in pods {
            known.extend(
                pod.addresses
                    .iter()
                    .map(|at| (*at, format!("{} {key}", Kind::Pod))),
            );
        }
        for (key, node) in cluster.nodes() {
            let addresses = node.addresses.iter().map(|at| at.address);
            known.extend(addresses.map(|at| (at, format!("{} {key}", Kind::Node))));
        }
        Self { tables, known }
    }

    /// A flow without its verdicts.
    pub(super) fn row(&self, flow: &Flow) -> FlowRow {
        let pod = self.tables.endpoints().get(&flow.pod);
        let (protocol, port) = match flow.traffic {
            Traffic::Port(protocol, port) => (protocol.to_string(), Some(port)),
            Traffic::Icmp => ("ICMP".to_owned(), None),
            Traffic::Other => ("other".to_owned(), None),
        };
        let direction = match flow.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        FlowRow {
            pod: pod.map_or_else(|| flow.pod.to_string(), |pod| pod.key.to_string()),
            address: flow.pod.to_string(),
            direction: direction.to_owned(),
            peer: flow.peer.to_string(),
            peer_object: self.known.get(&flow.peer).cloned(),
            protocol,
            port,
            ..FlowRow::default()
        }
    }
}

/// For people.
pub fn table(answer: &Answer) -> String {
    let Answer {
        node,
        flows,
        unchanged,
        cut,
        allowed,
        audited,
    } = answer;
    let mut text = format!(
        "{flows} flows of the pods of {node} seen lately: {} would be cut, {} newly allowed, {} audited, {unchanged} as before\n",
        cut.len(),
        allowed.len(),
        audited.len()
    );
    let header = [
        "POD",
        "DIRECTION",
        "PEER",
        "PORT",
        "CONNECTIONS",
        "SEEN",
        "NOW",
        "THEN",
    ];
    for (title, rows) in [
        ("Would be cut", cut),
        ("Would newly be allowed", allowed),
        ("Would be audited", audited),
    ] {
        text += &section(title, &header, rows.iter().map(cells));
    }
    text
}

fn cells(row: &FlowRow) -> Vec<String> {
    let peer = match &row.peer_object {
        Some(object) => format!("{} ({object})", row.peer),
        None => row.peer.clone(),
    };
    let port = match row.port {
        Some(port) => format!("{port}/{}", row.protocol),
        None => row.protocol.clone(),
    };
    vec![
        row.pod.clone(),
        row.direction.clone(),
        peer,
        port,
        row.connections.to_string(),
        format!("{} s ago", row.seconds_ago),
        row.now.to_string(),
        row.then.to_string(),
    ]
}
