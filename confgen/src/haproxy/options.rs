//! What the operator decides about HAProxy itself.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// HAProxy's own settings. Paths are words of letters, digits and `._:/-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The runtime socket, at level admin, for its owner only.
    pub admin_socket: String,
    /// Directory of the sockets between this proxy's own frontends.
    pub run_directory: String,
    /// When an old process must end after a reload; `None` waits for its last connection.
    pub hard_stop_after: Option<Duration>,
    /// Connections of the whole process; `None` leaves it to HAProxy.
    pub max_connections: Option<u32>,
    /// Threads; `None` is one for each processor.
    pub threads: Option<u16>,
    /// Account that it runs as once its ports are bound.
    pub user: Option<String>,
    /// Group likewise.
    pub group: Option<String>,
    /// Where requests are logged.
    pub log: Log,
    /// Until a server accepts, and for a free place in its queue.
    pub connect_timeout: Duration,
    /// Between two bytes of a client.
    pub client_timeout: Duration,
    /// Between two bytes of a server.
    pub server_timeout: Duration,
    /// For a whole request's head.
    pub request_head_timeout: Duration,
    /// Between two requests of a connection.
    pub keep_alive_timeout: Duration,
    /// Between two bytes of an upgraded connection (WebSocket).
    pub tunnel_timeout: Duration,
}

/// Where requests are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// Nowhere.
    Off,
    /// To standard output, for a supervisor to take.
    Stdout,
    /// To a syslog server, by UDP.
    Syslog(SocketAddr),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            admin_socket: "/run/fairlead-confgen/haproxy.sock".to_owned(),
            run_directory: "/run/fairlead-confgen".to_owned(),
            // Long sessions outlive a reload, but not for ever: old processes pile up otherwise.
            hard_stop_after: Some(Duration::from_secs(30 * 60)),
            max_connections: None,
            threads: None,
            user: None,
            group: None,
            log: Log::Stdout,
            connect_timeout: Duration::from_secs(5),
            client_timeout: Duration::from_secs(60),
            server_timeout: Duration::from_secs(60),
            request_head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            tunnel_timeout: Duration::from_secs(60 * 60),
        }
    }
}

/// [`Options`] as the template prints them.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    admin_socket: &'a str,
    hard_stop_after_ms: Option<u128>,
    max_connections: Option<u32>,
    threads: Option<u16>,
    user: Option<&'a str>,
    group: Option<&'a str>,
    syslog: Option<String>,
    logs_to_stdout: bool,
    connect_ms: u128,
    client_ms: u128,
    server_ms: u128,
    request_head_ms: u128,
    keep_alive_ms: u128,
    tunnel_ms: u128,
}

impl<'a> View<'a> {
    pub(super) fn of(options: &'a Options) -> Self {
        let Options {
            admin_socket,
            run_directory: _,
            hard_stop_after,
            max_connections,
            threads,
            user,
            group,
            log,
            connect_timeout,
            client_timeout,
            server_timeout,
            request_head_timeout,
            keep_alive_timeout,
            tunnel_timeout,
        } = options;
        Self {
            admin_socket,
            hard_stop_after_ms: hard_stop_after.map(|limit| limit.as_millis()),
            max_connections: *max_connections,
            threads: *threads,
            user: user.as_deref(),
            group: group.as_deref(),
            syslog: match log {
                Log::Syslog(server) => Some(server.to_string()),
                Log::Off | Log::Stdout => None,
            },
            logs_to_stdout: *log == Log::Stdout,
            connect_ms: connect_timeout.as_millis(),
            client_ms: client_timeout.as_millis(),
            server_ms: server_timeout.as_millis(),
            request_head_ms: request_head_timeout.as_millis(),
            keep_alive_ms: keep_alive_timeout.as_millis(),
            tunnel_ms: tunnel_timeout.as_millis(),
        }
    }
}
