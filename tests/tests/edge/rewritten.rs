//! `run`, and a file of manifests that somebody writes in place: it is empty until they go on.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use confgen::{config, serve};
use tokio_util::sync::CancellationToken;

use crate::cluster::{endpoints, expected, hosts, until};
use crate::lab::free_port;

/// How long the writer takes: much longer than what any change waits for others.
const PAUSE: Duration = Duration::from_secs(1);

fn shop(count: usize) -> String {
    let all: Vec<String> = (0..count).map(endpoints).collect();
    all.join("---\n")
}

/// As `cat > file` does it.
fn rewrite(file: &Path, text: &str) {
    let mut open = File::create(file).unwrap();
    thread::sleep(PAUSE);
    let (half, rest) = text.split_at(text.len() / 2);
    open.write_all(half.as_bytes()).unwrap();
    thread::sleep(PAUSE);
    open.write_all(rest.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_in_place_takes_no_host_away() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_owned();
    let (here, port) = (at.display(), free_port());
    fs::create_dir(at.join("m")).unwrap();
    let file = at.join("m/shop.yaml");
    fs::write(&file, shop(20)).unwrap();
    fs::write(
        at.join("hosts.tmpl"),
        "{% for domain in domains %}{{ domain }}\n{% endfor %}",
    )
    .unwrap();
    let settings = config::parse(&format!(
        "[cluster]\nmanifests = '{here}/m'\n[listen]\nhttp = ['127.0.0.1:80']\n[endpoints]\n\
         [status]\nlisten = '127.0.0.1:{port}'\n[[templates]]\nfile = '{here}/hosts.tmpl'\n\
         output = '{here}/out'\ngrammar = 'plain'\n"
    ))
    .unwrap();
    let cancel = CancellationToken::new();
    let run = tokio::spawn(serve::run(settings, None, cancel.clone()));
    until("at the start", &at, port, || hosts(&at) == expected(0..20));

    let stop = Arc::new(AtomicBool::new(false));
    let (watched, stopped) = (at.clone(), Arc::clone(&stop));
    let watcher = thread::spawn(move || {
        let mut fewest = usize::MAX;
        while !stopped.load(Ordering::Relaxed) {
            fewest = fewest.min(hosts(&watched).len());
            thread::sleep(Duration::from_millis(5));
        }
        fewest
    });
    rewrite(&file, &shop(21));
    until("after it was written", &at, port, || {
        hosts(&at) == expected(0..21)
    });
    stop.store(true, Ordering::Relaxed);
    assert_eq!(watcher.join().unwrap(), 20, "the fewest hosts meanwhile");

    // A file that is closed empty is meant.
    fs::write(&file, "").unwrap();
    until("empty", &at, port, || hosts(&at).is_empty());
    cancel.cancel();
    run.await.unwrap().unwrap();
}
