//! Agents that learn of the cluster from an API server, inside the node's own network.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use model::{Kind, ObjectKey};
use serde_json::{Value, json};
use tests::apiserver::{ApiServer, kubernetes_slice};
use tests::harness::{AgentOptions, Lab, ServiceSpec, Traffic, eventually};

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, expect_clean, tcp_and_udp, web};

/// An agent on node1 that follows a server on node1.
struct Fed {
    cluster: Cluster,
    server: ApiServer,
}

impl Fed {
    #[track_caller]
    fn start(services: &[&ServiceSpec]) -> Self {
        Self::with(&[], services)
    }

    /// The same, with these flags.
    #[track_caller]
    fn with(flags: &[&str], services: &[&ServiceSpec]) -> Self {
        let mut cluster = Cluster::without_agents(AgentOptions::flags(flags), &[]);
        let address = SocketAddr::new(cluster.lab.address("node1", false), 0);
        let server = cluster
            .lab
            .place("node1")
            .namespace
            .run(|| ApiServer::start_on(address))
            .unwrap();
        for node in cluster.lab.node_documents() {
            server.apply(node).unwrap();
        }
        for service in services {
            put(&server, &cluster.lab, service);
        }
        cluster.options.source = Some(vec!["--master".to_owned(), server.url()]);
        Self {
            cluster: cluster.with_agents(&["node1"]),
            server,
        }
    }

    #[track_caller]
    fn put(&self, service: &ServiceSpec) {
        put(&self.server, &self.cluster.lab, service);
    }
}

#[track_caller]
fn put(server: &ApiServer, lab: &Lab, service: &ServiceSpec) {
    for document in lab.documents(service).unwrap() {
        server.apply(document).unwrap();
    }
}

#[test]
fn services_of_an_api_server_are_balanced_and_follow_its_changes() {
    let service = web().endpoints(&["a1"]);
    let fed = Fed::start(&[&service]);
    for pods in [&["a1"][..], &["a1", "a2", "b1"], &["b1"]] {
        fed.put(&service.clone().endpoints(pods));
        for v6 in [false, true] {
            for traffic in tcp_and_udp(service.ip(v6), 80) {
                fed.cluster
                    .await_spread(Covered("pod-a"), traffic.clone(), pods);
                fed.cluster.await_spread(Uncovered("pod-a"), traffic, pods);
            }
        }
    }
}

#[test]
fn without_its_api_server_an_agent_keeps_what_it_knows() {
    let service = web().endpoints(&["a1", "b1"]);
    let mut fed = Fed::start(&[&service]);
    let held = fed
        .cluster
        .flow(Uncovered("pod-c"), &Traffic::hold(service.ip(false), 80));
    fed.server.stop();
    eventually("the status says that the server is away", || {
        let status = fed.cluster.agent("node1").status()?.to_string();
        anyhow::ensure!(status.to_lowercase().contains("degraded"), "{status}");
        Ok(Some(()))
    })
    .unwrap();
    for traffic in tcp_and_udp(service.ip(true), 80) {
        fed.cluster
            .expect_spread(Covered("pod-a"), traffic, &["a1", "b1"]);
    }
    expect_clean(held);
}

#[test]
fn an_agent_that_starts_without_its_api_server_leaves_the_kernel_alone() {
    let service = web().endpoints(&["a1", "b1"]);
    let mut fed = Fed::start(&[&service]);
    let held = fed
        .cluster
        .flow(Uncovered("pod-c"), &Traffic::hold(service.ip(true), 80));
    fed.server.stop();
    fed.cluster.agent("node1").process().kill().unwrap();
    let lab = &fed.cluster.lab;
    let mut agent = tests::harness::Agent::start(lab, "node1", &fed.cluster.options).unwrap();
    eventually("the agent is alive", || {
        Ok((agent.get("/healthz")?.0 == 200).then_some(()))
    })
    .unwrap();
    assert_eq!(agent.get("/readyz").unwrap().0, 503);
    for traffic in tcp_and_udp(service.ip(true), 80) {
        fed.cluster
            .expect_spread(Covered("pod-a"), traffic, &["a1", "b1"]);
    }
    assert_eq!(agent.process().ended().unwrap(), None);
    fed.cluster
        .lab
        .place("node1")
        .namespace
        .run(|| fed.server.restart())
        .unwrap();
    agent.wait_ready().unwrap();
    agent.process().terminate().unwrap();
    agent.process().wait(Duration::from_secs(5)).unwrap();
    expect_clean(held);
}

