//! `run` and an API server that goes away, forgets, or comes back without its objects.

use std::path::Path;
use std::time::Duration;

use confgen::{config, serve};
use model::{Kind, ObjectKey};
use tests::apiserver::ApiServer;
use tests::harness::poll;
use tokio_util::sync::CancellationToken;

use crate::lab::{PATIENCE, free_port};

fn endpoints(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web{number}\n  namespace: shop\n  \
         annotations: {{domain: s{number}.example, proto: http}}\n"
    )
}

/// Hosts of the file, sorted.
fn hosts(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("out")).unwrap_or_default();
    let mut hosts: Vec<String> = text.lines().map(str::to_owned).collect();
    hosts.sort();
    hosts
}

fn expected(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    let mut hosts: Vec<String> = numbers.map(|number| format!("s{number}.example")).collect();
    hosts.sort();
    hosts
}

fn status(port: u16) -> String {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    let mut text = String::new();
    let asked = stream.write_all(b"GET /status HTTP/1.0\r\n\r\n");
    let read = asked.and_then(|()| stream.read_to_string(&mut text));
    read.map(|_| text).unwrap_or_default()
}

#[track_caller]
fn until(what: &str, directory: &Path, port: u16, is_met: impl Fn() -> bool) {
    let met = poll(PATIENCE, || is_met().then_some(()));
    let found = hosts(directory);
    assert!(met.is_some(), "{what}: {found:?} {}", status(port));
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_stay_while_the_api_server_is_gone_behind_or_empty() {
    let mut server = ApiServer::start().unwrap();
    for number in 0..20 {
        server.apply_yaml(&endpoints(number)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let port = free_port();
    std::fs::write(
        at.join("hosts.tmpl"),
        "{% for domain in domains %}{{ domain }}\n{% endfor %}",
    )
    .unwrap();
    let here = at.display();
    let settings = config::parse(&format!(
        "[cluster]\nservers = [\"{}\"]\n[listen]\nhttp = [\"127.0.0.1:80\"]\n[endpoints]\n\
         [status]\nlisten = \"127.0.0.1:{port}\"\n[[templates]]\nfile = \"{here}/hosts.tmpl\"\n\
         output = \"{here}/out\"\ngrammar = \"plain\"\n",
        server.url()
    ))
    .unwrap();
    let cancel = CancellationToken::new();
    let run = tokio::spawn(serve::run(settings, None, cancel.clone()));
    until("at the start", at, port, || hosts(at) == expected(0..20));

    // Gone: nothing is taken away for it.
    server.stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(hosts(at), expected(0..20));
    // Back, with changes of which the history is forgotten: 410, and a list instead.
    server.delete(Kind::Endpoints, &ObjectKey::new("shop", "web0"));
    server.apply_yaml(&endpoints(20)).unwrap();
    server.compact();
    server.restart().unwrap();
    until("after 410", at, port, || hosts(at) == expected(1..21));

    // Back with nothing, as with a new etcd: the list is doubted, and what is live stays.
    server.stop();
    server.wipe();
    server.restart().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(hosts(at), expected(1..21));
    cancel.cancel();
    run.await.unwrap().unwrap();
}
