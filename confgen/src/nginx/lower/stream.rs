//! Connections that are passed on: by SNI, and whole ports.
//!
//! PROXY protocol is on or off for a whole server of `stream`, but some destinations of one port
//! want it and others do not. So every destination has a socket of its own, which is spoken to
//! with it, and behind it a server that knows what its destination wants.

use super::Lowering;
use super::http::{Place, port};
use super::upstream::FAILED;
use crate::edge::value::{HostMatch, Id};
use crate::edge::{Backend, Forward, Listen, TcpListener, TlsListener};
use crate::nginx::view::{SniHost, SniMap, Split, StreamServer};

impl Lowering<'_> {
    /// Passes hosts on by SNI; what is left ends in the servers at the place that is returned.
    pub(super) fn sni(&mut self, listen: Listen, listener: &TlsListener) -> Place {
        let name = Id::of_listener("tls", listen);
        let terminate = format!("{}/{name}.sock", self.options.run_directory);
        let mut default = terminate.clone();
        let mut entries = Vec::new();
        // In order of precedence, of which nginx keeps that of expressions.
        for (host, route) in listener.hosts() {
            let socket = match route {
                Some(route) => self.pass_by_socket(&route.forward),
                None => terminate.clone(),
            };
            let (host, is_pattern) = match host {
                // The backslash is none of the name: it keeps `map` from reading a word of its own.
                HostMatch::Exact(name) => (format!("\\{name}"), false),
                HostMatch::Wildcard(suffix) => (format!("*.{suffix}"), false),
                HostMatch::Regex(regex) => (regex.anchored(), true),
                HostMatch::Any => {
                    default = socket;
                    continue;
                }
            };
            entries.push(SniHost {
                host,
                is_pattern,
                socket,
            });
        }
        let variable = format!("sni_{name}");
        self.stream.maps.push(SniMap {
            name: variable.clone(),
            default,
            hosts: entries,
        });
        self.stream.servers.push(StreamServer {
            listen: listen.to_string(),
            is_unix: false,
            accepts_proxy: listener.http.accepts_proxy_protocol,
            reads_sni: true,
            sends_proxy: true,
            is_variable: true,
            pass: variable,
        });
        Place {
            listen: format!("unix:{terminate}"),
            is_unix: true,
            is_tls: true,
            accepts_proxy: true,
            port: port(listen, true),
            unknown_host: listener.unknown_host.clone(),
        }
    }

    pub(super) fn tcp(&mut self, listen: Listen, listener: &TcpListener) {
        let shares = self.shares(&listener.forward);
        let wishes = |(backend, _): &(Option<&Backend>, u32)| {
            backend.is_some_and(|backend| backend.sends_proxy_protocol)
        };
        let is_one = shares.iter().all(wishes) || !shares.iter().any(wishes);
        let server = StreamServer {
            listen: listen.to_string(),
            accepts_proxy: listener.accepts_proxy_protocol,
            ..StreamServer::default()
        };
        let server = match is_one {
            true => {
                let sends_proxy = shares.first().is_some_and(wishes);
                let (pass, is_variable) = self.stream_target(&listener.forward);
                StreamServer {
                    sends_proxy,
                    is_variable,
                    pass,
                    ..server
                }
            }
            // Some want the PROXY protocol: a socket for each.
            false => {
                let mut names = Vec::new();
                for (backend, weight) in &listener.forward.to {
                    if *weight > 0 {
                        let socket = self.pass_by_socket(&Forward::to(backend.clone()));
                        names.push((format!("unix:{socket}"), *weight));
                    }
                }
                let pass = self.stream_split(&names);
                StreamServer {
                    sends_proxy: true,
                    is_variable: true,
                    pass,
                    ..server
                }
            }
        };
        self.stream.servers.push(server);
    }

    /// A socket whose connections, begun with the PROXY protocol, go where a forward says.
    fn pass_by_socket(&mut self, forward: &Forward) -> String {
        let words: Vec<String> = forward
            .to
            .iter()
            .map(|(id, weight)| format!("{id} {weight}"))
            .collect();
        let name = Id::of(&["pass", &words.join(" ")]);
        let socket = format!("{}/{name}.sock", self.options.run_directory);
        let listen = format!("unix:{socket}");
        if !self.sockets.insert(listen.clone()) {
            return socket;
        }
        let shares = self.shares(forward);
        let wishes = |(backend, _): &(Option<&Backend>, u32)| {
            backend.is_some_and(|backend| backend.sends_proxy_protocol)
        };
        let sends_proxy = shares.iter().any(wishes);
        for (backend, _) in shares.iter().filter(|share| wishes(share) != sends_proxy) {
            if let Some(backend) = backend {
                self.problem_of_backend(
                    &backend.id,
                    &backend.origin,
                    "another backend of the same host wants the PROXY protocol, this one does not",
                    "nginx sends it to both",
                );
            }
        }
        let (pass, is_variable) = self.stream_target(forward);
        self.stream.servers.push(StreamServer {
            listen,
            is_unix: true,
            accepts_proxy: true,
            reads_sni: false,
            sends_proxy,
            is_variable,
            pass,
        });
        socket
    }

    /// An upstream, or a variable that names one.
    fn stream_target(&mut self, forward: &Forward) -> (String, bool) {
        let nobody = format!("unix:{}/nothing.sock", self.options.run_directory);
        let mut names = Vec::new();
        for (backend, weight) in self.shares(forward) {
            let name = match backend {
                Some(backend) => self.upstream(backend, true),
                None => nobody.clone(),
            };
            names.push((name, weight));
        }
        match names.as_slice() {
            [] => (nobody, false),
            [(only, _)] => (only.clone(), false),
            _ => (self.stream_split(&names), true),
        }
    }

    fn stream_split(&mut self, names: &[(String, u32)]) -> String {
        debug_assert!(names.iter().all(|(name, _)| name != FAILED));
        let (name, parts) = Self::parts(names);
        let split = Split {
            name: name.clone(),
            parts,
        };
        self.stream_splits.insert(name.clone(), split);
        name
    }
}
