//! An agent that is told of its API server by a cluster IP, which nobody but itself programs.

use std::fs;
use std::net::SocketAddr;

use serde_json::json;
use tests::apiserver::{ApiServer, kubernetes_slice};
use tests::harness::{Agent, AgentOptions, Lab, ServiceSpec, Traffic, eventually};

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, web};

/// The API server's own Service.
const KUBERNETES: &str = "10.96.0.1";
const PORT: u16 = 443;

/// A server on node2 that knows of the nodes, and of itself as the Service's endpoint.
#[track_caller]
fn serve(lab: &Lab, services: &[&ServiceSpec]) -> ApiServer {
    let address = SocketAddr::new(lab.address("node2", false), 0);
    let node2 = &lab.place("node2").namespace;
    let server = node2.run(|| ApiServer::start_on(address)).unwrap();
    let kubernetes = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": "kubernetes"},
        "spec": {
            "clusterIP": KUBERNETES,
            "clusterIPs": [KUBERNETES],
            "ports": [{"name": "https", "protocol": "TCP", "port": PORT}],
        },
    });
    let own = kubernetes_slice(&[address.ip()], server.address().port());
    let mut documents = lab.node_documents();
    documents.extend([kubernetes, own]);
    for service in services {
        documents.extend(lab.documents(service).unwrap());
    }
    for document in documents {
        server.apply(document).unwrap();
    }
    server
}

#[test]
fn an_agent_goes_on_by_the_cluster_ip_that_it_programs_from_a_kept_address() {
    let service = web().endpoints(&["a1"]);
    let mut cluster = Cluster::without_agents(AgentOptions::default(), &[]);
    let mut first = serve(&cluster.lab, &[&service]);
    let file = cluster
        .lab
        .state_directory("node1")
        .join("api-servers.json");

    // An earlier run leaves an address, and nothing else.
    cluster.options.source = Some(vec!["--master".to_owned(), first.url()]);
    cluster = cluster.with_agents(&["node1"]);
    let kept = eventually("the address is kept", || Ok(fs::read(&file).ok())).unwrap();
    cluster.agents.clear();
    let answer = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let balanced = Traffic::connect(service.ip(false), 80);
    let report = cluster.run(
        Covered("pod-a"),
        &balanced.clone().count(1).timeout_milliseconds(300),
    );
    assert_eq!(report.answered, 0, "{report:?}");
    fs::write(&file, kept).unwrap();

    let url = format!("--master=http://{KUBERNETES}:{PORT}");
    cluster.options.source = Some(vec![url]);
    cluster = cluster.with_agents(&["node1"]);
    for from in [Covered("pod-a"), Uncovered("pod-a")] {
        cluster.await_spread(from, balanced.clone(), &["a1"]);
    }

    // The next server is at no address that this run was started with.
    let second = serve(&cluster.lab, &[&service]);
    let next = second.address();
    first
        .apply(kubernetes_slice(&[next.ip()], next.port()))
        .unwrap();
    eventually("the agent knows of it", || {
        let kept = fs::read_to_string(&file)?;
        Ok(kept.contains(&next.to_string()).then_some(()))
    })
    .unwrap();
    assert!(second.requests().is_empty(), "{:?}", second.requests());
    first.stop();
    // Its versions go on from those that the agent has seen.
    for pod in ["a2", "b1"] {
        let moved = service.clone().endpoints(&[pod]);
        for document in cluster.lab.documents(&moved).unwrap() {
            second.apply(document).unwrap();
        }
    }
    assert!(second.version() > first.version());
    for from in [Covered("pod-a"), Uncovered("pod-a")] {
        cluster.await_spread(from, balanced.clone(), &["b1"]);
    }
}