#[test]
fn an_agent_finds_its_api_server_by_what_it_has_learned() {
    let service = web().endpoints(&["a1", "b1"]);
    let mut fed = Fed::start(&[&service]);
    let address = fed.server.address();
    let slice = kubernetes_slice(&[address.ip()], address.port());
    fed.server.apply(slice).unwrap();
    let file = fed
        .cluster
        .lab
        .state_directory("node1")
        .join("api-servers.json");
    eventually("the address is kept", || Ok(file.exists().then_some(()))).unwrap();
    fed.cluster.agents.remove("node1");

    // Nobody listens there.
    fed.cluster.options.source = Some(vec!["--master=http://127.0.0.1:1".to_owned()]);
    fed.cluster = fed.cluster.with_agents(&["node1"]);
    put(
        &fed.server,
        &fed.cluster.lab,
        &service.clone().endpoints(&["b1"]),
    );
    for traffic in tcp_and_udp(service.ip(false), 80) {
        fed.cluster.await_spread(Covered("pod-a"), traffic, &["b1"]);
    }

    fed.cluster.agents.remove("node1");
    let answer = tests::harness::Agent::cleanup(&fed.cluster.lab, "node1", &[]).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(!file.exists(), "{answer:?}");
}

#[test]
fn a_problem_is_an_event_of_the_object_it_is_about() {
    let fed = Fed::start(&[]);
    let mut broken = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "shop", "name": "broken" },
        "spec": { "clusterIP": "10.96.0.77", "ports": [{ "name": "http", "port": "eighty" }] },
    });
    fed.server.apply(broken.clone()).unwrap();
    let event = eventually("the problem is told", || Ok(fed.server.events().pop())).unwrap();
    assert_eq!(event["involvedObject"]["name"], "broken", "{event}");
    assert_eq!(event["reportingComponent"], "fairlead-agent", "{event}");
    assert!(event["reportingInstance"] == "node1", "{event}");
    broken["spec"]["ports"][0]["port"] = json!(80);
    fed.server.apply(broken).unwrap();
    assert_eq!(fed.server.events().len(), 1);
}

/// A time of creation: the `second`th of its minute.
fn at(second: u8) -> String {
    format!("2026-01-01T00:00:{second:02}Z")
}

#[test]
fn of_two_services_at_one_address_one_is_served_and_the_other_is_told() {
    const ADDRESS: &str = "203.0.113.80";
    let to: IpAddr = ADDRESS.parse().unwrap();
    let winner = ServiceSpec::new("winner", 10)
        .tcp(80, 8080)
        .endpoints(&["a1"]);
    let loser = ServiceSpec::new("loser", 11)
        .tcp(80, 8080)
        .endpoints(&["b1"]);
    let mut fed = Fed::with(&["--service-external-ip-range", "203.0.113.0/24"], &[]);
    // The younger one is there first.
    for (service, created) in [(&loser, 2), (&winner, 1)] {
        let service = service.clone().spec("externalIPs", json!([ADDRESS]));
        for mut document in fed.cluster.lab.documents(&service).unwrap() {
            if document["kind"] == "Service" {
                document["metadata"]["creationTimestamp"] = at(created).into();
            }
            fed.server.apply(document).unwrap();
        }
        let pods = if created == 2 { ["b1"] } else { ["a1"] };
        for from in [Covered("pod-a"), Uncovered("pod-a")] {
            fed.cluster
                .await_spread(from, Traffic::connect(to, 80), &pods);
        }
    }
    let event = eventually("the loser is told", || Ok(fed.server.events().pop())).unwrap();
    assert_eq!(event["involvedObject"]["name"], "loser", "{event}");
    assert_eq!(event["reason"], "Conflict", "{event}");
    let agent = fed.cluster.agent("node1");
    let problems = agent.metric("fairlead_problems{kind=\"Service\"}").unwrap();
    assert_eq!(problems, Some(1.0));
    let status = agent.status().unwrap()["problems"].to_string();
    assert!(
        status.contains("belongs to the older Service lab/winner"),
        "{status}"
    );
    // What it has to itself goes on.
    fed.cluster.expect_spread(
        Covered("pod-a"),
        Traffic::connect(loser.ip(false), 80),
        &["b1"],
    );
}

