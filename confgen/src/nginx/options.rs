//! What the operator decides about nginx itself.

use std::time::Duration;

use serde::Serialize;

use crate::render::{Waits, waits};

/// nginx's own settings. Paths are words of letters, digits and `._:/-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Modules to load, by path. Passing TLS and bytes on needs the stream module, which is a
    /// package of its own in Debian (`libnginx-mod-stream`); empty where it is built in.
    pub modules: Vec<String>,
    /// Directory of the sockets of its own servers; `status.sock` in it tells the generation.
    pub run_directory: String,
    /// Directory of request bodies and answers that do not fit into memory.
    pub temporary_directory: String,
    /// File of the master's process id.
    pub pid_file: String,
    /// Account of the workers, which read the files of basic authentication.
    pub user: Option<String>,
    /// Workers; `None` is one for each processor.
    pub workers: Option<u16>,
    /// Connections of each worker, to clients and servers together.
    pub connections: u32,
    /// `stderr`, or a file.
    pub error_log: String,
    /// A file; `None` logs no requests.
    pub access_log: Option<String>,
    /// When old workers must end after a reload; `None` waits for their last connection.
    pub worker_shutdown_timeout: Option<Duration>,
    /// How long it waits.
    pub waits: Waits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            modules: vec!["/usr/lib/nginx/modules/ngx_stream_module.so".to_owned()],
            run_directory: "/run/fairlead-confgen".to_owned(),
            temporary_directory: "/var/lib/nginx".to_owned(),
            pid_file: "/run/fairlead-confgen/nginx.pid".to_owned(),
            user: None,
            workers: None,
            connections: 16_384,
            error_log: "stderr".to_owned(),
            access_log: None,
            // Long sessions outlive a reload, but not for ever: old workers pile up otherwise.
            worker_shutdown_timeout: Some(Duration::from_secs(30 * 60)),
            waits: Waits::default(),
        }
    }
}

/// [`Options`] as the template prints them.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    modules: &'a [String],
    temporary: &'a str,
    pid: &'a str,
    user: Option<&'a str>,
    workers: String,
    connections: u32,
    files: u32,
    error_log: &'a str,
    error_level: &'static str,
    access_log: Option<&'a str>,
    shutdown_ms: Option<u128>,
    #[serde(flatten)]
    waits: waits::View,
}

impl<'a> View<'a> {
    pub(super) fn of(options: &'a Options, uses_stream: bool) -> Self {
        let Options {
            modules,
            run_directory: _,
            temporary_directory,
            pid_file,
            user,
            workers,
            connections,
            error_log,
            access_log,
            worker_shutdown_timeout,
            waits,
        } = options;
        Self {
            // An edge that passes nothing on runs without the module's package.
            modules: if uses_stream { modules } else { &[] },
            temporary: temporary_directory,
            pid: pid_file,
            user: user.as_deref(),
            workers: workers.map_or_else(|| "auto".to_owned(), |count| count.to_string()),
            connections: *connections,
            // A connection to a client may need one to a server too.
            files: connections.saturating_mul(2),
            error_log,
            error_level: "warn",
            access_log: access_log.as_deref(),
            shutdown_ms: worker_shutdown_timeout.map(|limit| limit.as_millis()),
            waits: waits::View::of(waits),
        }
    }
}
