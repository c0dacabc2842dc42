//! The way to the API server before its Service is balanced.
//!
//! Where `--master` or the ServiceAccount names the API server by the Service `default/kubernetes`,
//! an agent on a fresh node has to hear of the cluster by the very path it is to make. So the
//! addresses behind that Service are kept in a file ([`run`]), and the next start asks them after
//! the configured ones ([`read`], `kube_source::Options::learned`).

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Cluster, ObjectKey, Protocol};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reconcile::ClusterView;
use crate::sys::file;

const FILE: &str = "api-servers.json";

/// Addresses kept: each that is dead costs a start one connection time-out, and control planes
/// have seven members at most, with two families each.
const MOST: usize = 16;

/// How long to wait before a write that failed is tried again: a full disk is not emptied sooner.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Learned {
    servers: Vec<SocketAddr>,
}

/// Where the addresses are kept in a state directory.
pub fn place(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// All that [`run`] may leave on disk.
pub fn files(path: &Path) -> [PathBuf; 2] {
    [path.to_owned(), file::beside(path)]
}

/// The ready endpoints of the API server's own Service, in a fixed order.
pub fn api_servers(cluster: &Cluster) -> Vec<SocketAddr> {
    let service = ObjectKey::new("default", "kubernetes");
    let mut servers = BTreeSet::new();
    for slice in cluster.slices_of(&service) {
        let ports = slice
            .ports
            .iter()
            .filter(|port| &*port.name.0 == "https" && port.protocol == Protocol::Tcp)
            .filter_map(|port| port.port);
        for port in ports {
            let ready = slice
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.conditions.ready);
            servers.extend(ready.map(|endpoint| SocketAddr::new(endpoint.address, port.get())));
        }
    }
    servers.into_iter().take(MOST).collect()
}

/// The addresses an earlier run has kept; none where there is no usable file.
pub fn read(path: &Path) -> Vec<SocketAddr> {
    match parse(path) {
        Ok(servers) => servers,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(
                file = %path.display(),
                %error,
                "the addresses of API servers that an earlier run has kept cannot be used; only the configured ones are asked"
            );
            Vec::new()
        }
    }
}

fn parse(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let Learned { mut servers } = serde_json::from_slice(&std::fs::read(path)?)?;
    servers.truncate(MOST);
    Ok(servers)
}

/// Keeps the addresses in `view` on disk until `cancel`. A cluster without any changes nothing: the
/// last that were heard of are the best there are.
pub async fn run(path: PathBuf, mut view: watch::Receiver<ClusterView>, cancel: CancellationToken) {
    // What cannot be read is written anew; `read` has said so at the start.
    let mut kept = parse(&path).unwrap_or_default();
    let mut failing = false;
    view.mark_changed();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = view.changed() => if changed.is_err() {
                return cancel.cancelled().await;
            },
            () = tokio::time::sleep(RETRY_AFTER), if failing => {}
        }
        let servers = view.borrow_and_update().api_servers.clone();
        if servers.is_empty() || servers == kept {
            failing = false;
            continue;
        }
        match write(path.clone(), servers.clone()).await {
            Ok(()) => {
                tracing::debug!(?servers, "kept the addresses of the API servers");
                kept = servers;
                failing = false;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(
                        file = %path.display(),
                        %error,
                        "the addresses of the API servers cannot be kept for the next start; tried again every {RETRY_AFTER:?}"
                    );
                }
                failing = true;
            }
        }
    }
}

async fn write(path: PathBuf, servers: Vec<SocketAddr>) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&Learned { servers })?;
    // A disk may take seconds; the runtime has two threads.
    let written = tokio::task::spawn_blocking(move || file::replace(&path, &text)).await;
    written.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::fs;

    use model::k8s::reduce;
    use model::{Event, Kind};
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, service: &str, port: &Value, endpoints: &Value) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": "default",
                "name": name,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": if name.contains("v6") { "IPv6" } else { "IPv4" },
            "ports": [port],
            "endpoints": endpoints,
        })
    }

    fn cluster(slices: &[Value]) -> Cluster {
        let mut cluster = Cluster::default();
        for slice in slices {
            let reduced = reduce(Kind::EndpointSlice, slice);
            assert_eq!(reduced.problems, []);
            cluster.apply(Event::Applied {
                kind: Kind::EndpointSlice,
                key: reduced.key,
                object: reduced.object,
                problems: Vec::new(),
            });
        }
        cluster
    }

    #[test]
    fn ready_endpoints_of_the_https_port_are_api_servers() {
        let https = json!({ "name": "https", "port": 6443 });
        let ready = |address: &str| json!({ "addresses": [address] });
        let slices = [
            slice(
                "kubernetes",
                "kubernetes",
                &https,
                &json!([
                    ready("192.0.2.2"),
                    ready("192.0.2.1"),
                    { "addresses": ["192.0.2.3"], "conditions": { "ready": false } },
                ]),
            ),
            slice("again", "kubernetes", &https, &json!([ready("192.0.2.1")])),
            slice("v6", "kubernetes", &https, &json!([ready("2001:db8::1")])),
            slice(
                "metrics",
                "kubernetes",
                &json!({ "name": "metrics", "port": 1 }),
                &json!([ready("192.0.2.4")]),
            ),
            slice("other", "other", &https, &json!([ready("192.0.2.5")])),
        ];
        let expected = ["192.0.2.1:6443", "192.0.2.2:6443", "[2001:db8::1]:6443"];
        let found = api_servers(&cluster(&slices));
        assert_eq!(found, expected.map(|text| text.parse().unwrap()));
        assert_eq!(api_servers(&Cluster::default()), []);
    }

    #[test]
    fn a_damaged_file_is_named_and_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = place(directory.path());
        let log = directory.path().join("log");
        let writer = fs::File::create(&log).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.try_clone().unwrap())
            .finish();
        let warnings = || {
            let text = fs::read_to_string(&log).unwrap();
            let named = |line: &&str| line.contains("WARN") && line.contains(FILE);
            text.lines().filter(named).count()
        };
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(read(&path), [], "there is none yet");
            assert_eq!(warnings(), 0);
            let damaged = [
                "",
                "{\"servers\": [\"192.0.2.1:64",
                "[]",
                "{\"servers\": [\"api\"]}",
            ];
            for (before, text) in damaged.into_iter().enumerate() {
                fs::write(&path, text).unwrap();
                assert_eq!(read(&path), [], "{text}");
                assert_eq!(warnings(), before + 1, "{text}");
            }
        });
    }

    #[tokio::test]
    async fn a_file_that_says_the_same_is_not_written_and_no_address_erases_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = place(directory.path());
        // What `run` would not write itself.
        let text = "{\"servers\":[\"192.0.2.1:6443\"]}";
        fs::write(&path, text).unwrap();
        let known = ClusterView {
            api_servers: vec!["192.0.2.1:6443".parse().unwrap()],
            ..ClusterView::default()
        };
        for view in [known, ClusterView::default()] {
            let (_sender, receiver) = watch::channel(view);
            let running = run(path.clone(), receiver, CancellationToken::new());
            let waited = tokio::time::timeout(Duration::from_millis(200), running).await;
            assert!(waited.is_err(), "it stays until it is told to end");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
