//! `run` and an API server that goes away, forgets, or comes back without its objects.

use std::path::Path;
use std::time::Duration;

use confgen::{config, serve};
use model::{Kind, ObjectKey};
use tests::apiserver::ApiServer;
use tests::harness::poll;
use tokio_util::sync::CancellationToken;

use crate::lab::{PATIENCE, free_port};

pub(crate) fn endpoints(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web{number}\n  namespace: shop\n  \
         annotations: {{domain: s{number}.example, proto: http}}\n"
    )
}

/// Hosts of the file, sorted.
pub(crate) fn hosts(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("out")).unwrap_or_default();
    let mut hosts: Vec<String> = text.lines().map(str::to_owned).collect();
    hosts.sort();
    hosts
}

pub(crate) fn expected(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    let mut hosts: Vec<String> = numbers.map(|number| format!("s{number}.example")).collect();
    hosts.sort();
    hosts
}

fn status(port: u16) -> String {
    asked(port, "/status")
}

/// What a process answers at a path, head and body.
pub(crate) fn asked(port: u16, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    let mut text = String::new();
    let asked = stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    let read = asked.and_then(|()| stream.read_to_string(&mut text));
    read.map(|_| text).unwrap_or_default()
}

#[track_caller]
pub(crate) fn until(what: &str, directory: &Path, port: u16, is_met: impl Fn() -> bool) {
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

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_demands_a_certificate_is_shown_the_one_of_pyconfds_flags() {
    use clap::Parser as _;
    use confgen::config::compat::pyconfd;

    let server = ApiServer::start_tls().unwrap();
    server.apply_yaml(&endpoints(1)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    server.write_credentials(at).unwrap();
    let template = "{% for domain in domains %}{{ domain }}\n{% endfor %}";
    std::fs::write(at.join("hosts.tmpl"), template).unwrap();
    let carried = |with: &str| {
        let line = format!(
            "pyconfd --api-servers {} --template-dir {here} --haproxy-conf {here}/out \
             --haproxy-chk-cmd true --haproxy-reload-cmd true {with}",
            server.url(),
            here = at.display()
        );
        let line = line.replace("@", &at.display().to_string());
        let flags = pyconfd::Flags::try_parse_from(line.split_whitespace()).unwrap();
        let mut file = pyconfd::carry(&flags, |_| false).unwrap().file;
        file.status.listen = String::new();
        // Hosts alone are no configuration of HAProxy.
        file.templates[0].grammar = "plain".to_owned();
        file.check().unwrap()
    };
    let once = || serve::Once {
        patience: PATIENCE,
        is_forced: false,
        plan: None,
    };
    let run = |with: &str, once| serve::run(carried(with), Some(once), CancellationToken::new());

    let whole = "--ssl-cert @/client.pem --ssl-key @/client.key --ssl-ca @/ca.pem";
    run(whole, once()).await.unwrap();
    assert_eq!(hosts(at), expected(1..2));
    // Without its CA the server is not believed, without a certificate it does not talk.
    for with in [
        "--ssl-ca @/ca.pem",
        "--ssl-cert @/client.pem --ssl-key @/client.key",
    ] {
        let short = serve::Once {
            patience: Duration::from_secs(3),
            ..once()
        };
        let refused = run(with, short).await;
        assert!(refused.is_err(), "{with}");
    }
    let missing = run("--ssl-ca @/none.pem", once()).await.unwrap_err();
    let text = format!("{missing:#}");
    assert!(
        text.contains("certificate authority") && text.contains("none.pem"),
        "{text}"
    );
}

/// A TLS Secret, and an Ingress that uses it.
pub(crate) fn certified(chain: &str, key: &str) -> String {
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\n\
         metadata: {{namespace: shop, name: tls}}\nstringData:\n  tls.crt: |\n    {}\n  \
         tls.key: |\n    {}\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{namespace: shop, name: web}}\nspec:\n  ingressClassName: edge\n  \
         tls: [{{hosts: [shop.example], secretName: tls}}]\n",
        indented(chain),
        indented(key)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_breaks_while_nothing_runs_goes_on_with_what_it_held() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (here, port) = (at.display(), free_port());
    std::fs::create_dir(at.join("m")).unwrap();
    std::fs::write(at.join("t.tmpl"), "hosts\n").unwrap();
    let settings = config::parse(&format!(
        "[cluster]\nmanifests = '{here}/m'\n[ingress]\nclass = 'edge'\n[status]\n\
         listen = '127.0.0.1:{port}'\n[[templates]]\nfile = '{here}/t.tmpl'\n\
         output = '{here}/out'\ngrammar = 'plain'\n"
    ))
    .unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    for (chain, told) in [
        (made.cert.pem(), false),
        ("broken".to_owned(), true),
        ("broken still".to_owned(), true),
    ] {
        std::fs::write(at.join("m/shop.yaml"), certified(&chain, &key)).unwrap();
        let cancel = CancellationToken::new();
        let run = tokio::spawn(serve::run(settings.clone(), None, cancel.clone()));
        let text = poll(PATIENCE, || {
            let text = status(port);
            text.contains("\"live\":1").then_some(text)
        });
        let text = text.unwrap_or_else(|| panic!("not live: {}", status(port)));
        assert_eq!(text.contains("is served on, until"), told, "{text}");
        assert!(!text.contains("PRIVATE"), "{text}");
        cancel.cancel();
        run.await.unwrap().unwrap();
    }
    // Who deletes it while nothing runs means it.
    std::fs::write(at.join("m/shop.yaml"), "").unwrap();
    let cancel = CancellationToken::new();
    let run = tokio::spawn(serve::run(settings, None, cancel.clone()));
    let kept = at.join(".out.fairlead/last-valid");
    let is_empty = || std::fs::read_dir(&kept).unwrap().next().is_none();
    let forgotten = poll(PATIENCE, || is_empty().then_some(()));
    assert!(forgotten.is_some(), "{kept:?}");
    cancel.cancel();
    run.await.unwrap().unwrap();
}
