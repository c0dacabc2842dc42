//! A small API server for tests: list and watch as Kubernetes specifies them, with faults.
//!
//! It serves the kinds of [`model::Kind`], and takes Events, Leases and status, over HTTP/1.1 (with [`ApiServer::start_tls`] over TLS
//! with client certificates) from a versioned store in memory. Tests write objects through
//! [`ApiServer::apply`] and [`ApiServer::delete`], not over HTTP, and change its conduct through
//! [`ApiServer::behave`] and [`ApiServer::inject`]. There is no admission: malformed objects are
//! stored as they are, because that is one of the faults.

mod behaviour;
mod events;
mod http;
mod objects;
mod rbac;
mod resource;
mod store;
mod stream;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use model::{Kind, ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, watch};

pub use behaviour::{
    Behaviour, EventRequest, EventVerb, GoneForm, Injection, ObjectRequest, ObjectVerb, Request,
    Verb,
};

pub use rbac::{Access, Grant, grants};

use store::Store;
use tls::Tls;

/// A running API server. Dropping it ends it.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<Tls>,
    runtime: Option<Runtime>,
}

/// What requests and the test share.
struct Shared {
    state: Mutex<State>,
    /// Version of the store, for watches that wait.
    changed: watch::Sender<u64>,
    injections: broadcast::Sender<(Kind, Injection)>,
}

