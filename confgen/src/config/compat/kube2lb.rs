//! kube2lb's flags.

use std::path::PathBuf;

use clap::Parser;

use super::Carried;
use crate::config::{Cluster, File, Services, Template};

/// The original's flags, with one dash as there or with two.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube2lb", version)]
pub struct Flags {
    /// URL of the API server
    #[arg(long, default_value = "")]
    pub apiserver: String,
    /// Kubeconfig; without it, the ServiceAccount of the Pod
    #[arg(long, default_value = "")]
    pub kubecfg: String,
    /// `.Domain` of server names
    #[arg(long, default_value = "local")]
    pub domain: String,
    /// File that is written
    #[arg(long)]
    pub config: PathBuf,
    /// Template
    #[arg(long)]
    pub template: PathBuf,
    /// Who is told: command:CMD, pid:SIGNAL:PID, pidfile:SIGNAL:FILE, debug:
    #[arg(long)]
    pub notify: String,
    /// Address of Services without loadBalancerIP
    #[arg(long, default_value = "0.0.0.0")]
    pub default_lb_ip: String,
    /// Mode of ports without kube2lb/port-mode
    #[arg(long, default_value = "http")]
    pub default_port_mode: String,
    /// Seconds until the original gave up reconnecting; this process never does
    #[arg(long, default_value = "300")]
    pub reconnect_timeout: f64,
    /// Templates of server names, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "{{ .Service.Name }}.{{ .Service.Namespace }}.svc.{{ .Domain }}"
    )]
    pub server_name_templates: Vec<String>,
    /// Seconds that an update may take
    #[arg(long, default_value = "10")]
    pub update_timeout: f64,
}

/// Go's flags have one dash; two are taken as well.
pub fn with_two_dashes(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut doubled = Vec::new();
    for argument in arguments {
        let is_single = argument.starts_with('-') && !argument.starts_with("--");
        let is_flag = is_single && argument.len() > 2;
        doubled.push(if is_flag {
            format!("-{argument}")
        } else {
            argument
        });
    }
    doubled
}

/// What the flags say.
pub fn carry(flags: Flags) -> Carried {
    let Flags {
        apiserver,
        kubecfg,
        domain,
        config,
        template,
        notify,
        default_lb_ip,
        default_port_mode,
        reconnect_timeout,
        server_name_templates,
        update_timeout,
    } = flags;
    let given = |text: String| (!text.is_empty()).then_some(text);
    let mut notes = Vec::new();
    if (reconnect_timeout - 300.0).abs() > f64::EPSILON {
        notes.push(
            "-reconnect-timeout has no effect: connections are tried for ever, and meanwhile \
             what was applied last stays"
                .to_owned(),
        );
    }
    if (update_timeout - 10.0).abs() > f64::EPSILON {
        notes.push("-update-timeout has no effect; apply.check_timeout bounds checks".to_owned());
    }
    // `debug` alone is what the original's README writes and its code refuses.
    let notify = if notify == "debug" {
        "debug:".to_owned()
    } else {
        notify
    };
    let grammar = match config.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.contains("haproxy") => "haproxy",
        Some(name) if name.contains("nginx") => "nginx",
        Some(_) | None => "plain",
    };
    if grammar == "plain" {
        notes.push(format!(
            "the grammar of {} is not known: text of tenants is let in only as words of letters, \
             digits and ._:/-",
            config.display()
        ));
    }
    Carried {
        file: File {
            cluster: Cluster {
                servers: given(apiserver).into_iter().collect(),
                kubeconfig: given(kubecfg).map(Into::into),
                ..Cluster::default()
            },
            services: Some(Services {
                server_names: server_name_templates,
                domain,
                default_address: default_lb_ip,
                default_mode: default_port_mode,
                ..Services::default()
            }),
            templates: vec![Template {
                file: Some(template),
                output: config,
                grammar: grammar.to_owned(),
                notify: vec![notify],
                ..Template::default()
            }],
            ..File::default()
        },
        notes,
    }
}