/// `a1` with a host port.
fn pod_with_host_port(lab: &Lab, port: u16, created: u8) -> Value {
    let addresses: Vec<_> = [false, true]
        .map(|v6| json!({"ip": lab.address("a1", v6)}))
        .into();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a1", "namespace": "lab", "creationTimestamp": at(created)},
        "spec": {"nodeName": "node1", "containers": [{"name": "server", "ports": [
            {"containerPort": 8080, "hostPort": port, "protocol": "TCP"},
        ]}]},
        "status": {"phase": "Running", "podIPs": addresses},
    })
}

#[test]
fn of_a_node_port_and_a_host_port_the_older_is_served_and_the_younger_is_told() {
    const PORT: u16 = 30_080;
    let service = web().endpoints(&["b1"]);
    for (of_service, of_pod, pod, loser, winner) in [
        (1, 2, "b1", "Pod", "Service lab/web"),
        (2, 1, "a1", "Service", "Pod lab/a1"),
    ] {
        let mut fed = Fed::start(&[]);
        let lab = &fed.cluster.lab;
        let node1 = [false, true].map(|v6| lab.address("node1", v6));
        // The younger one is there first, and has the port until then.
        let mut documents = lab.documents(&service).unwrap();
        documents[0]["metadata"]["creationTimestamp"] = at(of_service).into();
        let host_port = pod_with_host_port(lab, PORT, of_pod);
        let (first, second, alone) = if of_service > of_pod {
            (documents, vec![host_port], "b1")
        } else {
            (vec![host_port], documents, "a1")
        };
        for (documents, pod) in [(first, alone), (second, pod)] {
            for document in documents {
                fed.server.apply(document).unwrap();
            }
            for to in node1 {
                for from in [Covered("client"), Covered("pod-a"), Uncovered("pod-c")] {
                    let traffic = Traffic::connect(to, PORT);
                    fed.cluster.await_spread(from, traffic, &[pod]);
                }
            }
        }
        let event = eventually("the loser is told", || Ok(fed.server.events().pop())).unwrap();
        assert_eq!(event["involvedObject"]["kind"], loser, "{event}");
        assert_eq!(event["reason"], "Conflict", "{event}");
        let note = format!("belongs to the older {winner}");
        assert!(event.to_string().contains(&note), "{event}");
        let agent = fed.cluster.agent("node1");
        let metric = format!("fairlead_problems{{kind=\"{loser}\"}}");
        let problems = agent.metric(&metric).unwrap();
        assert_eq!(problems, Some(2.0), "one of each family");
        let status = agent.status().unwrap()["problems"].to_string();
        assert!(status.contains(&note), "{status}");
        // UDP is the Service's, whoever has the port of TCP.
        for to in node1 {
            let traffic = Traffic::udp_fresh(to, PORT);
            fed.cluster
                .expect_spread(Covered("client"), traffic, &["b1"]);
        }
        // Once the older one is gone, the other has the port, and there is nothing to tell.
        let (kind, name, heir) = match loser {
            "Pod" => (Kind::Service, "web", "a1"),
            _ => (Kind::Pod, "a1", "b1"),
        };
        assert!(fed.server.delete(kind, &ObjectKey::new("lab", name)));
        for to in node1 {
            let traffic = Traffic::connect(to, PORT);
            fed.cluster
                .await_spread(Covered("client"), traffic, &[heir]);
        }
        eventually("the problems are over", || {
            let problems = fed.cluster.agent("node1").metric(&metric)?;
            ensure!(problems.unwrap_or(0.0) == 0.0, "{problems:?}");
            Ok(Some(()))
        })
        .unwrap();
    }
}
