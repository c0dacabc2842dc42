//! `examples/edge/caddy.toml`: a proxy that only an operator's template knows.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::harness::poll;

use crate::node::{NGINX as ADDRESS, Node, STATUS};
use crate::pods::{self, PORT, ask, endpoints, pod_of};

const PATIENCE: Duration = Duration::from_secs(30);

fn shop(pods: &[u8]) -> String {
    pods::service("web", &endpoints(pods)).replace(
        "name: web}",
        "name: web, annotations: {domain: www.shop.example, proto: http}}",
    )
}

#[test]
fn the_example_of_caddy_follows_the_pods() {
    let mut node = Node::new();
    pods::start(&node);
    node.publish(&shop(&[11]));
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/edge");
    let example = fs::read_to_string(examples.join("caddy.toml")).unwrap();
    let (caddyfile, config) = (node.path("Caddyfile"), node.path("caddy.toml"));
    let text = example
        .replace("/etc/caddy/Caddyfile", &caddyfile.display().to_string())
        .replace(
            "caddy/Caddyfile.tmpl",
            &examples.join("caddy/Caddyfile.tmpl").display().to_string(),
        );
    let [status, _] = STATUS;
    let more = format!(
        "[cluster]\nmanifests = {:?}\n[status]\nlisten = \"127.0.0.1:{status}\"\n[apply]\nreload_gap = \"100ms\"\n",
        node.path("shop")
    );
    fs::write(&config, text + &more).unwrap();
    node.start_confgen(&config);
    assert!(poll(PATIENCE, || caddyfile.exists().then_some(())).is_some());
    // Where it keeps what it was last told.
    let home = format!("XDG_CONFIG_HOME={}", node.path("caddy").display());
    let file = caddyfile.display().to_string();
    let arguments = ["caddy", "run", "--adapter", "caddyfile", "--config"];
    node.start("env", &[&[&*home], &arguments[..], &[&file]].concat());
    for pods in [&[11][..], &[12], &[13]] {
        node.publish(&shop(pods));
        let mut told = String::new();
        let moved = poll(PATIENCE, || {
            let asked = node.inside(|| {
                let request = "GET / HTTP/1.1\r\nHost: www.shop.example";
                ask(ADDRESS.parse().unwrap(), "", request)
            });
            told = format!(
                "{:?}",
                asked.join().unwrap().and_then(|answer| pod_of(&answer))
            );
            (told == format!("Ok({})", pods[0])).then_some(())
        });
        assert!(moved.is_some(), "{told}; port {PORT}");
    }
}
