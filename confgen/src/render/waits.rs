//! How long a proxy waits, as both have it.

use std::time::Duration;

use serde::Serialize;

/// How long a proxy waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Until a server accepts; HAProxy's for a free place in its queue too.
    pub connect: Duration,
    /// Between two bytes of a client.
    pub client: Duration,
    /// Between two bytes of a server.
    pub server: Duration,
    /// For a whole request's head.
    pub request_head: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// Between two bytes of a connection that is passed on or upgraded (WebSocket).
    pub tunnel: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            client: Duration::from_secs(60),
            server: Duration::from_secs(60),
            request_head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            tunnel: Duration::from_secs(60 * 60),
        }
    }
}

/// [`Waits`] as templates print them.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    connect_ms: u128,
    client_ms: u128,
    server_ms: u128,
    request_head_ms: u128,
    keep_alive_ms: u128,
    tunnel_ms: u128,
}

impl View {
    pub(crate) fn of(waits: &Waits) -> Self {
        let Waits {
            connect,
            client,
            server,
            request_head,
            keep_alive,
            tunnel,
        } = waits;
        Self {
            connect_ms: connect.as_millis(),
            client_ms: client.as_millis(),
            server_ms: server.as_millis(),
            request_head_ms: request_head.as_millis(),
            keep_alive_ms: keep_alive.as_millis(),
            tunnel_ms: tunnel.as_millis(),
        }
    }
}
