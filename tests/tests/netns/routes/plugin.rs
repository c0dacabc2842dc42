//! Pods of CNI plugins, ours and the reference's, beside agents that keep routes and policy.

mod bandwidth;
mod bridge;
mod first_packet;
mod storm;
mod v6;

use std::fs;
use std::net::IpAddr;

use serde_json::{Value, json};
use tests::harness::{Flow, Place, Process, Sandbox, Traffic, eventually};
use tests::traffic::Report;

use super::Network;

/// Namespace of the Pods.
const NAMESPACE: &str = "lab";
const PORT: u16 = 8080;
const POLICIES: &str = "policies.yaml";

/// A pod whose network a plugin has made, and that answers at [`PORT`].
struct Pod {
    sandbox: Sandbox,
    place: Place,
    addresses: Vec<IpAddr>,
    _server: Process,
}

impl Pod {
    fn address(&self, v6: bool) -> IpAddr {
        let mut found = self.addresses.iter().copied();
        found.find(|address| address.is_ipv6() == v6).unwrap()
    }

    /// TCP and UDP to an address, a few times each.
    #[track_caller]
    fn asks(&self, to: IpAddr) -> Vec<Report> {
        let traffic = [Traffic::connect(to, PORT), Traffic::udp_fresh(to, PORT)];
        let run = |traffic: Traffic| {
            let traffic = traffic.count(3).timeout_milliseconds(1000);
            Flow::run(&self.place, &traffic).unwrap()
        };
        traffic.map(run).into()
    }

    /// Everything is answered.
    #[track_caller]
    fn reaches(&self, to: IpAddr) {
        for report in self.asks(to) {
            assert!(
                report.is_clean(),
                "{} to {to}: {report:?}",
                self.sandbox.name
            );
        }
    }
}

impl Network {
    /// Writes Pods as the kubelet has them before their network is there, each with its node and its
    /// label `app`.
    fn announce(&self, pods: &[(&str, &str, &str)]) {
        let pods: Vec<Value> = pods
            .iter()
            .map(|(name, node, app)| {
                json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": app}},
                    "spec": {"nodeName": node, "containers": [{"name": "c"}]}})
            })
            .collect();
        self.lab.manifests().write("announced.yaml", &pods).unwrap();
    }

    /// Policies for pods by their label `app`: the label and the rest of the `spec`.
    fn enforce(&self, policies: &[(&str, Value)]) {
        let policies: Vec<Value> = policies
            .iter()
            .map(|(app, rules)| {
                let mut spec = rules.clone();
                spec["podSelector"] = json!({"matchLabels": {"app": app}});
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                    "metadata": {"name": app, "namespace": NAMESPACE}, "spec": spec})
            })
            .collect();
        self.lab.manifests().write(POLICIES, &policies).unwrap();
    }

    /// Makes a pod by a list of plugins, or by the agent's.
    #[track_caller]
    fn plug(&self, node: &str, name: &str, list: Option<(&Value, &Value)>) -> (Pod, Value) {
        let sandbox = Sandbox::new(node, NAMESPACE, name);
        let place = self.lab.create_sandbox(&sandbox).unwrap();
        let result = match list {
            Some((list, given)) => self.lab.attach(&sandbox, list, given),
            None => {
                let outcome = self.lab.invoke_plugin("ADD", &sandbox);
                outcome.and_then(tests::harness::Outcome::result)
            }
        };
        let result = result.unwrap();
        let mut server = place.traffic();
        server.args(["serve", "--name", name, "--port", &PORT.to_string()]);
        let pod = Pod {
            _server: Process::listening(name, &mut server).unwrap(),
            addresses: addresses(&result),
            sandbox,
            place,
        };
        (pod, result)
    }

    /// Takes a pod of the agent's plugin back.
    #[track_caller]
    fn unplug(&self, pod: &Pod) {
        let deleted = self.lab.invoke_plugin("DEL", &pod.sandbox).unwrap();
        assert_eq!(deleted.code, Some(0), "{deleted:?}");
        self.lab.end_sandbox(&pod.sandbox).unwrap();
    }

    /// A Service of one family with these pods behind it.
    fn serve(&self, address: IpAddr, pods: &[&Pod]) {
        let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
        let ports = ["TCP", "UDP"].map(
            |protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": PORT}),
        );
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "plugged", "namespace": NAMESPACE},
            "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                "ipFamilies": [family], "ports": ports}});
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|pod| {
                json!({"addresses": [pod.address(address.is_ipv6())], "nodeName": pod.sandbox.node,
                    "conditions": {"ready": true}})
            })
            .collect();
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "plugged-1", "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": "plugged"}},
            "addressType": family, "ports": ports, "endpoints": endpoints});
        let documents = [service, slice];
        self.lab
            .manifests()
            .write("plugged.yaml", &documents)
            .unwrap();
    }

    /// Waits until a Service answers a pod by each of these, and by nobody else.
    #[track_caller]
    fn await_spread(&self, from: &Pod, address: IpAddr, names: &[&str]) {
        for traffic in [
            Traffic::connect(address, PORT),
            Traffic::udp_fresh(address, PORT),
        ] {
            let traffic = traffic
                .count(40)
                .every_milliseconds(0)
                .timeout_milliseconds(1000);
            let wanted = |report: &Report| {
                let seen: Vec<_> = report.backends.keys().map(String::as_str).collect();
                report.is_clean() && seen == names
            };
            traffic
                .until("the Service is served", &from.place, wanted)
                .unwrap();
        }
    }

    #[track_caller]
    fn metric(&self, node: &str, name: &str) -> f64 {
        let value = self.agents[node].metric(name).unwrap();
        value.unwrap_or_default()
    }

    /// Waits until the agent has written its list, and answers with it.
    #[track_caller]
    fn installed(&self, node: &str) -> Value {
        let path = self.cni(node, "net.d/10-fairlead.conflist");
        let read = || Ok(Some(serde_json::from_str(&fs::read_to_string(&path)?)?));
        eventually("the list is installed", read).unwrap()
    }
}

/// The addresses of a result.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap().iter();
    let texts = ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap());
    texts.map(|text| text.parse().unwrap()).collect()
}
