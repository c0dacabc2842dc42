//! How a running HAProxy differs from its configuration. Pure.

pub mod certificates;

use std::collections::BTreeMap;

use crate::haproxy::runtime::{Leaving, LiveServer, ServerRef, expected_servers};

/// Entries of a map, in order.
pub type Entries = Vec<(String, String)>;

/// What the process has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Of `show servers state`.
    pub servers: BTreeMap<ServerRef, LiveServer>,
    /// Of `show map`, by file.
    pub maps: BTreeMap<String, Entries>,
}

/// Compares; servers that leave are expected to be there still.
pub fn differences(
    config: &str,
    maps: &BTreeMap<String, Entries>,
    live: &Live,
    leaving: &Leaving,
) -> Vec<String> {
    let expected = expected_servers(config);
    let mut found = Vec::new();
    for (server, meant) in &expected {
        match live.servers.get(server) {
            None => found.push(format!("server {server} is not there")),
            Some(is) if is == meant => {}
            Some(is) => {
                let differs = [
                    (
                        is.address != meant.address || is.port != meant.port,
                        "address",
                    ),
                    (is.weight != meant.weight, "weight"),
                    (is.is_maintained != meant.is_maintained, "state"),
                ];
                let fields = differs.iter().filter(|(differs, _)| *differs);
                let fields: Vec<&str> = fields.map(|(_, field)| *field).collect();
                found.push(format!("server {server} has another {}", fields.join(", ")));
            }
        }
    }
    // Servers at names and in sections that are not compared are no strangers.
    let backends: std::collections::BTreeSet<&str> = expected
        .keys()
        .map(|server| server.backend.as_str())
        .collect();
    for server in live.servers.keys() {
        let is_known = expected.contains_key(server) || leaving.servers.contains_key(server);
        // Asked last: it reads the whole text.
        let is_named = || config.contains(&format!("server {} ", server.server));
        if !is_known && backends.contains(server.backend.as_str()) && !is_named() {
            found.push(format!("server {server} is not of the configuration"));
        }
    }
    for (map, meant) in maps {
        let Some(is) = live.maps.get(map) else {
            found.push(format!("map {map} is not there"));
            continue;
        };
        // Entries that were added at runtime stand at the end.
        let sorted = |entries: &Entries| {
            let mut entries = entries.clone();
            entries.sort();
            entries
        };
        if sorted(is) != sorted(meant) {
            found.push(format!("map {map} has other entries"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Live, differences};
    use crate::haproxy::runtime::{Leaving, expected_servers};

    const CONFIG: &str = "backend b\n server s 10.0.0.1:80 weight 3\n server t 10.0.0.2:80\n \
        server u 10.0.0.3:80\n server n app:80\n";

    #[test]
    fn every_difference_is_named() {
        let mut live = Live {
            servers: expected_servers(CONFIG),
            maps: [("m".to_owned(), vec![("b".to_owned(), "2".to_owned())])].into(),
        };
        let mut maps = live.maps.clone();
        assert!(differences(CONFIG, &maps, &live, &Leaving::default()).is_empty());
        let names: Vec<_> = live.servers.keys().cloned().collect();
        live.servers.get_mut(&names[0]).unwrap().weight = 4;
        let removed = live.servers.remove(&names[1]).unwrap();
        let stranger = crate::haproxy::runtime::ServerRef {
            backend: "b".to_owned(),
            server: "x".to_owned(),
        };
        live.servers.insert(stranger.clone(), removed);
        live.servers.get_mut(&names[2]).unwrap().is_maintained = true;
        maps.insert("gone".to_owned(), Vec::new());
        maps.get_mut("m").unwrap().clear();
        let mut leaving = Leaving::default();
        assert_eq!(
            differences(CONFIG, &maps, &live, &leaving),
            [
                "server b/s has another weight",
                "server b/t is not there",
                "server b/u has another state",
                "server b/x is not of the configuration",
                "map gone is not there",
                "map m has other entries",
            ]
        );
        leaving.add(stranger, Vec::new(), std::time::Instant::now());
        assert_eq!(differences(CONFIG, &maps, &live, &leaving).len(), 5);
    }
}
