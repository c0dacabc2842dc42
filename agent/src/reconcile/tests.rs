//! Announcements among events.

use model::k8s::reduce;
use model::{Kind, Object};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

/// Many times as long as anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Agent {
    events: mpsc::Sender<Event>,
    announcements: mpsc::Sender<Announcement>,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    _links: watch::Sender<Option<Vec<Link>>>,
    _egress: watch::Sender<Option<Arc<EgressOptions>>>,
    _triggered: mpsc::Receiver<Triggered>,
    _task: JoinHandle<()>,
}

fn object(kind: Kind, manifest: &Value) -> Object {
    reduce(kind, manifest).object.unwrap()
}

fn pod(name: &str, addresses: &Value) -> Object {
    let manifest = json!({"metadata": {"namespace": "shop", "name": name},
        "spec": {"nodeName": "node1"}, "status": {"podIPs": addresses}});
    object(Kind::Pod, &manifest)
}

impl Agent {
    /// One that knows a node with these pods.
    async fn of(pods: &[&str], debounce: Debounce) -> Self {
        let (events, heard) = mpsc::channel(64);
        let (announcements, announced) = mpsc::channel(64);
        let (desired_tx, desired) = watch::channel(None);
        let (view, _) = watch::channel(ClusterView::default());
        let (triggered, triggered_rx) = mpsc::channel(64);
        let (links_tx, links) = watch::channel(Some(Vec::new()));
        let (egress_tx, egress) = watch::channel(None);
        let place = Place {
            node_name: "node1".into(),
            exposure: Arc::default(),
            default_deny: false,
            router: None,
            egress,
            mtu: None,
            links,
        };
        let published = Published {
            desired: desired_tx,
            view,
            triggered,
        };
        let heard = Heard {
            events: heard,
            announcements: announced,
        };
        let kinds = [Kind::Node, Kind::Pod].into();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(place, kinds, heard, debounce, published, cancel));
        let node = object(Kind::Node, &json!({"metadata": {"name": "node1"}}));
        let pods = pods.iter().map(|name| pod(name, &json!([]))).collect();
        for (kind, objects) in [(Kind::Node, vec![node]), (Kind::Pod, pods)] {
            let problems = Vec::new();
            let event = Event::Replaced {
                kind,
                objects,
                problems,
            };
            events.send(event).await.unwrap();
        }
        let mut agent = Self {
            events,
            announcements,
            desired,
            _links: links_tx,
            _egress: egress_tx,
            _triggered: triggered_rx,
            _task: task,
        };
        agent.desired.wait_for(Option::is_some).await.unwrap();
        agent
    }

    async fn announce(&self, pod: &str, address: &str) -> oneshot::Receiver<Result<u64, Refusal>> {
        let (heard, answer) = oneshot::channel();
        let announcement = Announcement {
            pod: ObjectKey::new("shop", pod),
            addresses: vec![address.parse().unwrap()],
            heard,
        };
        self.announcements.send(announcement).await.unwrap();
        answer
    }

    fn generation(&self) -> u64 {
        self.desired.borrow().as_ref().unwrap().generation
    }
}

#[tokio::test]
async fn pods_that_start_at_once_are_one_generation() {
    let ages = Duration::from_secs(3600);
    let debounce = Debounce {
        alone: ages,
        quiet: ages,
        longest: ages,
    };
    let agent = Agent::of(&["a", "b"], debounce).await;
    let before = agent.generation();
    let answers = [
        agent.announce("a", "10.0.0.2").await,
        agent.announce("stranger", "10.0.0.4").await,
        agent.announce("b", "10.0.0.3").await,
    ];
    let [a, stranger, b] = answers;
    assert_eq!(a.await.unwrap(), b.await.unwrap());
    let refused = stranger.await.unwrap().unwrap_err();
    assert_eq!(refused.reason, sandbox::Reason::UnknownPod);
    assert_eq!(agent.generation(), before + 1);
    let desired = agent.desired.borrow().clone().unwrap();
    assert_eq!(desired.policy.endpoints().size(), 2);
}

#[tokio::test]
async fn who_asks_all_the_time_keeps_no_event_from_being_compiled() {
    let debounce = Debounce {
        alone: Duration::from_secs(3600),
        quiet: Duration::from_secs(3600),
        longest: Duration::from_millis(100),
    };
    let agent = Agent::of(&["a"], debounce).await;
    let event = Event::Applied {
        kind: Kind::Pod,
        key: ObjectKey::new("shop", "a"),
        object: Some(pod("a", &json!([{"ip": "10.0.0.2"}]))),
        problems: Vec::new(),
    };
    agent.events.send(event).await.unwrap();
    let (before, began) = (agent.generation(), Instant::now());
    while agent.generation() == before {
        let answer = agent.announce("stranger", "10.0.0.4").await;
        assert!(answer.await.unwrap().is_err());
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(began.elapsed() < PATIENCE);
    }
}

/// An agent that has been quiet, with an event for each of `pods` one after another.
async fn generations_of(agent: &Agent, pods: &[&str]) -> u64 {
    let before = agent.generation();
    for (number, name) in (2..).zip(pods) {
        let event = Event::Applied {
            kind: Kind::Pod,
            key: ObjectKey::new("shop", name),
            object: Some(pod(name, &json!([{"ip": format!("10.0.0.{number}")}]))),
            problems: Vec::new(),
        };
        agent.events.send(event).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(PATIENCE).await;
    agent.generation() - before
}

#[tokio::test(start_paused = true)]
async fn an_event_alone_is_published_at_once_and_a_burst_in_two() {
    let debounce = Debounce::default();
    let agent = Agent::of(&["a", "b", "c", "d"], debounce).await;
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(generations_of(&agent, &["a"]).await, 1);
    assert_eq!(generations_of(&agent, &["b", "c", "d"]).await, 2);

    let began = Instant::now();
    let first = agent.generation();
    let event = Event::Applied {
        kind: Kind::Pod,
        key: ObjectKey::new("shop", "a"),
        object: Some(pod("a", &json!([{"ip": "10.0.0.9"}]))),
        problems: Vec::new(),
    };
    agent.events.send(event).await.unwrap();
    while agent.generation() == first {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = began.elapsed();
    assert!(took < debounce.quiet / 5, "{took:?}");
}
