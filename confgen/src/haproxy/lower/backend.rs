//! Backends as sections.

use super::target::section_name;
use super::{Lowering, Mode, socket};
use crate::edge::{
    Backend, BackendProtocol, Balance, HealthCheck, Probe, Server, ServerState, StickyCookie,
};
use crate::haproxy::view::{Check, Cookie, Processing, Section, ServerLine, ServerOptions};
use crate::render::host_text;

impl Lowering<'_> {
    /// Every section that something leads to, by name.
    pub(super) fn sections(&mut self) -> Vec<Section> {
        let used = std::mem::take(&mut self.used);
        let mut sections = std::mem::take(&mut self.answers);
        let plan = self.plan;
        for ((id, mode), processing) in used {
            if let Some(backend) = plan.backends.get(id) {
                let section = self.section(backend, mode, processing);
                sections.insert(section.name.clone(), section);
            }
        }
        sections.into_values().collect()
    }

    pub(super) fn section(
        &mut self,
        backend: &Backend,
        mode: Mode,
        rules: Vec<Processing>,
    ) -> Section {
        let is_tcp = mode == Mode::Tcp;
        let options = match self.server_options(backend, is_tcp) {
            Ok(options) => options,
            Err(message) => {
                // Nobody is better than somebody unverified.
                let effect = "its requests are answered 503";
                self.problem(&backend.origin, message, effect);
                return Section::answering(
                    &section_name(backend, mode),
                    Processing {
                        respond: (!is_tcp).then_some(503),
                        ..Processing::default()
                    },
                )
                .with_mode(is_tcp);
            }
        };
        Section {
            name: section_name(backend, mode),
            is_tcp,
            balance: balance(backend.balance),
            connect_ms: backend.timeouts.connect.map(|limit| limit.as_millis()),
            server_ms: backend
                .timeouts
                .server
                .or(backend.timeouts.request)
                .map(|limit| limit.as_millis()),
            cookie: backend.sticky.as_ref().filter(|_| !is_tcp).map(cookie),
            check: backend.health.as_ref().map(check),
            options,
            rules: if is_tcp {
                Vec::new()
            } else {
                unconditional(rules)
            },
            servers: backend.servers.iter().map(server).collect(),
            loopback: Vec::new(),
        }
    }

    fn server_options(&mut self, backend: &Backend, is_tcp: bool) -> Result<ServerOptions, String> {
        let mut options = ServerOptions {
            sends_proxy: backend.sends_proxy_protocol,
            ..ServerOptions::default()
        };
        match &backend.protocol {
            // Bytes go on as they are, whatever they are.
            BackendProtocol::Http | BackendProtocol::Tcp => {}
            BackendProtocol::H2c | BackendProtocol::Https(_) if is_tcp => {}
            BackendProtocol::H2c => options.is_h2 = true,
            BackendProtocol::Https(tls) => {
                options.is_tls = true;
                options.server_name = tls.server_name.as_ref().map(ToString::to_string);
                if let Some(id) = &tls.authorities {
                    let plan = self.plan;
                    let authorities = plan
                        .certificates
                        .get(id)
                        .ok_or("the authorities of its servers are missing")?;
                    options.authorities = Some(self.files.add_authorities(id, authorities));
                }
            }
        }
        Ok(options)
    }
}

impl Section {
    fn with_mode(self, is_tcp: bool) -> Self {
        let rules = if is_tcp { Vec::new() } else { self.rules };
        Self {
            is_tcp,
            rules,
            ..self
        }
    }
}

/// Without the condition on the rule where every rule is treated alike.
fn unconditional(rules: Vec<Processing>) -> Vec<Processing> {
    let nameless = |rule: &Processing| Processing {
        rule: None,
        ..rule.clone()
    };
    let Some(first) = rules.first().map(nameless) else {
        return rules;
    };
    let mut rules = rules;
    if rules.iter().all(|rule| nameless(rule) == first) {
        rules = vec![first];
    }
    rules.retain(|rule| nameless(rule) != Processing::default());
    rules
}

fn balance(balance: Balance) -> &'static str {
    // Each of these takes servers that are added at runtime.
    match balance {
        Balance::RoundRobin => "roundrobin",
        Balance::LeastConnections => "leastconn",
        Balance::Source => "source",
    }
}

fn cookie(sticky: &StickyCookie) -> Cookie {
    Cookie {
        name: sticky.name.to_string(),
        max_age_s: sticky.max_age.map(|age| age.as_secs()),
    }
}

fn check(health: &HealthCheck) -> Check {
    let (path, host, is_tls) = match &health.probe {
        Probe::Tcp => (None, None, false),
        Probe::Http { path, host, is_tls } => (
            Some(path.to_string()),
            host.as_ref().map(host_text),
            *is_tls,
        ),
    };
    // HAProxy refuses an interval or a count of nothing.
    Check {
        interval_ms: health.interval.as_millis().max(1),
        timeout_ms: health.timeout.as_millis().max(1),
        rise: health.rise.max(1),
        fall: health.fall.max(1),
        port: health.port.map(std::num::NonZeroU16::get),
        is_tls,
        path,
        host,
    }
}

fn server(server: &Server) -> ServerLine {
    // A server of weight 0 keeps what it has, and clients whose cookie names it.
    let weight = match server.state {
        ServerState::Active => server.weight.min(256),
        ServerState::Draining => 0,
    };
    ServerLine {
        name: server.name.to_string(),
        address: socket(server.address, server.port.get()),
        weight,
    }
}
