//! Backends as upstreams.

use super::Lowering;
use crate::edge::value::Id;
use crate::edge::{Backend, Balance, Forward, Server, ServerState};
use crate::nginx::view::{SplitPart, Upstream, UpstreamServer};

/// Answers 500: what a backend is that nobody knows.
pub(super) const FAILED: &str = "fairlead_failed";

impl<'a> Lowering<'a> {
    /// What a forward's weights give something to; `None` in place of a backend is [`FAILED`].
    pub(super) fn shares(&self, forward: &Forward) -> Vec<(Option<&'a Backend>, u32)> {
        let plan = self.plan;
        let shares = forward.to.iter().filter(|(_, weight)| *weight > 0);
        shares
            .map(|(id, weight)| (plan.backends.get(id).map(|backend| &**backend), *weight))
            .collect()
    }

    pub(super) fn upstream(&mut self, backend: &Backend, is_stream: bool) -> String {
        let name = backend.id.to_string();
        let known = match is_stream {
            true => &self.stream_upstreams,
            false => &self.upstreams,
        };
        if known.contains_key(&name) {
            return name;
        }
        self.told_limits(backend, is_stream);
        let mut method = match backend.balance {
            Balance::RoundRobin => "round_robin",
            Balance::LeastConnections => "least_conn",
            Balance::Source => "hash",
        };
        if backend.sticky.is_some() && !is_stream {
            method = "hash";
        }
        let upstream = Upstream {
            name: name.clone(),
            method,
            max_fails: backend.health.as_ref().map(|health| health.fall.max(1)),
            fail_seconds: backend
                .health
                .as_ref()
                .map_or(10, |health| health.interval.as_secs().max(1)),
            servers: backend.servers.iter().map(server).collect(),
        };
        let upstreams = match is_stream {
            true => &mut self.stream_upstreams,
            false => &mut self.upstreams,
        };
        upstreams.insert(name.clone(), upstream);
        name
    }

    fn told_limits(&mut self, backend: &Backend, is_stream: bool) {
        let Backend { id, origin, .. } = backend;
        if backend.health.is_some() {
            self.problem_of_backend(
                id,
                origin,
                "nginx asks servers nothing of its own accord",
                "a server is left alone for a while after so many failed requests",
            );
        }
        if is_stream {
            return;
        }
        if backend.sticky.is_some() {
            self.problem_of_backend(
                id,
                origin,
                "nginx sets no cookie for clients to stay with their server",
                "clients stay by their address",
            );
        }
        if backend.sends_proxy_protocol {
            self.problem_of_backend(
                id,
                origin,
                "nginx cannot send the PROXY protocol with HTTP",
                "servers learn the client's address from X-Forwarded-For alone",
            );
        }
    }

    /// Weights as parts of a split; nginx counts in hundredths of a percent.
    pub(super) fn parts(names: &[(String, u32)]) -> (String, Vec<SplitPart>) {
        let total: u64 = names.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let words: Vec<String> = names
            .iter()
            .map(|(name, weight)| format!("{name} {weight}"))
            .collect();
        let last = names.len().saturating_sub(1);
        let mut parts: Vec<SplitPart> = Vec::new();
        for (index, (name, weight)) in names.iter().enumerate() {
            let hundredths = u64::from(*weight) * 10_000 / total.max(1);
            let percent = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            // A part too small to count goes to the last.
            if index == last || hundredths > 0 {
                parts.push(SplitPart {
                    percent: (index != last).then_some(percent),
                    upstream: name.clone(),
                });
            }
        }
        (Id::of(&["split", &words.join(" ")]).to_string(), parts)
    }
}

fn server(server: &Server) -> UpstreamServer {
    let is_down = server.weight == 0 || server.state == ServerState::Draining;
    UpstreamServer {
        // The port is never left out, whatever the scheme.
        address: std::net::SocketAddr::new(server.address, server.port.get()).to_string(),
        weight: (server.weight > 1).then_some(server.weight),
        // `down` takes no new requests; requests under way go on.
        is_down,
    }
}
