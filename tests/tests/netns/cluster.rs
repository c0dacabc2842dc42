//! A lab with an agent on each node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tests::harness::{Agent, AgentOptions, Builder, Flow, Lab, Place, ServiceSpec, Traffic};
use tests::traffic::Report;

/// Exchanges of a spread: with three backends, all but one in 10^10 runs see each of them.
const EXCHANGES: u64 = 60;

/// A lab of two nodes: pods `a1`, `a2` on the first and `b1` on the second are backends, `pod-a`
/// and `pod-c` on the first and `pod-b` on the second clients. A test that keeps connections takes
/// one pod for those balanced at `connect` and another for those balanced per packet: the kernel may
/// give two of one pod the same source port, and behind the translation they would be the same.
pub(crate) struct Cluster {
    // Agents first: fields are dropped in order, and a lab ends what runs in it.
    pub(crate) agents: BTreeMap<String, Agent>,
    pub(crate) options: AgentOptions,
    pub(crate) lab: Lab,
}

/// Where traffic starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// A node, a pod or the outside client, in its own cgroup.
    Covered(&'static str),
    /// The same in a cgroup without hooks, so that TCP is balanced packet by packet.
    Uncovered(&'static str),
}

impl Cluster {
    #[track_caller]
    pub(crate) fn start(services: &[&ServiceSpec]) -> Self {
        Self::start_with(AgentOptions::default(), services)
    }

    #[track_caller]
    pub(crate) fn start_with(options: AgentOptions, services: &[&ServiceSpec]) -> Self {
        let cluster = Self::without_agents(options, services);
        cluster.with_agents(&["node1", "node2"])
    }

    #[track_caller]
    pub(crate) fn without_agents(options: AgentOptions, services: &[&ServiceSpec]) -> Self {
        Self::of_nodes(2, options, services)
    }

    /// The same with a third node, which has the backend `c1` and the client `pod-d`.
    #[track_caller]
    pub(crate) fn of_three_nodes(options: AgentOptions, services: &[&ServiceSpec]) -> Self {
        Self::of_nodes(3, options, services)
    }

    #[track_caller]
    fn of_nodes(nodes: u8, options: AgentOptions, services: &[&ServiceSpec]) -> Self {
        let mut builder = Builder::new(env!("CARGO_BIN_EXE_fairlead-traffic"), nodes)
            .pod("a1", 1)
            .pod("a2", 1)
            .pod("b1", 2)
            .pod("pod-a", 1)
            .pod("pod-b", 2)
            .pod("pod-c", 1);
        if nodes > 2 {
            builder = builder.pod("c1", 3).pod("pod-d", 3);
        }
        let lab = builder.build().unwrap();
        lab.apply_nodes().unwrap();
        for service in services {
            for v6 in [false, true] {
                lab.expect_untranslated(service.ip(v6)).unwrap();
            }
            lab.apply(service).unwrap();
        }
        Self {
            agents: BTreeMap::new(),
            options,
            lab,
        }
    }

    #[track_caller]
    pub(crate) fn with_agents(mut self, nodes: &[&str]) -> Self {
        for node in nodes {
            let agent = Agent::start(&self.lab, node, &self.options).unwrap();
            self.agents.insert((*node).to_owned(), agent);
        }
        for agent in self.agents.values_mut() {
            agent.wait_ready().unwrap();
        }
        self
    }

    pub(crate) fn agent(&mut self, node: &str) -> &mut Agent {
        self.agents.get_mut(node).unwrap()
    }

    /// Starts a killed agent again.
    #[track_caller]
    pub(crate) fn restart(&mut self, node: &str) {
        let agent = Agent::ready(&self.lab, node, &self.options).unwrap();
        self.agents.insert(node.to_owned(), agent);
    }

    #[track_caller]
    pub(crate) fn place(&self, from: From) -> Place {
        match from {
            From::Covered(name) => self.lab.place(name).clone(),
            From::Uncovered(name) => self.lab.uncovered(name),
        }
    }

    #[track_caller]
    pub(crate) fn run(&self, from: From, traffic: &Traffic) -> Report {
        Flow::run(&self.place(from), traffic).unwrap()
    }

    #[track_caller]
    pub(crate) fn flow(&self, from: From, traffic: &Traffic) -> Flow {
        Flow::start(&self.place(from), traffic).unwrap()
    }

    /// Everything is answered, by each of `pods` and by nobody else.
    #[track_caller]
    pub(crate) fn expect_spread(&self, from: From, traffic: Traffic, pods: &[&str]) -> Report {
        let report = self.run(from, &spread(traffic.clone()));
        assert!(report.is_clean(), "{from:?} {traffic:?}: {report:?}");
        let seen: Vec<_> = report.backends.keys().map(String::as_str).collect();
        assert_eq!(seen, pods, "{from:?} {traffic:?}");
        report
    }

    /// Waits until everything is answered by each of `pods` and by nobody else.
    #[track_caller]
    pub(crate) fn await_spread(&self, from: From, traffic: Traffic, pods: &[&str]) {
        let wanted = |report: &Report| {
            report.is_clean()
                && report
                    .backends
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    == pods
        };
        spread(traffic)
            .until("the change is in force", &self.place(from), wanted)
            .unwrap();
    }

    /// Everything is refused, at once.
    #[track_caller]
    pub(crate) fn expect_refused(&self, from: From, traffic: Traffic) {
        let report = self.run(from, &traffic.clone().count(3));
        assert_eq!(
            report.errors.get("refused"),
            Some(&3),
            "{from:?} {traffic:?}: {report:?}"
        );
        assert!(
            report.latency.slowest_microseconds < 200_000,
            "{from:?} {traffic:?}: {report:?}"
        );
    }
}

/// `web` on 80/tcp and 80/udp, at 30080 of every node.
pub(crate) fn web() -> ServiceSpec {
    ServiceSpec::new("web", 10).both_on_nodes(80, 8080, 30080)
}

/// TCP and UDP to an address and port, a connection or flow each.
pub(crate) fn tcp_and_udp(to: IpAddr, port: u16) -> [Traffic; 2] {
    [Traffic::connect(to, port), Traffic::udp_fresh(to, port)]
}

fn spread(traffic: Traffic) -> Traffic {
    traffic
        .count(EXCHANGES)
        .every_milliseconds(0)
        .timeout_milliseconds(3000)
}

/// What a flow that ran through a change may not have: a failure of any sort.
#[track_caller]
pub(crate) fn expect_clean(flow: Flow) -> Report {
    let report = flow.stop().unwrap();
    assert!(report.is_clean() && report.answered > 0, "{report:?}");
    report
}
