//! The agent is asked before a pod may send.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use agent::sandbox::{Reason, Request, VERSION};
use serde_json::{Value, json};
use tests::harness::{CniNode, ip};

/// Answers each question by `answer`, in order; the questions come out of the channel.
fn serve(
    socket: &Path,
    mut answers: Vec<(u16, Value)>,
    look: impl Fn() + Send + 'static,
) -> mpsc::Receiver<Value> {
    let listener = UnixListener::bind(socket).unwrap();
    let (questions, asked) = mpsc::channel();
    answers.reverse();
    thread::spawn(move || {
        while let Some((code, answer)) = answers.pop() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            look();
            questions
                .send(serde_json::from_slice(&body).unwrap())
                .unwrap();
            write!(stream, "HTTP/1.0 {code} X\r\n\r\n{answer}").unwrap();
        }
    });
    asked
}

fn node() -> CniNode {
    let node = CniNode::new().unwrap();
    node.create(&["c1".to_owned()]).unwrap();
    node
}

fn busy() -> (u16, Value) {
    (503, json!(Reason::NotSynced.because("not synced")))
}

#[test]
fn the_pods_end_is_down_until_the_rules_are_in_place() {
    let node = node();
    let socket = node.directory().join("agent.sock");
    let (pod, of_node) = (node.container("c1"), node.namespace.clone());
    let asked = serve(
        &socket,
        vec![busy(), (200, json!({"version": 1}))],
        move || {
            // It may have its addresses: nothing goes out of an interface that is down.
            let shown = ip(&pod, &["link", "show", "eth0"]).unwrap();
            assert!(!shown.contains("UP"), "{shown}");
            let ways = ["-4", "-6"].map(|family| ip(&pod, &[family, "route"]).unwrap());
            assert!(ways.iter().all(|ways| !ways.contains("eth0")), "{ways:?}");
            let routes = ip(&of_node, &["route", "get", "10.244.1.2"]).unwrap();
            assert!(routes.contains("dev fl"), "{routes}");
        },
    );
    let config = node.config(&json!({"agentSocket": socket})).unwrap();
    let result = node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    let shown: Vec<Value> =
        serde_json::from_str(&node.show(&["-j", "link", "show", host]).unwrap()).unwrap();
    let question = json!({"version": 1, "namespace": "shop", "name": "c1", "interface": host,
        "index": shown[0]["ifindex"], "addresses": ["10.244.1.2", "fd00:10:244:1::2"]});
    assert_eq!(
        asked.iter().collect::<Vec<_>>(),
        [question.clone(), question.clone()]
    );
    // The agent reads it so.
    let read: Request = serde_json::from_value(question).unwrap();
    assert_eq!(
        (read.version, read.pod().to_string()),
        (VERSION, "shop/c1".to_owned())
    );
    assert!(node.container("c1").run(|| Ok(())).is_ok());
    assert!(
        ip(&node.container("c1"), &["link", "show", "eth0"])
            .unwrap()
            .contains(",UP")
    );
}

#[test]
fn without_an_agent_there_is_no_pod_and_the_runtime_tries_again() {
    let node = node();
    let socket = node.directory().join("agent.sock");
    let config = node
        .config(&json!({"agentSocket": socket, "agentWaitSeconds": 1}))
        .unwrap();
    let began = Instant::now();
    let (code, text) = node.invoke("ADD", "c1", &config).unwrap().error().unwrap();
    assert_eq!(code, 11, "{text}");
    assert!(
        text.contains("shop/c1") && text.contains("agent.sock"),
        "{text}"
    );
    assert!(began.elapsed() > Duration::from_millis(800));
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
    let links = ip(&node.container("c1"), &["-o", "link"]).unwrap();
    assert!(!links.contains("eth0"), "{links}");
    // It comes while the plugin waits.
    let asked = thread::scope(|scope| {
        let socket = &socket;
        let late = scope.spawn(move || {
            thread::sleep(Duration::from_millis(400));
            serve(socket, vec![(200, json!({}))], || ())
        });
        node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
        late.join().unwrap()
    });
    assert_eq!(asked.iter().count(), 1);
}

#[test]
fn a_refusal_says_why_and_whether_waiting_helps() {
    let node = node();
    for (name, answer, expected) in [
        (
            "a",
            (503, json!({"retry": true, "message": "no such Pod yet"})),
            (11, "no such Pod yet"),
        ),
        (
            "b",
            (
                400,
                json!({"retry": false, "message": "version 1 is not spoken"}),
            ),
            (105, "not spoken"),
        ),
        ("c", (404, json!("nothing here")), (105, "404")),
    ] {
        let socket = node.directory().join(format!("{name}.sock"));
        let _asked = serve(&socket, vec![answer; 1], || ());
        let config = node
            .config(&json!({"agentSocket": socket, "agentWaitSeconds": 0}))
            .unwrap();
        let (code, text) = node.invoke("ADD", "c1", &config).unwrap().error().unwrap();
        assert_eq!(code, expected.0, "{text}");
        assert!(text.contains(expected.1), "{text}");
        assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn an_agent_needs_to_know_which_pod_it_is() {
    let node = node();
    let config = node
        .config(&json!({"agentSocket": "/nonexistent"}))
        .unwrap();
    let mut call = node.call("ADD", "c1");
    call.arguments = "IgnoreUnknown=1".to_owned();
    let program = tests::harness::cni_program().unwrap();
    let (code, text) = node.run(&program, &call, &config).unwrap().error().unwrap();
    assert_eq!(code, 4, "{text}");
    assert!(
        text.contains("CNI_ARGS") && text.contains("K8S_POD_NAME"),
        "{text}"
    );
}
