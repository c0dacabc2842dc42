//! Problems as Kubernetes Events.

use std::sync::Arc;
use std::time::Duration;

use model::{Kind, ObjectKey, Problem};
use serde_json::Value;
use tests::apiserver::{ApiServer, EventRequest, EventVerb};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, eventually, options, server_with, service};

/// A process that posts.
struct Reporter {
    problems: watch::Sender<Vec<Problem>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Reporter {
    fn start(node: &str, server: &ApiServer, problems: &[Problem]) -> Self {
        let (problems, receiver) = watch::channel(problems.to_vec());
        let (options, node, cancel) = (
            options(&[server]),
            Arc::from(node),
            CancellationToken::new(),
        );
        let token = cancel.clone();
        let task = tokio::spawn(async move {
            model_watch::post_events(options, "fairlead-agent", node, receiver, token).await;
        });
        Self {
            problems,
            cancel,
            task,
        }
    }

    async fn stop(self) {
        assert!(!self.task.is_finished(), "it stays until it is told to end");
        self.cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task).await;
        ended.expect("it obeys").expect("it does not panic");
    }
}

fn problem(name: &str) -> Problem {
    let key = ObjectKey::new("shop", name);
    Problem::new(Kind::Service, key, "spec.ports", "is no list", "not served")
}

/// Object and count of every Event.
fn counts(server: &ApiServer) -> Vec<(String, i64)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    server
        .events()
        .iter()
        .map(|event| {
            (
                text(&event["involvedObject"]["name"]),
                event["count"].as_i64().unwrap_or_default(),
            )
        })
        .collect()
}

fn expected(counts: &[(&str, i64)]) -> Vec<(String, i64)> {
    counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[track_caller]
fn until_counts<'a>(
    server: &'a ApiServer,
    counts_wanted: &'a [(&str, i64)],
) -> impl Future<Output = ()> + 'a {
    eventually(format!("Events {counts_wanted:?}"), move || {
        counts(server) == expected(counts_wanted)
    })
}

#[tokio::test]
async fn a_new_problem_becomes_one_event_which_kubernetes_takes() {
    let server = server_with(&[]);
    let node = ObjectKey::cluster_scoped("node-1");
    let of_node = Problem::new(Kind::Node, node, "", "odd", "left out");
    let reporter = Reporter::start("node-1", &server, &[problem("a")]);
    until_counts(&server, &[("a", 1)]).await;
    let event = &server.events()[0];
    assert_eq!(event["message"], "spec.ports is no list; not served");
    assert_eq!(event["reportingInstance"], "node-1");
    // Telling the same again, or less, posts nothing.
    reporter
        .problems
        .send_replace(vec![problem("a"), of_node.clone()]);
    until_counts(&server, &[("node-1", 1), ("a", 1)]).await;
    reporter.problems.send_replace(vec![of_node]);
    reporter.problems.send_replace(vec![problem("b")]);
    until_counts(&server, &[("node-1", 1), ("a", 1), ("b", 1)]).await;
    let created = EventRequest {
        verb: EventVerb::Create,
        status: 201,
    };
    assert_eq!(server.event_requests(), [created; 3]);
    reporter.stop().await;
}

#[tokio::test]
async fn restarts_and_other_nodes_count_and_add_no_event() {
    let server = server_with(&[]);
    for (node, count) in [("node-1", 1), ("node-1", 2), ("node-2", 3)] {
        let reporter = Reporter::start(node, &server, &[problem("a")]);
        until_counts(&server, &[("a", count)]).await;
        reporter.stop().await;
    }
    let answers: Vec<u16> = server
        .event_requests()
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(answers, [201, 409, 200, 200, 409, 200, 200]);
}

#[tokio::test]
async fn a_refusal_ends_posting_and_nothing_else() {
    let server = server_with(&["a"]);
    server.behave(|behaviour| behaviour.events_status = Some(403));
    let mut client = Client::of_services(&server).await;
    let reporter = Reporter::start("node-1", &server, &[problem("a"), problem("b")]);
    eventually("one request", || !server.event_requests().is_empty()).await;
    server.behave(|behaviour| behaviour.events_status = None);
    eventually("nobody listens", || reporter.problems.is_closed()).await;
    assert_eq!(server.event_requests().len(), 1);
    server.apply(service("b", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b"]).await;
    reporter.stop().await;
}

#[tokio::test]
async fn a_failure_is_repeated_until_it_passes_and_the_watch_misses_nothing() {
    for status in [429, 500] {
        let server = server_with(&["a"]);
        server.behave(|behaviour| behaviour.events_status = Some(status));
        let mut client = Client::of_services(&server).await;
        let reporter = Reporter::start("node-1", &server, &[problem("a"), problem("b")]);
        eventually(format!("repeated after {status}"), || {
            server.event_requests().len() > 2
        })
        .await;
        server.apply(service("b", 80)).unwrap();
        client.until_services(&["shop/a", "shop/b"]).await;
        server.behave(|behaviour| behaviour.events_status = None);
        until_counts(&server, &[("a", 1), ("b", 1)]).await;
        reporter.stop().await;
    }
}

#[tokio::test]
async fn an_event_that_is_rejected_holds_no_other_up() {
    let server = server_with(&[]);
    let nameless = Problem::new(
        Kind::Service,
        ObjectKey::new("shop", ""),
        "metadata.name",
        "missing",
        "left out",
    );
    let mut odd = problem("not a name");
    odd.field.clear();
    let reporter = Reporter::start("node-1", &server, &[nameless, odd, problem("z")]);
    until_counts(&server, &[("z", 1)]).await;
    reporter.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_left_for_the_next() {
    let mut first = server_with(&[]);
    first.stop();
    let second = server_with(&[]);
    let (_problems, receiver) = watch::channel(vec![problem("a")]);
    let (options, cancel) = (options(&[&first, &second]), CancellationToken::new());
    let posting = model_watch::post_events(options, "test", "node-1".into(), receiver, cancel);
    tokio::select! {
        () = posting => panic!("it stays until it is told to end"),
        () = until_counts(&second, &[("a", 1)]) => {}
    }
}
