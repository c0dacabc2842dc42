//! What is written, how it is checked, and who is told: `[haproxy]`, `[nginx]`, `[[templates]]` and
//! `[apply]` of the native file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::duration::Period;

/// `[haproxy]`: a whole configuration of HAProxy, made by the templates of this build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Haproxy {
    /// Where its files are; `haproxy.cfg` in it is the one to start HAProxy with.
    pub directory: PathBuf,
    /// Its runtime socket: changes of endpoints, maps and certificates go there without a reload.
    pub socket: PathBuf,
    /// Its master's socket (`haproxy -W -S`), by which old processes are counted and reloads asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_socket: Option<PathBuf>,
    /// Checks a configuration; the file's name is appended.
    pub check: String,
    /// How a reload is asked for: `command:`, `pid:SIGNAL:PID`, `pidfile:SIGNAL:FILE`; without it,
    /// over the master's socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// How long old processes keep their connections after a reload.
    pub hard_stop_after: Period,
}

impl Default for Haproxy {
    fn default() -> Self {
        Self {
            directory: "/var/lib/fairlead/haproxy".into(),
            socket: "/run/fairlead/haproxy.sock".into(),
            master_socket: Some("/run/fairlead/haproxy-master.sock".into()),
            check: "haproxy -c -q -f".to_owned(),
            notify: None,
            hard_stop_after: Period(std::time::Duration::from_secs(1800)),
        }
    }
}

/// `[nginx]`: a whole configuration of nginx, made by the templates of this build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nginx {
    /// Where its files are; `nginx.conf` in it is the one to start nginx with.
    pub directory: PathBuf,
    /// Where nginx writes its process id, and is told to reload by.
    pub pid_file: PathBuf,
    /// Checks a configuration; the file's name is appended.
    pub check: String,
    /// How a reload is asked for; without it, SIGHUP to the process of `pid_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// Directory of request bodies and answers that do not fit into memory.
    pub temporary_directory: PathBuf,
    /// Account of the workers; without it, nginx's own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Modules to load (`load_module`); without any, Debian's stream module where it is needed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<PathBuf>,
}

impl Default for Nginx {
    fn default() -> Self {
        Self {
            directory: "/var/lib/fairlead/nginx".into(),
            pid_file: "/run/fairlead/nginx.pid".into(),
            check: "nginx -t -q -c".to_owned(),
            notify: None,
            temporary_directory: "/var/lib/nginx".into(),
            user: None,
            modules: Vec::new(),
        }
    }
}

/// `[[templates]]`: a file made by the operator's own templates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// One template. Without a `/` in front it is beside the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Or a directory whose `*.tmpl` and `*.conf` are joined in the order of their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The file that is written.
    pub output: PathBuf,
    /// What it is: `haproxy`, `nginx`, `keepalived`, `map`, `json` or `plain`. Text of tenants is
    /// let in only as far as it is safe there.
    pub grammar: String,
    /// Checks it; the file's name is appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Who is told: `command:`, `pid:SIGNAL:PID`, `pidfile:SIGNAL:FILE`, `debug:`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
}

/// `[apply]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Apply {
    /// Changes are applied when there was none for this long,
    pub quiet: Period,
    /// or this long after the first, whichever comes first.
    pub max_wait: Period,
    /// Shortest time between two reloads.
    pub reload_gap: Period,
    /// Most reloads in an hour.
    pub reloads_per_hour: u32,
    /// With this many old processes that still serve, reloads wait.
    pub max_old_processes: u32,
    /// Largest share of hosts or servers, in percent, that may vanish at once though their objects
    /// were not seen to be deleted.
    pub max_shrink_percent: u8,
    /// How long a check may take.
    pub check_timeout: Period,
    /// How often files and the live process are compared with the plan.
    pub drift_check: Period,
    /// `repair`, or `report` what was changed by hand.
    pub drift: String,
}

impl Default for Apply {
    fn default() -> Self {
        let seconds = |seconds| Period(std::time::Duration::from_secs(seconds));
        Self {
            quiet: Period(std::time::Duration::from_millis(100)),
            max_wait: seconds(1),
            reload_gap: seconds(2),
            reloads_per_hour: 360,
            max_old_processes: 8,
            max_shrink_percent: 50,
            check_timeout: seconds(60),
            drift_check: seconds(60),
            drift: "repair".to_owned(),
        }
    }
}
