//! What changes in HAProxy without a reload, and what is found when somebody else changes it.

use std::time::Duration;

use confgen::apply::applier::DriftWatch;
use confgen::haproxy::runtime::Command;
use tests::harness::poll;

use crate::lab::{Edge, Kind, Lab, PATIENCE, read, request, server};
use crate::shop::id;

fn names(port: u16, host: &str) -> Vec<String> {
    let mut names: Vec<String> = (0..8).map(|_| request(port, host).unwrap().1).collect();
    names.sort();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_come_and_go_without_a_reload_and_the_disk_follows() {
    let mut lab = Lab::new(Kind::Haproxy);
    let (a, b, c) = (server("a"), server("b"), server("c"));
    lab.shop.serve("web", &[("s0", a)]);
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(names(lab.port, "web.example"), ["a"]);
    assert_eq!(edge.status().totals.reloads(), 1);

    lab.shop.serve("web", &[("s0", a), ("s1", b)]);
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(names(lab.port, "web.example"), ["a", "b"]);
    lab.shop.serve("web", &[("s1", c)]);
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(names(lab.port, "web.example"), ["c"]);
    // It comes back under its name, whether it has left already or not.
    lab.shop.serve("web", &[("s0", b), ("s1", c)]);
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(names(lab.port, "web.example"), ["b", "c"]);
    lab.shop.serve("web", &[("s1", c)]);
    edge.offer(&lab.shop);
    let status = edge.live().await.unwrap();
    assert_eq!(
        (status.totals.reloads(), status.totals.runtime_changes),
        (1, 4)
    );

    // The server that left is forgotten, and the disk says what runs.
    let socket = lab.socket();
    let backend = id("web").to_string();
    let mut state = String::new();
    for _ in 0..100 {
        state = socket
            .ask(&["show", "servers", "state", &backend])
            .await
            .unwrap();
        if !state.contains(" s0 ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!state.contains(" s0 "), "{state}");
    edge.until(|status| status.checked == status.live)
        .await
        .unwrap();
    let text = read(&lab.path("files/current/main.cfg"));
    assert!(text.contains(&format!("server s1 127.0.0.1:{c}")), "{text}");
    assert!(!text.contains("server s0"), "{text}");
    assert_eq!(edge.status().hands_over_listeners, Some(true));

    // Another run takes over what it finds.
    edge.stop().await;
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    let status = edge.live().await.unwrap();
    assert_eq!((status.totals.reloads(), status.totals.commands), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_is_told_and_repaired() {
    let mut lab = Lab::new(Kind::Haproxy);
    let (a, b) = (server("a"), server("b"));
    lab.shop.serve("web", &[("s0", a)]);
    let mut settings = lab.settings();
    let interval = Duration::from_millis(300);
    settings.drift = Some(DriftWatch {
        interval,
        repairs: false,
    });
    let mut edge = Edge::start(settings.clone());
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    edge.until(|status| status.checked == status.live)
        .await
        .unwrap();
    let socket = lab.socket();
    let name = format!("{}/s0", id("web"));
    let port = b.to_string();
    socket
        .ask(&["set", "server", &name, "addr", "127.0.0.1", "port", &port])
        .await
        .unwrap();
    let status = edge.until(|status| !status.drift.is_empty()).await.unwrap();
    assert!(
        status.drift[0].contains("another address"),
        "{:?}",
        status.drift
    );
    assert_eq!(names(lab.port, "web.example"), ["b"]);
    edge.stop().await;

    settings.drift = Some(DriftWatch {
        interval,
        repairs: true,
    });
    std::fs::write(lab.path("files/current/main.cfg"), "by hand").unwrap();
    let mut edge = Edge::start(settings);
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(names(lab.port, "web.example"), ["a"]);
    socket
        .ask(&["del", "map", "hosts.map", "web.example"])
        .await
        .unwrap();
    edge.until(|status| status.totals.repairs > 0)
        .await
        .unwrap();
    let back = poll(PATIENCE, || {
        let (status, _) = request(lab.port, "web.example").ok()?;
        (status == 200).then_some(())
    });
    assert!(back.is_some(), "{:#?}", edge.status());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_do_not_wait_for_a_reload_that_the_budget_holds() {
    let mut lab = Lab::new(Kind::Haproxy);
    let (a, b, c) = (server("a"), server("b"), server("c"));
    lab.shop.serve("web", &[("s0", a)]);
    let mut settings = lab.settings();
    settings.pace.budget.min_gap = Duration::from_secs(3600);
    let mut edge = Edge::start(settings);
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(edge.status().totals.reloads(), 1);

    // One change of the structure, and one of an endpoint with it.
    lab.shop.serve("other", &[("s0", c)]);
    lab.shop.serve("web", &[("s1", b)]);
    edge.offer(&lab.shop);
    let waits = |status: &confgen::apply::status::Status, changes: u64| {
        let gap = status.gap.as_deref().unwrap_or_default();
        status.totals.runtime_changes >= changes && gap.contains("waits")
    };
    edge.until(|status| waits(status, 1)).await.unwrap();
    assert_eq!(names(lab.port, "web.example"), ["b"]);
    // And more of them while it waits.
    lab.shop.serve("web", &[("s1", b), ("s2", a)]);
    edge.offer(&lab.shop);
    edge.until(|status| waits(status, 2)).await.unwrap();
    assert_eq!(names(lab.port, "web.example"), ["a", "b"]);
    let status = edge.status();
    assert_eq!(
        (status.totals.reloads(), status.live),
        (1, 1),
        "{status:#?}"
    );
    assert_eq!(request(lab.port, "other.example").unwrap().0, 404);

    // Who starts the proxy anew meanwhile starts it with the endpoints of now.
    let is_saved = || {
        let text = read(&lab.path("files/current/main.cfg"));
        text.contains(&format!("server s2 127.0.0.1:{a}"))
            .then_some(text)
    };
    let text = poll(PATIENCE, is_saved).unwrap();
    assert_eq!(edge.status().totals.reloads(), 1);
    assert!(!text.contains(id("other").as_str()), "{text}");
    edge.stop().await;

    // The next run has a budget of its own.
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    assert_eq!(names(lab.port, "other.example"), ["c"]);
    assert_eq!(names(lab.port, "web.example"), ["a", "b"]);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_somebody_else_changed_is_told_and_repaired() {
    let mut lab = Lab::new(Kind::Haproxy);
    let port = crate::lab::free_port();
    let made = [1, 2].map(|_| {
        let pair = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        format!("{}\n{}", pair.cert.pem(), pair.signing_key.serialize_pem())
    });
    lab.shop.certificates = [("a.pem".to_owned(), made[0].clone())].into();
    lab.shop.tls = Some((port, vec!["a.pem a.example".to_owned()]));
    let mut settings = lab.settings();
    settings.drift = Some(DriftWatch {
        interval: Duration::from_millis(200),
        repairs: true,
    });
    let mut edge = Edge::start(settings);
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    let meant = shown(port, "a.example");
    let other = Command::SetCertificate {
        name: "a.pem".to_owned(),
        pem: confgen::edge::value::Pem::new(made[1].as_bytes().into()),
    };
    lab.socket().execute(&[other]).await.unwrap();
    edge.until(|status| status.drift == ["certificate a.pem is another"])
        .await
        .unwrap();
    edge.until(|status| status.drift.is_empty()).await.unwrap();
    assert_eq!(shown(port, "a.example"), meant);
    assert!(edge.status().totals.repairs > 0);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn big_maps_are_replaced_at_once() {
    let lab = Lab::new(Kind::Haproxy);
    let socket = lab.socket();
    let entries: Vec<_> = (0..5000)
        .map(|n| {
            (
                format!("host{n}.with-a-long-name.example"),
                "none".to_owned(),
            )
        })
        .collect();
    let map = "hosts.map".to_owned();
    let replace = Command::ReplaceMap {
        map,
        entries: entries.clone(),
    };
    socket.execute(&[replace]).await.unwrap();
    let answer = socket.ask(&["show", "map", "hosts.map"]).await.unwrap();
    assert_eq!(confgen::haproxy::runtime::entries_of_map(&answer), entries);
}

/// The certificate that a client is shown for a host.
fn shown(port: u16, host: &str) -> String {
    let output = std::process::Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{port}"),
            "-servername",
            host,
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE").unwrap_or_default();
    let end = text.find("-----END CERTIFICATE").unwrap_or_default();
    text[begin..end].replace(['\r', '\n'], "")
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_without_a_reload() {
    let mut lab = Lab::new(Kind::Haproxy);
    let port = crate::lab::free_port();
    let mut made = Vec::new();
    for (name, host) in [
        ("z", "default.example"),
        ("a1", "a.example"),
        ("a2", "a.example"),
        ("z", "default.example"),
    ] {
        let pair = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let chain = pair.cert.pem();
        let pem = format!("{chain}\n{}", pair.signing_key.serialize_pem());
        made.push((format!("{name}.pem"), host, pem, chain));
    }
    let serve = |lab: &mut Lab, which: &[usize]| {
        let chosen = || which.iter().map(|index| &made[*index]);
        lab.shop.certificates = chosen()
            .map(|(name, _, pem, _)| (name.clone(), pem.clone()))
            .collect();
        let lines = chosen()
            .map(|(name, host, ..)| format!("{name} {host}"))
            .collect();
        lab.shop.tls = Some((port, lines));
    };
    let is = |index: usize| {
        let whole = made[index].3.replace(['\r', '\n'], "");
        whole[..whole.find("-----END").unwrap()].to_owned()
    };
    serve(&mut lab, &[0]);
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    let first = edge.live().await.unwrap();
    assert_eq!(shown(port, "a.example"), is(0));
    for turn in [1, 2, 1] {
        serve(&mut lab, &[0, turn]);
        edge.offer(&lab.shop);
        let status = edge.live().await.unwrap();
        assert_eq!(
            status.totals.reloads(),
            first.totals.reloads(),
            "{status:#?}"
        );
        assert_eq!(shown(port, "a.example"), is(turn));
        assert_eq!(shown(port, "default.example"), is(0));
    }
    // The first of the list has another content under its name.
    for turn in [3, 0] {
        serve(&mut lab, &[turn]);
        edge.offer(&lab.shop);
        let status = edge.live().await.unwrap();
        assert_eq!(shown(port, "a.example"), is(turn));
        assert_eq!(status.totals.reloads(), first.totals.reloads());
    }
    let certificates = lab.socket().ask(&["show", "ssl", "cert"]).await.unwrap();
    assert!(!certificates.contains("a1.pem"), "{certificates}");
    edge.until(|status| status.checked == status.live)
        .await
        .unwrap();
    let names = std::fs::read_dir(lab.path("files/current"))
        .unwrap()
        .flatten();
    let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name == "a1.pem"), "{names:?}");
    edge.stop().await;
}
