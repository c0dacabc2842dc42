//! Requests that nothing takes, which go to a name outside the cluster: dispatcher's own interface,
//! and both proxies while the name gets its address.

use std::fs;
use std::process::Command;

use tests::harness::poll;

use crate::lab::PATIENCE;
use crate::node::{HAPROXY, NGINX, Node, STATUS};
use crate::pods::{ask, pod_of, service, start};

/// Files of `/etc` that the namespace's processes see in place of the machine's.
struct Names {
    directory: std::path::PathBuf,
}

impl Names {
    fn of(node: &Node) -> Self {
        let directory = node.namespace_path();
        let directory = std::path::Path::new("/etc/netns").join(directory.file_name().unwrap());
        fs::create_dir_all(&directory).unwrap();
        // Nobody answers there, and it is known at once.
        fs::write(directory.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let names = Self { directory };
        names.say("127.0.0.1 localhost\n");
        names
    }

    fn say(&self, text: &str) {
        // In place: the namespace has this very file.
        fs::write(self.directory.join("hosts"), text).unwrap();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

const INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: shop}
spec:
  ingressClassName: edge
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /shop, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
";

/// Which pod answers, or which status.
fn answer(node: &Node, proxy: &str, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}");
    let to = proxy.parse().unwrap();
    let asked = node.inside(move || ask(to, "", &request));
    let Ok(answer) = asked.join().unwrap() else {
        return "closed".to_owned();
    };
    match pod_of(&answer) {
        Ok(pod) => format!("pod {pod}"),
        Err(_) => answer.split(' ').nth(1).unwrap_or("closed").to_owned(),
    }
}

#[test]
fn a_name_that_gets_its_address_late_is_served_by_both_proxies_without_a_reload() {
    let mut edge = Node::new();
    let names = Names::of(&edge);
    start(&edge);
    edge.publish(&(service("web", "{addresses: [10.0.0.11]}") + INGRESS));
    edge.serve(
        |address| format!("http = [\"{address}:80\"]\nhttps = []"),
        "[defaults]\nunknown_host = 'http://errors.example:9000'\nunknown_path = 'http://errors.example:9000'\n[ingress]\nclass = 'edge'\n",
    );
    let both = |host, path| [HAPROXY, NGINX].map(|proxy| answer(&edge, proxy, host, path));
    assert_eq!(both("shop.example", "/shop"), ["pod 11", "pod 11"]);
    assert_eq!(both("shop.example", "/other"), ["503", "503"]);
    assert_eq!(both("other.example", "/"), ["503", "503"]);
    names.say("127.0.0.1 localhost\n10.0.0.12 errors.example\n");
    let is_there = poll(PATIENCE, || {
        (both("other.example", "/") == ["pod 12", "pod 12"]).then_some(())
    });
    assert!(is_there.is_some(), "{:?}", both("other.example", "/"));
    assert_eq!(both("shop.example", "/other"), ["pod 12", "pod 12"]);
    assert_eq!(both("shop.example", "/shop"), ["pod 11", "pod 11"]);
    let told = edge.status(STATUS[0], crate::node::is_live);
    let value: serde_json::Value = serde_json::from_str(&told).unwrap();
    let totals = &value["outputs"]["haproxy"]["totals"];
    assert_eq!(totals["runtime_changes"], 1, "{totals}");
}

const DISPATCHER: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {tier: web}, annotations: {github.com/30x.dispatcher.hosts: '{"shop.example": {}}'}}
---
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: web
  labels: {tier: web}
  annotations: {github.com/30x.dispatcher.paths: '[{"basePath": "/shop", "containerPort": "9000"}]'}
spec: {containers: [{name: web, ports: [{containerPort: 9000}]}]}
status: {phase: Running, podIP: 10.0.0.11, podIPs: [{ip: 10.0.0.11}], conditions: [{type: Ready, status: "True"}]}
"#;

/// Its own variables make a configuration whose requests nginx answers as the original said.
#[test]
fn dispatchers_variables_lead_nginx_elsewhere() {
    let mut edge = Node::new();
    start(&edge);
    edge.publish(DISPATCHER);
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=edge.example", "-keyout"])
        .arg(edge.path("key"))
        .arg("-out")
        .arg(edge.path("crt"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let printed = Command::new(confgen())
        .args(["dispatcher", "--print-config", "--manifests"])
        .arg(edge.path("shop"))
        .env("DEFAULT_LOCATION_RETURN", "http://10.0.0.12:9000/")
        .env("ROUTABLE_LABEL_SELECTOR", "tier in (web,api),!internal")
        .env("SSL_CERT", edge.path("crt"))
        .env("SSL_KEY", edge.path("key"))
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let text = String::from_utf8(printed.stdout).unwrap();
    let at = |name: &str| edge.path(name).display().to_string();
    fs::create_dir_all(at("temporary")).unwrap();
    let text = text
        .replace(
            "\"/etc/nginx\"",
            &format!("{:?}\nuser = \"root\"", at("nginx")),
        )
        .replace("/run/nginx.pid", &at("nginx.pid"))
        .replace("\"/var/lib/nginx\"", &format!("{:?}", at("temporary")))
        .replace("127.0.0.1:9115", &format!("127.0.0.1:{}", STATUS[1]));
    let config = edge.path("dispatcher.toml");
    fs::write(&config, &text).unwrap();
    edge.start_confgen(&config);
    let main = edge.path("nginx/current/nginx.conf");
    assert!(
        poll(PATIENCE, || main.exists().then_some(())).is_some(),
        "{text}"
    );
    let main = main.display().to_string();
    edge.start("nginx", &["-c", &main, "-g", "daemon off;"]);
    edge.status(STATUS[1], crate::node::is_live);
    assert_eq!(answer(&edge, NGINX, "shop.example", "/shop"), "pod 11");
    assert_eq!(answer(&edge, NGINX, "shop.example", "/other"), "pod 12");
    assert_eq!(answer(&edge, NGINX, "other.example", "/shop"), "closed");
    assert_eq!(
        answer(&edge, NGINX, "other.example", "/dispatcher/status"),
        "200"
    );
    // The certificate of unknown hosts is shown, and only what it is for is answered.
    let crt = edge.path("crt").display().to_string();
    let asked = edge.inside(move || {
        let url = |path: &str| format!("https://edge.example{path}");
        let ask = |path: &str| {
            let output = Command::new("curl")
                .args([
                    "-s",
                    "--max-time",
                    "10",
                    "--cacert",
                    &crt,
                    "-w",
                    "%{http_code}",
                ])
                .args(["--resolve", "edge.example:443:192.0.2.2", &url(path)])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        [ask("/dispatcher/status"), ask("/shop")]
    });
    assert_eq!(asked.join().unwrap(), ["200", "000"]);
}

pub(crate) fn confgen() -> String {
    let program = env!("CARGO_MANIFEST_DIR").to_owned() + "/../target/debug/fairlead-confgen";
    std::env::var("FAIRLEAD_CONFGEN").unwrap_or(program)
}
