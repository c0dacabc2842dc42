//! dispatcher's variables.

use std::collections::BTreeMap;

use model::{LabelSelector, Requirement};

use super::Carried;
use crate::config::{Cluster, Defaults, File, Listen, Mistake, Nginx, Pods, Unknown};

/// What the original takes from its environment. `variable` reads one.
///
/// # Errors
/// [`Mistake`] where a variable makes no sense; the original ends then too.
pub fn carry(variable: impl Fn(&str) -> Option<String>) -> Result<Carried, Mistake> {
    let mut notes = Vec::new();
    let text = |name: &str, default: &str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.unwrap_or_else(|| default.to_owned())
    };
    let prefix = "github.com/30x.dispatcher";
    let routable = text(
        "ROUTABLE_LABEL_SELECTOR",
        &format!("{prefix}.routable=true"),
    );
    let port = number("PORT", &text("PORT", "80"), 1..=65535)?;
    let ssl_port = number("SSL_PORT", &text("SSL_PORT", "443"), 1..=65535)?;
    let returned = text("DEFAULT_LOCATION_RETURN", "404");
    let unknown_path = match returned.parse() {
        Ok(status) if (100..=599).contains(&status) => Unknown::Status(status),
        Err(_) if returned.contains("://") => Unknown::Word(returned),
        Ok(_) | Err(_) => {
            let message = format!("is {returned:?}, neither a status from 100 to 599 nor a URL");
            return Err(Mistake::at("DEFAULT_LOCATION_RETURN", message));
        }
    };
    if matches!(&unknown_path, Unknown::Word(url) if url.starts_with("https:")) {
        notes.push(
            "DEFAULT_LOCATION_RETURN: as in the original, nobody checks the certificate of its \
             servers"
                .to_owned(),
        );
    }
    let file = |name: &str| variable(name).filter(|path| !path.is_empty());
    let (certificate, key) = (file("SSL_CERT"), file("SSL_KEY"));
    if certificate.is_some() != key.is_some() {
        let (without, is) = if key.is_some() {
            ("SSL_KEY", "SSL_CERT")
        } else {
            ("SSL_CERT", "SSL_KEY")
        };
        return Err(Mistake::at(without, format!("is without {is}")));
    }
    for name in ["ORG_LABEL", "ENV_LABEL", "APP_NAME_LABEL", "APP_REV_LABEL"] {
        if variable(name).is_some() {
            notes.push(format!(
                "{name} had no effect in the original, and has none here"
            ));
        }
    }
    if variable("SSL_CERT_DIR").is_some() {
        notes
            .push("SSL_CERT_DIR is not read: certificates lie beside the configuration".to_owned());
    }
    if variable("ENABLE_NGINX_UPSTREAM_CHECK").is_some() {
        notes.push(
            "ENABLE_NGINX_UPSTREAM_CHECK is not read; NGINX_ENABLE_HEALTH_CHECKS is".to_owned(),
        );
    }
    let (labels, selector) = selector(routable)?;
    let health = text("NGINX_ENABLE_HEALTH_CHECKS", "false");
    let body = text("NGINX_MAX_CLIENT_BODY_SIZE", "0");
    Ok(Carried {
        file: File {
            cluster: Cluster {
                kubeconfig: variable("KUBECONFIG").map(Into::into),
                ..Cluster::default()
            },
            listen: Listen {
                http: vec![format!("0.0.0.0:{port}")],
                https: vec![format!("0.0.0.0:{ssl_port}")],
                proxy_protocol: Vec::new(),
                certificate: certificate.map(Into::into),
                key: key.map(Into::into),
            },
            defaults: Defaults {
                status_path: Some(text("NGINX_STATUS_PATH", "/dispatcher/status")),
                max_body_bytes: bytes(&body)?,
                ..Defaults::default()
            },
            pods: vec![Pods {
                labels,
                selector,
                hosts_annotation: text("HOSTS_ANNOTATION", &format!("{prefix}.hosts")),
                paths_annotation: text("PATHS_ANNOTATION", &format!("{prefix}.paths")),
                secret: text("API_KEY_SECRET_NAME", "routing"),
                key_field: text("API_KEY_SECRET_FIELD", "api-key"),
                key_header: text("API_KEY_HEADER", "X-ROUTING-API-KEY"),
                missing_key: "allow".to_owned(),
                health_checks: matches!(health.as_str(), "true" | "1" | "yes"),
                redirect_to_tls: false,
                unknown_path: Some(unknown_path),
                ..Pods::default()
            }],
            nginx: Some(Nginx {
                directory: "/etc/nginx".into(),
                pid_file: "/run/nginx.pid".into(),
                ..Nginx::default()
            }),
            ..File::default()
        },
        notes,
    })
}

fn number(name: &str, text: &str, range: std::ops::RangeInclusive<u32>) -> Result<u32, Mistake> {
    let parsed = text.parse().ok().filter(|number| range.contains(number));
    let (first, last) = (range.start(), range.end());
    parsed.ok_or_else(|| {
        Mistake::at(
            name,
            format!("is {text:?}, not a number from {first} to {last}"),
        )
    })
}

/// nginx's sizes: bytes, or with `k`, `m` or `g`; 0 is any.
fn bytes(text: &str) -> Result<Option<u64>, Mistake> {
    let mistake = || {
        let message = format!("is {text:?}, not a size as in 0, 512k or 8m");
        Mistake::at("NGINX_MAX_CLIENT_BODY_SIZE", message)
    };
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.char_indices().last() {
        Some((end, 'k')) => (&lower[..end], 1 << 10),
        Some((end, 'm')) => (&lower[..end], 1 << 20),
        Some((end, 'g')) => (&lower[..end], 1 << 30),
        Some(_) | None => (lower.as_str(), 1),
    };
    let number: u64 = digits.parse().map_err(|_| mistake())?;
    let bytes = number.checked_mul(factor).ok_or_else(mistake)?;
    Ok((bytes > 0).then_some(bytes))
}

type Labels = BTreeMap<String, String>;

/// A selector: as labels where they say all of it, since those read better.
fn selector(text: String) -> Result<(Option<Labels>, Option<String>), Mistake> {
    let parsed = LabelSelector::parse(&text);
    let parsed = parsed.map_err(|what| Mistake::at("ROUTABLE_LABEL_SELECTOR", what))?;
    let pair = |requirement: &Requirement| match requirement {
        Requirement::In(key, values) if values.len() == 1 => {
            Some((key.to_string(), values[0].to_string()))
        }
        Requirement::In(..)
        | Requirement::NotIn(..)
        | Requirement::Exists(_)
        | Requirement::DoesNotExist(_) => None,
    };
    let labels: Option<Labels> = parsed.requirements.iter().map(pair).collect();
    Ok(
        match labels.filter(|labels| labels.len() == parsed.requirements.len()) {
            Some(labels) => (Some(labels), None),
            None => (None, Some(text)),
        },
    )
}
