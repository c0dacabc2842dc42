//! pyconfd's flags, or its variables: never both, as in the original. `SSL_CERT_FILE` for one is
//! OpenSSL's too, and set on many machines.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::Carried;
use crate::config::duration::Period;
use crate::config::{Cluster, Endpoints, File, Mistake, Template};

const DEFAULT_CA: &str = "/etc/pyconfd/ca.pem";

/// The original's flags.
#[derive(Clone, Debug, Parser)]
#[command(name = "pyconfd")]
pub struct Flags {
    /// URLs of API servers, separated by commas, tried in order
    #[arg(long, value_delimiter = ',', required = true)]
    pub api_servers: Vec<String>,
    /// DEBUG, INFO, WARNING or ERROR
    #[arg(long, default_value = "INFO")]
    pub log_level: String,
    /// Proxies of the environment are never used; accepted
    #[arg(long, default_value = "True")]
    pub ignore_proxy_env: String,
    /// Key of a client certificate
    #[arg(long, default_value = "")]
    pub ssl_key: String,
    /// Client certificate
    #[arg(long, default_value = "")]
    pub ssl_cert: String,
    /// CA of the API server; False believes any; without it, /etc/pyconfd/ca.pem where that is
    #[arg(long)]
    pub ssl_ca: Option<String>,
    /// Seconds between two lists where watches are refused
    #[arg(long, default_value = "30")]
    pub interval: u64,
    /// Directory of *.tmpl and *.conf
    #[arg(long, default_value = "/etc/pyconfd")]
    pub template_dir: PathBuf,
    /// File that is written
    #[arg(long, default_value = "/etc/haproxy/haproxy.cfg")]
    pub haproxy_conf: PathBuf,
    /// Checks a configuration; the file is appended
    #[arg(
        long,
        env = "HAPROXY_CHECK_CMD",
        default_value = "/usr/sbin/haproxy -c -q -f"
    )]
    pub haproxy_chk_cmd: String,
    /// Reloads HAProxy
    #[arg(
        long,
        env = "HAPROXY_RELOAD_CMD",
        default_value = "/etc/init.d/haproxy reload"
    )]
    pub haproxy_reload_cmd: String,
}

/// Variables of the original, and the flags that say the same.
const VARIABLES: [(&str, &str); 11] = [
    ("APISERVERS", "--api-servers"),
    ("LOGLEVEL", "--log-level"),
    ("IGNORE_PROXY_ENV", "--ignore-proxy-env"),
    ("SSL_KEY_FILE", "--ssl-key"),
    ("SSL_CERT_FILE", "--ssl-cert"),
    ("SSL_CA_FILE", "--ssl-ca"),
    ("REFRESH_INTERVAL", "--interval"),
    ("TEMPLATE_DIR", "--template-dir"),
    ("HAPROXY_CONF", "--haproxy-conf"),
    ("HAPROXY_CHECK_CMD", "--haproxy-chk-cmd"),
    ("HAPROXY_RELOAD_CMD", "--haproxy-reload-cmd"),
];

/// The flags that were given, or where there are none, those that the variables stand for.
pub fn arguments(given: Vec<String>, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    if !given.is_empty() {
        return given;
    }
    let set = VARIABLES.iter().filter_map(|(name, flag)| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some(format!("{flag}={value}"))
    });
    set.collect()
}

/// What the flags say. `is_there` says whether a file is, for the default of `--ssl-ca`.
///
/// # Errors
/// [`Mistake`] where a flag makes no sense.
pub fn carry(flags: &Flags, is_there: impl Fn(&Path) -> bool) -> Result<Carried, Mistake> {
    let Flags {
        api_servers,
        log_level,
        ignore_proxy_env: _,
        ssl_key,
        ssl_cert,
        ssl_ca,
        interval,
        template_dir,
        haproxy_conf,
        haproxy_chk_cmd,
        haproxy_reload_cmd,
    } = flags;
    if ssl_key.is_empty() != ssl_cert.is_empty() {
        let message = "and --ssl-cert go together; the original ignored one without the other";
        return Err(Mistake::at("--ssl-key", message));
    }
    let mut notes = vec![
        "objects are watched: --interval counts only where the API server refuses watches"
            .to_owned(),
        "a domain that two Endpoints claim belongs to the oldest; the original took the last"
            .to_owned(),
    ];
    if log_level != "INFO" {
        notes.push(
            "--log-level has no effect; the variable RUST_LOG says what is logged".to_owned(),
        );
    }
    let given = |path: &String| (!path.is_empty()).then(|| PathBuf::from(path));
    let is_tls = api_servers.iter().any(|url| url.starts_with("https://"));
    let default_ca = || is_tls && is_there(Path::new(DEFAULT_CA));
    let (certificate_authority, insecure_skip_tls_verify) = match ssl_ca.as_deref() {
        Some("False") => (None, true),
        Some(path) => (Some(path.into()), false),
        None => (default_ca().then(|| DEFAULT_CA.into()), false),
    };
    if insecure_skip_tls_verify {
        notes.push(
            "--ssl-ca False believes any certificate: whoever is on the way can be the API server"
                .to_owned(),
        );
    }
    if is_tls && ssl_ca.is_none() && certificate_authority.is_none() {
        notes.push(format!(
            "there is no {DEFAULT_CA}: API servers are known by the CAs of this machine, or in a \
             Pod without --ssl-cert as its ServiceAccount says"
        ));
    }
    Ok(Carried {
        file: File {
            cluster: Cluster {
                servers: api_servers.clone(),
                client_certificate: given(ssl_cert),
                client_key: given(ssl_key),
                certificate_authority,
                insecure_skip_tls_verify,
                resync: Some(Period(std::time::Duration::from_secs(*interval))),
                ..Cluster::default()
            },
            endpoints: Some(Endpoints::default()),
            templates: vec![Template {
                directory: Some(template_dir.clone()),
                output: haproxy_conf.clone(),
                grammar: "haproxy".to_owned(),
                check: Some(haproxy_chk_cmd.clone()),
                notify: vec![format!("command:{haproxy_reload_cmd}")],
                ..Template::default()
            }],
            ..File::default()
        },
        notes,
    })
}
