//! Watches that break and versions that expire.

use model::{Event, Kind, SourceState};
use tests::apiserver::{GoneForm, Injection};

use crate::client::{Client, key, server_with, service};

/// Breaks a watch with `injection`; `lists` is how many lists there are in the end.
async fn check_break(injection: Injection, lists: usize) {
    let what = format!("{injection:?}");
    let server = server_with(&["a", "b"]);
    let mut client = Client::of_services(&server).await;
    server.inject(Kind::Service, injection);
    server.apply(service("c", 80)).unwrap();
    server.delete(Kind::Service, &key("a"));
    client.until_services(&["shop/b", "shop/c"]).await;
    assert_eq!(client.changed_services(), ["shop/a", "shop/c"], "{what}");
    // Another change shows that a watch is open again.
    server.apply(service("d", 80)).unwrap();
    client.until_services(&["shop/b", "shop/c", "shop/d"]).await;
    assert_eq!(client.replacements(Kind::Service), lists, "{what}");
    let degraded = client.log.iter().any(|event| {
        matches!(
            event,
            Event::Source {
                state: SourceState::Degraded { .. },
                ..
            }
        )
    });
    assert!(
        !degraded,
        "a watch that can be resumed at once is no degradation: {what}"
    );
}

#[tokio::test]
async fn a_broken_watch_is_resumed_without_a_list() {
    check_break(Injection::Cut, 1).await;
    check_break(Injection::CutWithinLine, 1).await;
    check_break(Injection::End, 1).await;
    check_break(Injection::EndWithinLine, 1).await;
}

#[tokio::test]
async fn a_watch_that_may_have_lost_a_change_is_listed_again() {
    check_break(Injection::Gone, 2).await;
    check_break(Injection::Text("<html>\n".to_owned()), 2).await;
    check_break(
        Injection::Text("{\"type\":\"SURPRISE\",\"object\":{}}\n".to_owned()),
        2,
    )
    .await;
}

/// While the server is away one object goes, one comes, one stays, and the history is forgotten.
async fn check_gone(form: GoneForm) {
    let mut server = server_with(&["gone", "same"]);
    let mut client = Client::of_services(&server).await;
    let seen = client.log.len();
    server.stop();
    server.behave(|behaviour| behaviour.gone = form);
    server.delete(Kind::Service, &key("gone"));
    server.apply(service("new", 80)).unwrap();
    server.compact();
    server.restart().unwrap();
    client.until_services(&["shop/new", "shop/same"]).await;
    assert_eq!(
        client.changed_services(),
        ["shop/gone", "shop/new"],
        "what stayed is no change"
    );
    let steps: Vec<_> = client.log[seen..]
        .iter()
        .filter(|event| !matches!(event, Event::Source { .. }))
        .collect();
    assert!(
        matches!(steps.as_slice(), [Event::Replaced { objects, .. }] if objects.len() == 2),
        "one step: {steps:#?}"
    );
    client.until_watching(Kind::Service).await;
}

#[tokio::test]
async fn an_expired_version_is_listed_again_and_replaced_in_one_step() {
    check_gone(GoneForm::Status).await;
    check_gone(GoneForm::Event).await;
}
