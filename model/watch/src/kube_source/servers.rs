//! The API servers, in order, and which of them is asked.
//!
//! All kinds share the choice: the first task that finds a server down moves all to the next one,
//! and there they stay until that one fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kube::Client;
use tracing::{info, warn};

use super::failure::Failure;

/// One API server.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) client: Client,
}

/// All of them. At least one.
pub(super) struct Servers {
    servers: Vec<Server>,
    current: AtomicUsize,
    all_down: AtomicBool,
}

impl Servers {
    pub(super) fn new(servers: Vec<Server>) -> Self {
        Self {
            servers,
            current: AtomicUsize::new(0),
            all_down: AtomicBool::new(false),
        }
    }

    /// Asks the current server; where it is down, the others in order, each once.
    pub(super) async fn ask<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut tried = Vec::new();
        for _ in 0..self.servers.len() {
            let index = self.current.load(Ordering::Relaxed);
            let Some(server) = self.servers.get(index) else {
                break;
            };
            match request(server.client.clone()).await {
                Err(Failure::Down(why)) => {
                    tried.push((server.url.clone(), why));
                    self.leave(index);
                }
                answer => {
                    self.heard_from(server);
                    return answer;
                }
            }
        }
        let failure = Failure::AllDown(tried);
        if !self.all_down.swap(true, Ordering::Relaxed) {
            warn!(
                tried = %failure,
                effect = "the last known objects stay in force",
                next = "all are tried again, with growing pauses",
                "no API server gives a usable answer"
            );
        }
        Err(failure)
    }

    /// Moves on from the current server although it answers, because what it says is doubtful.
    pub(super) fn leave_current(&self) {
        self.leave(self.current.load(Ordering::Relaxed));
    }

    /// The server asked now.
    pub(super) fn current_url(&self) -> &str {
        self.servers
            .get(self.current.load(Ordering::Relaxed))
            .map_or("", |server| &server.url)
    }

    fn leave(&self, index: usize) {
        let next = (index + 1) % self.servers.len();
        // Another task may have moved on already; then its choice stands.
        let moved =
            self.current
                .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() && index != next {
            info!(
                from = self.servers[index].url,
                to = self.servers[next].url,
                "asking another API server"
            );
        }
    }

    fn heard_from(&self, server: &Server) {
        if self.all_down.swap(false, Ordering::Relaxed) {
            info!(server = server.url, "an API server answers again");
        }
    }
}
