//! What goes wrong, and what is live meanwhile.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use confgen::apply::files::{Ownership, Place, Restored, Store, Stored};
use confgen::apply::status::Status;
use tests::harness::poll;

use crate::lab::{Edge, Kind, Lab, PATIENCE, request, server};

/// Where the tests below that are run by others find their directory.
const DIRECTORY: &str = "FAIRLEAD_EDGE_DIRECTORY";

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_silently_fails_is_rolled_back_and_tried_again() {
    for kind in [Kind::Haproxy, Kind::Nginx] {
        let mut lab = Lab::new(kind);
        let port = server("a");
        lab.shop.serve("web", &[("s0", port)]);
        let mut settings = lab.settings();
        settings.pace.read_back = Duration::from_secs(3);
        let mut edge = Edge::start(settings);
        edge.offer(&lab.shop);
        edge.live().await.unwrap();
        let good = lab.store().last_good();
        // Every check passes a port that is taken; only binding it fails.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let also = taken.local_addr().unwrap().port();
        lab.shop.also = Some(also);
        edge.offer(&lab.shop);
        let status = edge
            .until(|status| status.totals.rollbacks > 0)
            .await
            .unwrap();
        assert!(status.live < status.seen, "{status:#?}");
        let gap = status.gap.unwrap();
        assert!(gap.contains("did not take"), "{gap}");
        assert_eq!(lab.store().current(), good);
        assert_eq!(request(lab.port, "web.example").unwrap().0, 200);
        drop(taken);
        edge.live().await.unwrap();
        // In the lab's nginx, this port is of the server for unknown hosts.
        let expected = if kind == Kind::Haproxy { 200 } else { 404 };
        assert_eq!(
            request(also, "web.example").unwrap().0,
            expected,
            "{kind:?}"
        );
        edge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_proxy_finds_the_newest_checked_files_when_it_starts() {
    let mut lab = Lab::new(Kind::Haproxy);
    let port = server("a");
    lab.stop_proxy();
    lab.shop.serve("web", &[("s0", port)]);
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    let status = edge.until(|status| status.gap.is_some()).await.unwrap();
    assert_eq!(status.live, 0, "{status:#?}");
    lab.start_proxy();
    assert_eq!(request(lab.port, "web.example").unwrap().0, 200);
    edge.live().await.unwrap();
    // And one that dies while commands are meant for it.
    lab.stop_proxy();
    lab.shop.serve("web", &[("s0", port), ("s1", port)]);
    edge.offer(&lab.shop);
    edge.until(|status| status.gap.is_some() && status.seen == 2)
        .await
        .unwrap();
    lab.start_proxy();
    edge.live().await.unwrap();
    let socket = lab.socket();
    let state = socket.ask(&["show", "servers", "state"]).await.unwrap();
    assert!(state.contains(" s1 "), "{state}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_takes_nothing_away_unless_it_was_seen() {
    let mut lab = Lab::new(Kind::Haproxy);
    let port = server("a");
    for number in 0..20 {
        lab.shop.serve(&format!("web{number}"), &[("s0", port)]);
    }
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    let full = lab.shop.services.clone();
    lab.shop.services.clear();
    // Not complete: not even looked at.
    edge.offer_as(&lab.shop, false);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(request(lab.port, "web3.example").unwrap().0, 200);
    // Complete and empty: refused, in this run and in the next.
    edge.offer(&lab.shop);
    let status = edge
        .until(|status| status.totals.refused > 0)
        .await
        .unwrap();
    assert!(
        status
            .gap
            .as_deref()
            .is_some_and(|gap| gap.contains("--force")),
        "{status:#?}"
    );
    edge.stop().await;
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    edge.until(|status| status.totals.refused > 0)
        .await
        .unwrap();
    assert_eq!(request(lab.port, "web3.example").unwrap().0, 200);
    // Deleted before our eyes: meant.
    lab.shop.services = full.into_iter().take(2).collect();
    lab.shop.deletions = 18;
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(request(lab.port, "web3.example").unwrap().0, 404);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_current_is_told_at_the_start() {
    let lab = Lab::new(Kind::Haproxy);
    std::fs::write(lab.path("files/current/main.cfg"), "torn").unwrap();
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    let status = edge.live().await.unwrap();
    // `current` and `last-good` are one version here, so there is none left to start from.
    let told = status.restored.unwrap();
    assert!(told.contains("checksum of main.cfg is wrong"), "{told}");
    assert!(matches!(lab.store().current(), Stored::Good(_)));
    edge.stop().await;
}

fn store(directory: &Path) -> Store {
    Store::open(
        &directory.join("files"),
        Place::Directory,
        Ownership::default(),
    )
    .unwrap()
}

fn versions(directory: &Path) -> [confgen::output::Rendered; 2] {
    let mut shop = crate::shop::Shop::new(Kind::Haproxy, directory, 1);
    let mut version = |name: &str| {
        for number in 0..200 {
            shop.serve(&format!("{name}{number}"), &[("s0", 1)]);
        }
        shop.output(&BTreeSet::new()).rendered
    };
    [version("one"), version("two")]
}

/// The link to what is live: each switch makes it anew.
fn current(directory: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let link = directory.join("files/current").symlink_metadata();
    link.ok().map(|link| link.ino())
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_a_whole_version() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path();
    let [one, two] = versions(path);
    let mut seen = BTreeSet::new();
    for round in 0..40_u64 {
        let before = current(path);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "faults::writes_until_it_is_killed"])
            .env(DIRECTORY, path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // A busy machine takes long to start it, and only what it writes can be torn.
        let writes = || (current(path) != before).then_some(());
        assert!(
            poll(PATIENCE, writes).is_some(),
            "the writer does not write"
        );
        std::thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the writer ended by itself"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let store = store(path);
        match store.restore().unwrap() {
            Restored::Current(manifest) => {
                let rendered = store.read(&manifest).unwrap();
                assert!(rendered == one || rendered == two);
                seen.insert(manifest.digest);
            }
            Restored::Nothing => {}
            other @ (Restored::LastGood { .. } | Restored::Corrupt(_)) => {
                panic!("round {round}: {other:?}")
            }
        }
        let entries = std::fs::read_dir(path.join("files")).unwrap().flatten();
        let left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        assert!(
            left.iter()
                .all(|name| !name.to_string_lossy().starts_with('.')),
            "{left:?}"
        );
    }
    assert_eq!(seen.len(), 2, "the writer was killed before it wrote");
}

#[test]
#[ignore = "the child of a_run_that_is_killed_at_any_moment_leaves_a_whole_version"]
fn writes_until_it_is_killed() {
    let directory = std::env::var(DIRECTORY).unwrap();
    let store = store(Path::new(&directory));
    let versions = versions(Path::new(&directory));
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        for rendered in &versions {
            let candidate = store.write(rendered, None).unwrap();
            store.switch(&candidate).unwrap();
            store.confirm(&candidate.manifest).unwrap();
            // So that it is written again, not only linked.
            std::fs::remove_dir_all(store_version(&directory, &versions, rendered)).unwrap();
        }
    }
}

/// The directory of the version that is not live.
fn store_version(
    directory: &str,
    versions: &[confgen::output::Rendered; 2],
    live: &confgen::output::Rendered,
) -> std::path::PathBuf {
    let [one, two] = versions;
    let other = if live == one { two } else { one };
    let digest = confgen::apply::files::Manifest::of(other, None).digest;
    let path = Path::new(directory).join("files/versions").join(digest);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// In a mount namespace of its own, on a file system of 256 KiB.
#[test]
fn a_full_disk_is_told_and_nothing_is_half_written() {
    on_a_small_disk("256k", "faults::fills_its_disk");
}

/// Runs a test of these on a file system of its own, where its temporary files are too.
#[track_caller]
fn on_a_small_disk(size: &str, test: &str) {
    let directory = tempfile::TempDir::new().unwrap();
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\""
    );
    let status = Command::new("unshare")
        .args(["-m", "/bin/sh", "-c", &script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env("TMPDIR", directory.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn what_a_full_disk_held_up_goes_live_when_there_is_room() {
    on_a_small_disk("1m", "faults::lives_on_a_disk_that_fills");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of what_a_full_disk_held_up_goes_live_when_there_is_room"]
async fn lives_on_a_disk_that_fills() {
    let mut lab = Lab::new(Kind::Haproxy);
    let port = server("a");
    lab.shop.serve("web", &[("s0", port)]);
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    let ballast = lab.path("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    let full = loop {
        if let Err(error) = file.write_all(&[0; 1024]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    lab.shop.serve("other", &[("s0", port)]);
    edge.offer(&lab.shop);
    let is_told = |status: &Status| {
        let gap = status.gap.as_deref();
        gap.is_some_and(|gap| gap.contains("make room"))
    };
    let status = edge.until(is_told).await.unwrap();
    assert!(status.live < status.seen, "{status:#?}");
    assert_eq!(request(lab.port, "web.example").unwrap().0, 200);
    assert_eq!(request(lab.port, "other.example").unwrap().0, 404);
    drop(file);
    std::fs::remove_file(ballast).unwrap();
    edge.live().await.unwrap();
    assert_eq!(request(lab.port, "other.example").unwrap().0, 200);
    edge.stop().await;
}

#[test]
#[ignore = "the child of a_full_disk_is_told_and_nothing_is_half_written"]
fn fills_its_disk() {
    let directory = std::env::var(DIRECTORY).unwrap();
    let path = Path::new(&directory);
    let store = store(path);
    let mut shop = crate::shop::Shop::new(Kind::Haproxy, path, 1);
    shop.serve("web", &[("s0", 1)]);
    let live = shop.output(&BTreeSet::new()).rendered;
    let candidate = store.write(&live, None).unwrap();
    store.switch(&candidate).unwrap();
    store.confirm(&candidate.manifest).unwrap();
    for number in 0..5000 {
        shop.serve(&format!("web{number}"), &[("s0", 1)]);
    }
    let error = store
        .write(&shop.output(&BTreeSet::new()).rendered, None)
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(store.current(), Stored::Good(candidate.manifest));
    let left = std::fs::read_dir(path.join("files/versions"))
        .unwrap()
        .count();
    assert_eq!(left, 1);
    // Small changes still go through.
    shop.services.retain(|name, _| name == "web");
    shop.also = Some(2);
    let candidate = store
        .write(&shop.output(&BTreeSet::new()).rendered, None)
        .unwrap();
    store.switch(&candidate).unwrap();
}
