//! nginx: reloads under load, and the object that its check refuses.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use confgen::apply::applier::DriftWatch;
use confgen::apply::status::Status;

use crate::lab::{Edge, Kind, Lab, Load, request, server};

#[tokio::test(flavor = "multi_thread")]
async fn reloads_lose_no_request_and_are_read_back() {
    let mut lab = Lab::new(Kind::Nginx);
    let (a, b) = (server("a"), server("b"));
    lab.shop.serve("web", &[("s0", a)]);
    let mut edge = Edge::start(lab.settings());
    edge.offer(&lab.shop);
    let first = edge.live().await.unwrap();
    let load = Load::start(lab.port, "web.example", 2);
    let mut generations = vec![first.generation];
    for turn in 0..10 {
        let servers: &[(&str, u16)] = if turn % 2 == 0 {
            &[("s1", b)]
        } else {
            &[("s0", a)]
        };
        lab.shop.serve("web", servers);
        edge.offer(&lab.shop);
        generations.push(edge.live().await.unwrap().generation);
        let (_, body) = request(lab.port, "web.example").unwrap();
        assert_eq!(body, if turn % 2 == 0 { "b" } else { "a" });
    }
    // The same again is no reload.
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    let (good, bad) = load.stop();
    let status = edge.stop().await;
    assert_eq!(bad, Vec::<String>::new(), "of {good} requests");
    assert_eq!(status.totals.reloads(), 11, "{status:#?}");
    assert!(
        generations.windows(2).all(|pair| pair[0] != pair[1]),
        "{generations:?}"
    );
}

/// nginx has no other way to change, so what comes meanwhile goes live with the one reload that waits.
#[tokio::test(flavor = "multi_thread")]
async fn the_budget_holds_reloads_and_joins_what_waits() {
    let mut lab = Lab::new(Kind::Nginx);
    let (a, b) = (server("a"), server("b"));
    lab.shop.serve("web", &[("s0", a)]);
    let mut settings = lab.settings();
    settings.pace.budget.min_gap = Duration::from_secs(5);
    let mut edge = Edge::start(settings);
    let begun = Instant::now();
    edge.offer(&lab.shop);
    edge.live().await.unwrap();
    for (name, port) in [("s1", a), ("s2", a), ("s3", b)] {
        lab.shop.serve("web", &[(name, port)]);
        edge.offer(&lab.shop);
        let waits = |status: &Status| {
            status
                .gap
                .as_deref()
                .is_some_and(|gap| gap.contains("waits"))
        };
        edge.until(|status| status.live == status.seen || waits(status))
            .await
            .unwrap();
    }
    let status = edge.live().await.unwrap();
    // The first is before the gap, and each other one after a whole one.
    let allowed = 1 + begun.elapsed().as_secs() / 5;
    let reloads = status.totals.reloads();
    assert!((2..=allowed).contains(&reloads), "{reloads} of {allowed}");
    assert_eq!(request(lab.port, "web.example").unwrap().1, "b");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_somebody_else_loaded_is_told_and_repaired() {
    let mut lab = Lab::new(Kind::Nginx);
    let a = server("a");
    lab.shop.serve("web", &[("s0", a)]);
    let mut settings = lab.settings();
    settings.drift = Some(DriftWatch {
        interval: Duration::from_millis(200),
        repairs: true,
    });
    let mut edge = Edge::start(settings);
    edge.offer(&lab.shop);
    let meant = edge.live().await.unwrap().generation;
    lab.shop.serve("other", &[("s0", a)]);
    let store = lab.store();
    let other = lab.shop.output(&BTreeSet::new());
    let candidate = store.write(&other.rendered, None).unwrap();
    store.switch(&candidate).unwrap();
    lab.proxy().reload().await.unwrap();
    edge.until(|status| {
        status
            .drift
            .iter()
            .any(|what| what.contains("another version"))
    })
    .await
    .unwrap();
    let is_back = |status: &Status| {
        status.drift.is_empty() && status.totals.repairs > 0 && status.gap.is_none()
    };
    edge.until(is_back).await.unwrap();
    let seen = lab.proxy().seen().await.unwrap();
    assert_eq!(seen.generation, meant);
    assert_eq!(request(lab.port, "other.example").unwrap().0, 404);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_object_that_breaks_the_configuration_is_left_out_alone() {
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let mut lab = Lab::new(kind);
        let port = server("a");
        for number in 0..20 {
            lab.shop.serve(&format!("web{number:02}"), &[("s0", port)]);
        }
        let raw = |lab: &mut Lab, text: &str| {
            text.clone_into(&mut lab.shop.services.get_mut("web13").unwrap().raw);
        };
        raw(&mut lab, "no_such_directive on;");
        let mut edge = Edge::start(lab.settings());
        edge.offer(&lab.shop);
        let status = edge.live().await.unwrap();
        let [only] = status.quarantined.as_slice() else {
            panic!("{status:#?}");
        };
        assert_eq!((only.kind, only.key.as_str()), ("Service", "shop/web13"));
        assert!(only.proof.contains("no_such_directive"), "{}", only.proof);
        assert_eq!(request(lab.port, "web12.example").unwrap().0, 200);
        assert_eq!(request(lab.port, "web13.example").unwrap().0, 404);
        // Others go on changing, and the object comes back when it is mended.
        lab.shop.serve("web20", &[("s0", port)]);
        edge.offer(&lab.shop);
        let status = edge.live().await.unwrap();
        assert_eq!(
            (status.quarantined.len(), status.totals.failed_checks),
            (1, 1)
        );
        assert_eq!(request(lab.port, "web20.example").unwrap().0, 200);
        raw(&mut lab, "");
        edge.offer(&lab.shop);
        let status = edge.live().await.unwrap();
        assert!(status.quarantined.is_empty(), "{status:#?}");
        assert_eq!(request(lab.port, "web13.example").unwrap().0, 200);
        edge.stop().await;
    }
}