#[derive(Default)]
struct State {
    store: Store,
    behaviour: Behaviour,
    requests: Vec<Request>,
    open_watches: Vec<Kind>,
    /// Events, which nobody watches, so they have no versions here.
    events: BTreeMap<ObjectKey, Value>,
    event_requests: Vec<EventRequest>,
    leases: BTreeMap<ObjectKey, Value>,
    object_requests: Vec<ObjectRequest>,
    accesses: BTreeSet<Access>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiServer {
    /// Starts on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts on `address`.
    pub fn start_on(address: SocketAddr) -> Result<Self> {
        Self::start_with(address, None)
    }

    /// Starts on a free port of 127.0.0.1 and demands a client certificate of its own CA.
    pub fn start_tls() -> Result<Self> {
        Self::start_tls_on(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same on `address`, which the server's certificate does not name.
    pub fn start_tls_on(address: SocketAddr) -> Result<Self> {
        Self::start_with(address, Some(Tls::new()?))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn start_with(address: SocketAddr, tls: Option<Tls>) -> Result<Self> {
        let shared = Shared {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            // Injections are few; a watch that misses one makes the test fail by time-out.
            injections: broadcast::Sender::new(256),
        };
        let mut server = Self {
            address,
            shared: Arc::new(shared),
            tls,
            runtime: None,
        };
        server.restart()?;
        Ok(server)
    }

    /// `http://ADDRESS:PORT`, or https.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig for this server, with the client's certificate where there is TLS.
    pub fn kubeconfig(&self) -> String {
        let (cluster, user) = self
            .tls
            .as_ref()
            .map_or_else(Default::default, Tls::kubeconfig);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             clusters: [{{name: test, cluster: {{server: \"{}\"{cluster}}}}}]\n\
             users: [{{name: test, user: {{{user}}}}}]\n",
            self.url()
        )
    }

    /// Writes the CA's certificate (`ca.pem`) and the client's with its key (`client.pem`,
    /// `client.key`) into `directory`.
    pub fn write_credentials(&self, directory: &Path) -> Result<()> {
        let tls = self.tls.as_ref().context("the server speaks no TLS")?;
        Ok(tls.write(directory)?)
    }

    /// Creates or replaces an object, which has to have `kind` and `metadata.name`, and gives its
    /// resourceVersion. As in Kubernetes a write that changes nothing makes no new version.
    pub fn apply(&self, object: Value) -> Result<u64> {
        let version = self.shared.state().store.apply(object)?;
        self.announce();
        Ok(version)
    }

    /// Applies every document of `yaml`.
    pub fn apply_yaml(&self, yaml: &str) -> Result<()> {
        for document in serde_norway::Deserializer::from_str(yaml) {
            let document = Value::deserialize(document)?;
            match document.get("items").and_then(Value::as_array) {
                _ if document.is_null() => {}
                Some(items) => {
                    for item in items {
                        self.apply(item.clone())?;
                    }
                }
                None => drop(self.apply(document)?),
            }
        }
        Ok(())
    }

    /// Applies every `*.yaml` of a directory.
    pub fn load(&self, directory: &Path) -> Result<()> {
        let mut paths = std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let yaml = std::fs::read_to_string(&path)?;
                self.apply_yaml(&yaml)
                    .with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Deletes an object; says whether it was there.
    pub fn delete(&self, kind: Kind, key: &ObjectKey) -> bool {
        let deleted = self.shared.state().store.delete(kind, key);
        self.announce();
        deleted
    }

    /// Forgets all history: watches from an older version and half-read lists get 410 Gone.
    pub fn compact(&self) {
        self.shared.state().store.compact();
    }

    /// Loses everything, the versions too, as with a new etcd.
    pub fn wipe(&self) {
        self.shared.state().store = Store::default();
        self.announce();
    }

    /// Version of the last write.
    pub fn version(&self) -> u64 {
        self.shared.state().store.version()
    }

    /// Changes the conduct.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.state().behaviour);
        self.announce();
    }

    /// Puts something into every open watch of `kind`, past the store.
    pub fn inject(&self, kind: Kind, injection: Injection) {
        // An error says that no watch is open, which `open_watches` tells tests that care.
        drop(self.shared.injections.send((kind, injection)));
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Every Event there is, in the order of their names.
    pub fn events(&self) -> Vec<Value> {
        self.shared.state().events.values().cloned().collect()
    }

    /// Every request so far to make or change an Event.
    pub fn event_requests(&self) -> Vec<EventRequest> {
        self.shared.state().event_requests.clone()
    }

    /// An object as it is stored.
    pub fn object(&self, kind: Kind, key: &ObjectKey) -> Option<Value> {
        self.shared.state().store.get(kind, key)
    }

    /// A Lease.
    pub fn lease(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = ObjectKey::new(namespace, name);
        self.shared.state().leases.get(&key).cloned()
    }

    /// Every request so far for a single object.
    pub fn object_requests(&self) -> Vec<ObjectRequest> {
        self.shared.state().object_requests.clone()
    }

    /// What every request so far asked for, once each.
    pub fn accesses(&self) -> BTreeSet<Access> {
        self.shared.state().accesses.clone()
    }

    /// How many watches of `kind` are open.
    pub fn open_watches(&self, kind: Kind) -> usize {
        let state = self.shared.state();
        state
            .open_watches
            .iter()
            .filter(|open| **open == kind)
            .count()
    }

    /// Closes the port and every connection, as if the process were killed. What is stored stays.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Blocking is not allowed on a thread that runs async tests.
            let ended = std::thread::spawn(|| runtime.shutdown_timeout(Duration::from_secs(5)));
            ended
                .join()
                .expect("the shutdown of a runtime does not panic");
        }
        self.shared.state().open_watches.clear();
    }

    /// Serves again, on the same port.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let listener = TcpListener::bind(self.address)
            .with_context(|| format!("cannot listen on {}", self.address))?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let router = http::router(Arc::clone(&self.shared));
        let acceptor = self.tls.as_ref().map(Tls::acceptor);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            match acceptor {
                Some(acceptor) => axum::serve(tls::Listener::new(listener, acceptor), router).await,
                None => axum::serve(listener, router).await,
            }
        });
        self.runtime = Some(runtime);
        Ok(())
    }

    fn announce(&self) {
        let version = self.version();
        self.shared.changed.send_replace(version);
    }
}

/// The EndpointSlice `default/kubernetes`, by which clients learn where API servers are.
pub fn kubernetes_slice(addresses: &[IpAddr], port: u16) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address] }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": "kubernetes",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}
