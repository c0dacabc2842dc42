//! Truth tables: who reaches whom, of all pairs at once, with real packets of every protocol.
//!
//! Three namespaces of three pods on two nodes, the nodes themselves, and a client outside. After
//! each change every one of them tries all others at all ports in both families. What is expected
//! comes from tables written by hand (`golden.yaml`), or from the compiler's plain reference.
//!
//! The kernel may have no SCTP: the probers send INIT chunks themselves, and answer them.

mod catalogue;
mod golden;
#[path = "../../../../agent/src/desired/policy/tests/reference.rs"]
mod reference;
mod table;
mod world;

// What the reference takes from the module above it.
use agent::desired::NodeContext;
use agent::desired::policy::{Outcome, Traffic};

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Deserialize;
use tests::harness::{Agent, AgentOptions, Builder, Lab, Prober, Process, eventually};

use table::{Table, Tally};
use world::{NODES, PODS, World};

/// Answers among twelve places take some milliseconds; a silence takes this long.
const TIMEOUT_MILLISECONDS: u64 = 150;
/// A busy machine may miss that; what is open is open at one of the next looks.
const LOOKS: usize = 8;

/// A lab with agents that enforce policies, and probers everywhere.
struct Truth {
    // Processes first: fields are dropped in order, and a lab ends what runs in it.
    agents: BTreeMap<&'static str, Agent>,
    probers: BTreeMap<String, Prober>,
    _servers: Vec<Process>,
    lab: Lab,
    world: World,
    tally: Tally,
}

impl Truth {
    #[track_caller]
    fn start() -> Self {
        let mut builder = Builder::new(env!("CARGO_BIN_EXE_fairlead-traffic"), 2);
        for (pod, node) in PODS {
            builder = builder.pod(pod, node);
        }
        let lab = builder.build().unwrap();
        for (node, _) in lab.nodes() {
            for (network, via) in node.pod_networks.iter().zip(&node.addresses) {
                let route = format!("route add {network} via {via}\n");
                lab.router().ip(&route).unwrap();
            }
        }
        let world = World::new(&lab);
        let mut servers = Vec::new();
        let mut probers = BTreeMap::new();
        for name in world.places() {
            let place = lab.place(name);
            if !world.is_pod(name) {
                let mut command = place.traffic();
                command.args(["serve", "--name", name, "--port", "8080", "--port", "9090"]);
                servers.push(Process::listening(name, &mut command).unwrap());
            }
            probers.insert(name.to_owned(), Prober::start(place).unwrap());
        }
        world.write(&lab);
        let options = AgentOptions::flags(&["--run-firewall"]);
        let mut agents: BTreeMap<_, _> = NODES
            .map(|node| (node, Agent::start(&lab, node, &options).unwrap()))
            .into();
        for agent in agents.values_mut() {
            agent.wait_ready().unwrap();
        }
        Self {
            agents,
            probers,
            _servers: servers,
            lab,
            world,
            tally: Tally::default(),
        }
    }

    /// Writes the world as it is now and waits until every agent has it in force.
    #[track_caller]
    fn settle(&mut self) {
        let generation = |agent: &Agent, what: &str| {
            let name = format!("fairlead_{what}_generation");
            anyhow::Ok(agent.metric(&name)?.unwrap_or(0.0))
        };
        let before: Vec<_> = self
            .agents
            .values()
            .map(|agent| generation(agent, "applied").unwrap())
            .collect();
        self.world.mark();
        self.world.write(&self.lab);
        let marked = self.world.is_marked();
        for (agent, before) in self.agents.values().zip(before) {
            eventually("the change is in force", || {
                let ports = agent.metric("fairlead_service_ports")?.unwrap_or(0.0);
                let wanted = generation(agent, "desired")?;
                let applied = generation(agent, "applied")?;
                anyhow::ensure!(
                    applied > before && wanted <= applied && (ports > 0.0) == marked,
                    "{before} {wanted} {applied} {ports}"
                );
                Ok(Some(()))
            })
            .unwrap();
        }
    }

    /// Lets everybody try everything until all that is expected to be open has been found open. What
    /// is expected to be closed may be found open not once.
    #[track_caller]
    fn expect(&mut self, what: &str, expected: &Table) {
        let mut missing = expected.clone();
        for look in 0..LOOKS {
            let begun = Instant::now();
            let batches = missing.batches(&self.world, TIMEOUT_MILLISECONDS << (look / 2));
            for (from, batch) in &batches {
                self.probers.get_mut(*from).unwrap().ask(batch).unwrap();
            }
            let mut wrong = Table::default();
            for (from, batch) in &batches {
                let found = self.probers.get_mut(*from).unwrap().found().unwrap();
                assert_eq!(found.len(), batch.targets.len());
                wrong.extend(missing.compare(from, batch, &found));
            }
            self.tally.add(&missing, begun.elapsed());
            assert!(
                !wrong.has_closed(),
                "{what}: open and not to be:\n{wrong}\n{}",
                self.world
            );
            if wrong.is_empty() {
                return;
            }
            missing = wrong;
        }
        panic!("{what}: closed and not to be:\n{missing}\n{}", self.world);
    }
}

/// Policies as they are in a file, with names as `namespace/name`.
type Policies = BTreeMap<String, serde_json::Value>;

/// A file of the suite.
#[track_caller]
fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> T {
    serde_norway::from_str(text).unwrap()
}
