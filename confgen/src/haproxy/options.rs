//! What the operator decides about HAProxy itself.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::render::{Waits, waits};

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
    /// How long it waits.
    pub waits: Waits,
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
            waits: Waits::default(),
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
    #[serde(flatten)]
    waits: waits::View,
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
            waits,
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
            waits: waits::View::of(waits),
        }
    }
}
