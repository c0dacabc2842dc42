//! What an edge process says of itself: for machines, and no secret.

use std::fs::{self, File};
use std::process::Command;

use serde_json::Value;
use tests::harness::{Process, poll};

use crate::cluster::{asked, certified};
use crate::elsewhere::confgen;
use crate::lab::{PATIENCE, free_port, read};

/// An Ingress whose host has TLS, and its Secret.
fn ingress(chain: &str, key: &str) -> String {
    certified(chain, key)
        + "  rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, \
           backend: {service: {name: web, port: {number: 80}}}}]}}]\n"
}

#[test]
fn logs_status_and_metrics_are_for_machines_and_hold_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (here, port) = (at.display(), free_port());
    fs::create_dir(at.join("m")).unwrap();
    fs::write(at.join("t.tmpl"), "hosts\n").unwrap();
    let config = at.join("confgen.toml");
    let text = format!(
        "[cluster]\nmanifests = '{here}/m'\n[ingress]\nclass = 'edge'\n[status]\n\
         listen = '127.0.0.1:{port}'\n[[templates]]\nfile = '{here}/t.tmpl'\n\
         output = '{here}/out'\ngrammar = 'plain'\n"
    );
    fs::write(&config, text).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    // A line of each that is in nothing else.
    let secrets = [&chain, &key].map(|pem| pem.lines().nth(1).unwrap().to_owned());
    fs::write(at.join("m/shop.yaml"), ingress(&chain, &key)).unwrap();
    let log = at.join("log");
    let mut command = Command::new(confgen());
    command
        .args(["run", "--log-json", "--config"])
        .arg(&config)
        .env("RUST_LOG", "trace")
        .stderr(File::create(&log).unwrap());
    let mut running = Process::start("fairlead-confgen", &mut command).unwrap();
    let is_live = || asked(port, "/status").contains("\"live\":1").then_some(());
    assert!(poll(PATIENCE, is_live).is_some(), "{}", read(&log));
    // A key of another certificate, and text that is none: what is refused is told, not shown.
    let other = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let other = other.signing_key.serialize_pem();
    fs::write(at.join("beside"), ingress(&chain, &other)).unwrap();
    fs::rename(at.join("beside"), at.join("m/shop.yaml")).unwrap();
    let is_told = || {
        asked(port, "/status")
            .contains("is served on, until")
            .then_some(())
    };
    assert!(
        poll(PATIENCE, is_told).is_some(),
        "{}",
        asked(port, "/status")
    );
    let metrics = asked(port, "/metrics");
    for series in [
        "fairlead_confgen_reloads_total",
        "fairlead_confgen_rollbacks_total",
        "fairlead_confgen_certificate_days_left",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    let status = asked(port, "/status");
    running.terminate().unwrap();
    running.wait(PATIENCE).unwrap();
    let log = read(&log);
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            message["level"].is_string() && message["timestamp"].is_string(),
            "{line}"
        );
    }
    let others = other.lines().nth(1).unwrap().to_owned();
    for (what, text) in [("log", log), ("status", status), ("metrics", metrics)] {
        for secret in secrets.iter().chain([&others]) {
            assert!(
                !text.contains(secret) && !text.contains("PRIVATE KEY"),
                "{what}: {text}"
            );
        }
    }
}
