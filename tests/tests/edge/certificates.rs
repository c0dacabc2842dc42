//! A certificate that several hosts have, which is renewed while both proxies serve them.

use std::process::{Command, Stdio};

use serde_json::Value;
use tests::harness::poll;

use crate::lab::PATIENCE;
use crate::node::{HAPROXY, NGINX, Node, STATUS, is_live};
use crate::pods::{self, endpoints, service};

/// A wildcard's certificate and key.
fn wildcard() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["*.shop.example".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn secret(name: &str, fields: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{namespace: shop, name: {name}}}\nstringData:\n"
    );
    for (field, pem) in fields {
        let indented = pem.trim().replace('\n', "\n    ");
        text += &format!("  {field}: |\n    {indented}\n");
    }
    text + "---\n"
}

/// The certificate that a client is shown who asks for a host; nothing where there is none.
fn shown(node: &Node, proxy: &str, host: &str) -> String {
    let at = format!("{proxy}:443");
    let host = host.to_owned();
    let asked = node.inside(move || {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &at, "-servername", &host])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    body(&asked.join().unwrap())
}

/// A certificate's text without its lines.
fn body(pem: &str) -> String {
    let begin = pem.find("-----BEGIN CERTIFICATE").unwrap_or_default();
    let end = pem.find("-----END CERTIFICATE").unwrap_or_default();
    pem[begin..end].replace(['\r', '\n'], "")
}

#[track_caller]
fn until_shown(node: &Node, hosts: &[&str], chain: &str) {
    let wanted = body(chain);
    for proxy in [HAPROXY, NGINX] {
        for host in hosts {
            let is_shown = || (shown(node, proxy, host) == wanted).then_some(());
            assert!(poll(PATIENCE, is_shown).is_some(), "{proxy} {host}");
        }
    }
}

/// Reloads of HAProxy, and changes without one.
fn counts(node: &Node) -> (u64, u64) {
    let told: Value = serde_json::from_str(&node.status(STATUS[0], is_live)).unwrap();
    let totals = &told["outputs"]["haproxy"]["totals"];
    let reloads = totals["reloads"].as_object().unwrap().values();
    let reloads = reloads.filter_map(Value::as_u64).sum();
    (reloads, totals["runtime_changes"].as_u64().unwrap())
}

/// Starts both, renews the certificate twice, and serves one host more.
#[track_caller]
fn check(
    listeners: impl Fn(&str) -> String,
    conventions: &str,
    shop: impl Fn((&str, &str), &[&str]) -> String,
    also_shown: &[&str],
) {
    let mut node = Node::new();
    pods::start(&node);
    let made = [wildcard(), wildcard()];
    let of = |index: usize| (made[index].0.as_str(), made[index].1.as_str());
    let hosts = ["a.shop.example", "b.shop.example", "c.shop.example"];
    node.publish(&shop(of(0), &hosts[..2]));
    node.serve(listeners, conventions);
    let asked = |hosts: &[&'static str]| [hosts, also_shown].concat();
    until_shown(&node, &asked(&hosts[..2]), of(0).0);
    let (reloads, _) = counts(&node);
    for (turn, hosts) in [(1, &hosts[..2]), (0, &hosts[..]), (1, &hosts[..1])] {
        let (_, before) = counts(&node);
        node.publish(&shop(of(turn), hosts));
        until_shown(&node, &asked(hosts), of(turn).0);
        let (now, changes) = counts(&node);
        assert_eq!(now, reloads, "{turn} {hosts:?}");
        assert!(changes > before, "{turn} {hosts:?}");
    }
}

/// One of them asks for its clients' certificates: two lines of the list have one certificate.
#[test]
fn hosts_of_one_secret_are_renewed_without_a_reload() {
    let (authorities, _) = wildcard();
    let ingress = |name: &str, hosts: &[&str], annotations: &str| {
        let rules = hosts.iter().map(|host| {
            format!(
                "  - {{host: {host}, http: {{paths: [{{path: /, pathType: Prefix, backend: \
                 {{service: {{name: web, port: {{name: http}}}}}}}}]}}}}\n"
            )
        });
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{namespace: shop, name: \
             {name}, annotations: {{{annotations}}}}}\nspec:\n  ingressClassName: edge\n  tls: \
             [{{hosts: [{}], secretName: tls}}]\n  rules:\n{}---\n",
            hosts.join(", "),
            rules.collect::<String>(),
        )
    };
    let shop = |(chain, key): (&str, &str), hosts: &[&str]| {
        let clients = "nginx.ingress.kubernetes.io/auth-tls-secret: shop/ca, \
                       nginx.ingress.kubernetes.io/auth-tls-verify-client: optional";
        [
            service("web", &endpoints(&[11])),
            secret("tls", &[("tls.crt", chain), ("tls.key", key)]),
            secret("ca", &[("ca.crt", &authorities)]),
            ingress("web", hosts, ""),
            ingress("bank", &["bank.shop.example"], clients),
        ]
        .concat()
    };
    check(
        |address| format!("http = []\nhttps = [\"{address}:443\"]"),
        "[ingress]\nclass = \"edge\"",
        shop,
        &["bank.shop.example"],
    );
}

/// A Gateway's listener without a host shows its certificate to everybody: it is the first of the list.
#[test]
fn the_first_certificate_of_a_listener_is_renewed_for_its_hosts_too() {
    let shop = |(chain, key): (&str, &str), hosts: &[&str]| {
        let routes = hosts.iter().enumerate().map(|(index, host)| {
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{namespace: \
                 shop, name: r{index}}}\nspec:\n  parentRefs: [{{name: edge}}]\n  hostnames: \
                 [{host}]\n  rules: [{{backendRefs: [{{name: web, port: 80}}]}}]\n---\n"
            )
        });
        [
            service("web", &endpoints(&[11])),
            secret("tls", &[("tls.crt", chain), ("tls.key", key)]),
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: \
             edge}\nspec: {controllerName: fairlead.io/edge}\n---\n"
                .to_owned(),
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {namespace: shop, \
             name: edge}\nspec:\n  gatewayClassName: edge\n  listeners:\n  - {name: web, protocol: \
             HTTPS, port: 443, tls: {certificateRefs: [{name: tls}]}}\n---\n"
                .to_owned(),
            routes.collect::<String>(),
        ]
        .concat()
    };
    check(
        |address| {
            format!(
                "http = []\nhttps = []\n[gateway]\ncontroller = \"fairlead.io/edge\"\naddresses = \
                 [\"{address}\"]"
            )
        },
        "",
        shop,
        &["other.example"],
    );
}
