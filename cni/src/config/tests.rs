//! Configurations that are taken, and why others are not.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::document::STATE_DIR;
use super::{Config, Document};
use crate::error::{CniError, Code};
use crate::version::Version;

fn config(more: &Value) -> Result<Config, CniError> {
    let mut keys = json!({"cniVersion": "1.1.0", "name": "pods", "type": "fairlead-cni",
        "ranges": ["10.0.0.0/24", "fd00::/64"]});
    for (key, value) in more.as_object().unwrap() {
        keys[key] = value.clone();
    }
    let mut version = Version::NEWEST;
    Document::parse(keys.to_string().as_bytes(), &mut version)?.config()
}

#[track_caller]
fn refused(more: &Value, code: Code, words: &[&str]) {
    let error = config(more).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn a_short_configuration_has_defaults() {
    let config = config(&json!({})).unwrap();
    assert_eq!(config.place.state_dir, PathBuf::from(STATE_DIR));
    assert_eq!((config.mtu, config.agent, config.mac), (None, None, None));
    assert!(config.addresses.is_empty());
}

#[test]
fn every_key_has_an_effect() {
    let config = config(&json!({"mtu": 1400, "stateDir": "/tmp/x",
        "agentSocket": "/run/a.sock", "agentWaitSeconds": 3, "dns": {"nameservers": ["10.0.0.1"]},
        "capabilities": {"portMappings": true, "ips": true}, "cni.dev/anything": 1, "ipMasq": false,
        "runtimeConfig": {"ips": ["10.0.0.7/24", "fd00::7"], "mac": "0a:00:00:00:00:07",
            "portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]}}))
    .unwrap();
    assert_eq!(
        (config.mtu, config.place.state_dir),
        (Some(1400), "/tmp/x".into())
    );
    let agent = config.agent.unwrap();
    assert_eq!(
        (agent.socket, agent.wait),
        ("/run/a.sock".into(), Duration::from_secs(3))
    );
    assert_eq!(config.dns.unwrap()["nameservers"], json!(["10.0.0.1"]));
    let asked: Vec<_> = config.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(asked, ["10.0.0.7", "fd00::7"]);
    assert_eq!(config.mac.unwrap().to_string(), "0a:00:00:00:00:07");
}

#[test]
fn addresses_of_args_are_taken_where_the_runtime_gives_none() {
    let asked = |more: &Value| config(more).unwrap().addresses[0].to_string();
    let args = json!({"args": {"cni": {"ips": ["10.0.0.8"]}, "labels": {"a": "b"}}});
    assert_eq!(asked(&args), "10.0.0.8");
    let mut both = args;
    both["runtimeConfig"] = json!({"ips": ["10.0.0.9"]});
    assert_eq!(asked(&both), "10.0.0.9");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    refused(
        &json!({"range": []}),
        Code::UnsupportedField,
        &["`range`: []", "ranges"],
    );
    refused(
        &json!({"ipMasq": true}),
        Code::UnsupportedField,
        &["`ipMasq`: true", "agent"],
    );
    let invalid = |more: &Value, words: &[&str]| refused(more, Code::InvalidConfig, words);
    invalid(&json!({"name": "a/b"}), &["`a/b`"]);
    invalid(&json!({"name": null}), &["`name`"]);
    invalid(&json!({"ranges": null}), &["`ranges` is missing"]);
    invalid(&json!({"ranges": ["ten"]}), &["`ranges` has `ten`"]);
    invalid(&json!({"ranges": 10}), &["network `pods`"]);
    invalid(
        &json!({"ranges": ["10.0.0.0/24", "10.0.0.128/25"]}),
        &["overlap"],
    );
    invalid(&json!({"mtu": 1000}), &["`mtu` is 1000", "1280"]);
    invalid(&json!({"stateDir": "run"}), &["`stateDir`", "absolute"]);
    invalid(&json!({"runtimeConfig": {"ips": ["ten"]}}), &["`ten`"]);
    invalid(
        &json!({"runtimeConfig": {"mac": "01:00:00:00:00:00"}}),
        &["unicast"],
    );
    invalid(
        &json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}),
        &["bandwidth"],
    );
}

#[test]
fn a_node_without_networks_has_a_configuration_and_no_addresses() {
    let config = config(&json!({"ranges": []})).unwrap();
    let error = config.some_ranges(Code::TryAgain).unwrap_err();
    assert_eq!(error.code, Code::TryAgain);
    assert!(error.to_string().contains("spec.podCIDRs"), "{error}");
}

#[test]
fn other_versions_are_refused_and_the_answer_has_that_which_was_asked_for() {
    let mut version = Version::NEWEST;
    for text in [r#"{"cniVersion": "0.2.0"}"#, r#"{"cniVersion": 1}"#, "{}"] {
        let error = Document::parse(text.as_bytes(), &mut version).unwrap_err();
        assert_eq!(error.code, Code::IncompatibleVersion);
    }
    let error = Document::parse(b"[]", &mut version).unwrap_err();
    assert_eq!(error.code, Code::Decode);
    Document::parse(br#"{"cniVersion": "0.4.0"}"#, &mut version).unwrap();
    assert_eq!(version, Version::V0_4_0);
}
