//! Listeners for TLS, and ports of bytes.

use std::collections::BTreeSet;

use super::{Lowering, Mode};
use crate::edge::value::{HostMatch, Hostname, Id};
use crate::edge::{HostTls, Listen, TcpListener, TlsListener};
use crate::haproxy::files::CertificateLine;
use crate::haproxy::view::{Processing, Section, TcpFrontend, Termination, TlsFrontend, View};

/// A name that no host has (RFC 2606 §2). The first certificate of a list is shown to whoever asks for
/// none that is known; without a name of its own it would also stand before hosts that it names, and
/// those may ask for certificates of their clients.
pub(in crate::haproxy) const NOBODY: &str = "fairlead.invalid";

impl<'a> Lowering<'a> {
    pub(super) fn tls(&mut self, listen: Listen, listener: &'a TlsListener, view: &mut View<'_>) {
        let termination = self.termination(listen, listener);
        let mut http = self.http(listen, &listener.http, Some(termination));
        if listener.passthrough.is_empty() {
            view.http.push(http);
            return;
        }
        let name = Id::of_listener("tls", listen);
        let socket = format!("{}/{name}.sock", self.options.run_directory);
        let terminate = Id::of_listener("terminate", listen);
        self.answers.insert(
            terminate.clone(),
            Section {
                is_tcp: true,
                rules: Vec::new(),
                loopback: vec![socket.clone()],
                ..Section::answering(&terminate, Processing::default())
            },
        );
        http.loopback = Some(socket);
        let accepts_proxy = http.accepts_proxy;
        view.http.push(http);
        let frontend = self.sni(listen, listener, name, terminate);
        view.tls.push(TlsFrontend {
            accepts_proxy,
            ..frontend
        });
    }

    fn sni(
        &mut self,
        listen: Listen,
        listener: &'a TlsListener,
        name: String,
        terminate: String,
    ) -> TlsFrontend {
        let maps = format!("maps/{name}");
        let mut targets = BTreeSet::new();
        let mut hosts = Vec::new();
        for (host, route) in listener.hosts() {
            let target = match route {
                Some(route) => {
                    let target = self.forward(&route.forward, Mode::Tcp, &Processing::default());
                    targets.insert(target.clone());
                    target
                }
                None => terminate.clone(),
            };
            hosts.push((host, target));
        }
        let wildcard_labels = self.add_host_maps(&maps, &hosts);
        let any = hosts.iter().find(|(host, _)| **host == HostMatch::Any);
        TlsFrontend {
            name,
            address: listen.to_string(),
            is_v6_only: listen.address.is_ipv6(),
            accepts_proxy: false,
            maps,
            wildcard_labels,
            // A name that nobody has: the frontend within refuses it.
            default: Some(any.map_or(terminate, |(_, target)| target.clone())),
            splits: self.splits_among(&targets),
        }
    }

    fn termination(&mut self, listen: Listen, listener: &'a TlsListener) -> Termination {
        let mut lines = Vec::new();
        let (mut first, mut of_any) = (None, None);
        let mut checks_sni = false;
        for (host, site) in &listener.http.hosts {
            let Some(tls) = &site.tls else {
                continue;
            };
            checks_sni |= tls.clients.is_some();
            let Some(line) = self.certificate(host, tls) else {
                continue;
            };
            if *host == HostMatch::Any {
                of_any = Some((&tls.certificate, line));
            } else {
                first.get_or_insert(&tls.certificate);
                lines.push(line);
            }
        }
        let plain = |id| (id, CertificateLine::default());
        let shown = of_any.or(listener.unknown_host.as_ref().map(plain));
        let shown = shown.and_then(|(id, line)| self.first_line(listen, id, line));
        let is_strict = shown.is_none();
        let hidden = first.filter(|_| is_strict).map(plain);
        let hidden = hidden.and_then(|(id, line)| self.first_line(listen, id, line));
        lines.splice(..0, shown.or(hidden));
        let list = format!("certificates/{}.list", Id::of_listener("https", listen));
        self.files.add_certificate_list(&list, &lines);
        Termination {
            list,
            is_strict,
            checks_sni,
        }
    }

    /// A list's first line, which HAProxy neither adds nor takes away while it runs. So one that is no
    /// host's has a file of its own name, and another certificate is another content of it. Unless
    /// unknown hosts are shown a certificate, nobody sees it.
    fn first_line(
        &mut self,
        listen: Listen,
        id: &Id,
        line: CertificateLine,
    ) -> Option<CertificateLine> {
        let certificate = self.plan.certificates.get(id)?;
        let name = Id::of(&["first", &listen.to_string()]);
        Some(CertificateLine {
            file: self.files.add_pem(&name, certificate),
            filter: Some(NOBODY.to_owned()),
            ..line
        })
    }

    fn certificate(&mut self, host: &HostMatch, tls: &HostTls) -> Option<CertificateLine> {
        let plan = self.plan;
        let missing = "TLS connections for the host are refused";
        let Some(certificate) = plan.certificates.get(&tls.certificate) else {
            self.problem(&tls.origin, "the host's certificate is missing", missing);
            return None;
        };
        let authorities = match &tls.clients {
            None => None,
            Some(clients) => match plan.certificates.get(&clients.authorities) {
                Some(authorities) => Some(
                    self.files
                        .add_authorities(&clients.authorities, authorities),
                ),
                None => {
                    let message = "the authorities of its clients' certificates are missing";
                    self.problem(&tls.origin, message, missing);
                    return None;
                }
            },
        };
        let is_address = |name: &Hostname| name.as_str().parse::<std::net::IpAddr>().is_ok();
        Some(CertificateLine {
            file: self.files.add_pem(&tls.certificate, certificate),
            authorities,
            is_required: tls
                .clients
                .as_ref()
                .is_some_and(|clients| clients.is_required),
            // Addresses are never in SNI (RFC 6066 §3), and expressions are no filters.
            filter: match host {
                HostMatch::Exact(name) if !is_address(name) => Some(name.to_string()),
                HostMatch::Wildcard(suffix) => Some(format!("*.{suffix}")),
                HostMatch::Exact(_) | HostMatch::Regex(_) | HostMatch::Any => None,
            },
        })
    }

    pub(super) fn tcp(&mut self, listen: Listen, listener: &'a TcpListener) -> TcpFrontend {
        let target = self.forward(&listener.forward, Mode::Tcp, &Processing::default());
        let splits = self.splits_among(&BTreeSet::from([target.clone()]));
        TcpFrontend {
            name: Id::of_listener("tcp", listen),
            address: listen.to_string(),
            is_v6_only: listen.address.is_ipv6(),
            accepts_proxy: listener.accepts_proxy_protocol,
            // The last part of a split takes every roll that is left.
            default: match splits.first() {
                Some(split) => split.parts.last().map(|part| part.section.clone()),
                None => Some(target),
            },
            splits,
        }
    }
}
