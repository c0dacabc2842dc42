//! Servers that are no longer in the configuration and still have connections.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::command::{Command, ServerRef};

/// A server on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Since when.
    pub since: Instant,
    /// The words it was added with; it can come back with these alone.
    pub options: Vec<String>,
}

/// Servers that were taken out of service, by name. A reload empties this: the new process never
/// had them, and the old one ends with their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Which.
    pub servers: BTreeMap<ServerRef, Left>,
}

impl Leaving {
    /// Notes a server that was just put into maintenance.
    pub fn add(&mut self, server: ServerRef, options: Vec<String>, now: Instant) {
        let left = Left {
            since: now,
            options,
        };
        self.servers.entry(server).or_insert(left);
    }

    /// A server is wanted again.
    pub fn remove(&mut self, server: &ServerRef) {
        self.servers.remove(server);
    }

    /// Nothing is left of before.
    pub fn clear(&mut self) {
        self.servers.clear();
    }

    /// What to do about those that have no sessions any more, or had `patience` to end them. A
    /// server of which `sessions` knows nothing is gone already.
    pub fn due(
        &mut self,
        sessions: &BTreeMap<ServerRef, u64>,
        patience: Duration,
        now: Instant,
    ) -> Vec<Command> {
        self.servers
            .retain(|server, _| sessions.contains_key(server));
        let mut commands = Vec::new();
        for (server, left) in &self.servers {
            let is_idle = sessions.get(server) == Some(&0);
            let is_late = now.saturating_duration_since(left.since) >= patience;
            if !is_idle && is_late {
                commands.push(Command::ShutdownSessions(server.clone()));
            }
            if is_idle || is_late {
                commands.push(Command::DeleteServer(server.clone()));
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Command, Leaving, ServerRef};

    #[test]
    fn a_server_goes_when_it_is_idle_or_late() {
        let server = |name: &str| ServerRef {
            backend: "b".to_owned(),
            server: name.to_owned(),
        };
        let start = Instant::now();
        let patience = Duration::from_secs(30);
        let mut leaving = Leaving::default();
        for name in ["busy", "gone", "idle"] {
            leaving.add(server(name), Vec::new(), start);
        }
        let sessions = [(server("busy"), 2), (server("idle"), 0)].into();
        assert_eq!(
            leaving.due(&sessions, patience, start),
            [Command::DeleteServer(server("idle"))]
        );
        assert!(!leaving.servers.contains_key(&server("gone")));
        let sessions = [(server("busy"), 2)].into();
        assert_eq!(
            leaving.due(&sessions, patience, start + patience),
            [
                Command::ShutdownSessions(server("busy")),
                Command::DeleteServer(server("busy")),
            ]
        );
    }
}
